from typing import Any

import pytest

from tailwise.reports._audit_results import Audit
from tailwise.reports._audit_sections import (
    attribution_rows,
    audit_tiles,
    check_rows,
    column_rows,
    neglect_notes,
    neglected_rows,
    second_rows,
)
from tests.reports.audit_results import (
    make_attribution,
    make_audit,
    make_checks,
    make_neglected,
    make_prior_side,
)


def plain(*texts: str) -> str:
    return " ".join(texts).replace("\u202f", " ")


def subject(neglected: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    return {"neglected": neglected, "attribution": make_attribution(**options)}


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
