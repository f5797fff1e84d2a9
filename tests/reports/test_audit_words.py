"""Every sentence over contrasting results: what is shown, what chance could do, what is missing."""

import re
from typing import Any

import pytest

from tailwise.reports import audit_summary
from tailwise.reports._audit_results import Audit
from tailwise.reports._audit_words import (
    agreement_sentences,
    attribution_sentences,
    change_sentences,
    column_sentences,
    concentration_sentences,
    exposure_sentences,
    headline,
    in_percent,
    neglect_sentences,
    taste_sentences,
    words_for_audit,
)
from tests.reports.audit_results import make_attribution, make_audit, make_prior_side, make_sharpness


def audit(**options: Any) -> Audit:
    return Audit(make_audit(**options))


def plain(*sentences: str) -> str:
    return " ".join(sentences).replace("\u202f", " ")


# Headline


def test_the_headline_holds_places_against_choices_and_names_the_side() -> None:
    assert plain(headline(audit())) == (
        "Rare items get only 6.0 % of the places for 35 % of the choices; who is found goes more with the"
        " shop's"
        " own log than with what the language model knew"
    )


@pytest.mark.parametrize(
    ("tail_slots", "start"),
    [
        ((0.25, 0.02), "Rare items get 25 % of the places for 35 % of the choices;"),
        ((0.36, 0.02), "Rare items get 36 % of the places for 35 % of the choices, no clear difference;"),
        ((0.6, 0.02), "Rare items get 60 % of the places for 35 % of the choices;"),
    ],
)
def test_only_is_said_of_less_than_half(tail_slots: tuple[float, float], start: str) -> None:
    assert plain(headline(audit(tail_slots=tail_slots))).startswith(start)


@pytest.mark.parametrize(
    ("options", "end"),
    [
        (
            {"data": (0.2, 0.1), "prior": (0.6, 0.1)},
            "more with what the language model knew than with the shop's own log",
        ),
        (
            {"data": (0.4, 0.2), "prior": (0.3, 0.2)},
            "goes with the shop's own log and with what the language model knew",
        ),
        ({"p_prior": 0.2}, "who is found goes with the shop's own log"),
        ({"p_data": 0.2}, "who is found goes with what the language model knew"),
        ({"p_data": 0.2, "p_prior": 0.3}, "tell too much the same to be held apart"),
        ({"p_data": 0.2, "p_prior": 0.3, "both": (0.1, 0.2)}, "is shown to decide who is found"),
        ({"measurable": False}, "who is found cannot be told from chance"),
    ],
)
def test_the_headline_blames_a_side_only_where_it_is_shown(options: dict[str, Any], end: str) -> None:
    assert headline(audit(attribution=make_attribution(**options))).endswith(end)


def test_without_an_attribution_the_headline_blames_nobody() -> None:
    assert (
        plain(headline(audit(targets=False)))
        == "Rare items get only 6.0 % of the places for 35 % of the choices"
    )


def test_without_exposure_the_headline_speaks_of_the_log() -> None:
    content = make_audit()
    content["subjects"][0]["exposure"] = []
    assert plain(headline(Audit(content))).startswith(
        "The most popular fifth of the catalogue takes 59 % of all choices; who is found"
    )


# The log


def test_concentration_is_told_in_choices_and_items() -> None:
    assert plain(*concentration_sentences(audit())) == (
        "In the log of ml-100k (81,377 choices among 1,682 items) the most popular fifth of the items"
        " takes 59 %"
        " of the choices, and 384 items (23 %) were chosen five times at most."
    )


def test_where_no_item_is_rare_none_is_counted() -> None:
    content = make_audit()
    content["data_side"]["skew"]["rare_items"] = [
        {"count": 5, "n_items": 0, "item_share": 0.0, "interaction_share": 0.0}
    ]
    assert plain(*concentration_sentences(Audit(content))).endswith("takes 59 % of the choices.")


# What is shown


@pytest.mark.parametrize(
    ("tail_slots", "said"),
    [
        ((0.06, 0.004), "give rare items 6.0 % of the places, although 35 % of the choices were theirs;"),
        (
            (0.5, 0.02),
            "give rare items 50 % of the places, more than the 35 % of the choices that were theirs;",
        ),
        (
            (0.34, 0.02),
            "34 % of the places, which cannot be told from the 35 % of the choices that were theirs;",
        ),
    ],
)
def test_places_are_held_against_choices(tail_slots: tuple[float, float], said: str) -> None:
    assert said in plain(*exposure_sentences(audit(tail_slots=tail_slots)))


