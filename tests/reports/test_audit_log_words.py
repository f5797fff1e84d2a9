import pytest

from tailwise.reports._audit_log_words import drift_sentence, power_law_sentences
from tests.reports.audit_results import make_data_side


def plain(*texts: str) -> str:
    return " ".join(texts).replace("\u202f", " ")


@pytest.mark.parametrize(
    ("support", "said"),
    [
        (
            "none",
            "The counts do not follow a power law among the 48 % of the trained items with 6 choices or"
            " more (exponent 2.34, 2.20 to 2.50): a lognormal curve fits them better.",
        ),
        ("moderate", "The counts may follow a power law"),
        ("good", "The counts follow a power law"),
        (None, "but not tested"),
    ],
)
def test_the_power_law_is_judged_in_words(support: str | None, said: str) -> None:
    assert said in plain(*power_law_sentences(make_data_side(support=support)))


def test_a_power_law_that_only_the_test_rejects_is_said_to_be_far_off() -> None:
    side = make_data_side()
    side["power_law"]["rivals"] = []
    assert "they lie farther from it than chance explains" in plain(*power_law_sentences(side))


def test_a_rival_that_fits_worse_is_not_called_better() -> None:
    side = make_data_side()
    for rival in side["power_law"]["rivals"]:
        rival.update(p=0.01, statistic=3.0)
    assert "farther from it than chance explains" in plain(*power_law_sentences(side))


def test_two_rivals_that_fit_better_are_both_named() -> None:
    side = make_data_side()
    for rival in side["power_law"]["rivals"]:
        rival.update(p=0.01, statistic=-3.0)
    assert plain(*power_law_sentences(side)).endswith("a lognormal and an exponential curve fit them better.")


def test_a_rival_that_cannot_be_ruled_out_is_named() -> None:
    assert plain(*power_law_sentences(make_data_side(support="moderate"))).endswith(
        "; a lognormal curve cannot be ruled out either."
    )


def test_a_law_that_was_not_fitted_gives_its_reason() -> None:
    side = make_data_side() | {
        "power_law": None,
        "omitted": {"power_law": "counts must hold 50 items;\n  got 3."},
    }
    assert power_law_sentences(side) == ["No power law was fitted: counts must hold 50 items; got 3."]
    assert power_law_sentences(side | {"omitted": {}}) == []


def test_drift_is_what_differs_from_a_log_without_it() -> None:
    assert plain(drift_sentence(make_data_side())) == (
        "The most popular 20 % of the items of one stretch of time still take 40 % of the choices in the"
        " next,"
        " on average; if nothing changed over time it would be 64 %. So the head drifts: lists made of"
        " old logs age."
    )
    assert drift_sentence(make_data_side(drifts=False)).endswith("So the head hardly drifts.")


def test_drift_without_a_yardstick_gets_no_verdict() -> None:
    side = make_data_side()
    for change in side["drift"]["changes"]:
        change["previous_head_share_without_drift"] = None
    assert plain(drift_sentence(side)).endswith("40 % of the choices in the next, on average.")
    side["omitted"], side["drift"] = {"drift": "all at one time."}, None
    assert drift_sentence(side) == "Drift was not measured: all at one time."
