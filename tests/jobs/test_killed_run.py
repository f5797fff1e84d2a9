"""`tailwise run` killed with SIGKILL at any moment, then `--resume`: as if nothing had happened."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .builders import TINY, all_rankings, final_weights

pytestmark = pytest.mark.slow

# One interpreter that has imported everything, and a child per sitting: what is killed is a
# whole process, at a hundredth of the cost of starting one. Each kill is `pattern` (as soon
# as such a file is there) or a number (of seconds). "end" lets the last one finish.
_SITTINGS = """
import glob, os, signal, sys, time, traceback
import altair, implicit.nearest_neighbours, peft, polars, torch, transformers, vl_convert
import tailwise.jobs
from tailwise import cli

torch.set_num_threads(1)
out, n_kills, *rest = sys.argv[1:]
kills, arguments = rest[: int(n_kills)], rest[int(n_kills) :]
for kill in kills:
    child = os.fork()
    if not child:
        status = 1
        # A forked child makes torch's thread pool anew at its first use, and two threads at once may
        # both try (transformers loads with several): one of them finds no pool. So here, alone.
        torch.set_num_threads(1)
        try:
            cli.main(arguments)
            status = 0
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    started = time.monotonic()
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        is_time = kill[0].isdigit() and time.monotonic() - started > float(kill)
        if is_time or (kill[0] == "*" and glob.glob(out + "/" + kill, recursive=True, include_hidden=True)):
            os.kill(child, signal.SIGKILL)
            break
        time.sleep(0.0005)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def arguments(tiny_log, tiny_model) -> list[str]:
    return [
        "run",
        f"--interactions={tiny_log.interactions}",
        f"--items={tiny_log.items}",
        f"--model={tiny_model}",
        "--resume",
        "--quiet",
        "--reference=most-popular",
        "--reference=item-knn",
        "--reference=sasrec",
        *(f"--set={setting}" for setting in TINY),
    ]


def sit(out: Path, arguments: list[str], kills: list[str]) -> list[int]:
    """Run until each kill in turn, then to the end; return how each sitting ended."""
    kills = [*kills, "end"]
    program = [sys.executable, "-W", "error", "-c", _SITTINGS]
    finished = subprocess.run(
        [*program, str(out.parent), str(len(kills)), *kills, *arguments, f"--out={out}"],
        # One OpenMP thread everywhere: a forked child must not inherit a pool of threads that it lacks.
        env=os.environ | {"TAILWISE_CACHE": str(out.parent / "cache"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    exits = [int(line) for line in finished.stdout.splitlines() if line.lstrip("-").isdigit()]
    assert exits[-1:] == [0], finished.stderr[-3000:]
    return exits


@pytest.fixture(scope="module")
def whole(arguments, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    assert sit(out, arguments, []) == [0]
    return out


def assert_same_run(one: Path, other: Path) -> None:
    weights, expected = final_weights(one), final_weights(other)
    assert weights.keys() == expected.keys()
    assert len(expected) == 3  # adamw, eisam, sasrec
    for place, tensors in expected.items():
        assert weights[place].keys() == tensors.keys()
        assert all(torch.equal(weights[place][name], tensor) for name, tensor in tensors.items()), place
    rankings, expected_rankings = all_rankings(one), all_rankings(other)
    assert rankings.keys() == expected_rankings.keys()
    assert len(expected_rankings) == 5
    for place, ranking in expected_rankings.items():
        assert rankings[place].targets.equals(ranking.targets), place
        assert rankings[place].lists.equals(ranking.lists), place


# In the order in which a run comes to them; after each the next sitting goes on.
MOMENTS = [
    "**/run/.config.json.*",
    "**/run/config.json",
    "**/run/data/catalogue.parquet",
    "**/run/data/train.parquet",
    "**/run/data/summary.json",
    "**/run/most-popular/rankings/.targets.parquet*",
    "**/run/most-popular/rankings/targets.parquet",
    "**/run/most-popular/record.json",
    "**/run/item-knn/rankings/rankings.json",
    "**/title-encodings/*/*.partial",
    "**/title-encodings/*/*.safetensors",
    "**/run/adamw/seed-0/training/.partial-*",
    "**/run/adamw/seed-0/training/step-000000001",
    "**/run/adamw/seed-0/training/step-000000003*",
    "**/run/adamw/seed-0/training/best.safetensors",
    "**/run/adamw/seed-0/model/weights.safetensors",
    "**/run/adamw/seed-0/model/recommender.json",
    "**/run/adamw/seed-0/rankings/lists.parquet",
    "**/run/adamw/seed-0/record.json",
    "**/run/eisam/seed-0/training/step-000000002*",
    "**/run/eisam/seed-0/training/.best.safetensors*",
    "**/run/eisam/seed-0/rankings",
    "**/run/sasrec/seed-0/training/step-*",
    "**/run/sasrec/seed-0/model",
    "**/run/sasrec/seed-0/record.json",
    "**/run/metrics.json",
]


def test_killed_at_every_stage_in_turn_it_ends_bitwise_alike(arguments, whole, tmp_path):
    exits = sit(tmp_path / "run", arguments, MOMENTS)
    assert_same_run(tmp_path / "run", whole)
    # Some moments last less than a glance at the folder, and a sitting may slip past one.
    assert exits.count(-9) >= len(MOMENTS) / 2


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments_it_ends_bitwise_alike(seed, arguments, whole, tmp_path):
    rng = random.Random(seed)
    # Whole sittings take about five seconds; most of these die in the middle of something.
    kills = [f"{rng.uniform(0.05, 1.5):.3f}" for _ in range(8)]
    exits = sit(tmp_path / "run", arguments, kills)
    assert_same_run(tmp_path / "run", whole)
    assert -9 in exits
