"""Events, served lists, deletions, and triggers that keep the first two append-only."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

BIG_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")

APPEND_ONLY = {"events": "event_id", "lists": "recommendation_id"}


def upgrade() -> None:
    """Make the tables, then the triggers of the dialect."""
    _make_tables()
    if op.get_bind().dialect.name == "sqlite":
        _guard_sqlite()
    else:
        _guard_postgresql()


def downgrade() -> None:
    """Refuse: it would delete the log."""
    raise NotImplementedError("The first migration cannot be undone: drop the database by hand.")


def _make_tables() -> None:
    op.create_table(
        "events",
        sa.Column("seq", BIG_KEY, sa.Identity(), primary_key=True),
        sa.Column("event_id", sa.Text, nullable=False, unique=True),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("item_id", sa.Text, nullable=False),
        sa.Column("occurred_at", sa.Double, nullable=False),
        sa.Column("received_at", sa.Double, nullable=False),
        sa.Column("recommendation_id", sa.Text),
        sa.Column("position", sa.Integer),
        sa.Column("session_id", sa.Text),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("revenue_e4", sa.BigInteger),
        sa.Column("currency", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index("events_by_time", "events", ["occurred_at", "seq"])
    for name, columns, where in (
        ("events_shown", ["user_id", "item_id", "occurred_at"], sa.text("type = 'impression'")),
        ("events_chosen", ["user_id", "type", "occurred_at"], sa.text("type <> 'impression'")),
    ):
        op.create_index(name, "events", columns, sqlite_where=where, postgresql_where=where)
    op.create_table(
        "lists",
        sa.Column("seq", BIG_KEY, sa.Identity(), primary_key=True),
        sa.Column("recommendation_id", sa.Text, nullable=False, unique=True),
        sa.Column("served_at", sa.Double, nullable=False),
        sa.Column("surface", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text),
        sa.Column("variant", sa.Text, nullable=False),
        sa.Column("experiment", sa.Text),
        sa.Column("stage", sa.Integer),
        sa.Column("in_experiment", sa.Boolean, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("is_explored", sa.Boolean, nullable=False),
        sa.Column("temperature", sa.Double),
        sa.Column("n_candidates", sa.Integer),
        sa.Column("history_length", sa.Integer, nullable=False),
        sa.Column("unknown_items", sa.Text, nullable=False),
        sa.Column("latency_ms", sa.Double, nullable=False),
        sa.Column("context", sa.Text, nullable=False),
        sa.Column("slots", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("lists_by_time", "lists", ["served_at", "seq"])
    op.create_index("lists_by_user", "lists", ["user_id"])
    op.create_table(
        "permits",
        sa.Column("permit_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.CheckConstraint("1 = 0", name="permits_stays_empty"),
    )
    op.create_table(
        "deletions",
        sa.Column("deletion_id", BIG_KEY, sa.Identity(), primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("user_hash", sa.Text),
        sa.Column("before", sa.Double),
        sa.Column("n_events", sa.BigInteger, nullable=False),
        sa.Column("n_lists", sa.BigInteger, nullable=False),
        sa.Column(
            "permit_id",
            sa.Integer,
            sa.ForeignKey("permits.permit_id", deferrable=True, initially="DEFERRED"),
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("deletions_by_user", "deletions", ["user_hash"])
    op.create_index("deletions_by_permit", "deletions", ["permit_id"])
    settings = op.create_table(
        "settings",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.bulk_insert(settings, [{"name": "user_hash_key", "value": secrets.token_hex(32)}])


def _guard_sqlite() -> None:
    for table, key in APPEND_ONLY.items():
        refuse = f"SELECT RAISE(ABORT, '{table} is append-only');"
        op.execute(f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} BEGIN {refuse} END")
        op.execute(
            f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} "
            f"WHEN NOT EXISTS (SELECT 1 FROM deletions WHERE permit_id IS NOT NULL) BEGIN {refuse} END"
        )
        # INSERT OR REPLACE would delete without waking the trigger above.
        op.execute(
            f"CREATE TRIGGER {table}_keep_first BEFORE INSERT ON {table} "
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key}) "
            f"OR EXISTS (SELECT 1 FROM {table} WHERE seq = NEW.seq) BEGIN SELECT RAISE(IGNORE); END"
        )
    refuse = "SELECT RAISE(ABORT, 'deletions is append-only');"
    op.execute(f"CREATE TRIGGER deletions_no_delete BEFORE DELETE ON deletions BEGIN {refuse} END")
    op.execute(
        "CREATE TRIGGER deletions_no_update BEFORE UPDATE ON deletions "
        f"WHEN OLD.permit_id IS NULL BEGIN {refuse} END"
    )
    op.execute(
        "CREATE TRIGGER deletions_keep_first BEFORE INSERT ON deletions "
        "WHEN EXISTS (SELECT 1 FROM deletions WHERE deletion_id = NEW.deletion_id) "
        "BEGIN SELECT RAISE(IGNORE); END"
    )


def _guard_postgresql() -> None:
    op.execute(
        """
        CREATE FUNCTION tailwise_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'DELETE' AND TG_TABLE_NAME <> 'deletions'
               AND EXISTS (SELECT 1 FROM deletions WHERE permit_id IS NOT NULL) THEN
                RETURN OLD;
            END IF;
            RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
        END $$
        """
    )
    for table in (*APPEND_ONLY, "deletions"):
        when = "WHEN (OLD.permit_id IS NULL) " if table == "deletions" else ""
        call = "EXECUTE FUNCTION tailwise_append_only()"
        op.execute(f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} FOR EACH ROW {when}{call}")
        op.execute(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} FOR EACH ROW {call}")
        op.execute(f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT {call}")
