"""The estimator ``sampled``: the exact correction on a few rows, drawn by their strengths."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tailwise.optim import EISAM
from tailwise.optim._row_draw import alike_probabilities, sampling_probabilities
from tailwise.optim.reference import (
    draws,
    eisam_gradient,
    gradient_for_given_eps,
    sam_gradient,
    sampled_alike_gradient,
    sampled_gradient,
)

from .builders import ITEM_WEIGHTS, ITEMS, Counted, TinyRecommender, are_identical, copies, outcome_at

HAS_TARGET = ITEMS >= 0
ROW_OF_TARGET = HAS_TARGET.nonzero()[:, 0].tolist()
WEIGHTS = ITEM_WEIGHTS.double()
C = torch.where(HAS_TARGET, 0.8 * WEIGHTS[ITEMS.clamp_min(0)], torch.zeros((), dtype=torch.float64))


def sampled(model, **arguments):
    settings = {
        "item_weights": WEIGHTS,
        "rho": 0.3,
        "strength": 0.8,
        "lr": 0.05,
        "seed": 5,
        "row_share": 1 / 3,
    }
    return EISAM(model.parameters(), torch.optim.AdamW, estimator="sampled", **settings | arguments)


# Probabilities


def test_probabilities_worked_by_hand():
    strengths = torch.tensor([1.0, 2.0, 0.0, 1.0])
    assert sampling_probabilities(strengths, 1.0).tolist() == [0.25, 0.5, 0.0, 0.25]
    # Two rows of four: the second would get 1, is certain, and the other two share one.
    assert sampling_probabilities(strengths, 2.0).tolist() == [0.5, 1.0, 0.0, 0.5]
    assert sampling_probabilities(strengths, 4.0).tolist() == [1.0, 1.0, 0.0, 1.0]


@given(
    st.lists(st.floats(0, 1).map(lambda x: x if x > 1e-6 else 0.0), min_size=1, max_size=10),
    st.floats(0.5, 12),
)
def test_probabilities_add_up_to_what_was_wanted_or_to_all_there_is(strengths, n_rows):
    p = sampling_probabilities(torch.tensor(strengths, dtype=torch.float64), n_rows)
    n_positive = sum(s > 0 for s in strengths)
    assert p.sum().item() == pytest.approx(min(n_rows, n_positive), abs=1e-9)
    assert ((p >= 0) & (p <= 1 + 1e-12)).all()
    assert (p[torch.tensor(strengths) == 0] == 0).all()


# Identities, expectation, parity


def test_all_rows_are_exact():
    trained = []
    for arguments in ({"row_share": 1.0}, {"estimator": "exact"}):
        model = TinyRecommender()
        optimizer = EISAM(
            model.parameters(),
            torch.optim.AdamW,
            **{"item_weights": WEIGHTS, "rho": 0.3, "lr": 0.05, "estimator": "sampled", "seed": 1}
            | arguments,
        )
        for _ in range(30):
            optimizer.step(model.losses, ITEMS)
        trained.append(copies(model.parameters()))
    for p, q in zip(*trained, strict=True):
        # The rows of no strength come in another sum: 1e-16 per step, magnified by training.
        assert torch.allclose(p, q, rtol=0, atol=1e-10)


def test_expectation_over_the_draw_is_the_item_wise_correction_along_each_draws_own_direction(model):
    """``g + Σ_draws P(draw) Σ_j (c_j/p) [∇l_j(θ+ε_draw) − ∇l_j(θ)] / N`` over the drawn rows' targets."""
    optimizer = sampled(model)
    state = copy.deepcopy(optimizer.state_dict())
    p = sampling_probabilities(C.sum(1), 2.0).tolist()
    left, total, expected = 0.0, 0, 0
    theta = copies(model.parameters())
    for length, is_drawn in draws(p):
        optimizer.load_state_dict(copy.deepcopy(state))
        optimizer._uniform = lambda u=left + length / 2: u
        optimizer.compute_gradient(model.losses, ITEMS)
        left += length
        total = total + length * torch.cat([q.grad.flatten() for q in model.parameters()])
        gradient = sampled_gradient(
            model.target_losses,
            theta,
            C[HAS_TARGET],
            row_of_target=ROW_OF_TARGET,
            p=p,
            is_drawn=is_drawn,
            rho=0.3,
        )
        expected = expected + length * torch.cat([g.flatten() for g in gradient])
    plain = torch.autograd.grad(
        model.target_losses(list(model.parameters())).mean(), list(model.parameters())
    )
    plain = torch.cat([g.flatten() for g in plain])
    assert torch.allclose(total, expected, rtol=1e-10, atol=1e-13)  # float64 sums in another order
    exact = torch.cat(
        [g.flatten() for g in eisam_gradient(model.target_losses, theta, C[HAS_TARGET], rho=0.3)]
    )
    # Not the same ε, but most of the same correction.
    assert torch.nn.functional.cosine_similarity(total - plain, exact - plain, dim=0) > 0.8


