"""The audit as a whole, on a tiny log with a tiny language model."""

import json
from dataclasses import replace
from types import SimpleNamespace

import polars as pl
import pytest

from tailwise import jobs
from tailwise.errors import ConfigError, DataError
from tailwise.jobs import AuditConfig, RunConfig, config_from_dict
from tailwise.jobs._audit import _kind
from tailwise.reports import read_audit, read_metrics

from .builders import tiny_config

pytestmark = pytest.mark.usefixtures("tailwise_cache")
# The tiny tokenizer knows letters alone: it cannot answer " A" or " B".
ASKED = ("title-likelihood", "output-frequency")
QUICK = AuditConfig(estimators=ASKED, n_frequency_users=6, n_permutations=19)


@pytest.fixture(scope="module")
def settings(tiny_log, tiny_model):
    return tiny_config(tiny_log.interactions, tiny_log.items, tiny_model, references=["most-popular"])


@pytest.fixture(scope="module")
def finished(settings, session_cache, tmp_path_factory):
    """A finished run of two variants and a reference, with its audit."""
    out = tmp_path_factory.mktemp("audited") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAILWISE_CACHE", str(session_cache))
        jobs.run(settings, out, quiet=True)
        jobs.audit(replace(QUICK, shuffle_titles=True), out / "audit", run=out, quiet=True)
    return out


def test_the_audit_of_a_run_keeps_its_schema_and_leaves_page_and_tables(finished):
    result = read_audit(finished / "audit" / "audit.json")
    assert [(s["name"], s["role"]) for s in result["subjects"]] == [
        ("adamw", "baseline"),
        ("eisam", "treatment"),
        ("most-popular", "reference"),
    ]
    assert "<html" in (finished / "audit" / "audit.html").read_text()
    tables = {p.stem: pl.read_parquet(p) for p in (finished / "audit" / "tables").iterdir()}
    assert set(tables) == {"items", "neglected", "accuracy", "exposure", "grid", "columns"}
    assert all(table.height for name, table in tables.items() if name != "columns")  # no category here


def test_accuracy_and_exposure_are_those_of_the_run(finished):
    result = read_audit(finished / "audit" / "audit.json")
    metrics = {v["name"]: v for v in read_metrics(finished / "metrics.json")["variants"]}
    for subject in result["subjects"]:
        own = metrics[subject["name"]]
        expected = {(r["segment"], r["metric"], r["k"]): r["value"] for r in own["accuracy"]}
        assert {(r["segment"], r["metric"], r["k"]): r["value"] for r in subject["accuracy"]} == expected
        assert subject["exposure_deciles"] == own["exposure_deciles"]


def test_every_cell_of_a_grid_adds_up_to_all_targets(finished):
    result = read_audit(finished / "audit" / "audit.json")
    n_targets = result["data"]["split"]["n_test_targets"]
    for subject in result["subjects"][:2]:
        assert [len(grid["prior_groups"]) for grid in subject["grids"]] == [2, 3]
        for grid in subject["grids"]:
            assert sum(cell["n_targets"] for cell in grid["cells"]) == n_targets


def test_a_reference_is_measured_but_not_attributed(finished):
    reference = read_audit(finished / "audit" / "audit.json")["subjects"][2]
    assert reference["exposure"]
    assert reference["attribution"] is None
    assert "language model" in reference["no_attribution_because"]


def test_the_most_neglected_come_first_with_their_titles(finished):
    result = read_audit(finished / "audit" / "audit.json")
    titles = set(pl.read_parquet(finished / "data" / "catalogue.parquet")["title"])
    for subject in result["subjects"]:
        ratios = [item["shown_ratio_high"] for item in subject["neglected"]]
        assert ratios == sorted(ratios)
        assert {item["title"] for item in subject["neglected"]} <= titles
        assert all(0 < item["prior_percentile"] < 1 for item in subject["neglected"])


def test_titles_shuffled_among_items_are_trained_with_the_runs_own_seeds(finished):
    result = read_audit(finished / "audit" / "audit.json")
    assert result["shuffled_titles"]["seeds"] == [0]
    assert (finished / "audit" / "shuffled" / "adamw" / "seed-0" / "record.json").is_file()
    own = result["shuffled_titles"]["attribution_own"]
    assert (
        own["correlation"] == result["subjects"][0]["attribution"]["correlation"]
    )  # prior of the same titles
    assert result["shuffled_titles"]["attribution_worn"]["correlation"] != own["correlation"]


def test_a_second_audit_finds_what_took_long_and_says_so(finished):
    again = jobs.audit(QUICK, finished / "audit", run=finished, quiet=True)
    before = read_audit(finished / "audit" / "audit.json")
    assert "sharpness" in again["from_cache"]
    assert again["sharpness"] == before["sharpness"]
    for estimate in again["prior_side"]["estimates"]:
        assert estimate["cost"]["n_computed"] == 0


