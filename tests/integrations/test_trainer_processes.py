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


def start(kind, folder, estimator, kill_at=0, n_processes=1):
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_processes}"]
    command = [sys.executable, *(launcher if n_processes > 1 else []), "-m", WORKER]
    return subprocess.run(
        [*command, kind, str(folder), estimator, str(kill_at)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def result_of(kind, folder, *args, **kwargs):
    done = start(kind, folder, *args, **kwargs)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(folder / "trained.pt")


@pytest.mark.parametrize("estimator", ["exact", "single-pass"])
@pytest.mark.parametrize("kind", ["trainer", "sft", "accelerate"])
def test_a_killed_training_resumes_to_the_same_parameters(kind, estimator, tmp_path):
    if kind == "sft":
        pytest.importorskip("trl", reason="TRL comes with the extra 'sft'")
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = result_of(kind, tmp_path / "whole", estimator)
    assert start(kind, tmp_path / "killed", estimator, kill_at=3).returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "trained.pt").exists()
    assert any((tmp_path / "killed").glob("*-2"))  # a checkpoint to go on from
    again = result_of(kind, tmp_path / "killed", estimator)
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_two_processes_train_as_one_with_the_joint_batch(tmp_path):
    """For `single-pass` see test_ranks.py: the loader deals rows in another order than one process has."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    of_one = result_of("trainer", tmp_path / "one", "exact")
    of_two = result_of("trainer", tmp_path / "two", "exact", n_processes=2)
    for name in of_one:
        torch.testing.assert_close(of_two[name], of_one[name], rtol=1e-3, atol=2e-5)
