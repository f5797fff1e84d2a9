from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tailwise.diagnosis import Outcomes, PlantedWorld, attribute_gap
from tailwise.diagnosis._permutation import _shuffle_within

# 120 items and 1,500 targets: seconds for hundreds of tests.
TINY = PlantedWorld(n_items=120, n_users=300, n_targets=1500, base=-1.0, item_noise=0.3, zipf_exponent=0.7)


def told(outcomes: Outcomes, side: str, seed: int) -> bool:
    return getattr(attribute_gap(outcomes, n_permutations=19, seed=seed), f"p_{side}") <= 0.05


def test_shuffling_moves_items_only_among_neighbours():
    held = np.random.default_rng(0).permutation(100).astype(float)
    shuffled = _shuffle_within(held, np.random.default_rng(1))
    assert sorted(shuffled) == list(range(100))
    assert np.array_equal(held[shuffled] // 25, held // 25)
    assert not np.array_equal(shuffled, np.arange(100))


def test_strata_hold_at_least_25_items_when_there_are_as_many():
    for n in (3, 24, 49, 60, 99):
        held = np.arange(n, dtype=float)
        reached = np.stack([_shuffle_within(held, np.random.default_rng(s)) for s in range(300)])
        n_partners = min(np.unique(column).size for column in reached.T)
        assert n_partners >= min(n, 25)  # 300 draws of 49 places miss one with probability 0.2 % at most


def test_equal_values_are_neighbours_of_any_of_their_kind():
    held = np.zeros(60)
    rng = np.random.default_rng(0)
    # Item 0 lands anywhere in time: strata of ties are drawn anew. 700 draws miss one of 60 places
    # with probability 60 · (59/60)^700 = 0.05 %.
    assert {int(_shuffle_within(held, rng)[0]) for _ in range(700)} == set(range(60))


def test_a_prior_that_spreads_more_among_popular_items_is_not_mistaken_for_an_effect():
    # Shuffling all items with all would not keep the spread, nor a jump that no polynomial follows.
    n_told = 0
    for seed in range(100):
        o = replace(TINY, prior_effect=0.0).draw(seed).outcomes
        rng = np.random.default_rng(1000 + seed)
        d = (np.log1p(o.counts) - np.log1p(o.counts).mean()) / np.log1p(o.counts).std()
        prior = 2.0 * (d > 0.5) + rng.standard_normal(d.size) * np.exp(0.7 * np.clip(d, -2, 2))
        known = Outcomes(o.users, o.items, o.accuracy, o.counts, prior)
        n_told += told(known, "prior", seed)
    assert n_told <= 11  # binomial, 100 times 5 %: more have probability 0.4 %


def test_a_log_without_effect_is_reported_as_nothing_when_the_prior_is_known():
    known = replace(TINY, data_effect=0.0, prior_effect=0.7, reliability=1.0)
    n_told = sum(told(known.draw(seed).outcomes, "data", seed) for seed in range(100))
    assert stats.binom.ppf(0.0025, 100, 0.05) <= n_told <= stats.binom.ppf(0.9975, 100, 0.05)


@pytest.mark.parametrize(
    ("side", "changed"),
    [
        # The sign of the prior's effect turns with the counts, so no straight line of it is left.
        ("prior", {"prior_effect": 0.0, "interaction": 0.8, "reliability": 1.0}),
        ("data", {"data_effect": 0.0, "data_curve": 0.4, "reliability": 1.0}),
    ],
)
def test_effects_that_no_straight_line_shows_are_found(side, changed):
    n_told = sum(told(replace(TINY, **changed).draw(seed).outcomes, side, seed) for seed in range(40))
    assert n_told > 20


def test_what_an_item_weighs_in_the_shares_does_not_change_the_tests_weights():
    o = TINY.draw(0).outcomes
    by = {weigh: attribute_gap(o, weigh=weigh, n_permutations=199) for weigh in ("targets", "items")}
    # Not equal: between-item variance is estimated, and scales set, by other weights.
    assert by["items"].p_prior == pytest.approx(by["targets"].p_prior, abs=0.05)
