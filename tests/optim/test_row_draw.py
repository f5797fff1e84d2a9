import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tailwise.optim._row_draw import row_probabilities, systematic_draw, target_factors
from tailwise.optim.reference import draws

STRENGTHS = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def probability_of_one_row(c, **arguments):
    row = torch.tensor([c], dtype=torch.float64)
    return row_probabilities(row, torch.ones_like(row, dtype=torch.bool), **arguments).item()


# Row probabilities


@pytest.mark.parametrize("c", [0.0, 0.003, 0.4, 0.999, 1.0])
@pytest.mark.parametrize("row_weights", ["unbiased", "unit"])
def test_a_row_of_one_target_is_drawn_with_its_strength(c, row_weights):
    assert probability_of_one_row([c], row_weights=row_weights) == pytest.approx(c, abs=1e-15)


def test_probability_of_a_mixed_row_worked_by_hand():
    # ‖(0, 0.6)‖ = 0.6, ‖(1, 0.4)‖ = √1.16
    assert probability_of_one_row([0.0, 0.6]) == pytest.approx(0.6 / (0.6 + math.sqrt(1.16)), rel=1e-14)
    assert probability_of_one_row([0.0, 0.6], row_weights="unit") == pytest.approx(0.3, rel=1e-14)


@given(st.lists(st.floats(0.01, 0.99), min_size=2, max_size=6))
def test_no_other_probability_gives_less_variance_of_the_factors(c):
    def sum_of_squares(q):
        return sum(x**2 / q + (1 - x) ** 2 / (1 - q) for x in c)

    best = probability_of_one_row(c, clip=0.0)
    # 1e-9: the sum is flat at its minimum, so neighbours differ by rounding alone.
    assert all(sum_of_squares(best) <= sum_of_squares(k / 200) + 1e-9 for k in range(1, 200))


def test_only_mixed_rows_are_clipped():
    rare_among_many = [1e-4] * 50
    assert probability_of_one_row([0.0] * 3) == 0
    assert probability_of_one_row([1.0] * 3) == 1
    assert probability_of_one_row([1e-4]) == 1e-4
    assert probability_of_one_row(rare_among_many) == 0.05
    assert probability_of_one_row(rare_among_many, clip=0.0) == pytest.approx(1e-4, rel=1e-9)


def test_paddings_take_no_part_in_a_probability():
    c = torch.tensor([[0.2, 0.7, 0.0], [0.0, 0.0, 0.0]])
    has_target = torch.tensor([[True, True, False], [False, False, False]])
    for row_weights in ("unbiased", "unit"):
        q = row_probabilities(c, has_target, row_weights=row_weights)
        # float32 strengths: 1e-7.
        assert q[0].item() == pytest.approx(
            probability_of_one_row([0.2, 0.7], row_weights=row_weights), rel=1e-6
        )
        assert q[1] == 0


def test_factors_of_a_row_with_one_rare_target_among_fifty_stay_near_eight():
    # Mean c would give 1/0.02 = 50; the docstring's q gives 1/q = 1 + √49.
    c = torch.tensor([[1.0] + [0.0] * 49], dtype=torch.float64)
    q = row_probabilities(c, torch.ones_like(c, dtype=torch.bool))
    assert target_factors(c, q, torch.tensor([True])).max().item() == pytest.approx(8.0, rel=1e-12)


# The draw


def test_systematic_draw_worked_by_hand():
    q = torch.tensor([0.5, 0.25, 0.75, 0.0, 1.0])  # ends at 0.5, 0.75, 1.5, 1.5, 2.5
    assert systematic_draw(q, 0.1).tolist() == [True, False, True, False, True]  # points 0.1, 1.1, 2.1
    assert systematic_draw(q, 0.6).tolist() == [False, True, False, False, True]  # points 0.6, 1.6
    assert systematic_draw(q, 0.75).tolist() == [False, False, True, False, True]  # points 0.75, 1.75


@given(STRENGTHS, st.floats(0, 1, exclude_max=True))
def test_number_of_rows_drawn_stays_within_one_of_its_expectation(q, uniform):
    drawn = systematic_draw(torch.tensor(q, dtype=torch.float64), uniform)
    assert abs(int(drawn.sum()) - sum(q)) < 1 + 1e-9  # rounding of the running sum


@given(STRENGTHS)
def test_draw_agrees_with_its_enumeration_and_gives_every_row_its_probability(q):
    tensor = torch.tensor(q, dtype=torch.float64)
    outcomes = draws(q)
    assert sum(length for length, _ in outcomes) == pytest.approx(1, abs=1e-12)
    left = 0.0
    for length, drawn in outcomes:
        if length > 1e-9:  # shorter intervals are rounding of the running sum
            assert systematic_draw(tensor, left + length / 2).tolist() == drawn
        left += length
    for b, probability in enumerate(q):
        # 1e-9: probabilities below the resolution of the running sum may be lost in it.
        assert sum(length for length, drawn in outcomes if drawn[b]) == pytest.approx(probability, abs=1e-9)


# Factors


@given(STRENGTHS)
def test_expected_factors_are_the_strength_there_and_the_rest_here(c):
    row = torch.tensor([c], dtype=torch.float64)
    q = row_probabilities(row, torch.ones_like(row, dtype=torch.bool))
    there = q * target_factors(row, q, torch.tensor([True]))
    here = (1 - q) * target_factors(row, q, torch.tensor([False]))
    # float64 division and product; strengths near 1e-308 vanish, which is why not relative.
    assert torch.allclose(there, row if q > 0 else torch.zeros_like(row), rtol=0, atol=1e-12)
    assert torch.allclose(here, 1 - row if q < 1 else torch.zeros_like(row), rtol=0, atol=1e-12)


def test_factors_of_rows_of_one_target_are_exactly_one():
    c = torch.tensor([0.1, 0.37, 0.999, 0.5], dtype=torch.float64)
    q = row_probabilities(c, torch.ones(4, dtype=torch.bool))
    assert target_factors(c, q, torch.tensor([True, False, True, False])).tolist() == [1.0] * 4


def test_unit_factors_are_one_everywhere():
    c = torch.tensor([[0.1, 0.9], [1.0, 0.0]])
    factors = target_factors(c, torch.tensor([0.5, 0.5]), torch.tensor([True, False]), row_weights="unit")
    assert factors.tolist() == [[1.0, 1.0], [1.0, 1.0]]
