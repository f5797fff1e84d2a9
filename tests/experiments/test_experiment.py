"""Definitions: what is refused and why, and that files say what was meant."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.errors import ConfigError
from tailwise.experiments import (
    Experiment,
    Policy,
    StageOverride,
    experiment_as_json,
    experiment_as_toml,
    experiment_from_json,
    parse_ramp,
    read_experiment,
)
from tests.experiments.rollouts import experiment

PLAIN = 'name = "shelf"\nsurface = "discovery"\ncontrol = "old"\ntreatment = "new"\n'


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Shelf one"}, r"name must be .*got 'Shelf one'"),
        ({"surface": "cellar"}, r"surface must be one of home.*got 'cellar'"),
        ({"treatment": "control"}, r"must be two served models; got 'control' and 'control'"),
        ({"ramp_percent": (5.0, 1.0)}, r"ramp_percent must rise.*got \[5.0, 1.0\]"),
        ({"ramp_percent": (0.0, 5.0)}, r"ramp_percent must hold.*got \[0.0, 5.0\]"),
        ({"ramp_percent": (25.0, 75.0, 100.0)}, r"from 50 or less to 100; got 75"),
        ({"hold_out_percent": 60.0}, r"hold_out_percent must be in \[0, 50\]; got 60"),
        ({"layer_percent": (50.0, 20.0)}, r"layer_percent must be.*got \[50.0, 20.0\]"),
        ({"metrics": ()}, r"metrics must name at least one.*got \[\]"),
        ({"metrics": ("clickz",)}, r"metric must be one of tail_clicks.*got 'clickz'"),
        ({"metrics": ("coverage",)}, r"metric must be one of.*got 'coverage'"),
        ({"policy": Policy(stages=(StageOverride(30.0),))}, r"stages of the ramp; got 30"),
    ],
)
def test_a_definition_that_cannot_work_is_refused_by_name_and_value(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(experiment(), **changes)


def test_an_unknown_setting_is_refused_with_the_nearest_known_one(tmp_path):
    file = tmp_path / "shelf.toml"
    file.write_text(PLAIN + "[policy]\nwindow_day = 3\n")
    with pytest.raises(ConfigError, match=r"experiment.policy.window_day .*Did you mean 'window_days'"):
        read_experiment(file)


def test_a_value_of_the_wrong_kind_is_refused_with_its_place(tmp_path):
    file = tmp_path / "shelf.toml"
    file.write_text(PLAIN + 'ramp_percent = [1, "five"]\n')
    with pytest.raises(ConfigError, match=r"experiment.ramp_percent\[1\] must be of kind float; got 'five'"):
        read_experiment(file)


def test_a_missing_setting_is_named(tmp_path):
    file = tmp_path / "shelf.toml"
    file.write_text('name = "shelf"\n')
    with pytest.raises(ConfigError, match=r"experiment.surface must be given"):
        read_experiment(file)


def test_what_a_file_leaves_out_keeps_its_default(tmp_path):
    file = tmp_path / "shelf.toml"
    file.write_text(PLAIN)
    assert read_experiment(file) == Experiment("shelf", "discovery", "old", "new")


percents = st.lists(st.floats(0.1, 50, allow_nan=False), min_size=1, max_size=5, unique=True).map(
    lambda shares: (*sorted(shares), 100.0)
)


@given(
    ramp=percents,
    seed=st.integers(0, 2**40),
    layer=st.text(min_size=1, max_size=12, alphabet=st.characters(codec="utf-8")),
    proof=st.sampled_from(["no-harm-shown", "no-harm-seen", "non-inferior", "effect-shown"]),
)
def test_a_definition_survives_toml_and_json(tmp_path_factory, ramp, seed, layer, proof):
    policy = Policy(stages=(StageOverride(ramp[0], proof=proof, minimum_days=0.5),))
    before = experiment(ramp_percent=ramp, seed=seed, layer=layer, policy=policy)
    file = tmp_path_factory.mktemp("toml") / "shelf.toml"
    file.write_text(experiment_as_toml(before), encoding="utf-8")
    assert read_experiment(file) == before
    assert experiment_from_json(experiment_as_json(before)) == before


def test_the_ramp_of_the_command_line_is_read_and_checked():
    assert parse_ramp("1, 5,25%,100") == (1.0, 5.0, 25.0, 100.0)
    with pytest.raises(ConfigError, match=r"--ramp must be percentages.*got '1,many'"):
        parse_ramp("1,many")
    with pytest.raises(ConfigError, match=r"--ramp: ramp_percent must rise"):
        parse_ramp("5,5")


@pytest.mark.parametrize(
    ("other", "overlaps"),
    [
        ({"layer_percent": (50.0, 100.0)}, False),  # the other half of the layer
        ({"layer_percent": (49.0, 100.0)}, True),
        ({"layer_percent": (0.0, 50.0), "surface": "home"}, True),  # one layer is exclusive on any surface
        ({"layer": "other"}, True),  # one surface, and the same users may meet both
        ({"layer": "other", "surface": "home"}, False),
    ],
)
def test_experiments_overlap_unless_users_or_surfaces_are_kept_apart(other, overlaps):
    first = experiment(layer_percent=(0.0, 50.0))
    second = dataclasses.replace(first, name="second", **{"layer_percent": (0.0, 50.0), **other})
    assert first.overlaps(second) is overlaps
    assert second.overlaps(first) is overlaps


def test_stages_whose_cohorts_are_smaller_than_the_policy_asks_are_said_beforehand():
    half = Experiment("x", "home", "a", "b", (1.0, 25.0, 100.0), layer_percent=(0.0, 50.0))
    # 500 users per cohort and stage are asked for; 1 % of half of 30,000 is 150, the hold-out 750
    (sentence,) = half.out_of_reach(30_000)
    assert sentence.startswith("At 1 % a cohort holds at most 150 of 30,000 users; the policy asks for 500")
    assert [line.split(" a cohort")[0] for line in half.out_of_reach(8_000)] == ["At 1 %", "At 100 %"]
    assert half.out_of_reach(100_000) == []
