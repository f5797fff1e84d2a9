"""Two processes with a part of the batch each train as one process with all of it."""

import pytest
import torch
from torch import multiprocessing

from tailwise.optim import ReplicatedRanks

from . import ranks_worker
from .builders import TinyRecommender, are_identical, make

METHODS = ("ERM", "EISAM", "EISAM single-pass", "SAM")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.start_processes(ranks_worker.run, (str(folder),), nprocs=2, start_method="spawn")
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("split", ranks_worker.SPLITS)
def test_two_processes_train_as_one_with_the_joint_batch(results, method, split):
    alone, _ = ranks_worker.train(method, ranks_worker.joint_rows(split))
    for result in results:
        history, _ = result["replicated"][method, split]
        for step, alone_then in zip(history, alone, strict=True):
            for value, expected in zip(step, alone_then, strict=True):
                torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("split", ranks_worker.SPLITS)
def test_parameters_stay_identical_on_every_rank(results, method, split):
    (first, _), (second, _) = (result["replicated"][method, split] for result in results)
    assert all(are_identical(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("method", ["EISAM", "SAM", "ASAM", "ImbSAM", "FocalSAM", "LookSAM"])
def test_both_ranks_look_from_the_same_points(results, method):
    first, second = points_of(results, method)
    assert first == second
    assert len(first) > ranks_worker.N_STEPS  # θ+ε beside θ


@pytest.mark.parametrize(
    "method", ["EISAM single-pass", "EISAM sampled", "EISAM sampled, unit weights", "EISAM every-k"]
)
def test_the_rows_drawn_on_each_rank_look_from_the_same_points(results, method):
    first, second = points_of(results, method)
    assert len(first & second) > ranks_worker.N_STEPS
    assert len(first | second) <= 2 * ranks_worker.N_STEPS  # θ and one θ+ε in each step


def points_of(results, method):
    """Where each rank evaluated losses."""
    return [
        {tuple(torch.cat([p.flatten() for p in point]).tolist()) for point in seen}
        for _, seen in (result["replicated"][method, "halves"] for result in results)
    ]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_wrappers_of_torch_train_as_one_process(results, method, how):
    module = ranks_worker.Wrapped()
    optimizer = make(method, module.parameters())
    rows = ranks_worker.joint_rows(ranks_worker.UNEVEN)
    items = ranks_worker.ITEMS[rows]
    for _ in range(ranks_worker.N_STEPS):
        optimizer.step(lambda local: module(rows[local]), items)
    for result in results:
        for p, q in zip(module.parameters(), result[how][method], strict=True):
            torch.testing.assert_close(q, p.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["EISAM", "EISAM single-pass", "SAM"])
def test_a_loss_that_is_not_finite_is_raised_on_every_rank(results, method):
    messages = {result["failure"][method] for result in results}
    assert len(messages) == 1
    message = messages.pop()
    assert message.startswith("losses must be finite; got 3 of 11 that are not")
    assert message.endswith("True")  # parameters are unchanged


def test_ranks_without_a_process_group_are_refused():
    with pytest.raises(RuntimeError, match=r"ReplicatedRanks needs an initialised process group.*torchrun"):
        make("EISAM", TinyRecommender().parameters(), ranks=ReplicatedRanks())
