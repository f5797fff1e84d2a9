import numpy as np
import pytest
from scipy import stats

from tailwise.errors import DataError
from tailwise.evaluation import compare, compare_variants
from tailwise.evaluation._compare import _difference
from tailwise.evaluation._user_sums import UserSums
from tailwise.segments import segment_items

from .builders import hits_and_misses, rank

TWO_ITEMS = segment_items(np.array([2, 1]), head_share=0.5)
DOCUMENTED = [
    "variant",
    "baseline",
    "metric",
    "k",
    "segment",
    "baseline_value",
    "value",
    "difference",
    "low",
    "high",
    "relative_difference",
    "n_seeds",
    "n_users",
    "variance",
]
KEY = ("recall", 1, "overall")


def test_difference_and_its_interval_worked_by_hand():
    # User 0 has one target, user 1 two, user 2 one. Gains: 0 -> 1, 0 and 1 -> 1 and 1, 1 -> 1.
    users = [0, 1, 1, 2]
    result = compare(
        hits_and_misses(users, [0, 0, 1, 1]),
        hits_and_misses(users, [1, 1, 1, 1]),
        TWO_ITEMS,
        metric="recall",
        k=1,
    )
    assert (result.baseline_value, result.value, result.difference) == (0.5, 1.0, 0.5)
    assert result.relative_difference == 1.0
    # residuals per user: 1 - .5, 1 - 2·.5, 0 - .5; squares sum to .5; · 3/2 / 4²
    error = np.sqrt(0.5 * 1.5 / 16)
    assert result.standard_error == pytest.approx(error)  # a square root and a few products
    reach = stats.t.ppf(0.975, 2) * error
    assert (result.low, result.high) == pytest.approx((0.5 - reach, 0.5 + reach))
    assert (result.n_seeds, result.n_users, result.n_targets, result.variance) == (1, 3, 4, "users")


def test_variance_between_seeds_is_added_with_seeds_minus_one_degrees_of_freedom():
    users = [0, 1, 2, 3]
    baseline = [hits_and_misses(users, [0, 0, 0, 0])] * 2
    treatment = [hits_and_misses(users, [1, 1, 1, 1]), hits_and_misses(users, [0, 0, 0, 0])]
    result = compare(baseline, treatment, TWO_ITEMS, metric="recall", k=1)
    # differences 1 and 0: mean .5, sample variance .5, over two seeds .25; users agree exactly
    assert result.standard_error == pytest.approx(0.5)
    assert result.degrees_of_freedom == 1
    assert result.high == pytest.approx(0.5 + stats.t.ppf(0.975, 1) * 0.5)
    assert result.variance == "users+seeds"


def test_variant_compared_with_itself_differs_by_exactly_zero():
    rankings = hits_and_misses([0, 1, 2], [0, 1, 1])
    result = compare(rankings, rankings, TWO_ITEMS, metric="recall", k=1)
    assert (result.difference, result.low, result.high) == (0.0, 0.0, 0.0)


def test_swapping_the_sides_mirrors_the_interval():
    left, right = hits_and_misses([0, 1, 2, 3], [0, 1, 1, 0]), hits_and_misses([0, 1, 2, 3], [1, 1, 1, 0])
    there = compare(left, right, TWO_ITEMS, metric="recall", k=1)
    back = compare(right, left, TWO_ITEMS, metric="recall", k=1)
    # the residuals change sign, but differences of doubles may round apart
    assert (back.difference, back.low, back.high) == pytest.approx(
        (-there.difference, -there.high, -there.low)
    )


def test_order_of_users_does_not_matter():
    hits = np.array([0, 1, 1, 0, 1])
    order = np.array([3, 0, 4, 1, 2])
    base = hits_and_misses(np.arange(5), [0, 0, 1, 0, 1])
    first = compare(base, hits_and_misses(np.arange(5), hits), TWO_ITEMS, metric="recall", k=1)
    second = compare(base, hits_and_misses(order, hits[order]), TWO_ITEMS, metric="recall", k=1)
    assert first == second


def test_row_has_the_documented_fields():
    rankings = hits_and_misses([0, 1], [0, 1])
    row = compare(rankings, rankings, TWO_ITEMS, metric="recall", k=1).as_dict(
        variant="eisam", baseline="adamw"
    )
    assert list(row) == DOCUMENTED
    assert (row["variant"], row["baseline"]) == ("eisam", "adamw")


def test_relative_difference_to_zero_is_none():
    users = [0, 1]
    result = compare(
        hits_and_misses(users, [0, 0]), hits_and_misses(users, [0, 1]), TWO_ITEMS, metric="recall", k=1
    )
    assert result.relative_difference is None


def test_single_user_gives_a_difference_without_an_interval():
    result = compare(hits_and_misses([0], [0]), hits_and_misses([0], [1]), TWO_ITEMS, metric="recall", k=1)
    assert (result.difference, result.low, result.high, result.standard_error) == (1.0, None, None, None)


