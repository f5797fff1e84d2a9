from typing import Any

import pytest

from tailwise.reports._audit_results import Audit, attribution_case, clear_ratios, told_apart, versus
from tailwise.reports._results import Estimate
from tests.reports.audit_results import make_attribution, make_audit, make_column


@pytest.mark.parametrize(
    ("low", "high", "side"),
    [
        (0.4, 0.6, "above"),
        (0.1, 0.2, "below"),
        (0.2, 0.4, "unclear"),
        (0.2, 0.3, "unclear"),
        (0.3, 0.4, "unclear"),
        (None, None, "unclear"),
    ],
)
def test_an_interval_that_holds_or_touches_a_number_is_on_neither_side_of_it(
    low: float | None, high: float | None, side: str
) -> None:
    assert versus(Estimate(0.3, low, high), 0.3) == side


@pytest.mark.parametrize(
    ("before", "after", "side"),
    [
        ((0.1, 0.2), (0.3, 0.4), "above"),
        ((0.3, 0.4), (0.1, 0.2), "below"),
        ((0.1, 0.3), (0.2, 0.4), "unclear"),
        ((0.1, 0.2), (0.2, 0.3), "unclear"),
        ((None, None), (0.2, 0.3), "unclear"),
    ],
)
def test_only_intervals_that_do_not_touch_tell_two_numbers_apart(
    before: tuple[float | None, float | None], after: tuple[float | None, float | None], side: str
) -> None:
    assert told_apart(Estimate(0.2, *before), Estimate(0.3, *after)) == side


@pytest.mark.parametrize(
    ("options", "case"),
    [
        ({}, "data-more"),
        ({"data": (0.2, 0.1), "prior": (0.6, 0.1)}, "prior-more"),
        ({"data": (0.4, 0.2), "prior": (0.3, 0.2)}, "both"),
        ({"p_prior": 0.2}, "data"),
        ({"p_data": 0.2}, "prior"),
        ({"p_prior": 0.051}, "data"),
        ({"p_prior": 0.05}, "data-more"),
        ({"p_data": 0.2, "p_prior": 0.3}, "together"),
        ({"p_data": 0.2, "p_prior": 0.3, "both": (0.1, 0.2)}, "neither"),
        ({"measurable": False}, "not-measurable"),
    ],
)
def test_a_side_matters_by_its_test_and_leads_by_intervals_that_do_not_touch(
    options: dict[str, Any], case: str
) -> None:
    assert attribution_case(make_attribution(**options)) == case


def test_the_words_speak_of_the_baseline_and_of_the_treatment_by_place_not_by_result() -> None:
    audit = Audit(make_audit())
    assert audit.main["name"] == "adamw"
    assert audit.treatment is not None
    assert audit.treatment["name"] == "eisam"


def test_of_two_treatments_that_named_eisam_is_spoken_of_else_the_first() -> None:
    content = make_audit()
    other = content["subjects"][1] | {"name": "sam", "label": "SAM"}
    content["subjects"].insert(1, other)
    found = Audit(content).treatment
    assert found is not None
    assert found["name"] == "eisam"
    content["subjects"][2]["name"] = "looksam"
    found = Audit(content).treatment
    assert found is not None
    assert found["name"] == "sam"


def test_a_treatment_without_a_baseline_is_compared_with_nothing() -> None:
    assert Audit(make_audit(subjects=("eisam", "most-popular"))).treatment is None


def test_a_reference_is_spoken_of_only_where_there_is_nothing_else() -> None:
    assert Audit(make_audit(subjects=("most-popular", "lists"))).main["name"] == "lists"
    assert Audit(make_audit(subjects=("most-popular",))).main["name"] == "most-popular"


def test_exposure_is_read_at_the_cut_off_of_the_lists_themselves() -> None:
    content = make_audit(subjects=("lists",), sharpness=None)
    content["subjects"][0]["k"] = 20
    for row in content["subjects"][0]["exposure"]:
        row["value"] = row["k"] / 100
    audit = Audit(content)
    found = audit.exposure(audit.main, "slot_share", "tail")
    assert found is not None
    assert found.value == 0.2
    assert audit.exposure(audit.main, "slot_share", "nowhere") is None


def test_the_agreement_with_the_log_is_that_of_the_estimate_the_attribution_rests_on() -> None:
    found = Audit(make_audit()).agreement_with_log
    assert found is not None
    assert found.value == 0.36


def test_of_many_values_only_those_clear_after_looking_at_all_are_told() -> None:
    # ±0.17 around 0.8 excludes 1: told alone, but not as the extreme one of fifty.
    alone = make_column("brand", {"A": (0.8, 0.17)})
    assert [row["value"] for row in clear_ratios(alone)[0]] == ["A"]
    many = make_column("brand", {f"B{i}": (0.8 if i == 0 else 1.0, 0.17) for i in range(50)})
    assert clear_ratios(many) == ([], [])


def test_values_are_told_from_the_extreme_inwards() -> None:
    less, more = clear_ratios(
        make_column(
            "brand", {"A": (0.5, 0.05), "B": (0.2, 0.05), "C": (2.0, 0.2), "D": (3.0, 0.2), "E": (1.0, 0.1)}
        )
    )
    assert [row["value"] for row in less] == ["B", "A"]
    assert [row["value"] for row in more] == ["D", "C"]


@pytest.mark.parametrize(("n_expected", "is_told"), [(3.0, False), (30.0, True)])
def test_a_value_that_is_never_shown_must_have_been_expected_often_enough(
    n_expected: float, is_told: bool
) -> None:
    column = make_column("brand", {"A": (0.0, 0.0), "B": (1.0, 0.1)})
    column["n_slots"] = n_expected / column["values"][0]["interaction_share"]
    assert bool(clear_ratios(column)[0]) is is_told


def test_a_value_is_judged_by_the_half_of_its_interval_that_faces_one() -> None:
    column = make_column("brand", {"A": (0.03, 0.03), "B": (1.0, 0.1), "C": (1.5, 0.1)})
    a, _, c = column["values"]
    assert a["exposure_ratio_low"] == 0.0, "few places: the lower end of the interval is cut off"
    assert [row["value"] for row in clear_ratios(column)[0]] == ["A"]
    a["exposure_ratio_high"] = 1.1
    assert clear_ratios(column)[0] == []
    c["exposure_ratio_high"] = 9.0
    assert [row["value"] for row in clear_ratios(column)[1]] == ["C"]
    c["exposure_ratio_low"] = None
    assert clear_ratios(column) == ([], [])


def test_pooled_and_missing_values_are_nobody_to_name() -> None:
    column = make_column("brand", {"other": (0.1, 0.02)})
    column["values"][0]["kind"] = "other"
    assert clear_ratios(column) == ([], [])
