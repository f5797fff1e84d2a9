"""The command line, in this process; two tests start a real one."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tailwise import cli
from tailwise.reports import check_metrics, read_audit, read_metrics

TINY = [
    "--set=model.depth=1",
    "--set=model.lora_rank=2",
    "--set=training.max_epochs=1",
    "--set=training.positions_per_batch=80",
    "--set=evaluation.n_resamples=100",
]


@pytest.fixture
def command(tailwise_cache, capsys):
    """Run a command line; return exit status, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        status = 0
        try:
            cli.main([str(a) for a in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, " ".join(captured.err.split())  # rich folds lines

    return call


@pytest.fixture
def files(tiny_log, tiny_model) -> list[str]:
    return [
        f"--interactions={tiny_log.interactions}",
        f"--items={tiny_log.items}",
        f"--model={tiny_model}",
        *TINY,
    ]


def test_run_evaluate_and_report_work_on_a_folder(command, files, tmp_path):
    out = tmp_path / "run"
    flags = ["--optimizer=adamw", "--optimizer=eisam:rho=0.1", "--reference=most-popular", "--seed=3"]
    status, text, progress = command("run", *files, *flags, f"--out={out}")
    assert status == 0
    assert str(out) in "".join(text.split())
    assert "test targets" in progress  # progress goes to standard error
    metrics = read_metrics(out / "metrics.json")
    check_metrics(metrics)
    assert [v["name"] for v in metrics["variants"]] == ["most-popular", "adamw", "eisam-rho=0.1"]
    assert metrics["variants"][1]["seeds"] == [3]

    status, text, _ = command("evaluate", out, "--segments=absolute-counts", "--set=thresholds=[3, 8]")
    assert status == 0
    assert read_metrics(out / "metrics.json")["segments"]["parameters"] == {"thresholds": [3, 8]}

    (out / "report.html").unlink()
    status, text, _ = command("report", out)
    assert status == 0
    assert "".join(text.split()) == str(out / "report.html")
    assert (out / "report.html").is_file()

    status, _, error = command("run", *files, *flags, f"--out={out}")
    assert status == 1
    assert "which holds a run. Pass --resume to go on with it." in error


def test_audit_works_on_a_log_and_on_lists_with_names_of_their_own(command, files, tmp_path):
    # The tiny tokenizer knows letters alone: it cannot answer a question about a pair.
    asked = ["--estimator=title-likelihood", "--sharpness=off", "--k=5"]
    status, text, progress = command("audit", *files, *asked, f"--out={tmp_path / 'shop'}")
    assert status == 0
    assert "audit.html" in "".join(text.split())
    assert "test targets" in progress
    found = read_audit(tmp_path / "shop" / "audit.json")
    assert [s["name"] for s in found["subjects"]] == ["adamw", "most-popular"]

    lists = tmp_path / "lists.csv"
    run = tmp_path / "shop" / "run"
    made = ["--variant=adamw", "--k=5", "--history=train", "--quiet", f"--out={tmp_path / 'lists.parquet'}"]
    assert command("recommend", run, *made)[0] == 0
    pl.read_parquet(tmp_path / "lists.parquet").rename({"item_id": "sku"}).write_csv(lists)
    flags = [*asked, f"--recommendations={lists}", "--column=lists.item_id=sku", "--quiet"]
    status, _, progress = command("audit", *files, *flags, f"--out={tmp_path / 'lists'}")
    assert (status, progress) == (0, "")
    assert [s["role"] for s in read_audit(tmp_path / "lists" / "audit.json")["subjects"]] == ["lists"]


def test_quiet_says_nothing_on_standard_error(command, files, tmp_path):
    flags = ["--optimizer=adamw", "--set=references=[]", "--quiet"]
    status, text, progress = command("run", *files, *flags, f"--out={tmp_path / 'run'}")
    assert (status, progress) == (0, "")
    assert "AdamW" in text


def test_a_setting_of_the_command_line_is_kept_in_the_run(command, files, tmp_path):
    out = tmp_path / "run"
    (tmp_path / "run.toml").write_text("[training]\npatience = 2\nmax_epochs = 9\n")
    flags = [f"--config={tmp_path / 'run.toml'}", "--optimizer=adamw", "--set=references=[]", "--quiet"]
    assert command("run", *files, *flags, f"--out={out}")[0] == 0
    training = json.loads((out / "config.json").read_text())["training"]
    assert (training["patience"], training["max_epochs"]) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--out=OUT"], "ConfigError: data must be either a named data set or a pair of files"),
        (["run", "--out=OUT", "--data=ml100k"], "ml100k"),
        (["run", "--out=OUT", "--interactions=log.csv"], "got no --items FILE"),
        (["run", "--out=OUT", "--interactions=no.csv", "--items=no.csv"], "no.csv"),
        (["run", "--out=OUT", "--data=ml-100k", "--optimizer=adam"], "got 'adam'"),
        (
            ["run", "--out=OUT", "--data=ml-100k", "--optimizer=eisam:strength=3"],
            "strength must be in [0, 1]",
        ),
        (
            ["run", "--out=OUT", "--data=ml-100k", "--optimizer=adamw:rho=0.1"],
            "rho must be left out for adamw",
        ),
        (["run", "--out=OUT", "--data=ml-100k", "--preset=huge"], "preset must be one of"),
        (["run", "--out=OUT", "--data=ml-100k", "--set=model.dept=2"], "Did you mean 'depth'?"),
        (["run", "--out=OUT", "--data=ml-100k", "--column=user_id"], "--column must be key=value"),
        (["run", "--out=OUT", "--data=ml-100k", "--reference=best"], "got 'best'"),
        (["run", "--out=OUT", "--data=ml-100k", "--config=no.toml"], "got 'no.toml'"),
        (["evaluate", "OUT"], "run must be a folder that `tailwise run --out` made"),
        (["evaluate", "OUT", "--segments=thirds"], "got 'thirds'"),
        (["evaluate", "OUT", "--set=head_share=0.1"], "--set needs --segments RULE here"),
        (["evaluate", "OUT", "--segments=head-share", "--set=head_share=ten"], "got 'ten'"),
        (["report", "OUT"], "OUT"),
        (["audit", "OUT"], "run must be a folder that `tailwise run --out` made"),
        (["audit", "--data=ml-100k"], "audit of data needs --out FOLDER"),
        (["audit", "OUT", "--data=ml-100k"], "audit of a run takes data and settings from it"),
        (["audit", "--out=OUT"], "data must be either a named data set or a pair of files"),
        (["audit", "--out=OUT", "--data=ml-100k", "--estimator=pairwise"], "with title-likelihood"),
        (["audit", "--out=OUT", "--data=ml-100k", "--k=99"], "audit.k must be in 1..50; got 99"),
        (
            ["export", "OUT", "--variant=eisam", "--out=new"],
            "run must be a folder that `tailwise run --out` made",
        ),
        (["assets", "fetch"], "names must hold at least one asset; got none"),
        (["assets", "fetch", "ml100k"], "Did you mean 'ml-100k'"),
        (["assets", "verify", "ml100k"], "got 'ml100k'"),
    ],
)
def test_a_mistake_ends_with_status_one_and_a_sentence_that_names_it(
    command, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    status, text, error = command(*arguments)
    assert status == 1
    assert message in error
    assert re.match(r"(Config|Data|Asset)Error: ", error)
    assert "Traceback" not in error
    assert text == ""
    # Nothing but settings may be there: no work was begun.
    assert not (tmp_path / "OUT").exists() or not [
        p for p in (tmp_path / "OUT").iterdir() if p.name not in ("config.json", ".lock")
    ]


@pytest.mark.parametrize("arguments", [["run"], ["run", "--out=x", "--device=tpu"], ["runs"]])
def test_a_command_line_that_cannot_be_read_ends_with_a_status(command, arguments):
    assert command(*arguments)[0] != 0


def test_a_training_that_diverges_is_told_without_a_traceback(command, files, tmp_path, monkeypatch):
    from tailwise import jobs

    def diverge(*arguments: object, **settings: object) -> None:
        raise FloatingPointError("losses must be finite; got 3 of 4 that are not.")

    monkeypatch.setattr(jobs, "run", diverge)
    status, _, error = command("run", *files, f"--out={tmp_path / 'run'}")
    assert (status, error) == (1, "FloatingPointError: losses must be finite; got 3 of 4 that are not.")


def test_an_interrupted_run_ends_with_the_shells_status_and_says_how_to_go_on(
    command, files, tmp_path, monkeypatch
):
    from tailwise import jobs
    from tailwise.training import TrainingInterrupted

    def stop(*arguments: object, **settings: object) -> None:
        raise TrainingInterrupted("stopped at step 7; the state is saved")

    monkeypatch.setattr(jobs, "run", stop)
    status, _, error = command("run", *files, f"--out={tmp_path / 'run'}")
    assert (status, error) == (130, "stopped at step 7; the state is saved. Go on with --resume.")


def test_assets_are_listed_with_licence_and_place(command, monkeypatch, tmp_path):
    monkeypatch.setenv("TAILWISE_CACHE", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "160")
    status, text, _ = command("assets", "list")
    assert status == 0
    for name in ("ml-100k", "completejourney", "smollm2-135m"):
        (line,) = [line for line in text.splitlines() if f" {name} " in line]
        assert " no " in line  # the cache is empty
    assert "Apache-2.0" in text


def test_verifying_an_empty_cache_is_fine_and_a_named_absent_asset_is_not(command, monkeypatch, tmp_path):
    monkeypatch.setenv("TAILWISE_CACHE", str(tmp_path))
    assert command("assets", "verify")[0] == 0
    status, text, _ = command("assets", "verify", "ml-100k")
    assert status == 1
    assert "absent" in text


def test_help_names_every_command(command):
    status, text, _ = command("--help")
    assert status == 0
    for name in ("run", "evaluate", "report", "export", "assets"):
        assert name in text


def test_the_module_runs_as_a_program_and_help_is_quick():
    program = [sys.executable, "-W", "error", "-X", "importtime", "-m", "tailwise.cli", "--help"]
    finished = subprocess.run(program, capture_output=True, text=True, timeout=120, check=True)
    assert "Lift rare items" in finished.stdout
    assert "transformers.models" not in finished.stderr  # heavy libraries wait until they are used


@pytest.mark.slow
@pytest.mark.llm
@pytest.mark.realdata
def test_the_real_model_on_real_data_gives_a_complete_record(fetched, tmp_path):
    """Six users, one epoch, one layer: every part of the main job on real input, not its quality."""
    folder = fetched("ml-100k")
    fetched("smollm2-135m")
    header, *rows = (folder / "ml-100k.inter").read_text(encoding="utf-8").splitlines()
    log = [row for row in rows if int(row.split("\t")[0]) <= 6]
    seen = {row.split("\t")[1] for row in log}
    (tmp_path / "few.inter").write_text("\n".join([header, *log]) + "\n")
    header, *rows = (folder / "ml-100k.item").read_text(encoding="utf-8").splitlines()
    catalogue = [row for row in rows if row.split("\t")[0] in seen]
    (tmp_path / "few.item").write_text("\n".join([header, *catalogue]) + "\n", encoding="utf-8")
    out = tmp_path / "run"
    program = [sys.executable, "-m", "tailwise.cli", "run", f"--interactions={tmp_path / 'few.inter'}"]
    program += [f"--items={tmp_path / 'few.item'}", "--column=title=movie_title", "--model=smollm2-135m"]
    program += ["--optimizer=adamw", "--optimizer=eisam", "--split=leave-last-out", f"--out={out}"]
    settings = ["model.depth=1", "training.max_epochs=1", "evaluation.validation_users=50"]
    program += [f"--set={setting}" for setting in settings]
    environment = {name: value for name, value in os.environ.items() if name != "TAILWISE_CACHE"}
    subprocess.run(program, env=environment, check=True, timeout=300)

    metrics = read_metrics(out / "metrics.json")
    check_metrics(metrics)
    names = ["most-popular", "item-knn", "adamw", "eisam"]
    assert [v["name"] for v in metrics["variants"]] == names
    for variant in metrics["variants"]:
        (ndcg,) = [
            row["value"]
            for row in variant["accuracy"]
            if (row["segment"], row["metric"], row["k"]) == ("overall", "ndcg", 10)
        ]
        assert 0 <= ndcg <= 1, variant["name"]
    assert {c["variant"] for c in metrics["comparisons"]} == {"adamw", "eisam"}
    split = metrics["data"]["split"]
    assert 0 <= split["n_tied_test_targets"] <= split["n_test_targets"]
    assert split["n_test_targets"] == 6
    assert metrics["data"]["n_items"] == len(seen) > 300
    assert "tied" in (out / "report.html").read_text()
    for name in ("adamw", "eisam"):
        record = json.loads(Path(out / name / "seed-0" / "record.json").read_text())
        assert record["cost"]["peak_memory_mib"] < 6 * 1024  # the promise for the whole demo
