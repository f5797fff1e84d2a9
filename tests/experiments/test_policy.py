"""Policy files: defaults, exceptions by stage, and refusals that name what is wrong."""

import pytest

from tailwise.errors import ConfigError
from tailwise.experiments import (
    EffectLimit,
    Policy,
    ServiceLimits,
    StageOverride,
    StageRule,
    policy_as_toml,
    read_policy,
)


def test_the_defaults_written_out_are_a_policy_file(tmp_path):
    file = tmp_path / "policy.toml"
    file.write_text(policy_as_toml(Policy()))
    assert read_policy(file) == Policy()


def test_an_exception_changes_what_it_names_and_nothing_else(tmp_path):
    file = tmp_path / "policy.toml"
    file.write_text("[every_stage]\nminimum_days = 2\n[[stages]]\npercent = 50\nproof = 'effect-shown'\n")
    policy = read_policy(file)
    assert policy.rule_for(50) == StageRule(minimum_days=2, proof="effect-shown")
    assert policy.rule_for(25) == StageRule(minimum_days=2)


def test_effects_in_a_file_replace_the_default_ones(tmp_path):
    file = tmp_path / "policy.toml"
    file.write_text('[[effects]]\nmetric = "gmv"\nmargin = 0.02\non_red = "hold"\n')
    assert read_policy(file).effects == (EffectLimit("gmv", 0.02, "hold"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("window_days = 0", r"window_days must be > 0 and finite; got 0"),
        ("alpha = 5", r"alpha must be a chance in \(0, 0.5\); got 5"),
        ("[[effects]]\nmetric = 'gmv'\nmargin = 5", r"margin of gmv must be a share.*got 5.*write 0.05"),
        ("[[effects]]\nmetric = 'gmw'\nmargin = 0.1", r"metric must be one of .*got 'gmw'"),
        ("[[stages]]\npercent = 5\nproof = 'luck'", r"stages\[0\].proof must be one of .*got 'luck'"),
        ("[[stages]]\npercent = 5\nminimum_users = 1", r"minimum_users must be >= 2; got 1"),
        ("[[stages]]\npercent = 5\n[[stages]]\npercent = 5", r"stages must name each once; got \[5"),
        ("[service]\nlatency_p95_ms = 0", r"latency_p95_ms must be > 0.*got 0"),
        ("[service]\nerror_excess = 2", r"error_excess must be a share in \(0, 1\); got 2"),
        ("[every_stage]\nmaximum_days = 0.5", r"maximum_days must be more than minimum_days, 1; got 0.5"),
        ("on_sample_ratio = 'shout'", r"on_sample_ratio must be one of .*got 'shout'"),
        ("window_days = ", r"must be valid TOML"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(tmp_path, text, message):
    file = tmp_path / "policy.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_policy(file)


def test_a_missing_policy_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"policy must be an existing TOML file; got .*nowhere.toml"):
        read_policy(tmp_path / "nowhere.toml")


def test_an_exception_that_contradicts_the_general_rule_is_refused_at_once():
    with pytest.raises(ValueError, match=r"maximum_days must be more than minimum_days, 9; got 5"):
        Policy(every_stage=StageRule(minimum_days=9), stages=(StageOverride(5, maximum_days=5.0),))


def test_default_limits_are_those_the_page_states():
    assert [(limit.metric, limit.margin) for limit in Policy().effects] == [
        ("clicks", 0.05),
        ("gmv", 0.1),
        ("head_purchases", 0.15),
    ]
    assert ServiceLimits() == ServiceLimits(0.005, 0.05, 500.0, 1.0, "rollback")
