"""The main job with a recommender that says titles: run, killed halfway, audited, asked for lists."""

import json

import pytest

from tailwise.errors import ConfigError
from tailwise.jobs import AuditConfig, audit, export, load_config, recommend, run
from tailwise.reports import read_metrics
from tests.jobs.builders import all_rankings, final_weights

TINY = (
    "model.depth=1",
    "model.lora_rank=2",
    "model.dtype=float32",
    "title.instruction=things",
    "title.max_tokens=100",
    "training.max_epochs=1",
    "training.positions_per_batch=400",
    "training.checkpoint_seconds=0",
    "data.training_histories=20",
    "evaluation.n_resamples=100",
    "evaluation.validation_users=5",
    "evaluation.test_users=4",
)


def config_of(tiny_log, tiny_model, *settings, **overrides):
    return load_config(
        preset="quick",
        file=None,
        overrides={
            "data": {"interactions": str(tiny_log.interactions), "items": str(tiny_log.items)},
            "model": {"model": str(tiny_model)},
            "title": {},
            "references": ["most-popular"],
            **overrides,
        },
        settings=(*TINY, *settings),
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_log, tiny_model):
    out = tmp_path_factory.mktemp("title") / "run"
    variants = [
        {"name": "adamw"},
        {"name": "eisam", "optimizer": "eisam"},
        {"name": "unit", "optimizer": "eisam", "estimator": "single-pass", "row_weights": "unit"},
        {"name": "rebalanced", "reweighting": 0.5, "resampling": 0.5},
    ]
    run(config_of(tiny_log, tiny_model, variants=variants), out, quiet=True)
    return out


def test_a_run_measures_every_variant_and_says_how_losses_were_made(finished):
    metrics = read_metrics(finished / "metrics.json")
    measured = {v["name"]: v for v in metrics["variants"]}
    assert measured.keys() == {"adamw", "eisam", "unit", "rebalanced", "most-popular"}
    said = measured["eisam"]["settings"]["recommender"]
    assert (said["reduction"], said["layout"], said["scoring"]) == ("sum", "packed", "beam")
    assert (finished / "report.html").is_file()
    weights = final_weights(finished)
    assert len(weights) == 4
    assert all("lora" in name for state in weights.values() for name in state)


def test_as_many_users_as_asked_for_were_measured_the_same_for_all(finished):
    rankings = all_rankings(finished)
    users = {name: tuple(r.targets["user_index"].unique().sort()) for name, r in rankings.items()}
    assert len(set(users.values())) == 1
    assert len(users) == 5
    assert {len(of_one) for of_one in users.values()} == {4}


def test_lists_come_from_the_saved_model_and_leave_out_what_was_seen(finished, tmp_path):
    made = recommend(finished, "eisam", tmp_path / "lists.parquet", k=5, quiet=True)
    assert made.made_with["n_users"] > 0


def test_an_audit_says_why_there_is_no_sharpness(finished, tmp_path):
    config = AuditConfig(estimators=("title-likelihood",))
    found = audit(config, tmp_path / "audit", run=finished, quiet=True)
    assert "says titles" in json.dumps(found)


def test_an_export_is_refused_with_the_way_out(finished, tmp_path):
    with pytest.raises(ConfigError, match=r"whose items are tokens; got .* load_recommender"):
        export(finished, "adamw", tmp_path / "export", quiet=True)


def test_a_resumed_run_ends_with_the_same_weights(finished, tmp_path, tiny_log, tiny_model, monkeypatch):
    from tailwise.training import TrainingInterrupted, _fit

    config = config_of(tiny_log, tiny_model, variants=[{"name": "eisam", "optimizer": "eisam"}])
    steps = iter(range(2))

    def stop_early(self, *_):
        if next(steps, None) is None:
            raise TrainingInterrupted("stopped")
        return original(self, *_)

    original = _fit._Sitting._step
    with monkeypatch.context() as patched:
        patched.setattr(_fit._Sitting, "_step", stop_early)
        with pytest.raises(TrainingInterrupted):
            run(config, tmp_path / "run", quiet=True)
    run(config, tmp_path / "run", resume=True, quiet=True)
    expected = final_weights(finished)["eisam/seed-0/model/weights.safetensors"]
    found = final_weights(tmp_path / "run")["eisam/seed-0/model/weights.safetensors"]
    assert all(found[name].equal(value) for name, value in expected.items())


@pytest.mark.parametrize(
    ("settings", "overrides", "match"),
    [
        ((), {"variants": [{"name": "a", "logit_adjustment": 0.5}]}, r"got 0.5 in variant 'a'.*resampling"),
        (("training.negatives=5",), {}, r"training\.negatives must be left out .* got 5"),
        (("training.positions_per_batch=99",), {}, r"at least title\.max_tokens \(100\); got 99"),
        (("data.repeats=keep",), {}, r"title\.scoring must be exact .* got 'beam'"),
        (("title.layout=both",), {}, r"title\.layout must be one of packed, per-target; got 'both'"),
        (("title.layuot=packed",), {}, r"Did you mean 'layout'"),
    ],
)
def test_settings_that_titles_cannot_have_are_refused(tiny_log, tiny_model, settings, overrides, match):
    with pytest.raises(ConfigError, match=match):
        config_of(tiny_log, tiny_model, *settings, **overrides)


def test_presets_differ_for_titles_and_tokens_and_old_settings_keep_their_dictionary():
    from tailwise.jobs import config_as_dict

    data = {"data": {"name": "ml-100k"}}
    titles = load_config(preset="quick", file=None, overrides=data | {"title": {}})
    tokens = load_config(preset="quick", file=None, overrides=data)
    assert titles.title is not None
    assert titles.title.scoring == "beam"
    assert titles.evaluation.test_users >= 500
    assert tokens.title is None
    assert "title" not in config_as_dict(tokens)
    assert load_config(preset=None, file=None, overrides=config_as_dict(titles)) == titles
