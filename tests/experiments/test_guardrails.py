"""Lights, worked by hand: a margin of 5 % on clicks, 15 % on head purchases."""

import dataclasses
import json
import math

import pytest

from tailwise.experiments import RateEvidence, SampleEvidence, check_guardrails, evidence_as_plain
from tests.experiments.rollouts import POLICY, effect, evidence


def lights(found) -> dict[str, str]:
    return {result.name: result.light for result in check_guardrails(found, POLICY)}


def clicks(estimate: float, low: float, high: float):
    return evidence(limits=(effect("clicks", estimate, low, high), evidence().limits[1]))


@pytest.mark.parametrize(
    ("found", "light", "is_excluded"),
    [
        (clicks(-0.20, -0.30, -0.06), "red", False),  # all of it beyond -5 %
        (clicks(-0.20, -0.30, -0.04), "amber", False),  # looks like it, but -4 % is in it
        (clicks(-0.04, -0.30, 0.20), "green", False),  # within the margin, beyond it not excluded
        (clicks(-0.02, -0.04, 0.00), "green", True),  # surely worse, surely by less than accepted
        (clicks(0.10, -0.06, 0.30), "green", False),
        (clicks(math.nan, -math.inf, math.inf), "amber", False),  # nothing is known
        (clicks(-0.50, -math.inf, math.inf), "amber", False),  # the burn-in is not over
    ],
)
def test_an_effect_limit_is_red_only_when_harm_beyond_the_margin_is_shown(found, light, is_excluded):
    result = check_guardrails(found, POLICY)[0]
    assert (result.light, result.is_excluded) == (light, is_excluded)


def test_the_reason_holds_the_numbers_it_rests_on():
    reason = check_guardrails(clicks(-0.2, -0.3, -0.06), POLICY)[0].reason
    for part in ("clicks", "-20.0%", "-30.0%", "-6.0%", "5.0%", "worse"):
        assert part in reason


@pytest.mark.parametrize(
    ("rate", "name", "light"),
    [
        (RateEvidence("errors", 0.001, 0.031, 0.030, 0.006, 0.06), "errors", "red"),  # 0.5 % is accepted
        (RateEvidence("errors", 0.001, 0.031, 0.030, 0.004, 0.06), "errors", "amber"),
        (RateEvidence("errors", 0.001, 0.005, 0.004, 0.002, 0.006), "errors", "green"),
        (RateEvidence("fallbacks", 0.01, 0.09, 0.08, 0.06, 0.1), "fallbacks", "red"),  # 5 % are accepted
        (RateEvidence("slow", 0.04, 0.06, 0.01, 0.001, 0.02), "latency_p95", "red"),  # more than 5 % slow
        (RateEvidence("slow", 0.04, 0.06, 0.01, -0.001, 0.02), "latency_p95", "amber"),
        (RateEvidence("slow", 0.20, 0.04, -0.01, -0.02, -0.001), "latency_p95", "green"),
        (RateEvidence("slow", math.nan, math.nan, math.nan, math.nan, math.nan), "latency_p95", "amber"),
    ],
)
def test_a_service_limit_is_red_only_when_the_excess_is_shown(rate, name, light):
    assert lights(evidence(rates=(rate,)))[name] == light


@pytest.mark.parametrize(("p_value", "light"), [(1.0, "green"), (0.005, "amber"), (0.0005, "red")])
def test_unequal_cohorts_are_red_at_one_in_a_thousand_and_pause(p_value, light):
    result = check_guardrails(evidence(sample=SampleEvidence(600, 400, p_value)), POLICY)[-1]
    assert (result.name, result.light, result.on_red) == ("sample_ratio", light, "pause")


def test_evidence_that_misses_a_limit_is_refused():
    with pytest.raises(ValueError, match=r"every effect limit; got none on \['head_purchases'\]"):
        check_guardrails(evidence(limits=evidence().limits[:1]), POLICY)


def test_evidence_is_strict_json_even_where_ends_are_infinite():
    plain = evidence_as_plain(clicks(math.nan, -math.inf, math.inf))
    text = json.dumps(plain, allow_nan=False)
    first = json.loads(text)["limits"][0]
    assert (first["effect"], first["low"], first["high"]) == (None, None, None)
    assert plain.keys() == {field.name for field in dataclasses.fields(evidence())}
