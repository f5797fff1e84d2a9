"""A killed training goes on as if it had not been; two processes train as one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
WORKER = "tests.integrations.trainer_worker"


def start(folder, estimator, kill_at=0, n_processes=1):
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_processes}"]
    command = [sys.executable, *(launcher if n_processes > 1 else []), "-m", WORKER]
    return subprocess.run(
        [*command, str(folder), estimator, str(kill_at)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def result_of(folder, *args, **kwargs):
    done = start(folder, *args, **kwargs)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(folder / "trained.pt")


@pytest.fixture(scope="module", params=["exact", "single-pass"])
def uninterrupted(request, tmp_path_factory):
    return request.param, result_of(tmp_path_factory.mktemp("whole"), request.param)


def test_a_killed_training_resumes_to_the_same_parameters(uninterrupted, tmp_path):
    estimator, whole = uninterrupted
    assert start(tmp_path, estimator, kill_at=3).returncode == -signal.SIGKILL
    assert (tmp_path / "checkpoint-2").is_dir()
    again = result_of(tmp_path, estimator)
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_two_processes_train_as_one_with_the_joint_batch(uninterrupted, tmp_path):
    estimator, whole = uninterrupted
    of_two = result_of(tmp_path, estimator, n_processes=2)
    if estimator == "single-pass":  # the draw runs over rows in another order
        assert all(torch.isfinite(p).all() for p in of_two.values())
        assert any(not torch.equal(of_two[name], whole[name]) for name in whole)
        return
    for name in whole:
        torch.testing.assert_close(of_two[name.removeprefix("module.")], whole[name], rtol=1e-3, atol=2e-5)
