"""Kinds of fields that the HTTP interface takes: every text and number has a bound."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

__all__ = ["WHOLE", "Identifier", "Label", "Price", "Strict", "checked_text"]

# Control characters, and halves of surrogate pairs: the log refuses the same.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_PATTERN = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"
_MAX_PRICE = 1e12


def checked_text(value: str) -> str:
    """Return the text.

    Raises:
        ValueError: it holds a control character.
    """
    if found := _FORBIDDEN.search(value):
        raise ValueError(f"must hold no control character; got U+{ord(found.group()):04X}")
    return value


def _text(max_length: int) -> Any:
    schema = {"type": "string", "minLength": 1, "maxLength": max_length, "pattern": _PATTERN}
    return Annotated[
        str,
        Field(min_length=1, max_length=max_length),
        AfterValidator(checked_text),
        WithJsonSchema(schema),
    ]


Identifier = _text(256)
"""Name of a user, item, event: 1 to 256 characters, none of them a control character."""

Label = _text(256)
"""Category or brand."""

Price = Annotated[float, Field(ge=0, le=_MAX_PRICE, allow_inf_nan=False, strict=True)]
"""Finite, >= 0."""


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Takes 3.0 for 3: JSON knows one kind of number. To be named after the bounds, or the schema loses them."""


class Strict(BaseModel):
    """A body whose unknown fields are refused and whose values are not converted."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)
