"""Shares of the work, meeting and parting, and environments that no launcher leaves behind.

What several processes do together is tested with the jobs that they do.
"""

import os
import socket
import subprocess
import sys

import pytest
import torch

from tailwise.errors import ConfigError
from tailwise.optim import OneProcess
from tailwise.training import Processes, joined_processes

CPU = torch.device("cpu")


# Loads torch's compiler within the block, as optimisers of others do.
MEET_AND_PART = """
import os
from pathlib import Path

import torch
from tailwise.training import joined_processes

def threads():
    tasks = Path("/proc/self/task").iterdir()
    return sum((task / "comm").read_text().strip() == "pt_gloo_runloop" for task in tasks)

with joined_processes(torch.device("cpu")) as processes:
    import torch._dynamo
    print(processes.gathered(processes.rank), threads() > 0, end=" ")
print(threads())
"""


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


@pytest.mark.skipif(sys.platform != "linux", reason="reads the names of threads in /proc")
def test_no_thread_of_the_group_is_left_when_the_processes_have_parted():
    """One that is left can ask for the interpreter's lock while the interpreter ends, and end in an abort."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", MEET_AND_PART],
            env=os.environ | common | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        for process in started:
            said, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
            assert said == "[0, 1] True 0\n"
    finally:
        for process in started:
            process.kill()
            process.communicate()
