"""The rules that cut a catalogue into segments, and the registry that names them."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailwise.errors import DataError
from tailwise.segments._cuts import checked_counts, equal_positions, label_by_positions
from tailwise.segments._popularity import PopularityWindow
from tailwise.segments._segments import COLD, OVERALL, Segments

__all__ = ["RULES", "segment_items"]

_log = logging.getLogger(__name__)

# A rule labels the *trained* items: (their counts, which items of the catalogue they
# are, the rule's own parameters) -> (names head to tail, labels, resolved parameters).
Labelled = tuple[tuple[str, ...], NDArray[np.int64], dict[str, Any]]
Rule = Callable[..., Labelled]

_ROUNDING = 1e-9  # 0.29 * 100 is 28.999999999999996 in binary; it means 29


def _group_names(n_groups: int) -> tuple[str, ...]:
    """Names from head to tail: words up to three groups, then q1..qk."""
    named = {1: ("head",), 2: ("head", "tail"), 3: ("head", "mid", "tail")}
    return named.get(n_groups) or tuple(f"q{i}" for i in range(1, n_groups + 1))


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        hint = f"  For {value:g} percent, write {value / 100:g}." if 1 <= value < 100 else "  0.2 is a fifth."
        raise ValueError(f"{name} must be a fraction in (0, 1); got {value!r}.\n{hint}")


def _head_share(
    counts: NDArray[np.int64], _trained: NDArray[np.bool_], *, head_share: float = 0.2
) -> Labelled:
    """Head = the ``head_share`` of trained items with the most interactions; tail = the others."""
    _check_share("head_share", head_share)
    position = math.floor(head_share * counts.size + _ROUNDING)
    return _group_names(2), label_by_positions(counts, [position]), {"head_share": head_share}


def _interaction_share(
    counts: NDArray[np.int64], _trained: NDArray[np.bool_], *, interaction_share: float = 0.8
) -> Labelled:
    """Head = the fewest items that hold ``interaction_share`` of the interactions; tail = the others."""
    _check_share("interaction_share", interaction_share)
    held = np.cumsum(np.sort(counts)[::-1])
    if not held[-1]:
        raise DataError(
            f"counts must not all be zero for the rule 'interaction-share'; got {counts.size:,} zeros.\n"
            "  Widen the popularity window."
        )
    wanted = interaction_share * float(held[-1]) * (1 - _ROUNDING)
    position = int(np.searchsorted(held, wanted, side="left")) + 1
    labels = label_by_positions(counts, [position])
    return _group_names(2), labels, {"interaction_share": interaction_share}


def _quantiles(counts: NDArray[np.int64], _trained: NDArray[np.bool_], *, n_groups: int = 3) -> Labelled:
    """``n_groups`` groups of trained items, equal in number of items up to ties."""
    if not 2 <= n_groups <= 100 or n_groups != int(n_groups):
        raise ValueError(
            f"n_groups must be a whole number from 2 to 100; got {n_groups!r}.\n  3 gives head, mid and tail."
        )
    positions = equal_positions(counts.size, int(n_groups))
    return _group_names(int(n_groups)), label_by_positions(counts, positions), {"n_groups": int(n_groups)}


def _absolute_counts(
    counts: NDArray[np.int64], _trained: NDArray[np.bool_], *, thresholds: Sequence[int] = (5, 20)
) -> Labelled:
    """Tail <= thresholds[0] < mid <= thresholds[1] < head; one threshold gives head and tail."""
    cuts = [int(t) for t in thresholds]
    if not 1 <= len(cuts) <= 99 or cuts != list(thresholds) or cuts[0] < 1 or sorted(set(cuts)) != cuts:
        raise ValueError(
            f"thresholds must be whole numbers >= 1 in rising order; got {list(thresholds)!r}.\n"
            "  (5, 20) means tail <= 5 < mid <= 20 < head."
        )
    labels = np.zeros(counts.size, dtype=np.int64)
    for threshold in cuts:
        labels += counts <= threshold
    return _group_names(len(cuts) + 1), labels, {"thresholds": cuts}


def _column(
    counts: NDArray[np.int64],
    trained: NDArray[np.bool_],
    *,
    labels: Sequence[str | None] | None = None,
    order: Sequence[str] | None = None,
    column: str = "segment",
) -> Labelled:
    """The user's own label of each item; without ``order``, by falling mean count."""
    if labels is None or len(labels) != trained.size:
        raise ValueError(
            f"labels must name a segment for each of {trained.size:,} items; "
            f"got {'none' if labels is None else f'{len(labels):,}'}.\n"
            "  Pass the catalogue's column, in the order of item_index."
        )
    own = [labels[i] for i in np.flatnonzero(trained).tolist()]
    missing = [i for i, label in zip(np.flatnonzero(trained).tolist(), own, strict=True) if label is None]
    if missing:
        raise DataError(
            f"{len(missing):,} of {len(own):,} trained items have no label in column {column!r} "
            f"(first: item {missing[0]}).\n  Give each a label, or use a rule that needs none."
        )
    found = sorted({str(label) for label in own})
    reserved = [name for name in (COLD, OVERALL) if name in found or name in (order or ())]
    if reserved:
        raise ValueError(
            f"labels must not use the name {reserved[0]!r}, which is kept for "
            f"{'never-trained items' if reserved[0] == COLD else 'all items together'}; "
            f"got it in column {column!r}.\n  Rename that segment."
        )
    position = {name: i for i, name in enumerate(found)}
    coded = np.array([position[str(label)] for label in own], dtype=np.int64)
    if order is None:
        mean = np.bincount(coded, weights=counts) / np.bincount(coded)
        names = tuple(found[i] for i in sorted(range(len(found)), key=lambda i: (-mean[i], found[i])))
    else:
        names = tuple(order)
        unknown = [name for name in found if name not in names]
        if unknown or len(set(names)) != len(names):
            raise ValueError(
                f"order must name each label of column {column!r} once; got {list(names)!r}, "
                f"without {unknown!r}.\n  List the labels from head to tail."
            )
    if len(names) > 100:
        raise ValueError(
            f"labels must name at most 100 segments; got {len(names):,} in column {column!r}.\n"
            "  Use a coarser column."
        )
    rank = {name: i for i, name in enumerate(names)}
    final = np.array([rank[str(label)] for label in own], dtype=np.int64)
    return names, final, {"column": column, "order": list(names)}


