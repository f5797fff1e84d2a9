"""What experiments and policies are read and written with: the settings of the whole package."""

from tailwise._settings import from_plain, plain_of, read_toml_file, toml_of

__all__ = ["from_plain", "plain_of", "read_toml_file", "toml_of"]
