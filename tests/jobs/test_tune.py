"""Settings on one's own data: which trials, which is recommended, what becomes of a stopped tuning."""

import itertools
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import optuna
import pytest

from tailwise import cli, jobs
from tailwise.errors import ConfigError
from tailwise.jobs import TuneConfig, VariantConfig, parse_search
from tailwise.jobs import _tune as tuning_module
from tailwise.jobs._bench_tuning import suggest
from tailwise.jobs._tune import front, recommended
from tailwise.reports import write_tuning

from .builders import TINY, tiny_config

pytestmark = pytest.mark.usefixtures("tailwise_cache")

SEARCH = {"rho": {"low": 0.01, "high": 0.5, "log": True}, "logit_adjustment": [0.0, 0.3]}


@pytest.fixture(scope="module")
def config(tiny_log, tiny_model) -> TuneConfig:
    run = tiny_config(tiny_log.interactions, tiny_log.items, tiny_model)
    return TuneConfig(run, {"optimizer": "eisam"}, SEARCH, n_trials=3, head_loss=0.5, users=30)


@pytest.fixture(scope="module")
def finished(config, session_cache, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tune") / "shop"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAILWISE_CACHE", str(session_cache))
        jobs.tune(config, out, quiet=True)
    return out


def content(out: Path) -> dict[str, Any]:
    return json.loads((out / "tune.json").read_text())


def trial(head: float, tail: float) -> dict[str, Any]:
    return {"validation": {"head": head, "tail": tail}}


# What is tried and what is recommended


def test_trials_are_judged_by_lists_of_the_length_that_is_asked_for(config, tmp_path):
    of_length = {}
    for k in (1, 3, 10, 100):
        out = tmp_path / str(k)
        trials = jobs.tune(replace(config, n_trials=1, k=k), out, quiet=True)["trials"]
        of_length[k] = trials[0]["validation"]["overall"]
        assert f"NDCG@{k} of validation users" in write_tuning(out / "tune.json").read_text()
        assert f"Tail NDCG@{k}<" in (out / "front.svg").read_text()
    assert of_length[1] < of_length[3] < of_length[10] < of_length[100]


def test_a_tuning_from_before_lengths_could_be_chosen_was_of_ten(config, tmp_path):
    jobs.tune(replace(config, n_trials=1, k=10), tmp_path, quiet=True)
    for file, place in ((tmp_path / "declared.json", ()), (tmp_path / "tune.json", ("declared",))):
        found = json.loads(file.read_text())
        inner = found
        for key in place:
            inner = inner[key]
        del inner["k"]
        file.write_text(json.dumps(found))
    assert "NDCG@10 of validation users" in write_tuning(tmp_path / "tune.json").read_text()
    with pytest.raises(ConfigError, match="where k are set otherwise"):
        jobs.tune(replace(config, n_trials=1), tmp_path, quiet=True)
    jobs.tune(replace(config, n_trials=1, k=10), tmp_path, quiet=True)


def test_every_trial_has_its_knobs_and_its_accuracy_by_segment(finished):
    found = content(finished)
    assert len(found["trials"]) == 3
    for one in found["trials"]:
        assert 0.01 <= one["knobs"]["rho"] <= 0.5
        assert one["knobs"]["rho"] == float(f"{one['knobs']['rho']:.3g}")
        assert one["knobs"]["logit_adjustment"] in (0.0, 0.3)
        assert set(one["validation"]) == {"overall", "head", "tail"}
    assert len({json.dumps(one["knobs"]) for one in found["trials"]}) > 1


def test_what_is_recommended_trains_to_what_was_measured(config, finished, tmp_path):
    one = content(finished)["trials"][0]
    variant = VariantConfig.parse(f"eisam:{','.join(f'{k}={v}' for k, v in one['knobs'].items())}")
    alone = replace(
        config, variant={"optimizer": "eisam", **one["knobs"]}, search={"gamma": [1.0]}, n_trials=1
    )
    again = jobs.tune(alone, tmp_path / "again", quiet=True)["trials"][0]
    assert again["validation"] == one["validation"]
    assert (variant.rho, variant.gamma) == (one["knobs"]["rho"], 1.0)


def test_the_best_tail_among_trials_that_keep_the_head_is_recommended():
    baseline = {"head": 0.10, "tail": 0.010}
    trials = [trial(0.10, 0.011), trial(0.099, 0.013), trial(0.08, 0.050)]
    assert recommended(trials, baseline, head_loss=0.02) == 1
    assert recommended(trials, baseline, head_loss=0.0) == 0
    assert recommended(trials, baseline, head_loss=0.3) == 2


def test_nothing_is_recommended_where_the_tail_does_not_gain():
    assert (
        recommended([trial(0.2, 0.01), trial(0.05, 0.02)], {"head": 0.1, "tail": 0.01}, head_loss=0.1) is None
    )


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], []),
        ([(1.0, 1.0)], [0]),
        ([(1.0, 1.0), (1.0, 2.0)], [1]),
        ([(2.0, 1.0), (1.0, 2.0), (1.0, 1.0), (0.5, 3.0)], [3, 1, 0]),
    ],
)
def test_the_front_is_what_no_other_trial_equals_or_beats_in_both(points, expected):
    assert front(points) == expected