def test_slot_share_of_the_tail_can_be_compared():
    # lists of one slot: the head item for both users, then the tail item for one of them
    left, right = (rank(s, [[0], [1]], list_length=1) for s in ([[2, 1], [2, 1]], [[2, 1], [1, 2]]))
    result = compare(left, right, TWO_ITEMS, metric="slot_share", k=1, segment="tail")
    assert (result.baseline_value, result.value, result.difference) == (0.0, 0.5, 0.5)
    assert compare(left, right, TWO_ITEMS, metric="aplt", k=1).difference == 0.5


def test_compare_variants_gives_what_compare_gives_for_each_cell():
    left, right = (rank(s, [[0], [1]]) for s in ([[2, 1], [2, 1]], [[2, 1], [1, 2]]))
    rows = compare_variants(
        left, right, TWO_ITEMS, variant="b", against="a", metrics=("ndcg", "mrr"), ks=(1, 5)
    )
    assert len(rows) == 2 * 2 * 3  # overall, head, tail; there is no cold target
    for row in rows:
        one = compare(left, right, TWO_ITEMS, metric=row["metric"], k=row["k"], segment=row["segment"])
        assert row == one.as_dict(variant="b", baseline="a")


def test_other_targets_are_refused():
    with pytest.raises(DataError, match="baseline and treatment must hold the same users and targets"):
        compare(rank([[2, 1]], [[0]]), rank([[2, 1]], [[1]]), TWO_ITEMS)


def test_other_users_are_refused():
    with pytest.raises(DataError, match="got 2 users with 2 targets and 3 with 3"):
        compare(hits_and_misses([0, 1], [1, 1]), hits_and_misses([0, 1, 2], [1, 1, 1]), TWO_ITEMS)


def test_unequal_numbers_of_seeds_are_refused():
    rankings = hits_and_misses([0, 1], [1, 0])
    with pytest.raises(ValueError, match="must have as many seeds; got 1 and 2"):
        compare(rankings, [rankings, rankings], TWO_ITEMS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metric": "map"}, "metric must be one of recall, ndcg, mrr, slot_share, .*; got 'map'"),
        ({"segment": "mid"}, "segment must be one of overall, head, tail, cold; got 'mid'"),
        ({"metric": "slot_share"}, "segment of 'slot_share' must be a segment; got 'overall'"),
        ({"metric": "arp", "segment": "tail"}, "segment of 'arp' must be 'overall'; got 'tail'"),
    ],
)
def test_what_cannot_be_compared_is_named(arguments, message):
    rankings = hits_and_misses([0, 1], [1, 0])
    with pytest.raises(ValueError, match=message):
        compare(rankings, rankings, TWO_ITEMS, **{"k": 1, **arguments})


def test_segment_without_targets_is_refused():
    rankings = hits_and_misses([0, 1], [1, 0])
    with pytest.raises(DataError, match="segment must hold at least one target; got none in 'tail'"):
        compare(rankings, rankings, TWO_ITEMS, segment="tail")


def simulated(rng, n_users, n_seeds, seed_spread):
    """Two variants of equal quality on users who differ in size and in how often they hit."""
    size = rng.integers(1, 7, n_users).astype(float)
    rate = 0.1 + 0.08 * size  # large users hit more often: a mean of users' means would be biased

    def sums():
        shift = rng.normal(0, seed_spread)
        hits = rng.binomial(size.astype(int), np.clip(rate + shift, 0, 1)).astype(float)
        return UserSums((KEY,), hits[:, None], size[:, None], np.array([0]))

    return [sums() for _ in range(n_seeds)], [sums() for _ in range(n_seeds)]


def coverage(n_simulations, **arguments):
    rng = np.random.default_rng(5)
    results = [_difference(*simulated(rng, **arguments), KEY, TWO_ITEMS) for _ in range(n_simulations)]
    return np.mean([r.low <= 0 <= r.high for r in results])


def test_interval_over_users_covers_no_difference_near_95_percent():
    # Binomial(2000, .95): standard deviation 0.0049, so 0.935..0.965 is three of them either way
    assert 0.935 <= coverage(2000, n_users=150, n_seeds=1, seed_spread=0.0) <= 0.965


def test_interval_over_users_and_seeds_covers_near_95_percent_where_seeds_dominate():
    # the spread between seeds (0.1 · sqrt 2) is many times what 400 users leave (about 0.02)
    assert 0.935 <= coverage(2000, n_users=400, n_seeds=5, seed_spread=0.1) <= 0.965


def test_interval_over_users_and_seeds_is_conservative_where_users_dominate():
    # Seeds do not differ, yet their noise is counted twice and t has four degrees of freedom.
    assert coverage(2000, n_users=150, n_seeds=5, seed_spread=0.0) > 0.97


def test_interval_over_users_alone_misses_far_too_often_where_seeds_matter():
    # what the label "users" warns of
    assert coverage(500, n_users=400, n_seeds=1, seed_spread=0.1) < 0.6