def test_data_alone_are_trained_on_first_and_audited_as_that_run(settings, tmp_path):
    plain = replace(settings, variants=(settings.variants[0],))
    result = jobs.audit(QUICK, tmp_path / "audit", settings=plain, quiet=True)
    assert [s["name"] for s in result["subjects"]] == ["adamw", "most-popular"]
    assert (tmp_path / "audit" / "run" / "metrics.json").is_file()


def given_lists(finished, path, **columns):
    """The run's own lists of one variant as any system would write them."""
    from tailwise.evaluation import Rankings

    rankings = Rankings.load(finished / "adamw" / "seed-0" / "rankings")
    log = pl.concat(
        pl.read_parquet(finished / "data" / f"{part}.parquet") for part in ("train", "validation", "test")
    )
    users = log.select("user_index", "user_id").unique()
    items = pl.read_parquet(finished / "data" / "catalogue.parquet").with_row_index("item_index")
    lists = rankings.lists.select("user_index", pl.col("items").list.head(10)).with_columns(
        rank=pl.int_ranges(1, pl.col("items").list.len() + 1)
    )
    rows = lists.explode("items", "rank").join(users, on="user_index")
    rows = rows.join(
        items.select(pl.col("item_index").cast(pl.Int32), "item_id"), left_on="items", right_on="item_index"
    )
    rows.select("user_id", "item_id", "rank").rename(columns).write_parquet(path)
    return path


def test_given_lists_are_audited_without_any_training(finished, settings, tmp_path):
    path = given_lists(finished, tmp_path / "lists.parquet")
    result = jobs.audit(
        replace(QUICK, recommendations=str(path)), tmp_path / "audit", settings=settings, quiet=True
    )
    assert not (tmp_path / "audit" / "run").exists()
    [subject] = result["subjects"]
    assert subject["role"] == "lists"
    assert subject["checks"]["n_slots"] > 0
    assert result["sharpness"] is None
    own = read_audit(finished / "audit" / "audit.json")["subjects"][0]
    at_ten = {(r["metric"], r["segment"]): r["value"] for r in own["exposure"] if r["k"] == 10}
    found = {(r["metric"], r["segment"]): r["value"] for r in subject["exposure"] if r["k"] == 10}
    assert found == pytest.approx(at_ten)
    assert subject["grids"] == own["grids"]


def test_given_lists_with_other_column_names_are_read_as_told(finished, tmp_path):
    path = given_lists(finished, tmp_path / "lists.parquet", item_id="sku")
    with pytest.raises(DataError, match="item_id"):
        jobs.audit(replace(QUICK, recommendations=str(path)), tmp_path / "a", run=finished, quiet=True)
    told = replace(QUICK, recommendations=str(path), lists_columns={"item_id": "sku"})
    assert jobs.audit(told, tmp_path / "b", run=finished, quiet=True)["subjects"][0]["exposure"]


def test_shuffling_titles_without_a_model_of_ours_is_refused(finished, tmp_path):
    path = given_lists(finished, tmp_path / "lists.parquet")
    asked = replace(QUICK, recommendations=str(path), shuffle_titles=True)
    with pytest.raises(ConfigError, match="shuffle_titles"):
        jobs.audit(asked, tmp_path / "audit", run=finished, quiet=True)


def test_a_run_and_settings_together_are_refused(finished, settings, tmp_path):
    with pytest.raises(ConfigError, match="both"):
        jobs.audit(QUICK, tmp_path / "audit", run=finished, settings=settings, quiet=True)
    with pytest.raises(ConfigError, match="neither"):
        jobs.audit(QUICK, tmp_path / "audit", quiet=True)


def test_the_folder_of_another_audit_is_refused(finished, settings, tmp_path):
    (tmp_path / "audit" / "parts").mkdir(parents=True)
    (tmp_path / "audit" / "parts" / "prior.json").write_text("{}")  # something has come of it
    (tmp_path / "audit" / "config.json").write_text(json.dumps({"run": "/elsewhere", "settings": None}))
    with pytest.raises(ConfigError, match="Choose another folder"):
        jobs.audit(QUICK, tmp_path / "audit", run=finished, quiet=True)


@pytest.mark.parametrize(
    ("data", "said", "expected"),
    [
        ({"name": "ml-100k"}, None, "movie"),
        ({"name": "ml-100k"}, "film", "film"),
        ({"name": None, "interactions": "a.csv", "items": "b.csv"}, None, "product"),
    ],
)
def test_a_prompt_calls_an_item_what_the_data_set_does_unless_told(data, said, expected):
    scope = SimpleNamespace(settings=config_from_dict(RunConfig, {"data": data}))
    assert _kind(AuditConfig(kind=said), scope) == expected
