"""What a language model calls the states that it keeps between calls."""

import inspect
from typing import Any


def cache_argument(model: Any, cache: Any) -> dict[str, Any]:
    """Name ``cache`` as ``model``'s ``forward`` does, for ``model(**cache_argument(model, cache))``.

    transformers 5.24 renamed ``past_key_values`` to ``cache`` and warns at the old name; models of
    earlier versions, and models of people's own, know the old one only. A PEFT wrapper passes on
    what it is given, so the model inside is asked.
    """
    inside = model.get_base_model() if hasattr(model, "get_base_model") else model
    known = inspect.signature(inside.forward).parameters
    return {"cache" if "cache" in known else "past_key_values": cache}
