import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tailwise.errors import DataError
from tailwise.evaluation import PairedRuns, UserSums, compare, holm, non_inferiority, relative_difference
from tailwise.evaluation._linearised import linearise, satterthwaite
from tailwise.segments import segment_items

from .builders import hits_and_misses

TWO_ITEMS = segment_items(np.array([2, 1]), head_share=0.5)
KEY = ("recall", 1, "overall")
MEASURE = {"metric": "recall", "k": 1}


def sums(gains, targets=None):
    gains = np.asarray(gains, dtype=float)
    targets = np.ones_like(gains) if targets is None else np.asarray(targets, dtype=float)
    return UserSums((KEY,), gains[:, None], targets[:, None], np.array([0]))


def runs(baseline, treatment, *, setting="a", population=None):
    """One list of gains per seed on each side."""
    n = len(baseline[0])
    sides = (tuple(map(sums, side)) for side in (baseline, treatment))
    return PairedRuns(setting, setting if population is None else population, np.arange(n), *sides)


def test_relative_difference_and_its_interval_worked_by_hand():
    result = relative_difference(runs([[1, 1, 0, 0]], [[1, 1, 1, 0]]), **MEASURE)
    assert (result.baseline_value, result.value, result.difference) == (0.5, 0.75, 0.5)
    # residuals a - b - θ b per user: -.5, -.5, 1, 0; squares sum to 1.5; · 4/3 / 2²
    assert result.standard_error == pytest.approx(np.sqrt(0.5))
    assert result.degrees_of_freedom == 3
    assert result.high == pytest.approx(0.5 + stats.t.ppf(0.975, 3) * np.sqrt(0.5))
    assert result.p_value == pytest.approx(2 * stats.t.sf(0.5 / np.sqrt(0.5), 3))
    assert (result.n_users, result.n_targets, result.variance) == (4, 4, "users")


def test_relative_difference_is_that_of_compare():
    rng = np.random.default_rng(2)
    users = np.repeat(np.arange(40), 2)
    left, right = ([hits_and_misses(users, rng.random(80) < p) for _ in range(3)] for p in (0.3, 0.4))
    absolute = compare(left, right, TWO_ITEMS, **MEASURE)
    found = relative_difference(
        PairedRuns.from_rankings(left, right, TWO_ITEMS, metrics=["recall"], ks=[1]), **MEASURE
    )
    assert found.difference == pytest.approx(absolute.relative_difference)
    assert found.value == pytest.approx(absolute.value)
    assert (found.n_users, found.n_targets, found.n_seeds) == (40, 80, 3)


def test_sides_of_unequal_seeds_are_refused_by_the_setting_they_are_of():
    run = hits_and_misses(np.arange(2), np.array([True, False]))
    with pytest.raises(ValueError, match=r"treatment of 'films' must have as many seeds.*got 1 and 2"):
        PairedRuns.from_rankings([run], [run, run], TWO_ITEMS, setting="films")


def test_variance_between_seeds_counts_when_users_agree():
    # two seeds that double everybody or leave everybody: nothing is left for users to explain
    result = relative_difference(runs([[1, 1, 1]] * 2, [[2, 2, 2], [1, 1, 1]]), **MEASURE)
    assert result.difference == 0.5
    assert result.standard_error == pytest.approx(0.5)  # sample variance .5 over two seeds
    assert result.degrees_of_freedom == pytest.approx(1)


def test_noise_in_users_and_seeds_is_counted_once():
    rng = np.random.default_rng(0)
    truth, told = [], []
    for _ in range(400):
        noise = rng.normal(0, 1, (5, 50))  # new in every pair of user and seed
        linear = linearise(noise, np.ones((1, 50)))
        total = float(linear.user_parts @ linear.user_parts) * 50 / 49 + linear.seed_variance
        truth.append(linear.estimate)
        told.append((total, total - linear.noise_variance(50)))
    twice, once = np.mean(told, axis=0) / (1 / 250)
    # relative standard deviation of a mean of 400 variances with four degrees of freedom: 3.5 %
    assert twice == pytest.approx(2, rel=0.1)
    assert once == pytest.approx(1, rel=0.15)
    assert np.var(truth) == pytest.approx(1 / 250, rel=0.2)


def test_settings_weigh_the_same_whatever_their_size():
    small = runs([[1, 1]], [[2, 2]], setting="small")
    large = runs([[1] * 100], [[1] * 100], setting="large")
    assert relative_difference([small, large], **MEASURE).difference == 0.5


def test_pooling_two_equal_independent_settings_halves_the_variance():
    one, two = (runs([[1, 1, 0, 0]], [[1, 1, 1, 0]], setting=name) for name in "ab")
    pooled = relative_difference([one, two], **MEASURE)
    assert pooled.standard_error == pytest.approx(np.sqrt(0.5 / 2))
    assert pooled.degrees_of_freedom == pytest.approx(6)
    assert (pooled.n_users, pooled.settings, pooled.value) == (8, ("a", "b"), None)


