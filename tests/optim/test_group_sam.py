import math

import pytest
import torch

from tailwise.optim import SAM, GroupSAM, ImbSAM
from tailwise.optim.reference import group_sam_gradient

from .builders import (
    ITEM_GROUPS,
    ITEMS,
    N_ITEMS,
    TAIL_ITEMS,
    Counted,
    TinyRecommender,
    are_identical,
    distance_from_reference,
    make,
    train_plainly,
)

RADII = (0.0, 0.15, 0.3, 0.45)  # of the groups {0}, {1, 2}, {3, 4}, {5, 6}


def group_sam(model, **arguments):
    settings = {"item_groups": ITEM_GROUPS, "rhos": RADII, "lr": 0.05} | arguments
    return GroupSAM(model.parameters(), torch.optim.AdamW, **settings)


def test_gradient_of_a_quadratic_worked_by_hand():
    # l_j = θ_j²/2 at (3, 4, 12), items 0 and 1 in one group of radius 5, item 2 alone with
    # radius 2: eps_0 = 5 (3, 4, 0)/5, eps_1 = (0, 0, 2), G = (3 + 3, 4 + 4, 12 + 2)/3.
    theta = torch.nn.Parameter(torch.tensor([3.0, 4.0, 12.0], dtype=torch.float64))
    groups = torch.tensor([0, 0, 1])
    optimizer = GroupSAM([theta], torch.optim.SGD, item_groups=groups, rhos=[5, 2], lr=1.0)
    loss = optimizer.compute_gradient(lambda rows: theta[rows] ** 2 / 2, torch.tensor([0, 1, 2]))
    assert loss.item() == pytest.approx((9 + 16 + 144) / 6, rel=1e-15)
    assert theta.grad.tolist() == pytest.approx([2.0, 8 / 3, 14 / 3], rel=1e-15)


def test_fast_step_follows_reference_for_100_steps(model):
    groups = ITEM_GROUPS[ITEMS[ITEMS >= 0]]
    distance = distance_from_reference(
        model,
        group_sam(model),
        lambda theta, _: group_sam_gradient(model.target_losses, theta, groups, rhos=RADII),
    )
    # Sums in another order: 1e-16 per step, magnified by AdamW's division and by training itself.
    assert distance < 1e-9


def test_one_group_is_sam():
    ours, theirs = TinyRecommender(), TinyRecommender()
    optimizer = group_sam(ours, item_groups=torch.zeros(N_ITEMS, dtype=torch.int64), rhos=[0.3])
    sam = SAM(theirs.parameters(), torch.optim.AdamW, rho=0.3, lr=0.05)
    for _ in range(20):
        optimizer.step(ours.losses, ITEMS)
        sam.step(theirs.losses, ITEMS)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        # The row without a target is left out: the same sums in another order, over 20 steps.
        assert torch.allclose(p, q, rtol=0, atol=1e-10)


def test_a_still_head_and_a_moving_tail_are_imbsam():
    ours, theirs = TinyRecommender(), TinyRecommender()
    optimizer = group_sam(ours, item_groups=TAIL_ITEMS.long(), rhos=[0.0, 0.3])
    imbsam = ImbSAM(theirs.parameters(), torch.optim.AdamW, tail_items=TAIL_ITEMS, rho=0.3, lr=0.05)
    for _ in range(20):
        optimizer.step(ours.losses, ITEMS)
        imbsam.step(theirs.losses, ITEMS)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=0, atol=1e-10)  # the same sums in another order, over 20 steps


@pytest.mark.parametrize("switched_off", [{"rho": 0.0}, {"rhos": [0.0] * 4}])
def test_zero_radii_equal_the_base_optimizer_bitwise(switched_off):
    ours, plain = TinyRecommender(), TinyRecommender()
    optimizer = group_sam(ours, **switched_off)
    loss_fn = Counted(ours.losses)
    for _ in range(20):
        optimizer.step(loss_fn, ITEMS)
    train_plainly(plain, torch.optim.AdamW(plain.parameters(), lr=0.05), 20)
    assert are_identical(ours.parameters(), plain.parameters())
    assert (loss_fn.forwards, loss_fn.backwards) == (20, 20)


def test_the_common_factor_multiplies_every_radius():
    one, other = TinyRecommender(), TinyRecommender()
    group_sam(one, rho=0.5, rhos=[2 * r for r in RADII]).step(one.losses, ITEMS)
    group_sam(other).step(other.losses, ITEMS)
    assert are_identical(one.parameters(), other.parameters())


