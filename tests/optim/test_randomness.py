import contextlib

import pytest
import torch

from tailwise.optim._randomness import RandomState

CPU = torch.device("cpu")


def test_state_has_changed_only_after_something_was_drawn():
    state = RandomState(CPU)
    torch.ones(3).sum()
    assert not state.has_changed()
    torch.rand(1)
    assert state.has_changed()


def test_replay_draws_the_same_numbers_and_then_goes_on_where_it_was():
    state = RandomState(CPU)
    first = torch.rand(4)
    with state.replayed():
        again = torch.rand(4)
        torch.rand(100)  # drawing more than before does not matter either
    following = torch.rand(4)

    torch.manual_seed(0)  # the fixture's seed
    assert torch.equal(torch.rand(4), first)
    assert torch.equal(again, first)
    assert torch.equal(torch.rand(4), following)


def test_replay_goes_on_where_it_was_after_an_exception_too():
    state = RandomState(CPU)
    torch.rand(4)
    before = torch.get_rng_state()
    with contextlib.suppress(RuntimeError), state.replayed():
        torch.rand(7)
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_replay_covers_the_generator_of_the_cuda_device_in_use():
    device = torch.device("cuda", 0)
    state = RandomState(device)
    first = torch.rand(4, device=device)
    assert state.has_changed()
    with state.replayed():
        again = torch.rand(4, device=device)
    assert torch.equal(again, first)
    assert not torch.equal(torch.rand(4, device=device), first)
