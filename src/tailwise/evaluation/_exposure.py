"""What is recommended, whatever is hit: exposure of segments, coverage, inequality, novelty."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailwise.evaluation._rankings import Rankings
from tailwise.evaluation._user_sums import Key, UserSums, build
from tailwise.segments import COLD, Segments, gini, popularity_deciles

__all__ = [
    "RECOMMENDATION_RATE",
    "USER_MEANS",
    "catalogue_metrics",
    "check_list_length",
    "decile_slots",
    "exposure_sums",
    "relative_spread",
]

RECOMMENDATION_RATE = "_recommendation_rate"  # slots over recommendable items, what PopRSP compares


@dataclass(frozen=True, eq=False)
class ListsAtK:
    """The first k slots of every list, padded: what a per-user exposure metric looks at.

    Attributes:
        items: ``[n_users, k]`` int64; ``n_items`` where a list is shorter.
        filled: ``[n_users, k]`` bool; False for padding.
        is_long_tail: ``[n_items + 1]`` bool; items of the last trained segment, padding False.
        counts: ``[n_items + 1]`` float64; training interactions, padding 0.
    """

    items: NDArray[np.int64]
    filled: NDArray[np.bool_]
    is_long_tail: NDArray[np.bool_]
    counts: NDArray[np.float64]

    @property
    def n_filled(self) -> NDArray[np.float64]:
        """Slots of each user: ``[n_users]``, at least 1 so that it can divide."""
        return np.asarray(np.maximum(self.filled.sum(axis=1), 1), dtype=np.float64)


def _aplt(lists: ListsAtK) -> NDArray[np.float64]:
    """Average percentage of long-tail items: their share of the user's list, 0..1."""
    return _aclt(lists) / lists.n_filled


def _aclt(lists: ListsAtK) -> NDArray[np.float64]:
    """Average coverage of long-tail items: their number in the user's list, 0..k."""
    return np.asarray(lists.is_long_tail[lists.items].sum(axis=1), dtype=np.float64)


def _arp(lists: ListsAtK) -> NDArray[np.float64]:
    """Average recommendation popularity: mean training interactions of the listed items."""
    return np.asarray(lists.counts[lists.items].sum(axis=1) / lists.n_filled, dtype=np.float64)


def _novelty(lists: ListsAtK) -> NDArray[np.float64]:
    """Mean self-information in bits, -log2((n_i + 1) / (N + n_items))."""
    n_items = lists.counts.size - 1
    bits = np.log2(lists.counts.sum() + n_items) - np.log2(lists.counts + 1.0)
    return np.asarray((bits[lists.items] * lists.filled).sum(axis=1) / lists.n_filled, dtype=np.float64)


# Metrics that are a mean over users of something about the user's list.
USER_MEANS: dict[str, Callable[[ListsAtK], NDArray[np.float64]]] = {
    "aplt": _aplt,
    "aclt": _aclt,
    "arp": _arp,
    "novelty": _novelty,
}


def check_list_length(rankings: Sequence[Rankings], ks: Sequence[int]) -> None:
    """Refuse a k that the stored lists cannot answer."""
    longest = min(r.list_length for r in rankings)
    if not ks or min(ks) < 1 or max(ks) > longest:
        raise ValueError(
            f"k must lie in 1..{longest}, the stored list length; got {list(ks)}.\n"
            "  Call rank_targets() with a greater list_length."
        )


def _padded(rankings: Rankings, k: int) -> NDArray[np.int64]:
    """The first k items of every list, ``n_items`` as padding: ``[n_users, k]`` int64."""
    lists = rankings.lists["items"].list.head(k)
    lengths = lists.list.len().to_numpy().astype(np.int64)
    items = lists.explode(empty_as_null=False).to_numpy()
    out = np.full((rankings.n_users, k), rankings.n_items, dtype=np.int64)
    rows = np.repeat(np.arange(rankings.n_users), lengths)
    out[rows, np.arange(items.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)] = items
    return out


def _seen_per_segment(rankings: Rankings, segments: Segments) -> NDArray[np.float64]:
    """Seen items of each user by segment: ``[n_users, n_segments]``."""
    size = len(segments.names)
    seen = rankings.lists["seen"]
    rows = np.repeat(np.arange(rankings.n_users), seen.list.len().to_numpy().astype(np.int64))
    labels = segments.labels[seen.explode(empty_as_null=False).to_numpy()]
    counts = np.bincount(rows * size + labels, minlength=rankings.n_users * size)
    return counts.reshape(rankings.n_users, size).astype(np.float64)


def exposure_sums(rankings: Rankings, segments: Segments, ks: Sequence[int]) -> UserSums:
    """Sum what each user is shown: slot shares, the means of USER_MEANS, recommendation rates."""
    labels = np.append(segments.labels.astype(np.int64), -1)  # [n_items+1], padding is in no segment
    is_long_tail = labels == len(segments.names) - 2
    counts = np.append(segments.counts, 0).astype(np.float64)
    longest = _padded(rankings, max(ks))
    sizes = np.bincount(segments.labels, minlength=len(segments.names))
    unseen = sizes - _seen_per_segment(rankings, segments)  # [n_users, n_segments]
    denominators: list[NDArray[np.float64]] = list(unseen.T)
    columns: list[tuple[Key, NDArray[np.float64], int]] = []
    for k in ks:
        items = longest[:, :k]
        lists = ListsAtK(items, items != rankings.n_items, is_long_tail, counts)
        n_slots = lists.filled.sum(axis=1).astype(np.float64)
        denominators += [n_slots, (n_slots > 0).astype(np.float64)]
        label = labels[items]  # [n_users, k]
        for i, name in enumerate(segments.names):
            slots = (label == i).sum(axis=1).astype(np.float64)
            columns.append((("slot_share", k, name), slots, len(denominators) - 2))
            columns.append(((RECOMMENDATION_RATE, k, name), slots, i))
        for metric, of_user in USER_MEANS.items():
            columns.append(((metric, k, None), of_user(lists), len(denominators) - 1))
    return build(columns, denominators)


def catalogue_metrics(rankings: Rankings, segments: Segments, k: int) -> dict[Key, float]:
    """Coverage (overall and per segment) and Gini: properties of all lists together."""
    slots = np.bincount(_padded(rankings, k).ravel(), minlength=rankings.n_items + 1)[:-1]  # [n_items]
    shown = slots > 0
    out: dict[Key, float] = {("coverage", k, None): float(shown.mean())}
    for name in segments.names:
        mask = segments.mask(name)
        if mask.any():
            out["coverage", k, name] = float(shown[mask].mean())
    if shown.any():
        out["gini", k, None] = gini(slots)
    return out


def relative_spread(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Population standard deviation over mean along the last axis; NaN for a mean of zero."""
    mean = rates.mean(axis=-1)
    out = np.full(mean.shape, np.nan)
    return np.asarray(np.divide(rates.std(axis=-1), mean, out=out, where=mean > 0), dtype=np.float64)


def decile_slots(rankings: Rankings, segments: Segments, k: int) -> NDArray[np.float64]:
    """Share of the slots in each popularity decile: ``[11]``, the last is cold."""
    deciles = np.append(popularity_deciles(segments.counts, trained=segments.is_trained), 0)
    slots = np.bincount(deciles[_padded(rankings, k).ravel()], minlength=12)[1:]
    return np.asarray(slots / max(int(slots.sum()), 1), dtype=np.float64)


def compared_segments(segments: Segments) -> tuple[str, ...]:
    """Segments that PopREO and PopRSP compare: trained and not empty."""
    return tuple(name for name in segments.names if name != COLD and segments.n_items_in(name))
