"""The lists that were answered lately, audited like those of a run: who gets the slots, how unevenly."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tailwise.errors import DataError
from tailwise.evaluation import Rankings, exposure
from tailwise.schema import ITEM_INDEX
from tailwise.segments import COLD, Segments, gini, segment_items

__all__ = [
    "ExposureChange",
    "LiveAudit",
    "MovedItems",
    "Share",
    "audit_lists",
    "compare_exposure",
    "moved_items",
]

SLOT_COLUMNS = ("recommendation_id", "user_id", "served_at", "position", "item_id", "method")
_NO_TARGETS = pl.DataFrame(
    schema={"user_index": pl.Int64, ITEM_INDEX: pl.Int64, "n_better": pl.Int64, "n_tied": pl.Int64}
)


@dataclass(frozen=True)
class Share:
    """A share of slots with its 95 % interval over users; the ends are None for a single user."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, eq=False)
class LiveAudit:
    """Who gets the slots of a stretch of time.

    Attributes:
        n_lists: Lists that were answered.
        n_users: Users, each anonymous list as one of its own.
        fallback_share: Of the lists, those that the model did not make.
        n_unknown: Slots of items that the catalogue does not know; they are left out.
        slot_share: By segment, of the first k places of each user's latest list.
        slots: ``[n_items]`` int64; places among the first k of all lists.
    """

    n_lists: int
    n_users: int
    fallback_share: float
    n_unknown: int
    slot_share: Mapping[str, Share]
    slots: NDArray[np.int64]

    @property
    def n_slots(self) -> int:
        """Places that were filled."""
        return int(self.slots.sum())

    @property
    def coverage(self) -> float:
        """Share of the whole catalogue that was shown."""
        return float((self.slots > 0).mean()) if self.slots.size else 0.0

    @property
    def gini(self) -> float | None:
        """Inequality of slots over the whole catalogue; None where nothing was shown."""
        return gini(self.slots) if self.n_slots else None


def audit_lists(
    pieces: Iterable[pl.DataFrame],
    segments: Segments,
    item_ids: Sequence[str],
    *,
    k: int = 10,
    n_resamples: int = 200,
    seed: int = 0,
) -> LiveAudit:
    """Audit served lists.

    Shares of slots, with intervals over users, are of each user's latest list, so that a user who asks often
    counts once. Coverage and inequality are of all lists.

    Args:
        pieces: Tables of slots as the event log gives them; a list may be cut between two of them.
        segments: Of the catalogue.
        item_ids: ``item_id`` in the order of the segments.
        k: Places that count, >= 1.
        n_resamples: Of the bootstrap over users.
        seed: Of the bootstrap.

    Raises:
        ValueError: ``item_ids`` has another length than the segments, or ``k`` < 1.
        DataError: a column is missing.
    """
    if len(item_ids) != segments.n_items:
        raise ValueError(
            f"item_ids must name the {segments.n_items:,} items of the segments; got {len(item_ids):,}."
        )
    if k < 1:
        raise ValueError(f"k must be >= 1; got {k}.")
    kept = []
    for piece in pieces:
        missing = [name for name in SLOT_COLUMNS if name not in piece.columns]
        if missing:
            raise DataError(
                f"slots must have the columns {', '.join(SLOT_COLUMNS)}; got none named {missing[0]}."
            )
        kept.append(piece.select(SLOT_COLUMNS).filter(pl.col("position") <= k))
    slots = pl.concat(kept) if kept else pl.DataFrame(schema=dict.fromkeys(SLOT_COLUMNS, pl.String))
    index = pl.DataFrame(
        {"item_id": list(item_ids), ITEM_INDEX: np.arange(len(item_ids), dtype=np.int64)},
        schema_overrides={"item_id": pl.String},
    )
    lists = slots.unique("recommendation_id")
    known = slots.join(index, on="item_id", how="inner")
    who = pl.coalesce("user_id", "recommendation_id")
    latest = (
        known.with_columns(who=who)
        .sort("served_at", "recommendation_id", "position")
        .group_by("who", maintain_order=True)
        .agg(
            items=pl.col(ITEM_INDEX).filter(pl.col("recommendation_id") == pl.col("recommendation_id").last())
        )
    )
    counts = np.bincount(known[ITEM_INDEX].to_numpy(), minlength=segments.n_items).astype(np.int64)
    return LiveAudit(
        n_lists=lists.height,
        n_users=latest.height,
        fallback_share=float((lists["method"] == "most-popular").sum()) / max(1, lists.height),
        n_unknown=slots.height - known.height,
        slot_share=_slot_shares(latest, segments, k, n_resamples, seed) if latest.height else {},
        slots=counts,
    )


