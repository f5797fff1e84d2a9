"""Read a file of interactions or items into a table, with nothing guessed about its values.

Text formats arrive as text throughout: identifiers keep their leading zeros, and numbers
are parsed later, column by column, where an error can name the row.
"""

import gzip
import io
from pathlib import Path
from typing import Literal

import polars as pl

from tailwise.errors import DataError

__all__ = ["read_table"]

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".inter": "\t", ".item": "\t"}
_RECBOLE = (".inter", ".item")
_PARQUET = (".parquet", ".pq")
_FORMATS = "CSV (.csv), TSV (.tsv), Parquet (.parquet), RecBole (.inter, .item); text may be gzipped (.gz)"


def read_table(
    path: str | Path,
    *,
    role: Literal["interactions", "items"],
    separator: str | None = None,
    encoding: str = "utf-8",
) -> tuple[pl.DataFrame, Path]:
    """Read the table at ``path`` and return it with the path of the file that was read.

    Args:
        path: A file in one of the formats above, or a folder that holds ``<role>.parquet``,
            ``.csv`` or ``.tsv``, or one RecBole file of that role.
        role: Which table a folder is searched for.
        separator: Column separator of text files; by default that of the format.
        encoding: Of text files, as Python names it.

    Raises:
        DataError: no such file, an unknown format, or content that does not parse.
    """
    file = _find_file(Path(path), role)
    suffixes = [suffix.lower() for suffix in file.suffixes]
    is_gzipped = suffixes[-1:] == [".gz"]
    suffix = (suffixes[:-1] if is_gzipped else suffixes)[-1:]
    kind = suffix[0] if suffix else ""
    if kind not in _SEPARATORS and kind not in _PARQUET:
        raise DataError(f"file format must be known by its ending; got {str(file)!r}.\n  Known: {_FORMATS}.")
    if file.stat().st_size == 0:
        raise DataError(
            f"{file} must hold a header and rows; got an empty file (0 bytes).\n"
            "  Check the export that wrote it."
        )
    try:
        if kind in _PARQUET:
            return pl.read_parquet(file, glob=False, hive_partitioning=False), file
        content = gzip.decompress(file.read_bytes()) if is_gzipped else file.read_bytes()
        if encoding.lower().replace("-", "") != "utf8":
            content = content.decode(encoding).encode()
        table = pl.read_csv(
            io.BytesIO(content),
            separator=separator or _SEPARATORS[kind],
            # RecBole never quotes, so a quotation mark there belongs to the title.
            quote_char=None if kind in _RECBOLE else '"',
            infer_schema=False,
        )
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} must be {encoding} text; got byte {error.object[error.start]:#04x} at {error.start:,}.\n"
            "  Name its encoding, e.g. encoding='latin-1'."
        ) from error
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        hint = "  Save it as UTF-8, or name its encoding, e.g. encoding='latin-1'." if "utf" in reason else ""
        raise DataError(
            f"{file} must be a readable {kind} file; got: {reason}\n"
            + (hint or "  Check the separator, the quotes, and that every row has the header's columns.")
        ) from error
    if kind in _RECBOLE:  # `item_id:token` -> `item_id`; the declared types are checked by role later
        table = table.rename({name: name.partition(":")[0] for name in table.columns})
    return table, file


def _find_file(path: Path, role: Literal["interactions", "items"]) -> Path:
    if path.is_file():
        return path
    if not path.exists():
        raise DataError(f"{role} file must exist; got {str(path)!r}.\n  Check the path.")
    atomic = ".inter" if role == "interactions" else ".item"
    found = [
        file
        for file in sorted(path.iterdir())
        if file.suffix == atomic or (file.stem == role and file.suffix in (*_PARQUET, ".csv", ".tsv"))
    ]
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise DataError(
            f"folder {path} must hold exactly one {role} table; got {names}.\n"
            f"  Looked for {role}.parquet, {role}.csv, {role}.tsv and *{atomic}; name the file itself."
        )
    return found[0]
