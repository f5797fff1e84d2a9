"""A shop's real logs: what its Thompson sampler earned, from random lists; beside obp and the page."""

import json
from pathlib import Path

import polars as pl
import pytest

from tailwise.experiments.ope import ItemProbabilities, check_logged_lists, evaluate_policy, open_bandit_log
from tailwise.experiments.ope._intervals import clustered_mean

HERE = Path(__file__)
CAMPAIGNS = ("all", "men", "women")


def evaluated(folder, campaign):
    random, thompson = (
        check_logged_lists(open_bandit_log(folder, campaign, behaviour), propensities="marginal")
        for behaviour in ("random", "bts")
    )
    result = evaluate_policy(random, ItemProbabilities.of_log(thompson), reward="clicks")
    return result, clustered_mean(thompson.rewards_of_lists(), thompson.cluster)


def test_a_log_file_is_read_as_single_slots_with_text_items(tmp_path):
    columns = {
        "item_id": [3, 14],
        "position": [1, 3],
        "click": [0, 1],
        "propensity_score": [0.1, 0.2],
        "timestamp": ["x", "y"],
    }
    pl.DataFrame(columns).write_csv(tmp_path / "bts-men.csv")
    log = check_logged_lists(open_bandit_log(tmp_path, "men", "bts"), propensities="marginal")
    assert log.unit == "slots"
    assert log.item_ids.to_list() == ["14", "3"]
    assert log.position.tolist() == [1, 3]
    assert log.reward.tolist() == [0, 1]
    assert log.propensity.tolist() == [0.1, 0.2]


@pytest.mark.realdata
@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_estimates_of_the_thompson_sampler_equal_those_of_obp(fetched, campaign):
    oracle = json.loads((HERE.parent / "ope_oracle.json").read_text())["open-bandit"][campaign]
    result, _ = evaluated(fetched("open-bandit"), campaign)
    for estimator, expected in oracle.items():
        assert result.estimate(estimator).value == pytest.approx(expected, rel=1e-12)


@pytest.mark.realdata
@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_intervals_from_random_lists_hold_what_the_sampler_earned_online(fetched, campaign):
    result, online = evaluated(fetched("open-bandit"), campaign)
    for found in result.estimates:
        assert found.low <= online.value <= found.high, found.estimator
    assert result.diagnostics[0].effective_sample_size > 2000
    assert result.diagnostics[0].never_shown_mass == 0


@pytest.mark.realdata
def test_the_page_has_the_numbers_of_the_open_bandit_data(fetched):
    page = (HERE.parents[2] / "docs" / "off-policy.md").read_text()
    folder = fetched("open-bandit")
    for campaign in CAMPAIGNS:
        result, online = evaluated(folder, campaign)
        cells = [
            f"{1000 * each.value:.1f} ({1000 * each.low:.1f} to {1000 * each.high:.1f})"
            for each in (
                result.shown,
                result.estimate("ips"),
                result.estimate("snips"),
                result.headline,
                online,
            )
        ]
        row = f"| {campaign} | {' | '.join(cells)} | {result.diagnostics[0].effective_sample_size:,.0f} |"
        assert row in page, row


@pytest.mark.realdata
@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_a_policy_on_its_own_log_is_worth_what_it_earned(fetched, campaign):
    """Weighed by logged propensities that change over the week, the average policy comes out right."""
    folder = fetched("open-bandit")
    thompson = check_logged_lists(open_bandit_log(folder, campaign, "bts"), propensities="marginal")
    random = check_logged_lists(open_bandit_log(folder, campaign, "random"), propensities="marginal")
    result = evaluate_policy(thompson, ItemProbabilities.of_log(random), max_unsupported=0.9)
    online = clustered_mean(random.rewards_of_lists(), random.cluster)
    best = result.estimate("snips")
    assert best.low <= online.value <= best.high