def test_same_users_in_two_settings_are_one_cluster():
    # a copy of a setting is no new information
    one, two = (runs([[1, 1, 0, 0]], [[1, 1, 1, 0]], setting=name, population="same") for name in "ab")
    pooled = relative_difference([one, two], **MEASURE)
    assert pooled.standard_error == pytest.approx(np.sqrt(0.5))
    assert (pooled.degrees_of_freedom, pooled.n_users) == (pytest.approx(3), 4)


def test_pooled_variance_follows_the_formula_of_the_page():
    rng = np.random.default_rng(0)
    n_settings, n_seeds, n = 3, 4, 30
    left, right = rng.random((2, n_settings, n_seeds, n))
    populations = ("p", "p", "q")
    found = relative_difference(
        [runs(left[j], right[j], setting=str(j), population=populations[j]) for j in range(3)], **MEASURE
    )
    rho = right.sum((1, 2)) / left.sum((1, 2)) - 1
    e = (right - left - rho[:, None, None] * left) / left.mean(1).sum(1)[:, None, None]
    mean = e.mean(1)  # over seeds: [n_settings, n]
    users = sum(n / (n - 1) * ((mean[j].sum(0) / n_settings) ** 2).sum() for j in ([0, 1], [2]))
    seeds = e.sum(2).var(axis=1, ddof=1).sum() / n_seeds / n_settings**2
    centred = e - mean[:, None] - e.sum(2, keepdims=True) / n
    twice = n / (n - 1) * n_seeds / (n_seeds - 1) * (centred**2).sum() / (n_seeds * n_settings) ** 2
    assert found.difference == pytest.approx(rho.mean())
    assert twice < users  # else the floor is what is tested
    assert found.standard_error**2 == pytest.approx(users + seeds - twice)


def test_treatment_equal_to_the_baseline_differs_by_exactly_zero():
    result = relative_difference(runs([[1, 0, 1]] * 2, [[1, 0, 1]] * 2), **MEASURE)
    assert (result.difference, result.low, result.high, result.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_single_user_gives_a_difference_without_an_interval():
    result = relative_difference(runs([[1]], [[2]]), **MEASURE)
    assert (result.difference, result.low, result.p_value) == (1.0, None, None)
    assert non_inferiority(result).is_shown is None


@pytest.mark.parametrize(("n_seeds", "covers"), [(2, 0.87), (3, 0.92), (5, 0.94)])
def test_few_seeds_that_vary_ten_times_as_much_as_users_cover_what_the_page_says(n_seeds, covers):
    # Binomial(20,000, .9): standard deviation 0.0021; the page rounds to 0.005
    rng = np.random.default_rng(0)
    missed = rng.normal(0, np.sqrt(11), 20_000)
    seeds = 10 * rng.chisquare(n_seeds - 1, missed.size) / (n_seeds - 1)
    freedom = np.array([satterthwaite([(1.0, 1000.0), (float(v), n_seeds - 1.0)]) for v in seeds])
    reach = stats.t.ppf(0.975, freedom) * np.sqrt(1 + seeds)
    assert np.mean(np.abs(missed) < reach) == pytest.approx(covers, abs=0.012)


def test_three_seeds_in_every_setting_are_enough():
    def of(n_seeds, setting):
        return runs([[1, 1, 0, 0]] * n_seeds, [[1, 1, 1, 0]] * n_seeds, setting=setting)

    enough = [relative_difference(of(n, "a"), **MEASURE).has_enough_seeds for n in (1, 2, 3)]
    assert enough == [False, False, True]
    assert not relative_difference([of(5, "a"), of(1, "b")], **MEASURE).has_enough_seeds


def test_treatment_without_any_hit_has_a_difference_but_neither_interval_nor_p():
    none = runs([[1, 1, 0, 0]] * 2, [[0, 0, 0, 0]] * 2)
    for result in (
        relative_difference(none, **MEASURE),
        relative_difference([none, runs([[1, 1, 0, 0]] * 2, [[0, 0, 0, 0]] * 2, setting="b")], **MEASURE),
    ):
        assert result.difference == -1.0
        assert (result.low, result.high, result.standard_error, result.p_value) == (None,) * 4
        assert non_inferiority(result).is_shown is None
    some = runs([[1, 1, 0, 0]] * 2, [[0, 1, 1, 0], [1, 1, 0, 1]], setting="b")
    pooled = relative_difference([none, some], **MEASURE)  # one setting's variance is not known
    assert (pooled.difference, pooled.low) == (pytest.approx((-1 + 0.25) / 2), None)


def test_a_rarely_hit_null_is_not_told_a_loss():
    # Two seeds with 0.4 hits each on either side: with an interval of width zero 17 % were losses.
    # Allowed are 2.5 %; Binomial(400, .025) has a standard deviation of 0.008; three of them above is 0.049.
    rng = np.random.default_rng(3)
    told, n_compared = 0, 0
    for _ in range(500):
        left, right = (rng.random((2, 2, 200)) < 0.4 / 200).astype(float)
        if left.sum() > 0:
            result = relative_difference(runs(list(left), list(right)), **MEASURE)
            told += result.high is not None and result.high < 0
            n_compared += 1
    assert told / n_compared < 0.049


def test_baseline_without_any_hit_is_refused():
    with pytest.raises(
        DataError, match=r"baseline of 'a' must have some recall@1 in 'overall'.*got 0 over 2"
    ):
        relative_difference(runs([[0, 0]], [[1, 0]]), **MEASURE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: relative_difference([], **MEASURE), "at least one setting; got none"),
        (
            lambda: relative_difference([runs([[1]], [[1]])] * 2, **MEASURE),
            "distinct; got 'a' more than once",
        ),
        (lambda: relative_difference(runs([[1]], [[1]])), "one of recall@1 overall; got ndcg@10 overall"),
        (lambda: runs([[1]], [[1], [1]]), "of 'a' must have as many seeds, at least one; got 1 and 2"),
        (lambda: holm([0.2, 1.2]), "p_values must lie in 0..1; got 1.2"),
    ],
)
def test_what_cannot_be_compared_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_non_inferiority_is_an_interval_above_the_margin():
    steady = relative_difference(runs([[1] * 30] * 2, [[1] * 30] * 2), **MEASURE)
    assert non_inferiority(steady, margin=0.02).is_shown
    noisy = relative_difference(runs([[1, 0, 1, 0]], [[0, 1, 1, 0]]), **MEASURE)
    found = non_inferiority(noisy, margin=0.02)
    assert (noisy.difference, found.is_shown) == (0.0, False)  # no loss seen, but none ruled out
    worse = relative_difference(runs([[1] * 30], [[0.9] * 30]), **MEASURE)
    assert non_inferiority(worse, margin=0.02).p_value == pytest.approx(1.0)
    with pytest.raises(ValueError, match=r"margin must be a fraction in \(0, 1\); got 2"):
        non_inferiority(steady, margin=2)


