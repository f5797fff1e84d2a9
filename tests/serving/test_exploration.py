"""Drawn lists: their frequencies are their propensities."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.serving import draw_list

SCORES = [1.5, 0.2, 0.9, -0.4]


def probability_of(order: tuple[int, ...], temperature: float) -> float:
    """One after the other, each in proportion to exp(score / temperature) among those left."""
    left, chance = list(range(len(SCORES))), 1.0
    for item in order:
        total = sum(np.exp(SCORES[i] / temperature) for i in left)
        chance *= np.exp(SCORES[item] / temperature) / total
        left.remove(item)
    return chance


def test_the_probabilities_of_all_ordered_lists_sum_to_one_and_are_their_frequencies():
    temperature, n = 0.8, 20_000
    expected = {order: probability_of(order, temperature) for order in permutations(range(4), 2)}
    assert sum(expected.values()) == pytest.approx(1.0, abs=1e-12)  # float64 sums
    seen: Counter[tuple[int, ...]] = Counter()
    for seed in range(n):
        drawn, propensities = draw_list(SCORES, 2, temperature=temperature, seed=seed)
        order = tuple(drawn.tolist())
        seen[order] += 1
        assert np.prod(propensities) == pytest.approx(expected[order], rel=1e-12)
    for order, chance in expected.items():
        # Binomial: 4.5 standard deviations, one false alarm in 12,000 runs for 12 lists; seeds are fixed.
        assert abs(seen[order] / n - chance) < 4.5 * np.sqrt(chance * (1 - chance) / n)


def test_the_first_slot_s_propensity_is_the_softmax_worked_by_hand():
    # exp(0) : exp(ln 3) = 1 : 3; the second slot has one candidate left.
    drawn, propensities = draw_list([0.0, np.log(3.0)], 2, temperature=1.0, seed=0)
    first = {0: 0.25, 1: 0.75}[int(drawn[0])]
    assert propensities.tolist() == pytest.approx([first, 1.0])


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=20, unique=True), st.integers(0, 99))
def test_towards_no_temperature_the_list_is_that_of_the_best(scores, seed):
    drawn, propensities = draw_list(scores, len(scores), temperature=1e-3, seed=seed)
    assert drawn.tolist() == sorted(range(len(scores)), key=lambda i: -scores[i])
    assert propensities.tolist() == pytest.approx([1.0] * len(scores))


@given(
    st.lists(st.floats(-1e6, 1e6), max_size=30), st.floats(1e-3, 1e3), st.integers(0, 99), st.integers(1, 9)
)
def test_propensities_are_probabilities_however_large_the_scores(scores, temperature, seed, k):
    drawn, propensities = draw_list(scores, k, temperature=temperature, seed=seed)
    assert len(drawn) == len(set(drawn.tolist())) == len(propensities) == min(k, len(scores))
    assert ((propensities > 0) & (propensities <= 1)).all()
    again, _ = draw_list(scores, k, temperature=temperature, seed=seed)
    assert again.tolist() == drawn.tolist()


def test_lists_without_a_seed_differ():
    lists = {tuple(draw_list(np.zeros(20), 20, temperature=1.0, seed=None)[0].tolist()) for _ in range(3)}
    assert len(lists) == 3


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(ValueError, match=f"temperature must be above 0 and finite; got {temperature}"):
        draw_list(SCORES, 2, temperature=temperature, seed=0)


def test_a_score_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="must be finite; got 1 others among 2"):
        draw_list([0.0, -np.inf], 1, temperature=1.0, seed=0)