@pytest.mark.parametrize(
    ("coverage", "end"),
    [
        (0.17, "; 83 % of the rare items appear in nobody's list."),
        (0.9996, "; under 0.1 % of the rare items appear in nobody's list."),
        (0.0, "; not one of the rare items appears in anybody's list."),
        (1.0, "; every one of the rare items appears in somebody's list."),
        (None, "although 35 % of the choices were theirs."),
    ],
)
def test_hidden_items_are_counted_where_coverage_is_known(coverage: float | None, end: str) -> None:
    assert plain(*exposure_sentences(audit(tail_coverage=coverage))).endswith(end)


def test_no_place_at_all_is_called_none() -> None:
    nothing = audit(tail_slots=(0.0, 0.0))
    assert plain(headline(nothing)).startswith("Rare items get none of the places for 35 % of the choices;")
    assert "give rare items none of the places, although" in plain(*exposure_sentences(nothing))


def test_a_segmentation_without_a_tail_says_nothing_of_rare_items() -> None:
    content = make_audit(sharpness=None)
    content["segments"]["segments"] = [content["segments"]["segments"][0] | {"name": "all"}]
    found = Audit(content)
    assert exposure_sentences(found) == []
    assert change_sentences(found) == []
    assert "rare items get" not in headline(found)


# The prior


@pytest.mark.parametrize(
    ("agreement", "said"),
    [
        ((0.36, 0.05), "agrees moderately with what users chose (0.36 on a scale from −1 to 1)."),
        ((0.7, 0.05), "agrees strongly with"),
        ((0.2, 0.05), "agrees weakly with"),
        ((0.06, 0.05), "agrees hardly with"),
        ((-0.2, 0.05), "disagrees weakly with what users chose (−0.20 on"),
        (
            (0.03, 0.05),
            "cannot be told from unrelated to what users chose (0.03 on a scale from −1 to 1, where 0",
        ),
    ],
)
def test_agreement_of_prior_and_log_is_graded_and_chance_is_named(
    agreement: tuple[float, float], said: str
) -> None:
    assert said in plain(*agreement_sentences(audit(prior_side=make_prior_side(agreement=agreement))))


def test_an_unknown_agreement_is_not_spoken_of() -> None:
    assert agreement_sentences(audit(prior_side=make_prior_side(agreement=None))) == []


# The two sides


def test_shares_of_both_sides_come_with_their_intervals_the_larger_first() -> None:
    said = plain(*attribution_sentences(audit()))
    assert (
        "this goes mostly (62 %, 47 to 77) with how often the shop's own log holds it and in part (21 %, 7"
        " to 35)"
        " with how well the language model knew it beforehand; each explains something that the other does"
        " not."
    ) in said
    swapped = make_attribution(data=(0.05, 0.04), prior=(0.7, 0.1))
    said = plain(*attribution_sentences(audit(attribution=swapped)))
    assert (
        "this goes mostly (70 %, 60 to 80) with how well the language model knew it beforehand and a little"
        " (5 %, 1 to 9) with how often the shop's own log holds it;"
    ) in said


def test_two_sides_with_touching_intervals_are_not_ranked() -> None:
    found = make_attribution(data=(0.4, 0.2), prior=(0.3, 0.2))
    said = plain(*attribution_sentences(audit(attribution=found)))
    assert said.endswith("but which of them explains more cannot be told.")
    assert "cannot be told" not in plain(*attribution_sentences(audit()))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"p_prior": 0.2},
            "this goes mostly (62 %, 47 to 77) with how often the shop's own log holds it; whether how"
            " well the"
            " language model knew it beforehand adds anything to that cannot be told from chance (since"
            " the two"
            " agree in part, 21 % are booked to it).",
        ),
        (
            {"p_prior": 0.2, "prior": (0.02, 0.1)},
            "adds anything to that cannot be told from chance.",
        ),
        (
            {"p_data": 0.2, "data": (0.3, 0.1), "prior": (0.4, 0.1)},
            "this goes in part (40 %, 30 to 50) with how well the language model knew it beforehand;"
            " whether how"
            " often the shop's own log holds it adds anything to that cannot be told from chance (since"
            " the two"
            " agree in part, 30 % are booked to it).",
        ),
        (
            {"p_data": 0.2, "p_prior": 0.3},
            "together explain 83 %, 73 to 93 of that, but tell so much the same that neither can be held"
            " apart",
        ),
        (
            {"p_data": 0.2, "p_prior": 0.3, "both": (0.1, 0.2)},
            "neither how often the shop's own log holds it nor how well the language model knew it"
            " beforehand is"
            " shown to explain that: it could be chance.",
        ),
        (
            {"measurable": False},
            "differs from item to item no more than chance would make it, so neither side can be blamed.",
        ),
    ],
)
def test_what_is_not_shown_is_said_not_to_be(options: dict[str, Any], said: str) -> None:
    assert said in plain(*attribution_sentences(audit(attribution=make_attribution(**options))))


