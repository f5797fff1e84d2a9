"""The result of a segment rule: one label per item, with the rule that gave it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailwise.segments._popularity import PopularityWindow

__all__ = ["COLD", "OVERALL", "Segments"]

COLD = "cold"  # never-trained items, always a segment of their own
OVERALL = "overall"  # all items together; what results call "no segment", so no segment may be called so


@dataclass(frozen=True, eq=False)
class Segments:
    """Which segment each item of the catalogue belongs to; every item is in exactly one.

    Attributes:
        names: From the most popular segment to the least, ``"cold"`` last.
        labels: ``[n_items]`` int8; position in ``names``.
        counts: ``[n_items]`` int64; training interactions that the rule looked at.
        rule: Name in :data:`~tailwise.segments.RULES`.
        parameters: Resolved arguments of the rule, ready for JSON.
        window: Time window of ``counts``; None = whole training part.
    """

    names: tuple[str, ...]
    labels: NDArray[np.int8]
    counts: NDArray[np.int64]
    rule: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    window: PopularityWindow | None = None

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names) or not self.names or self.names[-1] != COLD:
            raise ValueError(
                f"names must be distinct and end with {COLD!r}; got {self.names}.\n"
                "  Order them from the most popular to the least."
            )
        if OVERALL in self.names:
            raise ValueError(
                f"names must not contain {OVERALL!r}, which results use for all items; got {self.names}.\n"
                "  Rename that segment."
            )
        if self.labels.shape != self.counts.shape or self.labels.ndim != 1:
            raise ValueError(
                f"labels and counts must both be [n_items]; got shapes {self.labels.shape} and "
                f"{self.counts.shape}.\n  Give one of each per item of the catalogue."
            )
        if self.labels.size and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.names):
            raise ValueError(
                f"labels must lie in 0..{len(self.names) - 1}; got {int(self.labels.min())}.."
                f"{int(self.labels.max())}.\n  They are positions in names."
            )

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return int(self.labels.size)

    @property
    def trained_names(self) -> tuple[str, ...]:
        """All names but ``"cold"``, most popular first."""
        return self.names[:-1]

    @property
    def is_trained(self) -> NDArray[np.bool_]:
        """``[n_items]`` bool; False for cold items."""
        return np.not_equal(self.labels, len(self.names) - 1)

    def mask(self, name: str) -> NDArray[np.bool_]:
        """Say of each item whether it is in the segment: ``[n_items]`` bool.

        ``"overall"`` is every item. An unknown name is a ``ValueError``.
        """
        if name == OVERALL:
            return np.ones(self.n_items, dtype=np.bool_)
        if name not in self.names:
            raise ValueError(
                f"segment must be one of {', '.join((OVERALL, *self.names))}; got {name!r}.\n"
                f"  The rule {self.rule!r} defines these; another rule defines others."
            )
        return np.equal(self.labels, self.names.index(name))

    def n_items_in(self, name: str) -> int:
        """Count the items of one segment."""
        return int(np.count_nonzero(self.mask(name)))

    def as_dict(self, test_targets: ArrayLike | None = None) -> dict[str, Any]:
        """Give the ``segments`` object of docs/metrics-schema.md.

        Args:
            test_targets: Item index of each held-out row that is evaluated, with
                repeats. None: ``n_test_targets`` is None.
        """
        n_interactions = int(self.counts.sum())
        size = len(self.names)
        n_items = np.bincount(self.labels, minlength=size)
        n_training = np.bincount(self.labels, weights=self.counts, minlength=size).astype(np.int64)
        n_targets: NDArray[np.int64] | None = None
        if test_targets is not None:
            targets = np.asarray(test_targets, dtype=np.int64)
            n_targets = np.bincount(self.labels[targets], minlength=size).astype(np.int64)
        return {
            "rule": self.rule,
            "parameters": dict(self.parameters),
            "popularity_window": None if self.window is None else self.window.as_dict(),
            "segments": [
                {
                    "name": name,
                    "n_items": int(n_items[i]),
                    "n_training_interactions": int(n_training[i]),
                    "item_share": float(n_items[i] / self.n_items) if self.n_items else 0.0,
                    "interaction_share": float(n_training[i] / n_interactions) if n_interactions else 0.0,
                    "n_test_targets": None if n_targets is None else int(n_targets[i]),
                }
                for i, name in enumerate(self.names)
            ],
        }
