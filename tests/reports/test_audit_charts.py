"""Charts are looked at through their marks: what is filled, what is hollow, what is not drawn."""

import re
from typing import Any

import pytest

from tailwise.reports._audit_charts import (
    attribution_chart,
    column_chart,
    drift_chart,
    segment_chart,
    sharpness_chart,
    taste_chart,
)
from tailwise.reports._audit_results import Audit
from tailwise.reports._drawing import Chart
from tailwise.reports._palette import styles
from tests.reports.audit_results import make_attribution, make_audit, make_sharpness


def one_model(**options: Any) -> tuple[Audit, dict[str, Any]]:
    audit = Audit(make_audit(subjects=("adamw",), **options))
    return audit, styles(audit.subjects)


def n_marks(chart: Chart | None) -> tuple[int, int]:
    """Filled and hollow marks of the wide drawing."""
    assert chart is not None
    fills = re.findall(
        r'<path aria-label[^>]*>|<path[^>]*fill="(#\w+)"[^>]*stroke-width="1\.8"', str(chart.wide)
    )
    marks = [fill for fill in fills if fill]
    hollow = sum(fill == "#ffffff" for fill in marks)
    return len(marks) - hollow, hollow


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, (6, 0)), ({"p_prior": 0.2}, (4, 2)), ({"p_prior": 0.2, "p_data": 0.2, "both": (0.1, 0.2)}, (1, 5))],
)
def test_shares_that_are_not_told_from_nothing_are_hollow(
    options: dict[str, Any], expected: tuple[int, int]
) -> None:
    audit, looks = one_model(attribution=make_attribution(**options))
    assert n_marks(attribution_chart(audit, looks)) == expected


def test_a_gap_that_cannot_be_measured_is_not_drawn() -> None:
    assert attribution_chart(*one_model(attribution=make_attribution(measurable=False))) is None
    assert attribution_chart(*one_model(attribution=None)) is None


def test_choices_are_hollow_beside_the_places_of_every_segment() -> None:
    assert n_marks(segment_chart(*one_model())) == (3, 3)


def test_own_taste_is_hollow_beside_what_is_shown() -> None:
    assert n_marks(taste_chart(*one_model())) == (3, 3)
    both = Audit(make_audit(subjects=("adamw", "eisam")))
    assert n_marks(taste_chart(both, styles(both.subjects))) == (6, 3), "users’ own taste stands once"
    content = make_audit(subjects=("adamw",))
    content["subjects"][0]["taste"] = None
    assert taste_chart(Audit(content), styles(content["subjects"])) is None


def test_values_of_a_column_are_filled_only_where_they_are_clear() -> None:
    audit, looks = one_model()
    assert n_marks(column_chart(audit, "category", looks)) == (2, 1)
    assert column_chart(audit, "brand", looks) is None


def test_values_that_begin_alike_keep_rows_of_their_own() -> None:
    start = "Documentary films about the sea and about "
    audit, looks = one_model(
        ratios={f"{start}{what}": (ratio, 0.1) for what, ratio in (("fish", 0.5), ("ships", 2.0))}
    )
    chart = column_chart(audit, "category", looks)
    assert chart is not None
    labels = re.findall(r"<text[^>]*><tspan[^>]*>(Documentary)", str(chart.wide))
    assert len(labels) == 2


def test_a_log_without_drift_is_drawn_hollow_beside_the_measured_one() -> None:
    audit, _ = one_model()
    assert n_marks(drift_chart(audit)) == (6, 6)
    audit.content["data_side"]["drift"] = None
    assert drift_chart(audit) is None


@pytest.mark.parametrize(("verdict", "n_hollow_changes"), [("flatter", 0), ("unclear", 2)])
def test_changes_of_sharpness_that_chance_could_make_are_hollow(verdict: str, n_hollow_changes: int) -> None:
    audit = Audit(make_audit(sharpness=verdict))
    filled, hollow = n_marks(sharpness_chart(audit, styles(audit.subjects)))
    n_random = 4  # two models, two segments
    assert (filled, hollow) == (4 + 2 - n_hollow_changes, n_random + n_hollow_changes)


def test_sharpness_of_several_trainings_is_drawn_once_at_its_mean() -> None:
    content = make_audit(subjects=("adamw",))
    content["sharpness"] = make_sharpness()
    model = content["sharpness"]["models"][0]
    content["sharpness"] |= {"models": [model], "comparisons": []}
    once = sharpness_chart(Audit(content), styles(content["subjects"]))
    model["measured"] *= 3
    thrice = sharpness_chart(Audit(content), styles(content["subjects"]))
    assert n_marks(thrice) == n_marks(once) == (2, 2)
