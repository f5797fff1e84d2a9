"""`tailwise run` and `tailwise recommend` in two processes, as torchrun starts them: as if in one."""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch

from tailwise import jobs
from tailwise.reports import read_metrics

from .builders import TINY, all_rankings, final_weights, tiny_config

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
VARIANTS = {
    "adamw": "adamw:name=adamw",
    "exact": "eisam:name=exact,rho=0.05,estimator=exact,perturb=all",
    "single-pass": "eisam:name=single-pass,rho=0.05,estimator=single-pass",
}
# No dropout: each process would drop out other entries than one alone. Many steps of Adam would
# amplify rounding; and the best epoch may be another one where two are nearly equal.
SETTINGS = (
    "recommender.dropout=0",
    "sasrec.tokens={dropout=0}",
    "sasrec.architecture={width=8, depth=1, attention_dropout=0}",
    "training.keep=last",
)


@pytest.fixture(scope="module")
def launch(tiny_log, tiny_model, session_cache):
    """Run a command in two processes; what happens in between is the worker's to say."""

    def start(*command: str, what: str = "nothing", after: int = 0) -> subprocess.CompletedProcess[str]:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        return subprocess.run(
            [
                *(sys.executable, *launcher, "-m", "tests.jobs.processes_worker"),
                *(what, str(after), *map(str, command)),
            ],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TAILWISE_CACHE": str(session_cache)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return start


@pytest.fixture(scope="module")
def arguments(tiny_log, tiny_model):
    return [
        "run",
        f"--interactions={tiny_log.interactions}",
        f"--items={tiny_log.items}",
        f"--model={tiny_model}",
        "--reference=most-popular",
        "--reference=sasrec",
        *(f"--optimizer={text}" for text in VARIANTS.values()),
        *(f"--set={setting}" for setting in (*TINY, *SETTINGS)),
    ]


@pytest.fixture(scope="module")
def of_one(tiny_log, tiny_model, session_cache, tmp_path_factory) -> Path:
    """The same run in one process."""
    out = tmp_path_factory.mktemp("one") / "run"
    variants = [jobs.config_as_dict(jobs.VariantConfig.parse(text)) for text in VARIANTS.values()]
    config = tiny_config(
        tiny_log.interactions,
        tiny_log.items,
        tiny_model,
        *SETTINGS,
        variants=variants,
        references=["most-popular", "sasrec"],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAILWISE_CACHE", str(session_cache))
        jobs.run(config, out, quiet=True)
    return out


def assert_same_run(run: Path, other: Path) -> None:
    """Equal but for rounding: parameters, and with them what is measured."""
    weights, expected = final_weights(run), final_weights(other)
    assert weights.keys() == expected.keys()
    assert len(weights) == len(VARIANTS) + 1
    for name, state in expected.items():
        for parameter, value in state.items():
            torch.testing.assert_close(
                weights[name][parameter], value, rtol=2e-3, atol=2e-4, msg=lambda m, n=name: f"{n}: {m}"
            )
    rankings, of_other = all_rankings(run), all_rankings(other)
    assert rankings.keys() == of_other.keys()
    for name, expected_ranks in of_other.items():
        ranks = rankings[name]
        assert ranks.targets.select("user_index", "item_index").equals(
            expected_ranks.targets.select("user_index", "item_index")
        )
        better, expected_better = ranks.targets["n_better"], expected_ranks.targets["n_better"]
        assert (better - expected_better).abs().max() <= 1  # scores that rounding has exchanged
        assert (better == expected_better).mean() > 0.95


@pytest.fixture(scope="module")
def of_two(launch, arguments, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("two") / "run"
    done = launch(*arguments, f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("metrics.json") == 1  # the first process speaks for both
    assert done.stderr.count("✓ exact, seed 0") == 1
    return out


def test_a_run_in_two_processes_is_that_of_one(of_two, of_one):
    assert_same_run(of_two, of_one)
    two, one = (read_metrics(run / "metrics.json") for run in (of_two, of_one))
    names = [[variant["name"] for variant in metrics["variants"]] for metrics in (two, one)]
    assert names[0] == names[1]


def test_records_say_how_many_processes_trained(of_two, of_one):
    runs = [jobs._run_folder.RunFolder(run).result("exact", 0).read_record() for run in (of_two, of_one)]
    assert [record["surroundings"]["n_processes"] for record in runs] == [2, 1]
    assert runs[0]["cost"]["n_steps"] == runs[1]["cost"]["n_steps"]


@pytest.mark.parametrize("more", [[], ["--set=training.fused=true"]], ids=["plain", "fused update"])
def test_a_run_with_sharded_parameters_is_that_of_one(launch, arguments, of_one, tmp_path, more):
    arguments = [*arguments, *more]
    done = launch(*arguments, "--shard", f"--out={tmp_path / 'run'}", what="stop", after=7)
    assert done.returncode != 0
    assert done.stderr.count("Go on with --resume") == 1  # one process was asked, both stopped
    done = launch(*arguments, "--shard", "--resume", f"--out={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "run", of_one)


def test_a_killed_run_goes_on_with_another_number_of_processes(launch, arguments, of_one, tmp_path):
    out = tmp_path / "run"
    assert launch(*arguments, f"--out={out}", what="kill", after=9).returncode != 0
    assert list(out.glob("*/seed-0/training/step-*"))  # a checkpoint to go on from
    config = jobs._run_folder.RunFolder(out).read_config()
    jobs.run(config, out, resume=True, quiet=True)
    assert_same_run(out, of_one)


def test_recommend_splits_users_and_writes_the_same_lists(launch, of_one, tmp_path, tailwise_cache):
    expected = jobs.recommend(of_one, "exact", tmp_path / "one.parquet", k=7, quiet=True)
    done = launch("recommend", of_one, "--variant=exact", "--k=7", f"--out={tmp_path / 'two.parquet'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("two.parquet") == 1
    lists = pl.read_parquet(tmp_path / "two.parquet")
    assert lists.drop("score").equals(pl.read_parquet(expected.path).drop("score"))
    assert not (tmp_path / "two.parquet.parts").exists()


def test_what_stops_the_first_process_is_said_once(launch, arguments, of_one):
    done = launch(*arguments, f"--out={of_one}")
    assert done.returncode != 0
    assert done.stderr.count("ConfigError: --out must be a new folder") == 1
    assert "StoppedElsewhereError" not in done.stderr
