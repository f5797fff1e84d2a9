"""Turn the rankings of one variant into the rows of metrics.json, with intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailwise.errors import DataError
from tailwise.evaluation._accuracy import METRICS, check_metric
from tailwise.evaluation._exposure import (
    RECOMMENDATION_RATE,
    USER_MEANS,
    catalogue_metrics,
    check_list_length,
    compared_segments,
    decile_slots,
    exposure_sums,
    relative_spread,
)
from tailwise.evaluation._rankings import Rankings, check_same_cases
from tailwise.evaluation._user_sums import (
    Key,
    UserSums,
    accuracy_sums,
    bootstrap,
    join_columns,
    mean_over_seeds,
)
from tailwise.segments import COLD_DECILE, Segments, popularity_deciles

__all__ = ["accuracy", "check_inputs", "check_pair", "evaluate_variant", "exposure", "exposure_deciles"]

_KS = (5, 10, 20, 50)
_TAILS = (2.5, 97.5)  # percent: what a 95 % percentile interval leaves out on either side


def accuracy(
    rankings: Rankings | Sequence[Rankings],
    segments: Segments,
    *,
    ks: Sequence[int] = _KS,
    metrics: Sequence[str] = tuple(METRICS),
    n_resamples: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Average each metric over all targets and over the targets of each segment.

    Args:
        rankings: Of one variant; a sequence holds one per training seed.
        segments: A target belongs to the segment of its item.
        ks: Lengths of the judged list, each >= 1.
        metrics: Names in :data:`METRICS`.
        n_resamples: Of the bootstrap over users.
        seed: Of the bootstrap.

    Returns:
        Rows of ``variants[].accuracy`` (docs/metrics-schema.md): overall first, then the
        segments. A segment without targets has no rows; one with a single user has
        ``low`` and ``high`` None.

    Raises:
        ValueError: a metric or k is unknown.
        DataError: seeds hold different cases, or segments another catalogue.
    """
    runs = check_inputs(rankings, segments)
    for metric in metrics:
        for k in ks:
            check_metric(metric, k)
    sums = mean_over_seeds([accuracy_sums(r, segments, metrics, ks) for r in runs])
    return _accuracy_rows(sums, bootstrap(sums, n_resamples=n_resamples, seed=seed))


