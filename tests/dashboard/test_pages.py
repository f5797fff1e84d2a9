"""Reports and dashboard share one palette."""

import re
from importlib import resources

import pytest

from tailwise.dashboard._pages import style_sheet as dashboard_style
from tailwise.reports._templates import style_sheet as report_style

SHEETS = {
    "dashboard": dashboard_style(),
    "report": report_style("palette.css", "report.css"),
    "audit": report_style("palette.css", "report.css", "audit.css"),
}
PALETTE = report_style("palette.css")


def names(text, begin):
    return set(re.findall(rf"{begin}(--[a-z-]+)", text))


@pytest.mark.parametrize("sheet", SHEETS)
def test_a_sheet_begins_with_the_palette_and_defines_every_colour_that_it_uses(sheet):
    assert SHEETS[sheet].startswith(PALETTE)
    assert names(SHEETS[sheet], r"var\(") <= names(SHEETS[sheet], r"[\s{]")


def test_every_colour_of_the_palette_has_a_dark_one():
    light, dark = PALETTE.split("@media screen and (prefers-color-scheme: dark)")
    assert names(light, r"\s") == names(dark, r"\s") != set()


def test_no_colour_of_the_palette_is_written_twice():
    for package, name in (
        ("dashboard", "dashboard.css"),
        ("reports", "report.css"),
        ("reports", "audit.css"),
    ):
        own = resources.files(f"tailwise.{package}").joinpath("templates", name).read_text(encoding="utf-8")
        on_screen = own.split("@media print")[0]  # paper is white
        assert not names(PALETTE, r"\s") & names(on_screen, r"[\s{;]")