def _slot_shares(
    latest: pl.DataFrame, segments: Segments, k: int, n_resamples: int, seed: int
) -> dict[str, Share]:
    rows = pl.DataFrame(
        {"user_index": np.arange(latest.height), "items": latest["items"].cast(pl.List(pl.Int32))}
    )
    rankings = Rankings(_NO_TARGETS, rows, segments.n_items, k)
    found = exposure(rankings, segments, k, n_resamples=n_resamples, seed=seed)
    return {
        row["segment"]: Share(row["value"], row["low"], row["high"])
        for row in found
        if row["metric"] == "slot_share"
    }


@dataclass(frozen=True)
class ExposureChange:
    """Coverage and inequality of two stretches at equal numbers of slots: traffic plays no part.

    Attributes:
        n_slots: Slots of either.
        coverage: Of the window.
        reference_coverage: Of the reference.
        gini: Of the window.
        reference_gini: Of the reference.
    """

    n_slots: int
    coverage: float
    reference_coverage: float
    gini: float
    reference_gini: float


def compare_exposure(window: LiveAudit, reference: LiveAudit, *, seed: int = 0) -> ExposureChange | None:
    """Compare two audits after drawing as many slots from either; None where one has none.

    More slots show more items, whatever the lists are like; the larger stretch is thinned at random.
    """
    n = min(window.n_slots, reference.n_slots)
    if n == 0:
        return None
    rng = np.random.default_rng(seed)
    ours, theirs = (
        audit.slots
        if audit.n_slots == n
        else rng.multivariate_hypergeometric(audit.slots, n, method="marginals")
        for audit in (window, reference)
    )
    return ExposureChange(n, float((ours > 0).mean()), float((theirs > 0).mean()), gini(ours), gini(theirs))


@dataclass(frozen=True)
class MovedItems:
    """Items that another training would put into another segment.

    Attributes:
        share: Of the catalogue.
        n_moved: Items.
        n_warmed: Of those, never-trained items that now have interactions.
        into_head: Items that would enter the head, most chosen first, at most ten ``item_id``.
        out_of_head: Items that would leave it, likewise.
    """

    share: float
    n_moved: int
    n_warmed: int
    into_head: tuple[str, ...]
    out_of_head: tuple[str, ...]


def moved_items(segments: Segments, recent: NDArray[np.int64], item_ids: Sequence[str]) -> MovedItems:
    """Cut the segments again by training counts plus recent ones, with the same rule.

    Args:
        segments: What is served now; not of the rule ``column``, which does not follow counts.
        recent: ``[n_items]``; interactions since the training.
        item_ids: In the order of the segments.

    Raises:
        ValueError: the rule is ``column``, or shapes differ.
    """
    if segments.rule == "column":
        raise ValueError("segments.rule must follow counts; got 'column', whose labels are the user's own.")
    if recent.shape != segments.counts.shape:
        raise ValueError(f"recent must be {segments.counts.shape}; got {recent.shape}.")
    counts = segments.counts + recent
    after = segment_items(counts, segments.rule, **dict(segments.parameters))
    moved = segments.labels != after.labels
    was_cold = segments.mask(COLD)
    head = segments.names[0]
    was_head, is_head = segments.mask(head), after.mask(head)

    def named(mask: NDArray[np.bool_]) -> tuple[str, ...]:
        chosen = np.flatnonzero(mask)
        return tuple(item_ids[i] for i in chosen[np.argsort(-counts[chosen], kind="stable")][:10])

    return MovedItems(
        share=float(moved.mean()) if moved.size else 0.0,
        n_moved=int(moved.sum()),
        n_warmed=int((moved & was_cold).sum()),
        into_head=named(is_head & ~was_head),
        out_of_head=named(was_head & ~is_head),
    )
