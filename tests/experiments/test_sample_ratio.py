import itertools

import numpy as np
import pytest
from scipy import stats

from tailwise.experiments import check_sample_ratio, follow_sample_ratio
from tailwise.experiments._sample_ratio import _log_evidence


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.2, 0.6)])
def test_evidence_is_exactly_one_on_average_under_the_planned_shares(shares):
    code = np.array([0, 1, 0, 1, 1, 0, 0, 1])
    planned = np.array(shares)
    average = 0.0
    for assigned in itertools.product((0.0, 1.0), repeat=8):
        treated = np.array(assigned)
        chance = np.where(treated == 1, planned[code], 1 - planned[code]).prod()
        average += chance * np.exp(_log_evidence(treated, code, planned)[-1])
    # an exact martingale: rounding alone
    assert average == pytest.approx(1.0, abs=1e-12)


def test_looking_after_every_user_raises_fewer_false_alarms_than_alpha():
    alarms = sum(
        follow_sample_ratio(np.random.default_rng(seed).random(5000) < 0.5)[-1] <= 0.05 for seed in range(400)
    )
    assert stats.binomtest(alarms, 400).proportion_ci(0.95).low < 0.05
    assert alarms / 400 <= 0.05


def test_a_split_of_48_to_52_is_found_within_twenty_thousand_users_in_most_experiments():
    found = 0
    for seed in range(60):
        treated = np.random.default_rng(seed).random(20_000) < 0.52
        found += follow_sample_ratio(treated, np.repeat([0, 1], 10_000))[-1] <= 0.01
    assert found >= 50


def test_a_deviation_of_one_stage_is_found_though_another_makes_up_for_it():
    rng = np.random.default_rng(0)
    stage = np.tile([0, 1], 3000)
    treated = rng.random(6000) < np.where(stage == 0, 0.43, 0.57)
    assert check_sample_ratio(treated, stage).is_mismatch
    assert not check_sample_ratio(treated, 0).is_mismatch  # the stages taken for one


def test_planned_shares_may_differ_between_stages():
    rng = np.random.default_rng(1)
    stage = np.repeat([0, 1], 4000)
    treated = rng.random(8000) < np.where(stage == 0, 0.1, 0.5)
    kept = check_sample_ratio(treated, stage, expected_share={0: 0.1, 1: 0.5})
    assert not kept.is_mismatch
    assert kept.expected_share == pytest.approx(0.3)
    assert check_sample_ratio(treated, stage).is_mismatch


def test_the_p_value_never_rises_again():
    p = follow_sample_ratio(np.concatenate([np.ones(60), np.zeros(200)]))
    assert (np.diff(p) <= 0).all()
    assert p[-1] == p.min() < 0.01


def test_nobody_yet_is_no_mismatch():
    found = check_sample_ratio([])
    assert (found.p_value, found.is_mismatch, found.n_control) == (1.0, False, 0)


def test_bad_shares_are_named():
    with pytest.raises(ValueError, match=r"expected_share must be in \(0, 1\); got 1"):
        check_sample_ratio([0, 1], expected_share=1.0)
    with pytest.raises(ValueError, match="got none for stage 3"):
        check_sample_ratio([0, 1], 3, expected_share={0: 0.5})