def exposure(
    rankings: Rankings | Sequence[Rankings],
    segments: Segments,
    k: int = 10,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Measure what is recommended in the first k slots, whatever is hit.

    ``slot_share`` per segment, ``aplt``, ``aclt``, ``arp``, ``novelty`` (means over
    users), ``pop_rsp`` and ``pop_reo`` (spread between trained segments; the latter
    needs held-out targets in two of them), ``coverage`` (overall and per segment) and
    ``gini`` over the whole catalogue. Definitions and sources: docs/metrics.md.

    Args:
        rankings: Of one variant; a sequence holds one per training seed.
        segments: Long-tail items are those of the last trained segment.
        k: Slots that count, 1..list_length.
        n_resamples: Of the bootstrap over users.
        seed: Of the bootstrap.

    Returns:
        Rows of ``variants[].exposure`` (docs/metrics-schema.md). ``coverage`` and ``gini``
        have no interval: a resample repeats users, so it always covers less.

    Raises:
        ValueError: ``k`` exceeds the stored list length.
        DataError: seeds hold different cases, or segments another catalogue.
    """
    runs = check_inputs(rankings, segments)
    check_list_length(runs, [k])
    sums = _all_sums(runs, segments, ("recall",), [k])
    draws = bootstrap(sums, n_resamples=n_resamples, seed=seed)
    return _exposure_rows(runs, segments, sums, draws, k)


def exposure_deciles(
    rankings: Rankings | Sequence[Rankings], segments: Segments, k: int = 10
) -> list[dict[str, Any]]:
    """Share the first k slots out over the popularity deciles of trained items.

    Returns:
        Rows of ``variants[].exposure_deciles`` (docs/metrics-schema.md), with ``k``:
        deciles 1..10 and 11 = cold, mean over seeds.
    """
    runs = check_inputs(rankings, segments)
    check_list_length(runs, [k])
    shares = np.mean([decile_slots(r, segments, k) for r in runs], axis=0)
    decile = popularity_deciles(segments.counts, trained=segments.is_trained)
    n_items = np.bincount(decile, minlength=COLD_DECILE + 1)
    held = np.bincount(decile, weights=segments.counts, minlength=COLD_DECILE + 1)
    return [
        {
            "decile": d,
            "n_items": int(n_items[d]),
            "slot_share": float(shares[d - 1]),
            "interaction_share": float(held[d] / max(float(held.sum()), 1.0)),
            "k": k,
        }
        for d in range(1, COLD_DECILE + 1)
    ]


def evaluate_variant(
    rankings: Rankings | Sequence[Rankings],
    segments: Segments,
    *,
    ks: Sequence[int] = _KS,
    metrics: Sequence[str] = tuple(METRICS),
    decile_k: int = 10,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure one variant: accuracy and exposure at each k, exposure by decile.

    With several seeds a value is the mean over seeds, and its interval resamples users
    on seed-averaged values: it speaks of *these* trained models on other users, not of
    training again. :func:`compare` adds the variance between seeds.

    Args:
        rankings: Of one variant; a sequence holds one per training seed.
        segments: Over the same catalogue.
        ks: Lengths of the judged list, each in 1..list_length.
        metrics: Names in :data:`METRICS`.
        decile_k: Slots that count for the deciles.
        n_resamples: Of the bootstrap over users.
        seed: Of the bootstrap.

    Returns:
        ``accuracy``, ``exposure`` and ``exposure_deciles`` as in docs/metrics-schema.md,
        ``segment_rule`` and ``segment_parameters``; ready for JSON.

    Raises:
        ValueError: a metric or k is unknown, or k exceeds the stored list length.
        DataError: seeds hold different cases, or segments another catalogue.
    """
    runs = check_inputs(rankings, segments)
    check_list_length(runs, [*ks, decile_k])
    for metric in metrics:
        check_metric(metric, ks[0])
    sums = _all_sums(runs, segments, tuple(dict.fromkeys((*metrics, "recall"))), ks)
    draws = bootstrap(sums, n_resamples=n_resamples, seed=seed)
    return {
        "segment_rule": segments.rule,
        "segment_parameters": dict(segments.parameters),
        "accuracy": [row for row in _accuracy_rows(sums, draws) if row["metric"] in metrics],
        "exposure": [row for k in ks for row in _exposure_rows(runs, segments, sums, draws, k)],
        "exposure_deciles": exposure_deciles(runs, segments, decile_k),
    }


def check_inputs(rankings: Rankings | Sequence[Rankings], segments: Segments) -> list[Rankings]:
    """Return the rankings as a list of seeds, all of the same cases and catalogue."""
    runs = [rankings] if isinstance(rankings, Rankings) else list(rankings)
    check_same_cases(runs, what="rankings")
    if segments.n_items != runs[0].n_items:
        raise DataError(
            f"segments must cover the ranked catalogue of {runs[0].n_items:,} items; "
            f"got {segments.n_items:,}.\n"
            "  Cut the segments from counts over the same encoded catalogue."
        )
    return runs


def check_pair(
    baseline: Rankings | Sequence[Rankings], treatment: Rankings | Sequence[Rankings], segments: Segments
) -> tuple[list[Rankings], list[Rankings]]:
    """Return both sides as lists of as many seeds, all of the same cases and catalogue."""
    left, right = check_inputs(baseline, segments), check_inputs(treatment, segments)
    if len(left) != len(right):
        raise ValueError(
            f"baseline and treatment must have as many seeds; got {len(left)} and {len(right)}.\n"
            "  Train both with the same seeds; repeat a variant that has none."
        )
    check_same_cases([left[0], right[0]], what="baseline and treatment")
    return left, right


def _all_sums(
    runs: Sequence[Rankings], segments: Segments, metrics: Sequence[str], ks: Sequence[int]
) -> UserSums:
    """Accuracy and exposure columns side by side, averaged over seeds."""
    return mean_over_seeds(
        [join_columns(accuracy_sums(r, segments, metrics, ks), exposure_sums(r, segments, ks)) for r in runs]
    )


def _interval(draws: NDArray[np.float64], n_contributing: int) -> tuple[float | None, float | None]:
    """95 % percentile interval, or None where fewer than two users contribute."""
    known = draws[~np.isnan(draws)]
    if n_contributing < 2 or not known.size:
        return None, None
    low, high = np.percentile(known, _TAILS)
    return float(low), float(high)


def _accuracy_rows(sums: UserSums, draws: NDArray[np.float64]) -> list[dict[str, Any]]:
    values, totals, n_users = sums.values(), sums.totals, sums.n_contributing
    rows = []
    for i, (metric, k, segment) in enumerate(sums.keys):
        if metric not in METRICS or not totals[i]:
            continue
        low, high = _interval(draws[:, i], int(n_users[i]))
        rows.append(
            {
                "segment": segment,
                "metric": metric,
                "k": k,
                "value": float(values[i]),
                "low": low,
                "high": high,
                "n_targets": round(float(totals[i])),
                "n_users": int(n_users[i]),
            }
        )
    order = {name: i for i, name in enumerate(dict.fromkeys(key[2] for key in sums.keys))}
    return sorted(rows, key=lambda row: order[row["segment"]])


def _exposure_rows(
    runs: Sequence[Rankings], segments: Segments, sums: UserSums, draws: NDArray[np.float64], k: int
) -> list[dict[str, Any]]:
    values, totals, n_users = sums.values(), sums.totals, sums.n_contributing
    rows: list[dict[str, Any]] = []

    def add(key: Key, value: float, interval: tuple[float | None, float | None]) -> None:
        low, high = interval
        rows.append({"metric": key[0], "k": k, "segment": key[2], "value": value, "low": low, "high": high})

    for i, key in enumerate(sums.keys):
        if key[1] == k and (key[0] == "slot_share" or key[0] in USER_MEANS) and totals[i]:
            add(key, float(values[i]), _interval(draws[:, i], int(n_users[i])))
    for metric, rate in (("pop_rsp", RECOMMENDATION_RATE), ("pop_reo", "recall")):
        columns = [sums.column((rate, k, name)) for name in compared_segments(segments)]
        columns = [i for i in columns if totals[i]]
        spread = relative_spread(values[columns]) if len(columns) > 1 else np.array(np.nan)
        if not np.isnan(spread):
            interval = _interval(relative_spread(draws[:, columns]), int(n_users[columns].min()))
            add((metric, k, None), float(spread), interval)
    of_seeds = [catalogue_metrics(r, segments, k) for r in runs]
    for key in of_seeds[0]:
        known = [metrics[key] for metrics in of_seeds if key in metrics]
        add(key, float(np.mean(known)), (None, None))
    return rows
