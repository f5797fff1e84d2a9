"""Turn what files call a timestamp into unix seconds, saying how it was read.

Accepted: whole or fractional numbers in a stated unit, ISO 8601 text, dates and datetimes.
Nothing is guessed: numbers of an implausible size are refused with the unit they look like.
"""

from typing import Final, Literal

import numpy as np
import polars as pl

from tailwise.errors import DataError
from tailwise.interactions._columns import first_offenders

__all__ = ["TimestampUnit", "to_unix_seconds"]

TimestampUnit = Literal["s", "ms", "us", "ns"]

_PER_SECOND: Final[dict[str, int]] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_NAMES: Final[dict[str, str]] = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
}
# 10**11 seconds is the year 5138, and 10**11 milliseconds is March 1973: a number above it is
# not in seconds, and one below it is hardly in milliseconds. Likewise for the finer units.
_CEILING: Final[dict[str, int]] = {"s": 10**11, "ms": 10**14, "us": 10**17, "ns": 2**63 - 1}

_NUMBER = r"^[+-]?\d+(\.\d*)?([eE][+-]?\d+)?$"
_ISO = (
    r"^(\d{4}-\d{2}-\d{2})"
    r"(?:[T ]([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d)(?:[.,]\d+)?)?"
    r"\s*(Z|z|[+-]\d{2}(?::?\d{2})?)?)?$"
)


def to_unix_seconds(values: pl.Series, *, unit: TimestampUnit, source: str) -> tuple[pl.Series, str]:
    """Return int64 unix seconds (fractions cut off) and a sentence on how they were read.

    Datetimes and ISO text without an offset are read as UTC, dates as midnight UTC.

    Args:
        values: Without nulls.
        unit: Of plain numbers; must be ``"s"`` for dates, datetimes and ISO text.
        source: File name for messages.

    Raises:
        ValueError: ``unit`` is unknown.
        DataError: a value does not parse, is before 1970, or looks like another unit.
    """
    if unit not in _PER_SECOND:
        raise ValueError(f"timestamp_unit must be one of {', '.join(_PER_SECOND)}; got {unit!r}")
    dtype = values.dtype
    if dtype == pl.String:
        text = values.str.strip_chars()
        if len(text) and bool(text.head(1).str.contains(_NUMBER)[0]):
            numbers = text.cast(pl.Int64, strict=False)
            if numbers.null_count():
                floats = text.cast(pl.Float64, strict=False).floor()
                fits = floats.is_finite() & (floats.abs() < 2**63)
                numbers = numbers.fill_null(
                    floats.set(~fits.fill_null(False), None).cast(pl.Int64, strict=False)
                )
            _refuse_unparsed(text, numbers.is_null(), source)
            return _scaled(numbers, unit, source)
        return _from_iso(text, source)
    if dtype.is_integer() or dtype.is_float():
        whole = values.floor() if dtype.is_float() else values
        numbers = whole.cast(pl.Int64, strict=False)  # null where infinite or beyond int64
        _refuse_unparsed(values, numbers.is_null(), source)
        return _scaled(numbers, unit, source)
    if dtype == pl.Date:
        return _checked(values.cast(pl.Int32).cast(pl.Int64) * 86_400, source), "dates, read as midnight UTC"
    if isinstance(dtype, pl.Datetime):
        how = f"datetimes in {dtype.time_zone}" if dtype.time_zone else "datetimes without zone, read as UTC"
        return _checked(values.dt.epoch("s").cast(pl.Int64), source), how
    raise DataError(
        f"timestamp must be a number, a datetime or ISO 8601 text; got {dtype} "
        f"({first_offenders(values)}).\n  In {source}. Convert the column before loading."
    )