def test_uncorrected_shares_are_used_where_nothing_could_be_corrected() -> None:
    found = make_attribution(corrected=False)
    assert "62 %, 47 to 77" in plain(*attribution_sentences(audit(attribution=found)))


def test_shares_without_interval_are_written_without_one() -> None:
    found = make_attribution()
    for name in ("data", "prior"):
        found["corrected"][name].update(low=None, high=None)
    assert "goes mostly (62 %) with" in plain(*attribution_sentences(audit(attribution=found)))


def test_a_question_that_was_not_answered_is_named_but_not_for_a_reference() -> None:
    assert attribution_sentences(audit(targets=False)) == [
        "Which side goes with how well an item is found could not be asked."
    ]
    assert attribution_sentences(audit(subjects=("most-popular",))) == []


# Who is neglected


def test_the_three_surest_cases_are_named_with_what_they_were_due() -> None:
    assert plain(*neglect_sentences(audit())) == (
        "Passed over most clearly are “Fargo (1996)”, “Faster Pussycat! Kill! Kill! (1965)” and “Chungking"
        " Express (1994)”: by what users chose, 40, 40 and 39 lists would show them, and 0, 0.3 and 0.7 do."
    )


def test_one_case_is_named_in_the_singular() -> None:
    assert plain(*neglect_sentences(audit(n_neglected=1))) == (
        "Passed over most clearly is “Fargo (1996)”: by what users chose, 40 lists would show it, and none"
        " do."
    )


def test_items_that_chance_could_hide_are_not_called_neglected() -> None:
    content = make_audit()
    for row in content["subjects"][0]["neglected"]:
        row["shown_ratio_high"] = 1.2
    assert neglect_sentences(Audit(content)) == [
        "No item is passed over so clearly that chance is ruled out."
    ]
    content["subjects"][0]["neglected"] = []
    assert neglect_sentences(Audit(content)) == []


def test_items_that_no_list_shows_are_not_listed_with_zeros() -> None:
    content = make_audit()
    for row in content["subjects"][0]["neglected"]:
        row["n_slots"] = 0.0
    assert plain(*neglect_sentences(Audit(content))).endswith(
        "40, 40 and 39 lists would show them, and none do."
    )


def test_a_long_title_is_cut_within_a_sentence_and_its_line_breaks_go() -> None:
    content = make_audit(n_neglected=1)
    content["subjects"][0]["neglected"][0]["title"] = "Very\n  long " * 100
    said = plain(*neglect_sentences(Audit(content)))
    assert "“Very long Very long" in said
    assert "…”" in said
    assert len(said) < 200


def test_the_extreme_values_of_a_column_are_named_if_they_are_clear() -> None:
    assert plain(*column_sentences(audit())) == (
        "By category, “Documentary” gets least for what is chosen of it (20 % of its due) and “War”"
        " gets most for what is chosen of it (1.9 times its due)."
    )
    only_more = audit(ratios={"War": (1.9, 0.2), "Drama": (1.0, 0.2)})
    assert plain(*column_sentences(only_more)) == (
        "By category, “War” gets most for what is chosen of it (1.9 times its due)."
    )
    assert column_sentences(audit(ratios={"War": (1.1, 0.2), "Drama": (0.9, 0.2)})) == []


@pytest.mark.parametrize(
    ("ratio", "said"), [(0.0, "(nothing of its due)"), (0.0004, "(under 0.1 % of its due)")]
)
def test_a_value_that_is_hardly_shown_is_not_called_zero_times(ratio: float, said: str) -> None:
    found = audit(ratios={"War": (1.0, 0.2), "Documentary": (ratio, ratio / 2)})
    assert f"“Documentary” gets least for what is chosen of it {said}" in plain(*column_sentences(found))


@pytest.mark.parametrize(
    ("niche", "said"),
    [
        (
            (-0.38, 0.03),
            "Among the third of the users who like rare items most, 50 % of the choices and 12 % of the"
            " places are rare items.",
        ),
        (
            (-0.02, 0.05),
            "50 % of the choices and 48 % of the places are rare items, a difference that cannot be told"
            " from chance.",
        ),
        ((0.2, 0.05), "50 % of the choices and 70 % of the places are rare items."),
    ],
)
def test_those_who_like_rare_items_are_spoken_of(niche: tuple[float, float], said: str) -> None:
    assert said in plain(*taste_sentences(audit(niche=niche)))