RULES: dict[str, Rule] = {
    "head-share": _head_share,
    "interaction-share": _interaction_share,
    "quantiles": _quantiles,
    "absolute-counts": _absolute_counts,
    "column": _column,
}


def segment_items(
    counts: ArrayLike,
    rule: str = "head-share",
    *,
    trained: ArrayLike | None = None,
    window: PopularityWindow | None = None,
    **parameters: Any,
) -> Segments:
    """Put each item of the catalogue into one segment by its training count.

    ===================  ==============================  =====================================
    rule                 parameters (default)            segments, head to tail
    ===================  ==============================  =====================================
    ``head-share``       ``head_share`` (0.2)            head = that share of trained items
                                                         with the most interactions, tail
    ``interaction-share``  ``interaction_share`` (0.8)   head = fewest items holding that
                                                         share of interactions, tail
    ``quantiles``        ``n_groups`` (3)                equal numbers of items: head, mid,
                                                         tail; q1..qk from four groups on
    ``absolute-counts``  ``thresholds`` ((5, 20))        tail <= 5 < mid <= 20 < head
    ``column``           ``labels``, ``order`` (by mean  the user's own
                         count), ``column`` (its name)
    ===================  ==============================  =====================================

    Equal counts never straddle a cut: the tied group goes tailwards, so a head may be
    smaller than asked for, down to empty (which is logged). Never-trained items are the
    last segment, ``"cold"``, under every rule.

    Args:
        counts: ``[n_items]`` int; training interactions, each >= 0.
        rule: Name in :data:`RULES`.
        trained: ``[n_items]`` bool; which items training saw. None: those with a
            positive count. Give it when ``counts`` cover a window only, or items that
            sold before the window would pass for cold.
        window: The window of ``counts``; recorded, not applied.
        **parameters: The rule's own, as above. Unknown names are errors.

    Returns:
        :class:`Segments`, with rule and resolved parameters.

    Raises:
        ValueError: the rule or a parameter is unknown or out of range.
        DataError: no item is trained, or a trained item has no label.

    Example:
        >>> segments = segment_items(np.array([9, 5, 5, 2, 1, 0]), head_share=0.4)
        >>> [segments.names[label] for label in segments.labels]
        ['head', 'tail', 'tail', 'tail', 'tail', 'cold']
    """
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}; got {rule!r}.\n  Choose one of these.")
    checked, is_trained = checked_counts(counts, trained)
    known = set(RULES[rule].__kwdefaults__ or {})
    unknown = sorted(set(parameters) - known)
    if unknown:
        raise ValueError(
            f"parameters of rule {rule!r} must be among {', '.join(sorted(known))}; got {unknown[0]!r}.\n"
            "  Drop it, or choose the rule that it belongs to."
        )
    names, trained_labels, resolved = RULES[rule](checked[is_trained], is_trained, **parameters)
    labels = np.full(checked.size, len(names), dtype=np.int8)
    labels[is_trained] = trained_labels
    empty = [name for i, name in enumerate(names) if not np.any(trained_labels == i)]
    if empty:
        _log.warning("rule %r with %r leaves these segments empty: %s", rule, resolved, ", ".join(empty))
    return Segments((*names, COLD), labels, checked, rule, resolved, window)
