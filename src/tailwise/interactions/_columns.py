"""Find the columns that the schema needs, and turn their values into its types."""

import difflib
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from tailwise.errors import DataError

__all__ = ["first_offenders", "require_values", "select_columns", "to_numbers", "to_text_ids"]

_MAX_LISTED = 20


def select_columns(
    table: pl.DataFrame,
    *,
    required: Sequence[str],
    optional: Sequence[str],
    columns: Mapping[str, str] | None,
    source: str,
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return the schema's columns under the schema's names, and the names of the ignored ones.

    An optional column without a single value counts as absent.

    Args:
        table: As read.
        required: Schema names that must be there.
        optional: Schema names that are taken along when there.
        columns: Schema name -> name in the file, for those that differ.
        source: File name for messages.

    Raises:
        ValueError: a key of ``columns`` is no schema name.
        DataError: a column is missing.
    """
    mapping = dict(columns or {})
    for key in mapping:
        if key not in (*required, *optional):
            raise ValueError(
                f"columns must map Tailwise's names to the file's; got the key {key!r}. "
                f"Keys can be: {', '.join((*required, *optional))}."
            )
    chosen: dict[str, str] = {}
    for name in (*required, *optional):
        theirs = mapping.get(name, name)
        if theirs in table.columns:
            chosen[name] = theirs
        elif name in required or name in mapping:
            raise _missing(name, theirs, table.columns, source)
    empty = [name for name in optional if name in chosen and table[chosen[name]].null_count() == table.height]
    for name in empty:
        del chosen[name]
    ignored = tuple(name for name in table.columns if name not in chosen.values())
    return table.select(pl.col(theirs).alias(name) for name, theirs in chosen.items()), ignored


def _missing(name: str, theirs: str, existing: Sequence[str], source: str) -> DataError:
    listed = ", ".join(repr(column) for column in existing[:_MAX_LISTED])
    if len(existing) > _MAX_LISTED:
        listed += f" and {len(existing) - _MAX_LISTED} more"
    lines = [f"{source} must have a column {theirs!r}; got {listed}."]
    lowered = {column.lower(): column for column in existing}
    near = difflib.get_close_matches(theirs.lower(), lowered, n=1, cutoff=0.5)
    wider = [lowered[column] for column in lowered if column.endswith("_" + theirs.lower())]
    guess = wider[0] if wider else lowered[near[0]] if near else None
    if len(existing) == 1 and any(mark in existing[0] for mark in ";\t|,"):
        mark = next(mark for mark in ";\t|," if mark in existing[0])
        lines.append(f"The columns look separated by {mark!r}: pass separator={mark!r}.")
    elif guess is not None:
        lines.append(f"Nearest: {guess!r}. If that is it, pass columns={{{name!r}: {guess!r}}}.")
    else:
        lines.append(f"Name the column that holds it: columns={{{name!r}: '<its name in the file>'}}.")
    return DataError("\n  ".join(lines))


def first_offenders(values: Iterable[object]) -> str:
    """Render up to three values, e.g. ``first: 'B00X4', 'B01Q9', 'B07AA'``."""
    return "first: " + ", ".join(repr(value) for _, value in zip(range(3), values, strict=False))


def _rows(mask: pl.Series) -> str:
    """Render up to three row numbers; 1 is the first row below the header."""
    numbers = [f"{index + 1:,}" for index in mask.arg_true().head(3)]
    return f"{'row' if len(numbers) == 1 else 'rows'} {', '.join(numbers)}"


def require_values(table: pl.DataFrame, names: Sequence[str], source: str) -> None:
    """Raise when a required column has nulls or empty text.

    Raises:
        DataError: with the column, the number of rows and the first of them.
    """
    for name in names:
        mask = table[name].is_null()
        if table.schema[name] == pl.String:
            mask = mask | (table[name].str.strip_chars() == "").fill_null(False)
        elif table.schema[name].is_float():
            mask = mask | table[name].is_nan().fill_null(False)
        if n_bad := int(mask.sum()):
            raise DataError(
                f"{name} must have a value in every row; got {n_bad:,} of {table.height:,} rows without.\n"
                f"  In {source}, first in {_rows(mask)}. Remove these rows or fill them in before loading."
            )


def to_text_ids(values: pl.Series, source: str) -> pl.Series:
    """Return identifiers as text: integers in decimal, text exactly as it is.

    Raises:
        DataError: another type, e.g. floats, whose text would not match anything.
    """
    dtype = values.dtype
    if dtype == pl.String:
        return values
    if dtype.is_integer() or dtype in (pl.Categorical, pl.Enum):
        return values.cast(pl.String)
    raise DataError(
        f"{values.name} must be text or whole numbers; got {dtype} "
        f"({first_offenders(values.drop_nulls())}).\n"
        f"  In {source}. Floats usually come from a table with gaps: cast them to text first."
    )


def to_numbers(values: pl.Series, source: str) -> pl.Series:
    """Return ``values`` as float64; gaps stay null, NaN becomes null.

    Raises:
        DataError: a value is no number.
    """
    if values.dtype == pl.String:
        text = values.str.strip_chars()
        numbers = text.cast(pl.Float64, strict=False)
        mask = numbers.is_null() & (text != "").fill_null(False)
        if n_bad := int(mask.sum()):
            raise DataError(
                f"{values.name} must be a number; got {n_bad:,} of {len(values):,} rows that are not "
                f"({first_offenders(values.filter(mask))}).\n"
                f"  In {source}, first in {_rows(mask)}. Write decimals with a point and no thousands mark."
            )
    elif values.dtype.is_numeric() or values.dtype == pl.Boolean:
        numbers = values.cast(pl.Float64)
    else:
        raise DataError(f"{values.name} must be a number; got {values.dtype}.\n  In {source}.")
    return numbers.fill_nan(None)