def test_trials_of_several_seeds_are_judged_by_the_means(config, finished, tmp_path):
    run = replace(config.run, seeds=(0, 7))
    found = jobs.tune(replace(config, run=run, n_trials=1), tmp_path, quiet=True)
    of_one = content(finished)
    for several, one in ((found["baseline"], of_one["baseline"]), (found["trials"][0], of_one["trials"][0])):
        first, second = several["by_seed"]
        assert first == one["validation"] != second
        for segment, mean in several["validation"].items():
            assert mean == pytest.approx((first[segment] + second[segment]) / 2)
    assert "means over 2 training seeds" in write_tuning(tmp_path / "tune.json").read_text()
    assert "one training seed" in write_tuning(finished / "tune.json").read_text()


# Stopping, going on, adding


def test_a_tuning_that_was_stopped_ends_as_if_it_had_not_been(config, finished, tmp_path, monkeypatch):
    run_trial, n_calls = tuning_module.run_trial, 0

    def stops_at_the_third(*arguments: Any) -> dict[str, Any]:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 3:
            raise KeyboardInterrupt
        return run_trial(*arguments)

    monkeypatch.setattr(tuning_module, "run_trial", stops_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        jobs.tune(config, tmp_path, quiet=True)
    assert len(content(tmp_path)["trials"]) == 1
    jobs.tune(config, tmp_path, quiet=True)

    def outcomes(out: Path) -> Any:
        return [(one["knobs"], one["validation"]) for one in content(out)["trials"]]

    assert outcomes(tmp_path) == outcomes(finished)


def test_more_trials_and_another_limit_go_on_from_those_that_are_there(config, tmp_path):
    few = jobs.tune(replace(config, n_trials=1), tmp_path, quiet=True)
    more = jobs.tune(replace(config, n_trials=2, head_loss=0.9), tmp_path, quiet=True)
    assert more["trials"][0] == few["trials"][0]
    assert len(more["trials"]) == 2
    assert more["head_loss"] == 0.9


def test_another_tuning_in_the_same_folder_is_refused_and_nothing_is_lost(config, finished):
    before = (finished / "tune.json").read_bytes()
    with pytest.raises(ConfigError, match=r"must hold this tuning or nothing; got .* where search are"):
        jobs.tune(replace(config, search={"rho": [0.1]}), finished, quiet=True)
    assert (finished / "tune.json").read_bytes() == before


def test_no_loss_of_the_head_at_all_may_be_asked_for(config):
    assert replace(config, head_loss=0.0).as_bench().methods


@pytest.mark.parametrize(
    ("title", "knobs"), [({}, {"rho", "gamma"}), (None, {"rho", "gamma", "logit_adjustment"})]
)
def test_logit_adjustment_is_searched_where_the_recommender_can_have_it(title, knobs):
    run = jobs.load_config(
        preset="quick",
        file=None,
        overrides={"data": {"name": "ml-100k"}} | ({} if title is None else {"title": title}),
    )
    assert set(TuneConfig(run).search) == knobs


def test_the_baselines_own_dropout_can_be_tuned(config, tmp_path):
    before = config.run.recommender.dropout
    search = {"recommender.dropout": [before, 0.9]}
    own = replace(config, variant={"optimizer": "adamw"}, search=search, n_trials=4)
    found = jobs.tune(own, tmp_path / "shop", quiet=True)
    assert len(found["trials"]) == 2  # of four that were granted: there is nothing else to try
    trials = {one["knobs"]["recommender.dropout"]: one["validation"] for one in found["trials"]}
    assert trials.keys() == {before, 0.9}
    assert trials[before] == found["baseline"]["validation"] != trials[0.9]
    used = tuning_module._arguments(own.variant, {"recommender.dropout": 0.9})
    assert used == ["--optimizer=adamw", "--set=recommender.dropout=0.9"]


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ({"rho": [0.1, 0.2], "gamma": [0.0, 1.0]}, 4),
        ({"rho": [0.1, 0.2, 0.3, 0.4], "gamma": [0.0, 1.0]}, 6),
        ({"rho": [0.1, 0.2, 0.3, 0.4, 0.5], "gamma": [0.0, 0.5, 1.0]}, 6),
        ({"training.max_epochs": {"low": 1, "high": 3}}, 3),
    ],
)
def test_nothing_is_tried_twice_and_short_lists_are_gone_through(
    config, tmp_path, monkeypatch, search, expected
):
    def found_at_once(*arguments: Any) -> dict[str, Any]:
        knobs = arguments[2].knobs
        return {"validation": {"head": sum(knobs.values()) / 9, "tail": 0.1}, "seconds": 1.0}

    monkeypatch.setattr(tuning_module, "run_trial", found_at_once)
    found = jobs.tune(replace(config, search=search, n_trials=6), tmp_path / "whole", quiet=True)
    tried = [tuple(trial["knobs"].values()) for trial in found["trials"]]
    assert len(set(tried)) == len(tried) == expected
    if all(isinstance(space, list) for space in search.values()):
        combinations = list(itertools.product(*search.values()))
        assert set(tried) <= set(combinations)
        assert expected < 6 or len(combinations) > 6 or tried == combinations
    again = jobs.tune(replace(config, search=search, n_trials=6), tmp_path / "again", quiet=True)
    assert again["trials"] == found["trials"]


# Bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": {"rerank": [0.1]}}, "must be of trainings; got 'rerank'"),
        ({"search": {"rho": [-1.0]}}, "rho must be a finite number >= 0; got -1.0"),
        ({"search": {"rho": {"low": 1.0, "high": 0.1}}}, "low < high"),
        ({"search": {"radius": [0.1]}}, "radius must exist"),
        ({"search": {"training.rate": [0.1]}}, "training.rate must exist"),
        (
            {"head_loss": 2.0},
            r"head_loss must be a fraction in \[0, 1\); got 2.0. For two percent, write 0.02",
        ),
        ({"users": 0}, "users must be >= 1; got 0"),
        ({"k": 0}, "k must be >= 1; got 0"),
        ({"n_trials": 0}, "n_trials must be >= 1; got 0"),
        (
            {"variant": {"optimizer": "adamw"}, "search": {"rho": [0.1]}},
            "must differ from .* search a setting of the training or the recommender",
        ),
    ],
)
def test_what_cannot_be_tuned_is_refused_before_any_work(config, changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(config, **changes)


@pytest.mark.parametrize("text", ["rho", "rho=", "=1", "rho=1:2:3", "rho=a:b", "rho=1:2:log:3", "rho=1,,2"])
def test_a_search_that_is_none_is_named(text):
    with pytest.raises(ConfigError, match=f"got '{text}'"):
        parse_search([text])


@pytest.mark.parametrize(
    ("knob", "space", "kind"),
    [
        ("gamma", {"low": 0, "high": 1}, float),  # whole ends, and everything between
        ("every", {"low": 2, "high": 8}, int),
        ("training.max_epochs", {"low": 4, "high": 16, "log": True}, int),
        ("training.learning_rate", {"low": 1, "high": 2}, float),
        ("recommender.max_length", {"low": 20, "high": 50}, int),
        ("rerank", {"low": 0, "high": 1}, float),
    ],
)
def test_what_is_searched_is_of_the_settings_kind_whatever_the_ends_look_like(knob, space, kind):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    values = [suggest(study.ask(), knob, space) for _ in range(8)]
    assert {type(value) for value in values} == {kind}
    assert all(space["low"] <= value <= space["high"] for value in values)
    assert any(value != int(value) for value in values) == (kind is float)


def test_a_range_of_whole_numbers_has_whole_ends(config):
    with pytest.raises(ConfigError, match=r"training.max_epochs holds whole numbers; got from 2 to 4.5"):
        replace(config, search={"training.max_epochs": {"low": 2, "high": 4.5}})


# The command


def test_the_command_prints_the_page_and_keeps_it_with_the_front(tiny_log, tiny_model, capsys, tmp_path):
    arguments = [
        f"--interactions={tiny_log.interactions}",
        f"--items={tiny_log.items}",
        f"--model={tiny_model}",
        *(f"--set={setting}" for setting in TINY),
        "--search=rho=0.1,0.3",
        "--trials=2",
        "--head-loss=0.9",
        "--users=30",
        "--seed=3",
        "--seed=4",
        f"--out={tmp_path}",
    ]
    with pytest.raises(SystemExit) as ended:
        cli.main(["tune", *arguments, "--quiet"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert printed.strip() == (tmp_path / "tuning.md").read_text().strip()
    assert ElementTree.parse(tmp_path / "front.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
    found = content(tmp_path)
    assert found["declared"]["run"]["seeds"] == [3, 4]
    for one in found["trials"]:
        assert f"{one['validation']['tail']:.4f}" in printed
    if found["recommended"] is not None:
        line = next(line for line in printed.splitlines() if line.startswith("    tailwise run"))
        assert shlex.split(line)[2:-1] == found["use"]


def test_a_page_without_anything_to_recommend_says_so(finished, tmp_path):
    found = content(finished) | {"recommended": None, "use": None}
    (tmp_path / "tune.json").write_text(json.dumps(found))
    assert "stay with the baseline" in " ".join(write_tuning(tmp_path / "tune.json").read_text().split())


def test_a_page_names_what_is_recommended_and_how_to_run_it(finished, tmp_path):
    found = content(finished) | {"recommended": 1, "use": ["--optimizer=eisam:rho=0.1,logit_adjustment=0.3"]}
    (tmp_path / "tune.json").write_text(json.dumps(found))
    text = write_tuning(tmp_path / "tune.json").read_text()
    assert "Recommended: trial 1" in text
    assert "tailwise run '--optimizer=eisam:rho=0.1,logit_adjustment=0.3' ..." in text