def test_without_groups_all_users_are_spoken_of() -> None:
    content = make_audit()
    content["subjects"][0]["taste"]["groups"] = []
    assert plain(*taste_sentences(Audit(content))).startswith("Among users, 30 % of the choices and 6.0 %")
    content["subjects"][0]["taste"] = None
    assert taste_sentences(Audit(content)) == []


# Two models


def test_a_change_of_places_is_told_from_chance_only_by_intervals_that_do_not_touch() -> None:
    told = plain(*change_sentences(audit(sharpness=None)))
    assert told == "With EISAM (exact, ρ=0.05), rare items get 7.8 % of the places instead of 6.0 %."
    unclear = plain(*change_sentences(audit(treated_tail_slots=(0.062, 0.004), sharpness=None)))
    assert unclear.endswith(
        "instead of 6.0 %, a change that these two numbers alone cannot tell from chance."
    )


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ("flatter", "On rare items that model is less fragile: the same small change of it does less harm"),
        ("sharper", "On rare items that model is more fragile: the same small change of it does more harm"),
        (
            "unclear",
            "On rare items that model is neither more nor less fragile, as far as can be told from chance",
        ),
    ],
)
def test_sharpness_of_the_tail_is_told_in_words(verdict: str, said: str) -> None:
    assert said in plain(*change_sentences(audit(sharpness=verdict)))


def test_sharpness_that_was_not_measured_is_not_spoken_of() -> None:
    assert "fragile" not in plain(*change_sentences(audit(sharpness=None)))
    content = make_audit()
    content["sharpness"] = {"models": [], "comparisons": [], "missing_because": "too few targets"}
    assert "fragile" not in plain(*change_sentences(Audit(content)))


def test_one_model_alone_changed_nothing() -> None:
    assert change_sentences(audit(subjects=("adamw", "most-popular"))) == []
    assert change_sentences(audit(subjects=("lists",))) == []


# All of it


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"targets": False, "sharpness": None, "shuffled": False},
        {"subjects": ("lists",), "sharpness": None},
        {"subjects": ("most-popular",), "n_neglected": 0},
        {"attribution": make_attribution(measurable=False)},
        {"attribution": None, "tail_coverage": None},
        {"prior_side": make_prior_side(agreement=None, informative=False, free_of_length=False)},
    ],
    ids=["usual", "no targets", "lists", "reference", "not measurable", "no attribution", "weak prior"],
)
def test_words_are_whole_sentences_without_a_trace_of_what_is_missing(options: dict[str, Any]) -> None:
    words = words_for_audit(audit(**options))
    for text in (*words.sentences, *words.caveats):
        assert re.match(r"[A-Z0-9“]", text), text
        assert text.endswith("."), text
    everything = plain(words.headline, words.paragraph, *words.caveats)
    for trace in ("None", "nan", "  ", "..", " ,", "( ", "–"):
        assert trace not in everything


def test_the_paragraph_is_free_of_statistics_vocabulary() -> None:
    paragraph = words_for_audit(audit()).paragraph.lower()
    for term in (
        "gini",
        "p =",
        "interval",
        "shapley",
        "variance",
        "correlation",
        "spearman",
        "significant",
        "ndcg",
    ):
        assert term not in paragraph


def test_the_summary_for_a_terminal_is_headline_paragraph_and_caveats() -> None:
    content = make_audit()
    words = words_for_audit(Audit(content))
    text = audit_summary(content)
    assert text.startswith(f"{words.headline}\n\n{words.paragraph}\n")
    assert text.count("\n- ") == len(words.caveats) > 3


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (0.0004, "under 0.1 %"),
        (0.0006, "0.1 %"),
        (0.06, "6.0 %"),
        (0.353, "35 %"),
        (0.998, "99.8 %"),
        (1.0, "100 %"),
    ],
)
def test_small_and_nearly_whole_shares_keep_a_decimal(share: float, text: str) -> None:
    assert plain(in_percent(share)) == text


def test_sharpness_of_another_treatment_is_not_mixed_up() -> None:
    content = make_audit()
    content["sharpness"] = make_sharpness()
    content["sharpness"]["comparisons"][0]["variant"] = "other"
    assert "fragile" not in plain(*change_sentences(Audit(content)))
