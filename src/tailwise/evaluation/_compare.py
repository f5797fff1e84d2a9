"""Is one variant better than another? Paired differences with an honest interval."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from tailwise.errors import DataError
from tailwise.evaluation._accuracy import METRICS, check_metric
from tailwise.evaluation._evaluate import check_pair
from tailwise.evaluation._exposure import USER_MEANS, check_list_length, exposure_sums
from tailwise.evaluation._linearised import clustered_variance, linearise
from tailwise.evaluation._rankings import Rankings
from tailwise.evaluation._user_sums import Key, UserSums, accuracy_sums
from tailwise.segments import OVERALL, Segments

__all__ = ["PairedDifference", "compare", "compare_variants"]

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class PairedDifference:
    """Treatment minus baseline on the same users and targets, with a 95 % interval.

    Attributes:
        metric: Name of the metric.
        k: Length of the judged list.
        segment: Segment of the targets (or of the slots), or ``"overall"``.
        baseline_value: Mean over seeds.
        value: The treatment's, mean over seeds.
        difference: ``value - baseline_value``.
        low: Lower end; None where fewer than two users contribute.
        high: Upper end; None likewise.
        relative_difference: ``difference / baseline_value``; None when that is zero.
        n_seeds: Pairs of training runs.
        n_users: Users that contribute.
        n_targets: Targets (for exposure: slots or users) that are averaged.
        variance: ``"users+seeds"``, or ``"users"`` with a single seed.
        standard_error: Square root of that variance; None like ``low``.
        degrees_of_freedom: Of the t distribution; None like ``low``.
        segment_rule: Rule that cut the segments.
        segment_parameters: Its parameters.
    """

    metric: str
    k: int
    segment: str
    baseline_value: float
    value: float
    difference: float
    low: float | None
    high: float | None
    relative_difference: float | None
    n_seeds: int
    n_users: int
    n_targets: int
    variance: str
    standard_error: float | None
    degrees_of_freedom: int | None
    segment_rule: str
    segment_parameters: dict[str, Any] = field(default_factory=dict)

    def as_dict(self, *, variant: str, baseline: str) -> dict[str, Any]:
        """Give the row of ``comparisons[]`` in docs/metrics-schema.md."""
        return {
            "variant": variant,
            "baseline": baseline,
            "metric": self.metric,
            "k": self.k,
            "segment": self.segment,
            "baseline_value": self.baseline_value,
            "value": self.value,
            "difference": self.difference,
            "low": self.low,
            "high": self.high,
            "relative_difference": self.relative_difference,
            "n_seeds": self.n_seeds,
            "n_users": self.n_users,
            "variance": self.variance,
        }


def compare(
    baseline: Rankings | Sequence[Rankings],
    treatment: Rankings | Sequence[Rankings],
    segments: Segments,
    *,
    metric: str = "ndcg",
    k: int = 10,
    segment: str = OVERALL,
) -> PairedDifference:
    """Compare two variants on the same users and targets, seed by seed.

    The estimate is the mean over seeds of the difference of means. Its variance is the
    user-clustered variance of the seed-averaged difference (linearised, since the number
    of targets per user is random) plus the sample variance of the per-seed differences
    over the number of seeds. The interval is t with seeds-1 degrees of freedom; with one
    seed it is t with users-1 and says nothing about training again. It errs on the wide
    side when users rather than seeds dominate (docs/metrics.md, "When it is conservative").

    Args:
        baseline: One per training seed.
        treatment: As many, paired with ``baseline`` in order. A variant that needs no
            seed (most popular) may be repeated: ``[popular] * 5``.
        segments: Over the same catalogue.
        metric: Name in :data:`METRICS`; or ``slot_share`` or a name in
            :data:`USER_MEANS` to compare what is shown.
        k: Length of the judged list.
        segment: A segment or ``"overall"``. ``slot_share`` needs a segment; the user
            means have only ``"overall"``.

    Returns:
        :class:`PairedDifference`.

    Raises:
        ValueError: unknown metric, k or segment, or unequal numbers of seeds.
        DataError: users or targets differ, or the segment has no targets.

    Example:
        >>> from tailwise.evaluation import rank_targets
        >>> from tailwise.segments import segment_items
        >>> def model(scores): return rank_targets(lambda h: scores, [[], []], [0, 1, 2], [0, 1], n_items=3)
        >>> worse, better = model([[3, 2, 1], [3, 2, 1]]), model([[3, 2, 1], [1, 2, 0]])
        >>> segments = segment_items(np.array([5, 3, 1]), head_share=0.5)
        >>> compare(worse, better, segments, metric="mrr").difference
        0.25
    """
    if metric in METRICS:
        check_metric(metric, k)
    elif metric not in ("slot_share", *USER_MEANS):
        known = ", ".join((*METRICS, "slot_share", *USER_MEANS))
        raise ValueError(
            f"metric must be one of {known}; got {metric!r}.\n  Others have no user-level pairs."
        )
    segments.mask(segment)  # refuses an unknown name
    if metric not in METRICS and (metric == "slot_share") == (segment == OVERALL):
        raise ValueError(
            f"segment of {metric!r} must be {'a segment' if metric == 'slot_share' else repr(OVERALL)}; "
            f"got {segment!r}.\n  Slots overall are always all slots; user means cover the whole list."
        )
    pairs = _paired_sums(baseline, treatment, segments, [metric], [k])
    key: Key = (metric, k, None if metric in USER_MEANS else segment)
    result = _difference(*pairs, key, segments)
    if result is None:
        raise DataError(
            f"segment must hold at least one target; got none in {segment!r}.\n"
            "  Compare another segment, or cut the segments differently."
        )
    return result


def compare_variants(
    baseline: Rankings | Sequence[Rankings],
    treatment: Rankings | Sequence[Rankings],
    segments: Segments,
    *,
    variant: str,
    against: str,
    metrics: Sequence[str] = tuple(METRICS),
    ks: Sequence[int] = (5, 10, 20, 50),
) -> list[dict[str, Any]]:
    """Compare two variants in every metric, at every k, overall and in every segment.

    As :func:`compare`; segments without targets have no rows. The intervals hold one
    by one: of many rows, one in twenty misses by chance.

    Args:
        baseline: One per training seed.
        treatment: As many, paired in order.
        segments: Over the same catalogue.
        variant: Name of the treatment in the rows.
        against: Name of the baseline in the rows.
        metrics: Names in :data:`METRICS`, ``slot_share`` or :data:`USER_MEANS`.
        ks: Lengths of the judged list.

    Returns:
        Rows of ``comparisons[]`` (docs/metrics-schema.md).
    """
    pairs = _paired_sums(baseline, treatment, segments, metrics, ks)
    results = (_difference(*pairs, key, segments) for key in pairs[0][0].keys if key[0] in metrics)
    return [r.as_dict(variant=variant, baseline=against) for r in results if r is not None]


def _paired_sums(
    baseline: Rankings | Sequence[Rankings],
    treatment: Rankings | Sequence[Rankings],
    segments: Segments,
    metrics: Sequence[str],
    ks: Sequence[int],
) -> tuple[list[UserSums], list[UserSums]]:
    """Per-user sums of both sides, one per seed, of the same cases."""
    left, right = check_pair(baseline, treatment, segments)
    accurate = [m for m in metrics if m in METRICS]
    shown = [m for m in metrics if m not in METRICS]
    if accurate and shown:
        raise ValueError(
            f"metrics must be all of accuracy or all of exposure; got {list(metrics)}.\n"
            "  Call compare_variants() once for each kind."
        )
    if shown:
        check_list_length([*left, *right], ks)
        return [exposure_sums(r, segments, ks) for r in left], [exposure_sums(r, segments, ks) for r in right]
    for metric in accurate:
        for k in ks:
            check_metric(metric, k)
    return (
        [accuracy_sums(r, segments, accurate, ks) for r in left],
        [accuracy_sums(r, segments, accurate, ks) for r in right],
    )


def _difference(
    baseline: Sequence[UserSums], treatment: Sequence[UserSums], key: Key, segments: Segments
) -> PairedDifference | None:
    """Difference of one column, or None when nothing is in its denominator."""
    i = baseline[0].column(key)
    weights = baseline[0].denominators[:, baseline[0].denominator_of[i]]  # [n_users]
    for sums in (*baseline, *treatment):
        if not np.array_equal(sums.denominators[:, sums.denominator_of[i]], weights):
            raise DataError(
                f"lists must have the same lengths in all rankings to compare {key[0]!r}; got others.\n"
                "  Some scores are -inf in one variant only; compare 'aplt', a mean over users."
            )
    total = float(weights.sum())
    if not total:
        return None
    below = np.stack([s.numerators[:, i] for s in baseline])  # [n_seeds, n_users]
    above = np.stack([s.numerators[:, i] for s in treatment])
    linear = linearise(above - below, weights[None, :])
    n_seeds = linear.seed_parts.size
    n_users = int(np.count_nonzero(weights))
    difference = linear.estimate
    baseline_value = float(below.sum() / (n_seeds * total))
    low: float | None = None
    high: float | None = None
    error: float | None = None
    dof: int | None = None
    if n_users >= 2:
        dof = n_seeds - 1 if n_seeds > 1 else n_users - 1
        error = float(np.sqrt(clustered_variance(linear.user_parts, n_users) + linear.seed_variance))
        reach = float(stats.t.ppf(0.5 + _CONFIDENCE / 2, dof)) * error
        low, high = difference - reach, difference + reach
    return PairedDifference(
        metric=key[0],
        k=key[1],
        segment=OVERALL if key[2] is None else key[2],
        baseline_value=baseline_value,
        value=float(above.sum() / (n_seeds * total)),
        difference=difference,
        low=low,
        high=high,
        relative_difference=difference / baseline_value if baseline_value else None,
        n_seeds=n_seeds,
        n_users=n_users,
        n_targets=round(total),
        variance="users+seeds" if n_seeds > 1 else "users",
        standard_error=error,
        degrees_of_freedom=dof,
        segment_rule=segments.rule,
        segment_parameters=dict(segments.parameters),
    )
