"""The whole evaluation: its result, arguments, JSON and words."""

import json

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from tailwise.errors import DataError
from tailwise.experiments.ope import (
    GivenProbabilities,
    check_logged_lists,
    estimates_table,
    evaluate_policy,
    sentence,
    support_table,
)

from . import ope_worlds as world


@pytest.fixture(scope="module")
def result():
    table = world.draw(3, 6000)
    rest = table.with_columns(pl.col("recommendation_id") + 20_000, pl.lit(1.0).alias("propensity"))
    log, context = world.checked(pl.concat([table, rest.head(400)]))
    return evaluate_policy(log, world.policy(context), reward="clicks", whole_lists=True)


def test_the_logging_policy_itself_is_worth_what_was_shown():
    log, context = world.checked(world.draw(4, 500))
    found = evaluate_policy(log, world.policy(context, scores=world.LOG_SCORES))
    for estimate in found.estimates:
        if estimate.estimator != "dr":
            assert estimate.value == pytest.approx(found.shown.value)
            assert estimate.change == pytest.approx(0)
    assert found.diagnostics[1].effective_sample_size == pytest.approx(log.n_lists)


def test_the_headline_is_doubly_robust_with_the_cascades_weights(result):
    assert (result.headline.estimator, result.headline.interaction) == ("dr", "cascade")
    assert len(result.estimates) == 4
    with pytest.raises(KeyError):
        result.estimate("dr", "list")


def test_what_was_not_drawn_is_reported_beside(result):
    assert result.not_drawn.n_lists == 200
    assert result.shown.n_lists == 12_000
    assert result.checks.n_deterministic_lists == 200


def test_differences_are_paired_with_what_the_same_lists_earned(result):
    for found in result.estimates:
        assert found.difference == pytest.approx(found.value - result.shown.value)
        assert found.change == pytest.approx(found.value / result.shown.value - 1)
        assert found.change_low < found.change < found.change_high


def test_a_result_is_json(result):
    content = json.loads(json.dumps(result.as_dict()))
    assert content["format"] == 1
    assert content["headline"]["value"] == result.headline.value
    assert content["diagnostics"][0]["unsupported_mass"] == result.diagnostics[0].unsupported_mass
    assert content["checks"]["n_evaluated_lists"] == 12_000


def test_the_sentence_says_value_interval_and_change(result):
    best = result.headline
    text = sentence(result)
    assert text.startswith(
        f"the policy would have earned {1000 * best.value:.1f} clicks per 1,000 lists (95 % interval "
    )
    assert f"{1000 * best.low:.1f} to {1000 * best.high:.1f})" in text
    assert f"{100 * best.change:.1f} % more than what was shown" in text
    assert "cannot tell" not in text


def test_the_sentence_admits_when_the_log_cannot_tell():
    log, context = world.checked(world.draw(4, 200))
    found = evaluate_policy(log, world.policy(context, scores=world.LOG_SCORES), reward="clicks")
    assert sentence(found).endswith("This log cannot tell the two apart.")


def test_the_sentence_of_a_log_without_rewards_has_no_percentage():
    table = pl.DataFrame(
        {"position": [1] * 4, "item_id": list("abab"), "propensity": [0.5] * 4, "reward": [0.0] * 4}
    )
    log = check_logged_lists(table.with_columns(pl.Series("target_propensity", [0.5] * 4)))
    assert "; what was shown earned 0.0." in sentence(evaluate_policy(log, GivenProbabilities()))


def test_tables_show_every_estimate_and_every_slot(result):
    text = "".join(
        "".join(segment.text for segment in Console(width=200).render(table))
        for table in (estimates_table(result), support_table(result))
    )
    for found in result.estimates:
        assert f"{1000 * found.value:,.1f}" in text
    for words in ("shown: 12,000 drawn lists", "shown: 200 not drawn", "doubly robust", "whole list"):
        assert words in text
    for found in result.diagnostics:
        assert f"{found.effective_sample_size:,.0f}" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"clip": 0.0}, "clip must be > 0; got 0.0"),
        ({"max_unsupported": 1.0}, r"max_unsupported must be in \[0, 1\); got 1.0"),
        ({"confidence": 95.0}, r"confidence must be in \(0, 1\); got 95.0"),
        ({"n_folds": 1}, "n_folds must be >= 2, and so must be the users; got 1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, said):
    log, context = world.checked(world.draw(1, 50))
    with pytest.raises(ValueError, match=said):
        evaluate_policy(log, world.policy(context), **arguments)


def test_whole_list_weights_need_conditional_propensities():
    table = pl.DataFrame(
        {"position": [1, 1], "item_id": ["a", "b"], "propensity": [0.5] * 2, "reward": [1.0] * 2}
    )
    log = check_logged_lists(
        table.with_columns(pl.Series("target_propensity", [0.5] * 2)), propensities="marginal"
    )
    with pytest.raises(ValueError, match="whole_lists must be False for marginal propensities"):
        evaluate_policy(log, GivenProbabilities(), whole_lists=True)


def test_lists_of_one_user_have_no_interval_and_are_refused():
    table = world.draw(1, 10).with_columns(pl.lit("only").alias("user_id"))
    log, context = world.checked(table)
    with pytest.raises(DataError, match="must be of several users for an interval; got 1 in 20 lists"):
        evaluate_policy(log, world.policy(context))


def test_another_seed_changes_folds_and_nothing_else():
    log, context = world.checked(world.draw(2, 300))
    one, other = (evaluate_policy(log, world.policy(context), seed=seed) for seed in (0, 1))
    assert one.estimate("ips") == other.estimate("ips")
    assert one.estimate("dr").value != other.estimate("dr").value
    assert one.estimate("dr").value == pytest.approx(other.estimate("dr").value, rel=0.05)
    assert np.isfinite(one.headline.low)
