from collections.abc import Callable
from typing import Any

import pytest

from tailwise.reports import summarize

Metrics = dict[str, Any]
Make = Callable[..., Metrics]


def plain(text: str) -> str:
    return text.replace("\u202f", " ")


def test_a_tail_interval_above_zero_is_called_a_rise(make: Make) -> None:
    words = summarize(make(tail_effect=(0.0043, 0.0030)))
    assert words.tone == "better"
    assert words.headline.startswith("Rare items are found more often")
    assert "accuracy rose: NDCG@10 is 0.0328 against 0.0285 before (+15.1 %)" in plain(words.paragraph)
    assert "lies above zero" in words.paragraph


def test_a_tail_interval_that_spans_zero_is_called_not_distinguishable(make: Make) -> None:
    words = summarize(make(tail_effect=(0.0043, 0.0050)))
    assert words.tone == "open"
    assert words.headline == "No difference from the baseline could be shown"
    assert "not distinguishable" in words.paragraph
    # (0.0043 − 0.0050) / 0.0285 = −2.5 %, (0.0043 + 0.0050) / 0.0285 = +32.6 %
    assert "anything from −2 % to +33 % remains possible" in plain(words.paragraph)
    assert "rose" not in words.paragraph


def test_an_interval_that_touches_zero_is_not_a_rise(make: Make) -> None:
    assert summarize(make(tail_effect=(0.004, 0.004))).tone == "open"


def test_a_tail_interval_below_zero_is_called_a_fall(make: Make) -> None:
    words = summarize(make(tail_effect=(-0.0043, 0.0030)))
    assert words.tone == "worse"
    assert words.headline == "Rare items are found less often"
    assert "accuracy fell" in words.paragraph


@pytest.mark.parametrize(
    ("overall", "tone", "headline", "sentence"),
    [
        ((0.003, 0.001), "better", "overall accuracy rose with them", "Over all items, accuracy rose"),
        (
            (0.003, 0.004),
            "better",
            "no change of overall accuracy was detected",
            "Over all items, no change was detected",
        ),
        ((-0.003, 0.001), "mixed", "at the expense of overall accuracy", "Over all items, accuracy was lost"),
    ],
)
def test_overall_accuracy_is_reported_whichever_way_it_went(
    make: Make, overall: tuple[float, float], tone: str, headline: str, sentence: str
) -> None:
    words = summarize(make(overall_effect=overall))
    assert words.tone == tone
    assert headline in words.headline
    assert sentence in words.paragraph


def test_a_loss_of_popular_items_is_said(make: Make) -> None:
    assert "Popular items lost" in summarize(make(head_effect=(-0.004, 0.002))).paragraph


def test_one_seed_is_said_to_leave_out_the_luck_of_training(make: Make) -> None:
    assert any(c.startswith("One training seed.") for c in summarize(make(n_seeds=1)).caveats)


def test_five_seeds_are_said_to_cover_it(make: Make) -> None:
    caveats = summarize(make(n_seeds=5)).caveats
    assert any(c.startswith("5 training seeds.") and "both" in c for c in caveats)
    assert not any("One training seed" in c for c in caveats)


def test_seeds_whose_variance_is_left_out_are_said_to_be(make: Make) -> None:
    metrics = make(n_seeds=5)
    for row in metrics["comparisons"]:
        row["variance"] = "users"
    assert any("cover the choice of users only" in c for c in summarize(metrics).caveats)


def test_cost_is_told_as_a_ratio_and_in_time(make: Make) -> None:
    assert "1.93× the baseline's time (3 min 21 s against 1 min 44 s)" in plain(summarize(make()).paragraph)


def test_a_missing_cost_is_said_to_be_missing(make: Make) -> None:
    metrics = make()
    for variant in metrics["variants"]:
        variant["cost"] = None
    assert "The cost of training was not recorded." in summarize(metrics).paragraph


def test_tied_rows_are_counted_in_the_caveats(make: Make) -> None:
    assert any("702 of 1,880 held-out interactions (37.3 %)" in plain(c) for c in summarize(make()).caveats)


def test_one_model_alone_is_not_called_better_than_anything(make: Make) -> None:
    words = summarize(make(references=False, baseline=False))
    assert words.tone == "plain"
    assert "no paired comparison" in words.paragraph
    assert "rose" not in words.paragraph


def test_the_treatment_in_the_words_is_chosen_by_place_not_by_result(make: Make) -> None:
    metrics = make(n_treatments=3, tail_effect=(0.0, 0.001))
    for row in metrics["comparisons"]:
        if row["variant"] == "eisam-3":
            row.update(low=0.01, high=0.02)
    words = summarize(metrics)
    assert words.tone == "open"
    assert any("3 treatments were compared" in c and "not by its result" in c for c in words.caveats)


def test_without_a_measured_tail_the_words_speak_of_overall_accuracy(make: Make) -> None:
    metrics = make()
    metrics["comparisons"] = [row for row in metrics["comparisons"] if row["segment"] == "overall"]
    words = summarize(metrics)
    assert "rare items could not be measured" in words.headline
    assert "could not be compared" in words.paragraph


def test_custom_segments_are_named_and_the_rarest_is_the_tail(make: Make) -> None:
    words = summarize(make(segments=("hits", "shelf", "niche")))
    assert "items of segment “niche”" in words.paragraph


@pytest.mark.parametrize(
    "field", ["low", "high", "difference", "relative_difference", "value", "baseline_value"]
)
def test_a_null_in_the_comparison_never_becomes_a_claim(make: Make, field: str) -> None:
    metrics = make(overall_effect=(0.0, 0.001))
    for row in metrics["comparisons"]:
        row[field] = None
        if field == "low":
            row["high"] = None
    words = summarize(metrics)
    assert "None" not in words.paragraph
    if field in {"low", "difference"}:
        assert words.tone in {"open", "plain"}
