"""Reports and dashboard share their colours and the sheet that every page begins with."""

import re
from importlib import resources

import pytest

from tailwise.dashboard._pages import style_sheet as dashboard_style
from tailwise.reports._templates import style_sheet as report_style

SHEETS = {
    "dashboard": dashboard_style(),
    "report": report_style("base.css", "report.css"),
    "audit": report_style("base.css", "report.css", "audit.css"),
}
BASE = report_style("base.css")


def names(text, begin):
    return set(re.findall(rf"{begin}(--[a-z-]+)", text))


@pytest.mark.parametrize("sheet", SHEETS)
def test_a_sheet_begins_with_what_all_share_and_defines_every_colour_that_it_uses(sheet):
    assert SHEETS[sheet].startswith(BASE)
    assert names(SHEETS[sheet], r"var\(") <= names(SHEETS[sheet], r"[\s{]")


def test_every_colour_that_pages_share_has_a_dark_one():
    light, dark = BASE.split("@media screen and (prefers-color-scheme: dark)")
    assert names(light, r"\s") == names(dark, r"\s") != set()


def test_no_colour_that_pages_share_is_written_twice():
    for package, name in (
        ("dashboard", "dashboard.css"),
        ("reports", "report.css"),
        ("reports", "audit.css"),
    ):
        own = resources.files(f"tailwise.{package}").joinpath("templates", name).read_text(encoding="utf-8")
        on_screen = own.split("@media print")[0]  # paper is white
        assert not names(BASE, r"\s") & names(on_screen, r"[\s{;]")