def test_each_group_is_evaluated_at_its_own_radius():
    model = TinyRecommender()
    seen = []

    def losses(rows):
        seen.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        return model.losses(rows)

    group_sam(model).step(losses, ITEMS)
    moved = [(there - seen[0]).norm().item() for there in seen[1:]]
    assert moved == pytest.approx(RADII[1:], rel=1e-12)  # float64, parameters near 1


def test_a_group_covers_only_the_rows_that_hold_its_targets(model):
    loss_fn = Counted(model.losses)
    group_sam(model).step(loss_fn, ITEMS)
    # Items 1 and 2 are in rows 0 and 1; 3 and 4 in rows 1 and 3; 5 in row 3.
    assert loss_fn.rows == [list(range(len(ITEMS))), [0, 1], [1, 3], [3]]
    assert loss_fn.backwards == 3 + 1 + 3  # directions, the still group, each group there


def test_groups_absent_from_the_batch_cost_nothing(model):
    items = torch.where(ITEMS <= 1, ITEMS, -1)  # groups 0 and 1 are left
    loss_fn = Counted(model.losses)
    group_sam(model).step(loss_fn, items)
    assert (loss_fn.forwards, loss_fn.backwards) == (2, 3)
    loss_fn = Counted(model.losses)
    group_sam(model).step(loss_fn, torch.where(ITEMS == 0, ITEMS, -1))  # the still group alone
    assert (loss_fn.forwards, loss_fn.backwards) == (1, 1)


def test_all_rows_are_evaluated_again_when_random_numbers_are_drawn():
    model = TinyRecommender(dropout=0.5)
    loss_fn = Counted(model.losses)
    group_sam(model).step(loss_fn, ITEMS)
    assert loss_fn.rows == [list(range(len(ITEMS)))] * 4


def test_every_evaluation_draws_the_same_dropout_masks():
    model = TinyRecommender(dropout=0.5)
    seen = []

    def record(rows):
        seen.append(model.losses(rows))
        return seen[-1]

    # At a radius of 1e-12 another mask is the only thing that could move a loss visibly.
    make("GroupSAM", model.parameters(), torch.optim.SGD, rho=1e-12, lr=0.1).step(record, ITEMS)
    assert len(seen) == 4
    assert all(torch.allclose(seen[0], there, rtol=0, atol=1e-9) for there in seen[1:])
    assert not torch.allclose(seen[0], model.losses(torch.arange(len(ITEMS))), rtol=0, atol=1e-3)


def test_a_huge_radius_on_a_vanishing_gradient_does_not_overflow():
    theta = torch.nn.Parameter(torch.ones(2))
    groups = torch.tensor([0, 0])
    optimizer = GroupSAM([theta], torch.optim.SGD, item_groups=groups, rhos=[1e6], lr=0.1)
    optimizer.step(lambda rows: 2e-38 * theta[rows], torch.tensor([0, 1]))
    assert theta.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rhos": [0.1, -0.2, 0.3, 0.4]}, r"rhos must be .*; got -0.2 for group 1"),
        ({"rhos": [0.1, math.nan, 0.3, 0.4]}, r"rhos must be .*; got nan for group 1"),
        ({"rhos": [0.1, 0.2]}, r"item_groups must be in \[0, 2\).*; got values from 0 to 3"),
        ({"item_groups": ITEM_GROUPS - 1}, r"item_groups must be in \[0, 4\).*; got values from -1 to 2"),
        ({"item_groups": ITEM_GROUPS.float()}, r"item_groups must be an int64 .*; got torch.float32"),
        ({"item_groups": ITEM_GROUPS[None]}, r"item_groups must be .*; got .* shape \(1, 7\)"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name_and_value(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        group_sam(model, **arguments)


def test_items_beyond_the_catalogue_are_refused_before_the_model_is_evaluated(model):
    loss_fn = Counted(model.losses)
    with pytest.raises(ValueError, match="items must be below 7, the length of item_groups; got 9"):
        group_sam(model).step(loss_fn, ITEMS.masked_fill(ITEMS == 5, 9))
    assert loss_fn.forwards == 0


def test_a_loaded_state_brings_groups_and_radii_with_it(model):
    saved = group_sam(model).state_dict()
    optimizer = group_sam(model, item_groups=torch.zeros(N_ITEMS, dtype=torch.int64), rhos=[0.1])
    optimizer.load_state_dict(saved)
    assert torch.equal(optimizer.item_groups, ITEM_GROUPS)
    assert optimizer.rhos == RADII


def test_a_state_of_another_catalogue_is_refused(model):
    saved = group_sam(model, item_groups=torch.zeros(9, dtype=torch.int64)).state_dict()
    with pytest.raises(ValueError, match="groups of 7 items; got 9"):
        group_sam(model).load_state_dict(saved)