def test_non_inferiority_p_value_is_below_two_and_a_half_per_cent_where_it_is_shown():
    rng = np.random.default_rng(0)
    for _ in range(50):
        base = rng.uniform(0.5, 1, 200)
        result = relative_difference(runs([base], [base * rng.normal(1, 0.2, 200)]), **MEASURE)
        found = non_inferiority(result, margin=0.02)
        assert found.is_shown == (found.p_value < 0.025)


def test_holm_worked_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_raw_and_bonferroni(p_values):
    adjusted = np.array(holm(p_values))
    raw = np.array(p_values)
    assert np.all(adjusted >= raw)
    assert np.all(adjusted <= np.minimum(1, raw * raw.size))
    assert np.all(np.diff(adjusted[np.argsort(raw, kind="stable")]) >= 0)


def test_satterthwaite_of_one_component_is_its_own():
    assert satterthwaite([(3.0, 7.0)]) == pytest.approx(7.0)
    assert satterthwaite([(0.0, 4.0), (0.0, 99.0)]) == 99.0


def simulated(rng, name, users, *, n_seeds, rate, effect, seed_spread):
    """Users differ in how often they hit and in what the treatment does to them; so do seeds."""
    own = rng.gamma(10, 0.1, users.size)

    def hits(chance):
        chance = rate * chance * users * np.exp(rng.normal(-(seed_spread**2) / 2, seed_spread))
        return (rng.random(users.size) < np.clip(chance, 0, 1)).astype(float)

    left = [hits(1.0) for _ in range(n_seeds)]
    right = [hits((1 + effect) * own) for _ in range(n_seeds)]
    return runs(left, right, setting=name, population="same" if name.startswith("shared") else name)


def coverage(n_simulations, *, names, effect, n_users, seed_spread):
    rng = np.random.default_rng(5)
    covered = []
    for _ in range(n_simulations):
        shared = rng.gamma(2, 0.5, n_users)
        settings = [
            simulated(
                rng,
                name,
                shared if name.startswith("shared") else rng.gamma(2, 0.5, n_users),
                n_seeds=5,
                rate=0.1,
                effect=effect,
                seed_spread=seed_spread,
            )
            for name in names
        ]
        found = relative_difference(settings, **MEASURE)
        covered.append(found.low <= effect <= found.high)
    return np.mean(covered)


@pytest.mark.parametrize("effect", [0.0, 0.2])
@pytest.mark.parametrize("names", [["a"], ["a", "b", "c", "d"], ["shared-1", "shared-2", "shared-3"]])
@pytest.mark.parametrize(("n_users", "seed_spread"), [(200, 0.05), (1000, 0.15)])
def test_pooled_interval_covers(names, effect, n_users, seed_spread):
    # Binomial(400, .95): standard deviation 0.011; taking off the noise never makes it cover less.
    # Never above .995, which an interval that counts noise twice reaches with four settings.
    share = coverage(400, names=names, effect=effect, n_users=n_users, seed_spread=seed_spread)
    assert 0.917 <= share <= 0.995
