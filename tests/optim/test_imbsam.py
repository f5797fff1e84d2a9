import pytest
import torch

from tailwise.optim import EISAM, SAM, ImbSAM
from tailwise.optim.reference import imbsam_gradient

from .builders import (
    ITEMS,
    N_ITEMS,
    TAIL_ITEMS,
    Counted,
    TinyRecommender,
    are_identical,
    distance_from_reference,
    train_plainly,
)

IS_TAIL = TAIL_ITEMS[ITEMS[ITEMS >= 0]]


def imbsam(model, tail_items=TAIL_ITEMS, **arguments):
    return ImbSAM(model.parameters(), torch.optim.AdamW, tail_items=tail_items, rho=0.3, lr=0.05, **arguments)


def test_gradient_of_a_quadratic_worked_by_hand():
    # l_0 = x²/2 is head, l_1 = y²/2 tail, at (3, 4): eps = (0, 2.5), G = (3, 6.5)/2.
    theta = torch.nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = ImbSAM([theta], torch.optim.SGD, tail_items=torch.tensor([False, True]), rho=2.5, lr=1.0)
    loss = optimizer.compute_gradient(lambda rows: theta[rows] ** 2 / 2, torch.tensor([0, 1]))
    assert loss.item() == 6.25
    assert theta.grad.tolist() == [1.5, 3.25]


def test_fast_step_follows_reference_for_100_steps(model):
    distance = distance_from_reference(
        model,
        imbsam(model),
        lambda theta, _: imbsam_gradient(model.target_losses, theta, IS_TAIL, rho=0.3),
    )
    # Sums in another order: 1e-16 per step, magnified by AdamW's division and by training itself.
    assert distance < 1e-9


def test_imbsam_is_eisam_with_step_weights_bitwise():
    ours, theirs = TinyRecommender(), TinyRecommender()
    optimizer = imbsam(ours)
    eisam = EISAM(theirs.parameters(), torch.optim.AdamW, item_weights=TAIL_ITEMS.float(), rho=0.3, lr=0.05)
    for _ in range(20):
        optimizer.step(ours.losses, ITEMS)
        eisam.step(theirs.losses, ITEMS)
    assert are_identical(ours.parameters(), theirs.parameters())


def test_a_catalogue_of_tail_items_is_sam():
    ours, theirs = TinyRecommender(), TinyRecommender()
    optimizer = imbsam(ours, torch.ones(N_ITEMS, dtype=torch.bool))
    sam = SAM(theirs.parameters(), torch.optim.AdamW, rho=0.3, lr=0.05)
    for _ in range(20):
        optimizer.step(ours.losses, ITEMS)
        sam.step(theirs.losses, ITEMS)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        # The row without a target is left out: the same sums in another order, over 20 steps.
        assert torch.allclose(p, q, rtol=0, atol=1e-10)


def test_a_catalogue_of_head_items_is_the_base_optimizer_bitwise():
    ours, plain = TinyRecommender(), TinyRecommender()
    optimizer = imbsam(ours, torch.zeros(N_ITEMS, dtype=torch.bool))
    for _ in range(20):
        optimizer.step(ours.losses, ITEMS)
    train_plainly(plain, torch.optim.AdamW(plain.parameters(), lr=0.05), 20)
    assert are_identical(ours.parameters(), plain.parameters())


def test_second_evaluation_covers_only_rows_with_a_tail_target(model):
    loss_fn = Counted(model.losses)
    imbsam(model).step(loss_fn, ITEMS)
    assert loss_fn.rows == [list(range(len(ITEMS))), [1, 3]]
    assert loss_fn.backwards == 3


@pytest.mark.parametrize(
    ("tail_items", "message"),
    [
        (TAIL_ITEMS.long(), r"tail_items must be a bool vector .*; got torch.int64"),
        (TAIL_ITEMS[None], r"tail_items must be a bool vector .*; got torch.bool of shape \(1, 7\)"),
    ],
)
def test_other_than_a_bool_vector_is_refused(model, tail_items, message):
    with pytest.raises(ValueError, match=message):
        imbsam(model, tail_items)


def test_a_loaded_state_brings_the_tail_with_it(model):
    saved = imbsam(model).state_dict()
    optimizer = imbsam(model, ~TAIL_ITEMS)
    optimizer.load_state_dict(saved)
    assert torch.equal(optimizer.item_weights, TAIL_ITEMS.float())