def follow(model, optimizer, gradient_at):
    """Hold 100 steps to a reference, which is told the parameters and this step's uniform number."""
    theta = [p.detach().clone().requires_grad_() for p in model.parameters()]
    base = torch.optim.AdamW(theta, lr=0.05)
    for _ in range(100):
        uniform = optimizer._uniform()
        optimizer.step(model.losses, model.items)
        for t, g in zip(theta, gradient_at(theta, uniform), strict=True):
            t.grad = g
        base.step()
    for ours, reference in zip(model.parameters(), theta, strict=True):
        # Sums in another order: 1e-16 per step, magnified by AdamW's division and by training itself.
        assert torch.allclose(ours, reference, rtol=0, atol=1e-9)


def test_fast_step_follows_reference_for_100_steps(model):
    p = sampling_probabilities(C.sum(1), 2.0).tolist()

    def gradient_at(theta, uniform):
        return sampled_gradient(
            model.target_losses,
            theta,
            C[HAS_TARGET],
            row_of_target=ROW_OF_TARGET,
            p=p,
            is_drawn=outcome_at(p, uniform),
            rho=0.3,
        )

    follow(model, sampled(model), gradient_at)


@pytest.mark.parametrize("switched_off", [{"rho": 0.0}, {"strength": 0.0}])
def test_switched_off_without_short_circuit_it_is_plain_training_within_rounding(switched_off):
    trained = []
    for arguments in (switched_off | {"short_circuit": False}, {"rho": 0.0}):
        model = TinyRecommender()
        optimizer = sampled(model, **arguments)
        for _ in range(30):
            optimizer.step(model.losses, ITEMS)
        trained.append(copies(model.parameters()))
    for p, q in zip(*trained, strict=True):
        # (1 − c/p) g + (c/p) g rounds at 1e-16 per step, magnified by training.
        assert torch.allclose(p, q, rtol=0, atol=1e-10)


def test_the_loss_returned_is_the_mean_at_the_parameters(model):
    mean = model.losses(torch.arange(len(ITEMS)))[HAS_TARGET].mean().item()
    loss = sampled(model).compute_gradient(model.losses, ITEMS)
    assert loss.item() == pytest.approx(mean, rel=1e-12)  # float64 sums in another order


# Unit weights: one factor for all drawn rows

MEAN_C = C.sum(1) / HAS_TARGET.sum(1).clamp_min(1)


@given(
    st.lists(st.floats(0, 1).map(lambda x: x if x > 1e-6 else 0.0), min_size=1, max_size=10),
    st.floats(0.05, 12),
)
def test_one_factor_makes_up_for_the_draw_of_every_row(strengths, n_rows):
    strength = torch.tensor(strengths, dtype=torch.float64)
    p, factor = alike_probabilities(strength, n_rows)
    assert ((p >= 0) & (p <= 1 + 1e-12)).all()
    assert p.sum().item() <= n_rows * (1 + 1e-9)
    assert torch.allclose(p * factor, strength, rtol=1e-12, atol=1e-300)
    if strength.max() > 0 and strength.max() * n_rows <= strength.sum():
        assert p.sum().item() == pytest.approx(n_rows, rel=1e-9)


def test_unit_weights_follow_their_reference_for_100_steps(model):
    p, factor = alike_probabilities(MEAN_C, 2.0)

    def gradient_at(theta, uniform):
        return sampled_alike_gradient(
            model.target_losses,
            theta,
            row_of_target=ROW_OF_TARGET,
            factor=factor,
            is_drawn=outcome_at(p.tolist(), uniform),
            rho=0.3,
        )

    follow(model, sampled(model, row_weights="unit"), gradient_at)


