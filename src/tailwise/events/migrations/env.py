"""What alembic runs for every command: the migrations, on the connection that it was given."""

from alembic import context


def run() -> None:
    """Run the migrations inside the caller's transaction."""
    context.configure(connection=context.config.attributes["connection"], version_table="log_version")
    context.run_migrations()


if __name__ == "env_py":  # the name under which alembic loads this file
    run()