def _refuse_unparsed(values: pl.Series, mask: pl.Series, source: str) -> None:
    if n_bad := int(mask.sum()):
        row = int(mask.arg_true()[0]) + 1
        raise DataError(
            f"timestamp must be unix time or ISO 8601 text; got {n_bad:,} of {len(values):,} rows that "
            f"are not ({first_offenders(values.filter(mask))}).\n"
            f"  In {source}, first in row {row:,}. Write e.g. 2024-01-31 or 2024-01-31T13:45:00Z; other "
            "orders of day and month are ambiguous."
        )


def _from_iso(text: pl.Series, source: str) -> tuple[pl.Series, str]:
    groups = text.str.extract_groups(_ISO).struct
    day, hour, minute, second, zone = (groups.field(name) for name in groups.fields)
    days = day.str.to_date("%Y-%m-%d", strict=False)
    _refuse_unparsed(text, days.is_null(), source)

    def number(part: pl.Series) -> pl.Series:
        return part.cast(pl.Int64, strict=False).fill_null(0)

    seconds = days.cast(pl.Int32).cast(pl.Int64) * 86_400
    seconds = seconds + number(hour) * 3600 + number(minute) * 60 + number(second)
    digits = zone.str.replace_all(":", "")
    sign = zone.str.starts_with("-").fill_null(False).cast(pl.Int64) * -2 + 1
    seconds = seconds - sign * (number(digits.str.slice(1, 2)) * 3600 + number(digits.str.slice(3, 2)) * 60)
    n_without = zone.null_count()
    how = f"ISO 8601 text; {n_without:,} of {len(text):,} without an offset, read as UTC"
    return _checked(seconds, source), how


def _scaled(numbers: pl.Series, unit: TimestampUnit, source: str) -> tuple[pl.Series, str]:
    looks = _looks_like(numbers)
    if looks != unit:
        if looks == "day":
            advice = "They look like dates written YYYYMMDD: write 2024-01-31 instead."
        else:
            option = "drop the option" if looks == "s" else f"pass timestamp_unit={looks!r}"
            advice = f"They look like {_NAMES[looks]}: {option}."
        largest = int(numbers.max() or 0)  # type: ignore[arg-type]
        raise DataError(
            f"timestamp must be in unix {_NAMES[unit]}; got {len(numbers):,} rows up to {largest} "
            f"({first_offenders(numbers)}).\n  In {source}. {advice}"
        )
    mask = numbers >= _CEILING[unit]
    if n_bad := int(mask.sum()):
        row = int(mask.arg_true()[0]) + 1
        raise DataError(
            f"timestamp must be in unix {_NAMES[unit]} throughout; got {n_bad:,} of {len(numbers):,} rows of "
            f"another size ({first_offenders(numbers.filter(mask))}).\n"
            f"  In {source}, first in row {row:,}. Bring the whole column to one unit."
        )
    seconds = pl.Series(values=np.floor_divide(numbers.to_numpy(), _PER_SECOND[unit]), dtype=pl.Int64)
    return _checked(seconds, source), f"unix {_NAMES[unit]}"


def _looks_like(numbers: pl.Series) -> str:
    """Return the unit of the median value, or ``"day"`` for numbers like 20240131."""
    values = numbers.to_numpy()
    month, day = values // 100 % 100, values % 100
    is_day = (values >= 1970_01_01) & (values <= 2099_12_31) & (month >= 1) & (month <= 12)
    if bool((is_day & (day >= 1) & (day <= 31)).all()):
        return "day"
    middle = int(np.sort(values)[len(values) // 2])
    return next(unit for unit, ceiling in _CEILING.items() if middle < ceiling or unit == "ns")


def _checked(seconds: pl.Series, source: str) -> pl.Series:
    mask = seconds < 0
    if n_bad := int(mask.sum()):
        row = int(mask.arg_true()[0]) + 1
        raise DataError(
            f"timestamp must not be before 1970; got {n_bad:,} of {len(seconds):,} rows "
            f"({first_offenders(seconds.filter(mask))}).\n"
            f"  In {source}, first in row {row:,}. Such values usually stand for a missing time: remove them."
        )
    return seconds.alias("timestamp")
