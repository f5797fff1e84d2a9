"""Shares of the work, and environments that no launcher leaves behind; several processes elsewhere."""

import pytest
import torch

from tailwise.errors import ConfigError
from tailwise.optim import OneProcess
from tailwise.training import Processes, joined_processes

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("n", [0, 1, 2, 5, 12])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_are_consecutive_complete_and_even(n, size):
    shares = [list(range(n))[Processes(rank, size).part(n)] for rank in range(size)]
    assert [thing for share in shares for thing in share] == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_process_does_everything_itself():
    with joined_processes(CPU) as processes:
        assert (processes.rank, processes.size, processes.is_first) == (0, 1, True)
        assert isinstance(processes.ranks(), OneProcess)
        assert processes.first_does(lambda: 3) == 3
        assert processes.first_of_machine_does(lambda: 4) == 4
        assert processes.gathered("own") == ["own"]
        assert processes.any(True)
        assert not processes.any(False)
    assert not torch.distributed.is_initialized()


def test_a_single_process_of_a_launcher_is_one_process(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    with joined_processes(CPU) as processes:
        assert processes.size == 1


def test_sharding_needs_several_processes():
    with pytest.raises(ConfigError, match=r"--shard must go with several processes; got one.*torchrun"):
        joined_processes(CPU, shard=True).__enter__()


def test_half_an_environment_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match=r"WORLD_SIZE=4 .* got no LOCAL_RANK, MASTER_ADDR, MASTER_PORT"):
        joined_processes(CPU).__enter__()


def test_a_variable_that_is_no_number_is_named(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(ConfigError, match="WORLD_SIZE must be a whole number >= 0; got 'many'"):
        joined_processes(CPU).__enter__()


def test_more_processes_than_cuda_devices_are_refused(monkeypatch):
    for name, value in {
        "WORLD_SIZE": 2,
        "RANK": 1,
        "LOCAL_RANK": 1,
        "MASTER_ADDR": "x",
        "MASTER_PORT": 1,
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="got process 2 and 1 devices"):
        joined_processes(torch.device("cuda")).__enter__()
