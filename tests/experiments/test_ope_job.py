"""`tailwise ope`: a trained variant evaluated on lists that a variant of the same run drew."""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from cyclopts import App

from tailwise import jobs
from tailwise._cli_ope import ope as command
from tailwise.errors import ConfigError, DataError
from tailwise.jobs._ope import ope
from tailwise.jobs._run_data import load_run_data
from tailwise.recommenders import load_recommender

from ..jobs.builders import tiny_config

pytestmark = pytest.mark.usefixtures("tailwise_cache")

SETTINGS = ("variants=[{name='adamw'}]", "references=['item-knn']", "training.max_epochs=1")
TEMPERATURE, N_CANDIDATES, N_LISTS = 0.5, 6, 20


@pytest.fixture(scope="module")
def run(tiny_log, tiny_model, session_cache, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAILWISE_CACHE", str(session_cache))
        jobs.run(tiny_config(tiny_log.interactions, tiny_log.items, tiny_model, *SETTINGS), out, quiet=True)
    return out


def histories_of(data):
    whole = pl.concat([data.split.train, data.split.validation, data.split.test])
    found = whole.group_by("user_id", maintain_order=True).agg("item_index")
    return dict(sorted(found.iter_rows()))


@pytest.fixture(scope="module")
def log(run) -> pl.DataFrame:
    """Lists of two of adamw's six best unseen items, some drawn for everybody; odd items are clicked."""
    data = load_run_data(run / "data")
    recommender = load_recommender(run / "adamw" / "seed-0" / "model")
    ids = data.catalogue.items["item_id"].to_list()
    rng = np.random.default_rng(0)
    rows = []
    for user, history in histories_of(data).items():
        scores = recommender.scores([history])[0].numpy().astype(float)
        scores[history] = -np.inf
        best = np.argsort(-scores)[:N_CANDIDATES]
        for number in range(N_LISTS):
            logits = scores[best] / TEMPERATURE
            drawn = np.argsort(-(logits + rng.gumbel(size=N_CANDIDATES)))[:2]
            for place, choice in enumerate(drawn, 1):
                mass = np.exp(logits - logits.max())
                item = best[choice]
                rows.append(
                    (f"{user}-{number}", user, place, ids[item], mass[choice] / mass.sum(), float(item % 2))
                )
                logits = logits.copy()
                logits[choice] = -np.inf
    names = ["recommendation_id", "user_id", "position", "item_id", "propensity", "clicks"]
    table = pl.DataFrame(rows, schema=names, orient="row")
    return table.with_columns(
        pl.lit(True).alias("is_explored"),
        pl.lit(TEMPERATURE).alias("temperature"),
        pl.lit(N_CANDIDATES).alias("n_candidates"),
    )


@pytest.fixture
def written(log, tmp_path):
    def write(table=log):
        table.write_parquet(tmp_path / "log.parquet")
        return tmp_path / "log.parquet"

    return write


def evaluate(file, run, variant="adamw", **arguments):
    return ope(file, run / variant, **({"quiet": True} | arguments))


def test_the_variant_that_drew_the_lists_is_worth_what_they_earned(written, run):
    found = evaluate(written(), run)
    for slot in found.diagnostics:
        assert slot.effective_sample_size == pytest.approx(
            slot.n, rel=1e-4
        )  # all weights 1: scores in batches
    assert found.estimate("ips").value == pytest.approx(found.shown.value, rel=1e-4)
    assert found.policy == "adamw (drawn at temperature 0.5 among its best 6)"


def test_another_temperature_is_another_policy_and_agrees_with_the_truth(written, run, log):
    found = evaluate(written(), run, temperature=1.0, positions=1)
    data = load_run_data(run / "data")
    recommender = load_recommender(run / "adamw" / "seed-0" / "model")
    truth = []
    for history in histories_of(data).values():
        scores = recommender.scores([history])[0].numpy().astype(float)
        scores[history] = -np.inf
        best = np.argsort(-scores)[:N_CANDIDATES]
        mass = np.exp(scores[best] - scores[best].max())
        truth.append((mass / mass.sum()) @ (best % 2))
    assert found.headline.low <= np.mean(truth) <= found.headline.high
    assert found.headline.value == pytest.approx(np.mean(truth), abs=0.05)
    assert found.checks.n_rows_beyond == log.height // 2


def test_a_variant_with_other_candidates_is_refused(written, run):
    with pytest.raises(DataError, match=r"the log must support what item-knn .* shows(?s:.*)Explore more"):
        evaluate(written(), run, "item-knn")


def test_the_log_can_bring_its_own_histories(written, run, log):
    data = load_run_data(run / "data")
    ids = data.catalogue.items["item_id"].to_list()
    history = {user: [ids[i] for i in items] + ["unknown"] for user, items in histories_of(data).items()}
    told = log.with_columns(pl.Series("history", [history[user] for user in log["user_id"]]))
    anonymous = told.drop("user_id")
    assert evaluate(written(anonymous), run).headline.value == pytest.approx(
        evaluate(written(), run).headline.value,
        abs=0.02,  # folds differ: every list is a user of its own
    )
    with pytest.raises(DataError, match="history must be a list of item_id per row; got String"):
        evaluate(written(told.with_columns(pl.lit("i01").alias("history"))), run)


def test_lists_of_users_the_run_does_not_know_are_left_out_and_said(written, run, log):
    strangers = log.head(20).with_columns(
        pl.lit("stranger").alias("user_id"), ("new" + pl.col("recommendation_id")).alias("recommendation_id")
    )
    found = evaluate(written(pl.concat([log, strangers])), run)
    assert found.checks.n_left_out_lists == 10
    assert any("10 drawn lists without a history are left out" in text for text in found.cautions)
    with pytest.raises(DataError, match="got none among 10 drawn lists"):
        evaluate(written(strangers), run)


def test_lists_drawn_among_fewer_items_are_said(written, run, log):
    table = log.with_columns(pl.when(pl.col("user_id") == "u00").then(3).otherwise(6).alias("n_candidates"))
    found = evaluate(written(table), run)
    assert any(text.startswith("20 lists were drawn among another number") for text in found.cautions)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"temperature": -1.0}, "--temperature must be a number >= 0; got -1.0"),
        ({"batch_size": 0}, "--batch-size must be >= 1; got 0"),
        ({"variant": "nobody"}, "--variant must be one of the run's adamw, item-knn; got 'nobody'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(written, run, arguments, said):
    with pytest.raises(ConfigError, match=said):
        evaluate(written(), run, **arguments)


def test_the_temperature_must_be_given_where_the_log_has_none_or_several(written, run, log):
    with pytest.raises(ConfigError, match="the log has no column temperature"):
        evaluate(written(log.drop("temperature")), run)
    several = log.with_columns((pl.col("user_id") == "u00").cast(pl.Float64).alias("temperature"))
    with pytest.raises(ConfigError, match="drawn at 2 temperatures"):
        evaluate(written(several), run)


def test_a_file_that_is_not_there_is_an_error(tmp_path, run):
    with pytest.raises(DataError, match="logs must be a file or the folder of an export"):
        evaluate(tmp_path / "nothing.parquet", run)


def test_the_command_prints_tables_and_sentence_and_writes_json(written, run, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(os.environ, "COLUMNS", "160")
    app = App(name="tailwise")
    app.command(command)
    out = tmp_path / "ope.json"
    tokens = [
        "ope",
        str(written()),
        "--policy",
        str(run / "adamw"),
        "--out",
        str(out),
        "--quiet",
        "--whole-lists",
    ]
    app(tokens, result_action="return_value")
    text = capsys.readouterr().out
    content = json.loads(out.read_text())
    assert "would have earned" in text
    assert f"{1000 * content['headline']['value']:,.1f}" in text
    assert text.strip().splitlines()[-1] == str(out)
    assert content["made_with"]["temperature"] == TEMPERATURE
    assert content["made_with"]["n_candidates"] == N_CANDIDATES
    assert {e["interaction"] for e in content["estimates"]} == {"cascade", "list"}


def test_columns_of_the_command_are_pairs(written, run):
    with pytest.raises(ConfigError, match="--column must be key=value; got 'user_id'"):
        command(written(), policy=run / "adamw", column=["user_id"])


def test_an_export_is_evaluated_as_a_folder(run, log, tmp_path):
    slots = log.with_columns(pl.lit("home").alias("surface"), pl.lit("model").alias("method"))
    clicked = log.filter(pl.col("clicks") > 0)
    events = clicked.select(
        pl.lit("click").alias("type"), pl.col("recommendation_id").alias("attributed_id"), "item_id"
    )
    for kind, table in (("slots", slots.drop("clicks")), ("events", events)):
        path = tmp_path / kind / "day=2026-01-01" / f"{kind}.parquet"
        path.parent.mkdir(parents=True)
        table.write_parquet(path)
    found = evaluate(tmp_path, run)
    assert found.shown.value == pytest.approx(log["clicks"].sum() / log["recommendation_id"].n_unique())
    with pytest.raises(ConfigError, match="--reward must be one of clicks, purchases, revenue for an export"):
        evaluate(tmp_path, run, reward="likes")


def test_scores_of_a_variant_are_asked_for_in_batches_with_the_same_result(written, run):
    one, all_at_once = (evaluate(written(), run, batch_size=size) for size in (1, 256))
    assert one.headline.value == pytest.approx(all_at_once.headline.value, rel=1e-4)  # sums in other orders
