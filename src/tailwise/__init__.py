"""Tailwise: lift rare items in LLM recommenders, and measure it per segment.

The folders are the data flow; see ``ARCHITECTURE.md``. Names are resolved on first
use, so that ``import tailwise.optim`` needs torch and nothing else.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "EISAM": "tailwise.optim",
    "ERM": "tailwise.optim",
    "SAM": "tailwise.optim",
    "item_weights": "tailwise.optim",
    "load_dataset": "tailwise.interactions",
    "read_dataset": "tailwise.interactions",
    "segment_items": "tailwise.segments",
    "rank_targets": "tailwise.evaluation",
    "compare": "tailwise.evaluation",
    "ItemTokenRecommender": "tailwise.recommenders",
    "load_recommender": "tailwise.recommenders",
    "recommend": "tailwise.recommenders",
    "fit": "tailwise.training",
    "write_report": "tailwise.reports",
}

__all__ = ["__version__", *_EXPORTS]  # noqa: PLE0604 - the names are strings, resolved below


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'tailwise' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
