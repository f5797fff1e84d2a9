from typing import Any

import pytest

from tailwise.reports._audit_results import Audit
from tailwise.reports._audit_sections import (
    agreement_table,
    attribution_rows,
    audit_tiles,
    check_rows,
    column_rows,
    drift_sentence,
    grid_table,
    neglect_notes,
    neglected_rows,
    power_law_sentences,
    prior_rows,
    second_rows,
)
from tailwise.reports._palette import HEAT, INK, dark_rules, heat_class
from tests.reports.audit_results import (
    make_attribution,
    make_audit,
    make_checks,
    make_data_side,
    make_grid,
    make_neglected,
    make_prior_side,
)


def plain(*texts: str) -> str:
    return " ".join(texts).replace("\u202f", " ")


def subject(neglected: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    return {"neglected": neglected, "attribution": make_attribution(**options)}


# Heat


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_of_black_and_white_is_twenty_one() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("ramp", HEAT)
def test_ink_is_readable_on_every_heat_colour_in_both_schemes(ramp: str, scheme: int) -> None:
    dark_ink = next(
        line.split("fill: ")[1][:7] for line in dark_rules().splitlines() if f'[fill="{INK}"]' in line
    )
    ink = (INK, dark_ink)[scheme]
    for pair in HEAT[ramp]:
        assert contrast(ink, pair[scheme]) >= 4.5, "WCAG 2.1 AA for text"


def test_neighbouring_heat_colours_differ_and_go_one_way() -> None:
    for ramp in HEAT.values():
        light, dark = ([luminance(pair[i]) for pair in ramp] for i in (0, 1))
        assert light == sorted(light, reverse=True)
        assert dark == sorted(dark)
        assert len(set(light)) == len(set(dark)) == 7


@pytest.mark.parametrize(
    ("share", "name"),
    [
        (0.0, "heat-0"),
        (1.0, "heat-6"),
        (0.5, "heat-3"),
        (-1.0, "cool-6"),
        (-0.01, "heat-0"),
        (7.0, "heat-6"),
        (None, "heat-none"),
    ],
)
def test_heat_follows_the_value_and_a_missing_one_is_hatched(share: float | None, name: str) -> None:
    assert heat_class(share) == name


def test_the_grid_is_shaded_by_accuracy_and_says_where_there_are_no_targets() -> None:
    table = grid_table(make_grid(2))
    assert table.columns == ("head", "tail", "cold")
    (name, best), (_, worse) = table.rows
    assert name == "high"
    assert (best[0].value, best[0].interval, best[0].detail) == ("0.1100", "0.0825 to 0.1375", "900 targets")
    assert best[0].heat == 1.0
    assert worse[0].heat == pytest.approx(0.5)
    assert (worse[2].value, worse[2].detail, worse[2].heat) == ("", "no targets", None)


def test_a_cell_of_one_target_has_no_interval_and_no_plural() -> None:
    grid = make_grid(2)
    grid["cells"][0] |= {"n_targets": 1, "accuracy": {"value": 0.5, "low": None, "high": None}}
    cell = grid_table(grid).rows[0][1][0]
    assert (cell.value, cell.interval, cell.detail) == ("0.5000", "", "1 target")


def test_a_grid_where_nothing_was_found_is_pale_and_not_a_division_by_zero() -> None:
    cells = [cell for _, row in grid_table(make_grid(2, scale=0.0)).rows for cell in row]
    assert {cell.heat for cell in cells} == {0.0, None}
    assert (cells[0].value, cells[0].interval, cells[0].detail) == ("0", "", "none of 900 targets found")


def test_every_pair_of_estimates_stands_once_in_the_table_and_all_meet_the_log() -> None:
    table = agreement_table(Audit(make_audit()))
    assert table.columns[-1] == "users’ choices"
    shown = [cell.value for _, row in table.rows for cell in row if cell.value]
    assert shown == ["−0.05", "+0.50", "+0.36", "−0.20", "+0.30"]
    unknown = [cell.detail for _, row in table.rows for cell in row if not cell.value]
    assert unknown.count("not known") == 1, "measured, and without a value"


def test_comparisons_that_say_nothing_are_marked_in_the_table() -> None:
    side = make_prior_side(informative=False)
    table = agreement_table(Audit(make_audit(prior_side=side)))
    assert "pairs compared (say nothing)" in table.columns
    assert "pairs compared (say nothing)" in [name for name, _ in table.rows]
    assert "say nothing" not in str(agreement_table(Audit(make_audit())))


def test_an_estimate_of_an_unknown_name_keeps_it() -> None:
    side = make_prior_side()
    side["estimates"].append(side["estimates"][0] | {"name": "crystal-ball"})
    assert prior_rows(side)[-1]["name"] == "crystal ball"
    assert prior_rows(side)[-1]["stability"] is None


# Key figures


def test_the_tiles_are_the_key_figures_in_order() -> None:
    tiles = audit_tiles(Audit(make_audit()))
    assert [plain(tile.label) for tile in tiles] == [
        "Gini of the choices",
        "Choices on the top 20 %",
        "Rare items in nobody’s list",
        "Places of rare items",
        "Prior’s agreement with the log",
        "Who is found: log / prior",
    ]
    gini, top, hidden, places, prior, shares = tiles
    assert (gini.value, plain(gini.detail)) == ("0.63", "95 % interval 0.62 to 0.64")
    assert plain(top.detail) == "95 % interval 58.0 % to 60.0 %"
    assert plain(hidden.value, hidden.detail) == "83.0 % EISAM (exact, ρ=0.05): 83.0 %"
    assert (
        plain(places.value, places.before, places.verdict) == "6.0 % 35.3 % of the choices less than chosen"
    )
    assert (prior.value, prior.verdict, prior.direction) == ("+0.36", "agrees", "up")
    assert plain(shares.value) == "62 % / 21 %"


@pytest.mark.parametrize(
    ("options", "verdict"),
    [
        ({"tail_slots": (0.34, 0.05)}, "no clear difference"),
        ({"tail_slots": (0.5, 0.05)}, "more than chosen"),
        ({"prior_side": make_prior_side(agreement=(0.0, 0.1))}, "not told from none"),
        ({"prior_side": make_prior_side(agreement=(-0.3, 0.1))}, "opposite"),
    ],
)
def test_a_tile_gives_a_verdict_only_by_its_interval(options: dict[str, Any], verdict: str) -> None:
    assert verdict in [tile.verdict for tile in audit_tiles(Audit(make_audit(**options)))]


def test_tiles_of_missing_parts_are_left_out() -> None:
    content = make_audit(
        targets=False, tail_coverage=None, prior_side=make_prior_side(agreement=None), sharpness=None
    )
    content["data_side"]["skew"]["intervals"] = None
    tiles = audit_tiles(Audit(content))
    assert len(tiles) == 3
    assert tiles[0].detail == tiles[1].detail == ""


def test_a_share_that_could_be_chance_says_so_on_its_tile() -> None:
    tiles = audit_tiles(Audit(make_audit(attribution=make_attribution(p_prior=0.87))))
    assert tiles[-1].detail == "the prior’s could be chance"
    assert audit_tiles(Audit(make_audit()))[-1].detail == ""


def test_uncorrected_shares_say_so_on_their_tile() -> None:
    tiles = audit_tiles(Audit(make_audit(attribution=make_attribution(corrected=False))))
    assert "not corrected" in tiles[-1].detail
    assert len(audit_tiles(Audit(make_audit(attribution=make_attribution(measurable=False))))) == 5


# Shares, items, columns


def test_every_share_is_in_the_table_and_the_interaction_is_none() -> None:
    rows = attribution_rows(make_attribution())
    assert len(rows) == 8
    assert rows[-1][0] == "Interaction (not a share)"
    assert all(corrected is None for _, corrected, _ in attribution_rows(make_attribution(corrected=False)))


def test_bars_of_neglected_items_share_one_scale_and_point_the_way_of_their_sign() -> None:
    rows = make_neglected(12)
    found = neglected_rows(rows, slice(2))
    (_, log, prior), _ = found.items
    assert (log.left, log.width, log.text, log.direction) == (0.0, 50.0, "−0.012", "down")
    assert (prior.left, prior.width, prior.text, prior.direction) == (
        50.0,
        pytest.approx(12.5),
        "+0.003",
        "up",
    )
    rest = neglected_rows(rows, slice(2, None))
    assert len(rest.items) == 10
    assert rest.items[0][2].width == prior.width


def test_items_without_effects_have_no_bars() -> None:
    found = neglected_rows(make_neglected(3, effects=False), slice(None))
    assert not found.has_effects
    assert {bar.text for _, *bars in found.items for bar in bars} == {""}


@pytest.mark.parametrize(
    ("percentile", "n", "said"),
    [
        (
            0.3,
            30,
            [
                "Of the 30 items that are neglected most clearly, the language model knows 30 less well"
                " than its median item."
            ],
        ),
        (0.3, 19, []),
    ],
)
def test_a_side_of_the_median_is_told_of_twenty_items_or_more(
    percentile: float, n: int, said: list[str]
) -> None:
    assert neglect_notes(subject(make_neglected(n, percentile=percentile))) == said


@pytest.mark.parametrize(("n_less", "end"), [(20, ", about as many as chance would give."), (21, " item.")])
def test_a_split_is_told_from_chance_by_the_spread_of_a_fair_coin(n_less: int, end: str) -> None:
    # 30 fair throws: 15 ± 1.96 · √30 / 2 = 9.6 to 20.4
    rows = make_neglected(30)
    for i, row in enumerate(rows):
        row["prior_percentile"] = 0.3 if i < n_less else 0.7
    assert f"knows {n_less} less well" in neglect_notes(subject(rows))[0]
    assert neglect_notes(subject(rows))[0].endswith(end)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, None),
        ({"p_prior": 0.87}, "not shown to add anything: the prior’s (p = 0.87)."),
        ({"p_prior": 0.87, "p_data": 0.2}, "the log’s (p = 0.20) and the prior’s (p = 0.87)."),
    ],
)
def test_bars_of_a_side_that_is_not_shown_to_matter_are_called_chance(
    options: dict[str, Any], said: str | None
) -> None:
    found = neglect_notes(subject(make_neglected(3), **options))
    assert found == [] if said is None else found[0].endswith(said)
    assert neglect_notes(subject(make_neglected(3, effects=False), **options)) == []


def test_a_value_is_told_with_the_tail_share_of_its_items() -> None:
    rows = {row["value"]: row for row in column_rows(Audit(make_audit()), "category")}
    war = rows["War"]
    assert war["tail_share"] == 0.7
    assert len(war["shown"]) == 3, "one per maker of lists"
    places, ratio = war["shown"][0]
    assert places == pytest.approx(0.095)
    assert (ratio.value, ratio.low, ratio.high) == (1.9, pytest.approx(1.7), pytest.approx(2.1))
    assert column_rows(Audit(make_audit()), "shop") == []


# The log in words


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


# In full


def test_every_check_of_given_lists_is_a_row() -> None:
    checks = make_checks(n_unknown_item_rows_dropped=12_345)
    rows = dict(check_rows(checks))
    assert set(rows) == set(checks)
    assert rows["n_unknown_item_rows_dropped"] == "12,345"
    assert rows["exclude_seen"] == "yes"
    assert rows["users_by_length"] == "length 10, n_users 900"


def test_timings_are_sorted_and_cached_parts_marked() -> None:
    found = second_rows(Audit(make_audit()))
    assert [(part, is_kept) for part, _, is_kept in found] == [
        ("prior", False),
        ("sharpness", True),
        ("data", False),
    ]
