import torch

from tailwise.optim import ERM

from .builders import Counted, TinyRecommender, are_identical, train_plainly


def test_training_equals_the_base_optimizer_bitwise():
    ours, plain = TinyRecommender(), TinyRecommender()
    optimizer = ERM(ours.parameters(), torch.optim.AdamW, lr=0.05)
    for _ in range(50):
        optimizer.step(ours.losses, ours.items)
    train_plainly(plain, torch.optim.AdamW(plain.parameters(), lr=0.05), 50)
    assert are_identical(ours.parameters(), plain.parameters())


def test_a_step_costs_one_forward_and_one_backward(model):
    loss_fn = Counted(model.losses)
    ERM(model.parameters(), torch.optim.AdamW).step(loss_fn, model.items)
    assert (loss_fn.forwards, loss_fn.backwards) == (1, 1)


def test_a_step_returns_the_mean_over_the_targets_alone():
    # Paddings cost 100, targets 1 and 3: mean 2.
    theta = torch.nn.Parameter(torch.tensor(1.0))
    losses = torch.tensor([[1.0, 100.0], [100.0, 3.0]])
    optimizer = ERM([theta], torch.optim.SGD, lr=0.5)
    loss = optimizer.step(lambda rows: theta * losses[rows], torch.tensor([[0, -1], [-1, 0]]))
    assert loss.item() == 2.0
    assert not loss.requires_grad
    assert theta.item() == 0.0  # 1 - 0.5 * 2
