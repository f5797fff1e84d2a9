"""Evidence: what closed windows hold, no more, whichever way and however often it is looked at."""

import dataclasses
import math

import numpy as np
import pytest

from tailwise.experiments import Enrolled, Rollout, check_guardrails, evidence_at, evidence_path, transition
from tests.experiments.rollouts import experiment, running

DAY = 86_400.0
N = 2_000


def enrolled(seed: int = 0, *, harm: float = 0.0, n: int = N) -> Enrolled:
    """Users who come evenly over ten days, treated by a coin, all of stage 0."""
    rng = np.random.default_rng(seed)
    at = np.sort(rng.random(n)) * 10 * DAY
    treated = rng.random(n) < 0.5
    clicks = rng.poisson(np.where(treated, 1 - harm, 1.0)).astype(float)
    requests = 1.0 + rng.poisson(0.5, n)
    columns = {
        "clicks": clicks,
        "head_purchases": rng.binomial(clicks.astype(int), 0.4).astype(float),
        "tail_clicks": rng.poisson(0.5, n).astype(float),
        "tail_purchases": rng.poisson(0.3, n).astype(float),
        "requests": requests,
        "errors": np.zeros(n),
        "fallbacks": rng.binomial(requests.astype(int), 0.02).astype(float),
        "slow_requests": rng.binomial(requests.astype(int), 0.01).astype(float),
    }
    return Enrolled(at, treated, np.zeros(n, dtype=np.int64), columns)


def flat(found) -> list[float]:
    """Every number of the evidence."""
    parts = [*found.limits, *found.goals, *found.rates, found.sample, found]
    values = [value for part in parts for value in vars(part).values()]
    return [float(value) for value in values if isinstance(value, int | float)]


def test_the_effect_is_near_the_plain_difference_of_means_of_closed_windows():
    table, at = enrolled(harm=0.3), 8 * DAY
    found = evidence_at(table, running(), at).limits[0]
    closed = table.exposed_at + 3 * DAY <= at
    means = [table.columns["clicks"][closed & (table.treated == flag)].mean() for flag in (False, True)]
    assert found.metric == "clicks"
    # The estimate weighs users by a coin's probability, not by its outcome: it differs by chance alone.
    assert found.effect == pytest.approx(means[1] / means[0] - 1, abs=0.03)
    assert found.low < -0.3 < found.high


def test_users_are_counted_by_closed_windows_in_the_smaller_cohort():
    table, at = enrolled(), 8 * DAY
    found = evidence_at(table, running(), at)
    closed = table.exposed_at + 3 * DAY <= at
    sizes = [int((closed & (table.treated == flag)).sum()) for flag in (False, True)]
    assert (found.n_users, found.n_users_in_stage) == (min(sizes), min(sizes))
    exposed = table.exposed_at <= at
    assert found.sample.n_treatment == (exposed & table.treated).sum()
    assert found.days_in_stage == 8.0


def test_what_happens_in_open_windows_is_not_read():
    table, at = enrolled(), 8 * DAY
    spoilt = {}
    for name, column in table.columns.items():
        window = 3600.0 if name in ("requests", "errors", "fallbacks", "slow_requests") else 3 * DAY
        spoilt[name] = np.where(table.exposed_at + window > at, np.nan, column)
    assert evidence_at(dataclasses.replace(table, columns=spoilt), running(), at) == evidence_at(
        table, running(), at
    )


def test_looking_at_many_moments_at_once_says_what_each_look_says():
    table, moments = enrolled(), np.array([0.1, 2.9, 3.5, 6.0, 9.0]) * DAY
    together = evidence_path(table, running(), moments)
    apart = [evidence_at(table, running(), float(at)) for at in moments]
    for one, other in zip(together, apart, strict=True):
        assert flat(one) == pytest.approx(flat(other), rel=1e-9, nan_ok=True)  # sums in another order


def test_before_anybody_is_closed_nothing_is_claimed():
    found = evidence_at(enrolled(), running(), 1.0)
    assert found.n_users == 0
    assert all(math.isinf(effect.low) and math.isinf(effect.high) for effect in found.limits)
    assert all(math.isnan(rate.excess) for rate in found.rates)


def test_a_window_that_a_pause_cuts_is_left_out_of_both_cohorts():
    table = enrolled()
    broken = transition(transition(running(), "pause", 4 * DAY), "resume", 4.5 * DAY)
    seen = evidence_at(table, broken, 9 * DAY)
    at = table.exposed_at
    whole = (at + 3 * DAY <= 4 * DAY) | ((at >= 4.5 * DAY) & (at + 3 * DAY <= 9 * DAY))
    sizes = [int((whole & (table.treated == flag)).sum()) for flag in (False, True)]
    assert seen.n_users == min(sizes)
    assert seen.n_users < evidence_at(table, running(), 9 * DAY).n_users
    assert seen.days_in_stage == 4.5


def test_slow_requests_are_measured_against_five_percent_and_not_against_control():
    table = enrolled()
    rng = np.random.default_rng(1)
    slow = rng.binomial(table.columns["requests"].astype(int), 0.10).astype(float)  # in both cohorts
    found = evidence_at(
        dataclasses.replace(table, columns={**table.columns, "slow_requests": slow}), running(), 9 * DAY
    )
    rate = {rate.name: rate for rate in found.rates}["slow"]
    assert rate.treatment == pytest.approx(0.10, abs=0.02)
    assert rate.excess == pytest.approx(rate.treatment - 0.05)
    assert rate.low > 0


def test_users_out_of_order_and_columns_of_another_length_are_refused():
    table = enrolled()
    with pytest.raises(ValueError, match="exposed_at must ascend"):
        dataclasses.replace(table, exposed_at=table.exposed_at[::-1].copy())
    with pytest.raises(ValueError, match=r"clicks must have one entry per user, 2000; got shape \(3,\)"):
        dataclasses.replace(table, columns={"clicks": np.zeros(3)})


def test_a_missing_column_and_a_draft_are_refused():
    table = enrolled()
    without = {name: column for name, column in table.columns.items() if name != "head_purchases"}
    with pytest.raises(ValueError, match="columns must hold 'head_purchases'"):
        evidence_at(dataclasses.replace(table, columns=without), running(), 9 * DAY)
    with pytest.raises(ValueError, match="'shelf' must have started; got state 'draft'"):
        evidence_at(table, Rollout(experiment()), 9 * DAY)


def test_thirty_users_are_enough_to_see_that_a_treatment_is_always_late():
    table = enrolled(n=30)
    slow = np.where(table.treated, table.columns["requests"], 0.0)
    found = evidence_at(
        dataclasses.replace(table, columns={**table.columns, "slow_requests": slow}), running(), 11 * DAY
    )
    lights = {result.name: result.light for result in check_guardrails(found, experiment().policy)}
    assert lights["latency_p95"] == "red"  # with a burn-in of 120 users it was never judged
    assert lights["clicks"] == "amber"  # effects do have one
