from typing import Any

import pytest

from tailwise.reports._audit_caveats import (
    attribution_caveats,
    caveats,
    data_caveats,
    list_caveats,
    prior_caveats,
    seed_caveats,
    shuffle_caveats,
    target_caveats,
)
from tailwise.reports._audit_results import Audit
from tests.reports.audit_results import (
    make_attribution,
    make_audit,
    make_checks,
    make_grid,
    make_prior_side,
    make_shuffled,
)


def audit(**options: Any) -> Audit:
    return Audit(make_audit(**options))


def plain(found: list[str]) -> str:
    return "\n".join(found).replace("\u202f", " ")


def test_few_targets_are_counted_and_many_are_not_mentioned() -> None:
    few = plain(target_caveats(audit(attribution=make_attribution(n_targets=999))))
    assert "Only 999 held-out interactions tell who is found" in few
    assert "Only" not in plain(target_caveats(audit(attribution=make_attribution(n_targets=1000))))


def test_thin_cells_of_the_grid_are_counted() -> None:
    content = make_audit()
    content["subjects"][0]["grids"] = [make_grid(2)]
    cells = content["subjects"][0]["grids"][0]["cells"]
    cells[0]["n_targets"], cells[1]["n_targets"] = 29, 30
    assert "2 of the 6 cells of the grid hold fewer than 30" in plain(target_caveats(Audit(content)))
    for cell in cells:
        cell["n_targets"] = 30
    assert target_caveats(Audit(content)) == []


def test_an_unanswered_question_comes_with_its_reason_on_one_line() -> None:
    content = make_audit(attribution=None)
    content["subjects"][0]["no_attribution_because"] = "items must vary; got none.\n  Hold out more."
    assert target_caveats(Audit(content)) == [
        "Which side goes with who is found was not answered: items must vary; got none. Hold out more."
    ]
    assert target_caveats(audit(subjects=("most-popular",))) == []


def test_shares_are_never_left_to_pass_for_causes() -> None:
    assert "not shown to be caused by it" in plain(attribution_caveats(audit()))
    assert attribution_caveats(audit(attribution=None)) == []
    assert attribution_caveats(audit(attribution=make_attribution(measurable=False))) == []


def test_uncorrected_shares_are_said_to_be_with_the_reason() -> None:
    found = plain(attribution_caveats(audit(attribution=make_attribution(corrected=False))))
    assert (
        "not corrected for errors in measuring the prior, because the estimates of the prior agree" in found
    )
    assert "corrected" not in plain(attribution_caveats(audit()))


def test_intervals_that_rest_on_too_few_items_or_users_are_called_rough() -> None:
    found = make_attribution() | {"is_calibrated": False, "effective_items": 41.3, "effective_users": 25.0}
    said = plain(attribution_caveats(audit(attribution=found)))
    assert (
        "worth those of only 41 items and 25 users of equal weight: take the intervals of the shares" in said
    )
    assert "rough" not in plain(attribution_caveats(audit(attribution=found | {"is_calibrated": True})))
    earlier = {key: value for key, value in found.items() if key != "is_calibrated"}
    assert "rough" not in plain(attribution_caveats(audit(attribution=earlier)))


def test_a_prior_that_survives_new_titles_is_a_caveat() -> None:
    content = make_audit(shuffled=False)
    assert shuffle_caveats(Audit(content)) == []
    content["shuffled_titles"] = make_shuffled(p_own=0.6)
    assert shuffle_caveats(Audit(content)) == []
    content["shuffled_titles"] = make_shuffled(p_own=0.01)
    assert "part of the language model's share is not its doing" in plain(shuffle_caveats(Audit(content)))
    content["shuffled_titles"]["attribution_own"]["is_measurable"] = False
    assert shuffle_caveats(Audit(content)) == []


def test_a_score_that_is_the_length_of_the_title_is_a_caveat() -> None:
    found = plain(prior_caveats(audit(prior_side=make_prior_side(free_of_length=False))))
    assert "still goes with the length of its title (−0.31 on a scale" in found
    assert prior_caveats(audit()) == []


def test_wordings_that_disagree_are_a_caveat() -> None:
    side = make_prior_side()
    side["stabilities"][0]["mean_spearman"] = 0.3
    assert "two wordings agree by 0.30 only" in plain(prior_caveats(audit(prior_side=side)))
    side["stabilities"][0]["mean_spearman"] = None
    assert prior_caveats(audit(prior_side=side)) == []


def test_comparisons_that_say_nothing_are_a_caveat() -> None:
    found = plain(prior_caveats(audit(prior_side=make_prior_side(informative=False))))
    assert "compares pairs by position" in found
    assert "used for nothing else" in found
    side = make_prior_side()
    side["pairwise"] = None
    assert prior_caveats(audit(prior_side=side)) == []


def test_pairs_that_could_not_be_asked_are_named_with_the_reason() -> None:
    side = make_prior_side() | {"pairwise": None, "pairwise_left_out": "titles must hold 10; got 2."}
    assert prior_caveats(audit(prior_side=side)) == [
        "Pairs of items were not compared: titles must hold 10; got 2."
    ]


def test_items_without_a_title_are_counted() -> None:
    side = make_prior_side() | {"n_filled": 12}
    assert "12 items have no title" in plain(prior_caveats(audit(prior_side=side)))


def test_irregular_lists_are_counted_and_regular_ones_are_not_mentioned() -> None:
    irregular = make_checks(n_unknown_item_rows_dropped=41, n_tied_slots=7, n_seen_slots=90)
    found = plain(list_caveats(audit(subjects=("lists",), checks=irregular, sharpness=None)))
    assert found.startswith(
        "Lists of theirs.parquet: 41 rows name items outside the catalogue and were dropped;"
    )
    assert "7 places have tied scores" in found
    assert "90 places (1.0 %) show what the user had already chosen" in found
    assert "repeat" not in found
    assert list_caveats(audit(subjects=("lists",), checks=make_checks(), sharpness=None)) == []


def test_seen_items_are_no_irregularity_where_the_system_may_show_them() -> None:
    checks = make_checks(n_seen_slots=90) | {"exclude_seen": False}
    assert list_caveats(audit(subjects=("lists",), checks=checks, sharpness=None)) == []


def test_models_of_one_training_are_named() -> None:
    found = plain(seed_caveats(audit()))
    assert found.startswith("AdamW and EISAM (exact, ρ=0.05) were each trained once.")
    assert plain(seed_caveats(audit(subjects=("adamw",)))).startswith("AdamW was trained once.")
    assert seed_caveats(audit(seeds=(0, 1, 2, 3, 4))) == []
    assert seed_caveats(audit(subjects=("lists",), sharpness=None)) == []


def test_a_filtered_log_is_said_to_be() -> None:
    assert "fewer than 5 interactions: somebody has removed" in plain(data_caveats(audit(filtered=True)))
    assert "removed" not in plain(data_caveats(audit()))


def test_ties_matter_only_where_accuracy_was_measured() -> None:
    assert "share their timestamp" in plain(data_caveats(audit()))
    assert "share their timestamp" not in plain(data_caveats(audit(targets=False)))


@pytest.mark.parametrize("options", [{}, {"targets": False}])
def test_what_was_shown_is_always_named_as_a_yardstick_of_its_own_making(options: dict[str, Any]) -> None:
    assert any("too low a yardstick" in caveat for caveat in caveats(audit(**options)))
