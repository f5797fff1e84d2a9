import pytest

from tailwise.reports._audit_heat import agreement_table, grid_table, prior_rows
from tailwise.reports._audit_results import Audit
from tailwise.reports._palette import HEAT, INK, dark_rules, heat_class
from tests.reports.audit_results import make_audit, make_grid, make_prior_side


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