def test_unit_weights_expect_the_item_wise_gradient_of_mean_strengths_for_a_given_direction(model):
    """ε taken out of the draw's hands: what is left to chance is which rows are at θ+ε."""
    optimizer = sampled(model, row_weights="unit")
    state = copy.deepcopy(optimizer.state_dict())
    theta = copies(model.parameters())
    eps = [0.1 * torch.randn_like(t) for t in theta]
    optimizer._perturbation = lambda *_: (eps, 1.0)
    p, _ = alike_probabilities(MEAN_C, 2.0)
    left, total = 0.0, 0
    for length, _ in draws(p.tolist()):
        optimizer.load_state_dict(copy.deepcopy(state))
        optimizer._uniform = lambda u=left + length / 2: u
        optimizer.compute_gradient(model.losses, ITEMS)
        left += length
        total = total + length * torch.cat([q.grad.flatten() for q in model.parameters()])
    strengths = MEAN_C[:, None].expand_as(C)[HAS_TARGET]
    expected = gradient_for_given_eps(model.target_losses, theta, strengths, eps)
    expected = torch.cat([g.flatten() for g in expected])
    assert torch.allclose(total, expected, rtol=1e-10, atol=1e-12)  # float64 sums in another order


def test_unit_weights_of_all_rows_alike_are_sam(model):
    optimizer = sampled(
        model, row_weights="unit", row_share=1.0, strength=1.0, item_weights=torch.ones_like(WEIGHTS)
    )
    theta = copies(model.parameters())
    optimizer.compute_gradient(model.losses, ITEMS)
    expected = sam_gradient(model.target_losses, theta, rho=0.3)
    for p, g in zip(model.parameters(), expected, strict=True):
        assert torch.allclose(p.grad, g, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("switched_off", [{"rho": 0.0}, {"strength": 0.0}])
def test_unit_weights_switched_off_without_short_circuit_are_plain_training(switched_off):
    trained = []
    for arguments in (switched_off | {"short_circuit": False, "row_weights": "unit"}, {"rho": 0.0}):
        model = TinyRecommender()
        optimizer = sampled(model, **arguments)
        for _ in range(30):
            optimizer.step(model.losses, ITEMS)
        trained.append(copies(model.parameters()))
    for p, q in zip(*trained, strict=True):
        # (1 − f) g + f g rounds at 1e-16 per step, magnified by training.
        assert torch.allclose(p, q, rtol=0, atol=1e-10)


def test_unit_weights_pay_one_backward_per_evaluation():
    model = TinyRecommender()
    optimizer = sampled(model, row_weights="unit")
    n_drawn = []
    for _ in range(20):
        loss_fn = Counted(model.losses)
        optimizer.step(loss_fn, ITEMS)
        drawn, again, others = loss_fn.rows
        assert drawn == again
        assert sorted(drawn + others) == [0, 1, 2, 3, 5]  # row 4 has no target
        assert set(drawn) <= {0, 1, 3}  # rows 2 and 5 hold the weightless item alone
        assert loss_fn.backwards == 3
        n_drawn.append(len(drawn))
    assert set(n_drawn) <= {1, 2}  # a third of six at most


def test_diagnosis_of_unit_weights_knows_the_factor(model):
    optimizer = sampled(model, row_weights="unit")
    _, factor = alike_probabilities(MEAN_C, 2.0)
    report = optimizer.diagnose(model.losses, ITEMS)
    assert report.largest_factor == pytest.approx(max(1.0, factor))
    assert 0 < report.cosine_shared < 1
    assert report.realised_norm == pytest.approx(0.3, rel=1e-9)


# Price


def test_drawn_rows_are_evaluated_twice_and_the_others_once():
    model = TinyRecommender()
    optimizer = sampled(model)
    for _ in range(20):
        loss_fn = Counted(model.losses)
        optimizer.step(loss_fn, ITEMS)
        drawn, again, others = loss_fn.rows
        assert drawn == again
        assert len(drawn) == 2  # a third of six
        assert sorted(drawn + others) == [0, 1, 2, 3, 5]  # row 4 has no target
        assert set(drawn) <= {0, 1, 3}  # rows 2 and 5 hold the weightless item alone
        assert loss_fn.backwards == 4


# One weight for all items and one target a row, as in language-model loops: all drawn rows have one factor

ONE_TARGET = torch.tensor([0, 2, -1, 4, 5, 3, 0, 1])
EVEN = torch.full_like(WEIGHTS, 0.5)


def test_one_factor_for_all_drawn_rows_follows_the_reference_for_100_steps():
    model = TinyRecommender(ONE_TARGET)
    has_target = ONE_TARGET >= 0
    p = sampling_probabilities(has_target.double(), 8 / 3).tolist()

    def gradient_at(theta, uniform):
        return sampled_gradient(
            model.target_losses,
            theta,
            torch.full((7,), 0.4, dtype=torch.float64),  # strength times weight
            row_of_target=has_target.nonzero()[:, 0].tolist(),
            p=p,
            is_drawn=outcome_at(p, uniform),
            rho=0.3,
        )

    follow(model, sampled(model, item_weights=EVEN), gradient_at)


def test_one_factor_for_all_drawn_rows_needs_one_backward_per_evaluation():
    model = TinyRecommender(ONE_TARGET)
    optimizer = sampled(model, item_weights=EVEN)
    for _ in range(20):
        loss_fn = Counted(model.losses)
        optimizer.step(loss_fn, ONE_TARGET)
        drawn, again, others = loss_fn.rows
        assert drawn == again
        assert sorted(drawn + others) == [0, 1, 3, 4, 5, 6, 7]
        assert loss_fn.backwards == 3
    other_weights = Counted(model.losses)
    sampled(model, row_share=1.0).step(other_weights, ONE_TARGET)
    assert other_weights.backwards == 4  # two of the drawn rows' graph


def test_rows_of_several_targets_keep_two_backwards_even_where_their_factors_happen_to_agree():
    items = torch.tensor([[0, 2], [4, 5], [3, 0]])
    model = TinyRecommender(items)
    loss_fn = Counted(model.losses)
    sampled(model, item_weights=EVEN).step(loss_fn, items)
    assert loss_fn.backwards == 4


def test_a_share_of_less_than_a_row_leaves_most_steps_plain():
    model = TinyRecommender()
    optimizer = sampled(model, row_share=0.1 / 6)
    n_forwards = []
    for _ in range(200):
        loss_fn = Counted(model.losses)
        optimizer.step(loss_fn, ITEMS)
        n_forwards.append(loss_fn.forwards)
    # One row in ten steps: 20 of 200 expected, standard deviation 4.2; four of them.
    assert 3 <= n_forwards.count(3) <= 37
    assert n_forwards.count(1) == 200 - n_forwards.count(3)


# Randomness, failure, arguments


def test_both_evaluations_of_a_drawn_row_draw_the_same_dropout_masks():
    model = TinyRecommender(dropout=0.5)
    seen = []

    def record(rows):
        seen.append(model.losses(rows))
        return seen[-1]

    # At a radius of 1e-12 another mask is the only thing that could move a loss visibly.
    sampled(model, rho=1e-12).step(record, ITEMS)
    assert torch.allclose(seen[0], seen[1], rtol=0, atol=1e-9)
    assert len(seen) == 3


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_failure_in_any_evaluation_changes_nothing(model, at):
    optimizer = sampled(model)
    optimizer.step(model.losses, ITEMS)
    parameters, n = copies(model.parameters()), 0

    def failing(rows):
        nonlocal n
        n += 1
        return model.losses(rows) * (float("nan") if n == at else 1.0)

    with pytest.raises(FloatingPointError):
        optimizer.step(failing, ITEMS)
    assert are_identical(model.parameters(), parameters)
    assert optimizer.n_steps == 1


@pytest.mark.parametrize("row_share", [0.0, 1.5, -0.1])
def test_a_share_out_of_range_is_refused(model, row_share):
    with pytest.raises(ValueError, match=rf"row_share must be in \(0, 1\]; got {row_share}"):
        sampled(model, row_share=row_share)


def test_diagnosis_names_the_drawn_rows_and_their_own_direction(model):
    optimizer = sampled(model)
    report = optimizer.diagnose(model.losses, ITEMS)
    assert report.share_of_rows_perturbed == 2 / 5
    assert 0 < report.cosine_shared < 1
    assert report.realised_norm == pytest.approx(0.3, rel=1e-9)
    assert report.largest_factor >= 1
