"""Micro-batches: the gradient is the whole batch's, and one graph is alive at a time."""

import pytest
import torch

from .builders import ITEMS, Counted, TinyRecommender, are_identical, copies, make


@pytest.mark.parametrize("rows_at_once", [1, 2, [4, 2], [1, 5]])
def test_micro_batches_train_as_the_whole_batch(method, rows_at_once):
    whole, parts = TinyRecommender(), TinyRecommender()
    at_once, in_parts = make(method, whole.parameters()), make(method, parts.parameters())
    for _ in range(20):
        loss = at_once.step(whole.losses, ITEMS)
        loss_in_parts = in_parts.step(parts.losses, ITEMS, rows_at_once=rows_at_once)
        torch.testing.assert_close(loss_in_parts, loss, rtol=1e-10, atol=1e-12)
    for p, q in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(q, p, rtol=1e-8, atol=1e-10)


def test_no_more_rows_than_asked_for_are_evaluated_at_once(method, model):
    counted = Counted(model.losses)
    optimizer = make(method, model.parameters())
    for _ in range(3):
        optimizer.step(counted, ITEMS, rows_at_once=[1, 3, 2])
    blocks = [{0}, {1, 2, 3}, {4, 5}]
    assert all(any(set(rows) <= block for block in blocks) for rows in counted.rows)


def test_one_graph_is_alive_at_a_time(perturbing, model):
    alive, most = 0, 0

    class Passage(torch.autograd.Function):
        @staticmethod
        def forward(ctx, losses):
            ctx.save_for_backward(Watched(losses))
            return losses.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    class Watched(torch.Tensor):
        @staticmethod
        def __new__(cls, losses):
            nonlocal alive, most
            alive += 1
            most = max(most, alive)
            return losses.detach().clone().as_subclass(cls)

        def __del__(self):
            nonlocal alive
            alive -= 1

    make(perturbing, model.parameters()).step(
        lambda rows: Passage.apply(model.losses(rows)), ITEMS, rows_at_once=2
    )
    assert most == 1
    assert alive == 0


@pytest.mark.parametrize("method", ["EISAM", "SAM", "LookSAM", "GroupSAM"])
def test_every_micro_batch_sees_the_same_dropout_masks_twice(method):
    model = TinyRecommender(dropout=0.5)
    masks = {}

    def losses(rows):
        drawn = torch.rand(len(rows))
        masks.setdefault(tuple(rows.tolist()), []).append(drawn)
        return model.losses(rows)

    make(method, model.parameters()).compute_gradient(losses, ITEMS, rows_at_once=2)
    assert len(masks) == 3
    assert all(len(drawn) >= 2 for drawn in masks.values())
    assert all(are_identical(drawn[:1] * len(drawn), drawn) for drawn in masks.values())
    assert len({tuple(drawn[0].tolist()) for drawn in masks.values()}) == 3


def test_random_numbers_go_on_as_if_there_had_been_one_evaluation(perturbing):
    model = TinyRecommender(dropout=0.5)
    torch.manual_seed(5)
    for start in (0, 2, 4):
        model.losses(torch.arange(start, start + 2))
    expected = torch.rand(3)
    torch.manual_seed(5)
    make(perturbing, model.parameters()).compute_gradient(model.losses, ITEMS, rows_at_once=2)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("rows_at_once", [0, -1, [3, 2], [6, 0], [7], []])
def test_micro_batches_that_do_not_fit_are_refused(model, rows_at_once):
    with pytest.raises(ValueError, match=r"rows_at_once must be .*got"):
        make("EISAM", model.parameters()).step(model.losses, ITEMS, rows_at_once=rows_at_once)


@pytest.mark.parametrize("with_", [float("nan"), float("inf")])
def test_a_failure_in_a_late_micro_batch_changes_nothing(method, model, with_):
    optimizer = make(method, model.parameters())
    before = copies(model.parameters())
    with pytest.raises(FloatingPointError, match=r"losses must be finite; got \d+ of"):
        optimizer.step(
            lambda rows: model.losses(rows) * (with_ if 5 in rows.tolist() else 1), ITEMS, rows_at_once=1
        )
    assert are_identical(model.parameters(), before)
    assert all(not torch.isnan(value).any() for value in _kept(optimizer))


def _kept(optimizer):
    names = ("_kept_direction", "_kept_across", "_kept_average")
    return [tensor for name in names for tensor in getattr(optimizer, name, None) or []]


# What the losses are divided by and multiplied with


def test_losses_are_divided_by_the_normalizer(method):
    model, other = TinyRecommender(), TinyRecommender()
    n_targets = int((ITEMS >= 0).sum())
    usual, halved = make(method, model.parameters()), make(method, other.parameters())
    for _ in range(3):
        loss = usual.compute_gradient(model.losses, ITEMS)
        half = halved.compute_gradient(other.losses, ITEMS, normalizer=2 * n_targets)
        torch.testing.assert_close(half, loss / 2)
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(q.grad, p.grad / 2)
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_only_the_gradient_left_behind_carries_the_loss_scale(method):
    # Between full steps LookSAM uses the gradient left behind, and so does MomentumSAM's average.
    steps = 1 if method in {"LookSAM", "MomentumSAM"} else 4
    model, other = TinyRecommender(), TinyRecommender()
    usual, scaled = make(method, model.parameters()), make(method, other.parameters())
    for _ in range(steps):
        loss = usual.compute_gradient(model.losses, ITEMS)
        same = scaled.compute_gradient(other.losses, ITEMS, loss_scale=1024.0)
        torch.testing.assert_close(same, loss)
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(q.grad, p.grad * 1024)
        for kept, kept_scaled in zip(_kept(usual), _kept(scaled), strict=True):
            torch.testing.assert_close(kept_scaled, kept)


def test_a_gradient_that_overflows_does_not_enter_the_average(model):
    """Half precision overflows in the backward alone: the losses were finite."""
    optimizer = make("EISAM single-pass", model.parameters())
    for _ in range(3):
        optimizer.step(model.losses, ITEMS)
    before = copies(optimizer._kept_direction)
    handle = model.hidden.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(FloatingPointError, match="norm of the ascent direction"):
        optimizer.compute_gradient(model.losses, ITEMS)
    handle.remove()
    assert are_identical(optimizer._kept_direction, before)
    assert torch.isfinite(optimizer.step(model.losses, ITEMS))
