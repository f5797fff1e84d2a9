import html
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tailwise.errors import DataError
from tailwise.reports import render_report, summarize, write_report

Metrics = dict[str, Any]
Make = Callable[..., Metrics]
ATTACK = "<script>alert(1)</script>"
VOID = {"meta", "br", "hr", "img", "input", "link", "wbr"}


class Page(HTMLParser):
    """Collects what a test asks about, and fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).replace("\u202f", " ").split())


def check_offline(text: str) -> None:
    page = Page(text)
    names = {tag for tag, _ in page.tags}
    assert not names & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "image",
        "use",
        "base",
        "video",
        "audio",
    }
    loading = {
        "src",
        "href",
        "xlink:href",
        "srcset",
        "data",
        "poster",
        "action",
        "formaction",
        "background",
        "ping",
    }
    for tag, attributes in page.tags:
        assert not loading & set(attributes), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert attributes.get("http-equiv", "").lower() != "refresh"  # type: ignore[union-attr]
        assert not any("url(" in (value or "").lower() for value in attributes.values())
    styles = "".join(re.findall(r"<style[^>]*>(.*?)</style>", text, re.DOTALL)).lower()
    assert "url(" not in styles
    assert "@import" not in styles
    assert "@font-face" not in styles


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n_seeds": 5},
        {"references": False, "baseline": False},
        {"n_treatments": 9, "n_seeds": 5},
        {"segments": ("head", "mid", "tail", "cold")},
        {"segments": ("hits", "niche")},
        {"segments": ("all of it",)},
        {"cold_targets": False},
    ],
    ids=[
        "usual",
        "five seeds",
        "one variant",
        "twelve variants",
        "mid",
        "custom",
        "one segment",
        "no cold targets",
    ],
)
def test_every_kind_of_run_renders_offline_and_well_formed(make: Make, options: dict[str, Any]) -> None:
    text = render_report(make(**options))
    check_offline(text)
    assert "None" not in Page(text).text
    assert "nan" not in Page(text).text.lower().split()


def test_only_references_render(make: Make) -> None:
    metrics = make()
    metrics["variants"] = metrics["variants"][:2]
    metrics["comparisons"] = []
    text = render_report(metrics)
    check_offline(text)
    assert all(variant["label"] in Page(text).text for variant in metrics["variants"])


def test_nulls_and_empty_lists_render(make: Make) -> None:
    metrics = make()
    for variant in metrics["variants"]:
        variant.update(exposure=[], exposure_deciles=[], cost=None, settings={})
        for row in variant["accuracy"]:
            row.update(value=None, low=None, high=None)
    metrics["data"]["concentration"] = {"gini": None, "curve": [], "top_shares": []}
    metrics["comparisons"] = []
    text = render_report(metrics)
    check_offline(text)
    assert "No training cost was recorded." in text


def test_names_that_are_markup_are_shown_as_text(make: Make) -> None:
    metrics = make(data_name=ATTACK, segments=("head", ATTACK), tail_effect=(0.001, 0.002))
    for variant in metrics["variants"]:
        variant["label"] = f'"{ATTACK}{variant["name"]}'
        variant["settings"] = {ATTACK: [{"x": ATTACK}]}
    metrics["segments"]["parameters"] = {ATTACK: {"x": ATTACK}}
    metrics["segments"]["rule"] = metrics["data"]["checksum"] = ATTACK
    metrics["data"]["split"]["parameters"] = {"x": [{ATTACK: 1}]}
    text = render_report(metrics)
    check_offline(text)
    assert "<script" not in text.lower()
    assert html.escape(ATTACK) in text


def test_the_verdict_on_the_page_is_the_one_of_the_words(make: Make) -> None:
    metrics = make(tail_effect=(0.001, 0.004))
    words = summarize(metrics)
    text = Page(render_report(metrics)).text
    assert "not distinguishable" in words.paragraph
    assert " ".join(words.paragraph.replace("\u202f", " ").split()) in text
    assert words.headline in text


def test_every_accuracy_figure_of_the_metrics_is_on_the_page(make: Make) -> None:
    metrics = make(n_seeds=5)
    rows = Page(render_report(metrics)).rows
    for variant in metrics["variants"]:
        for segment in ("overall", "head", "tail", "cold"):
            for metric in ("ndcg", "recall", "mrr"):
                found = {
                    r["k"]: r for r in variant["accuracy"] if (r["segment"], r["metric"]) == (segment, metric)
                }
                expected = [
                    f"{r['value']:.4f}{r['low']:.4f} to {r['high']:.4f}" for _, r in sorted(found.items())
                ]
                assert [variant["label"], segment, *expected] in rows


def test_every_paired_difference_at_ten_is_on_the_page(metrics: Metrics) -> None:
    rows = [" ".join(row) for row in Page(render_report(metrics)).rows]
    for c in metrics["comparisons"]:
        if c["k"] == 10 and c["metric"] in {"ndcg", "recall"}:
            figures = f"{c['baseline_value']:.4f} {c['value']:.4f} {c['difference']:+.4f}".replace("-", "−")
            figures = figures.replace("+0.0000", "0.0000")
            assert any(figures in row and f" {c['segment']} " in row for row in rows), figures


def test_slots_of_the_tail_are_judged_by_their_paired_difference(metrics: Metrics) -> None:
    text = Page(render_report(metrics)).text
    assert "Tail share of slots 7.8 % baseline 6.0 % +1.8 points (+1.5 to +2.1) higher" in text


def test_the_cost_table_names_the_epoch_whose_parameters_were_measured(metrics: Metrics) -> None:
    def epochs() -> list[str]:
        return [row[4] for row in Page(render_report(metrics)).rows if len(row) == 9][1:]

    assert set(epochs()) == {"8 (6)"}  # a file of an earlier version: it was always the best one
    metrics["variants"][-1]["cost"]["kept_epoch"] = 8
    assert epochs()[-1] == "8 (8)"


def test_figures_without_an_interval_claim_no_direction(metrics: Metrics) -> None:
    assert "Catalogue coverage 49.4 % baseline 38.0 % Training time" in Page(render_report(metrics)).text


def test_settings_of_every_variant_are_on_the_page(metrics: Metrics) -> None:
    rows = [[cell.strip() for cell in row] for row in Page(render_report(metrics)).rows]
    assert ["optimizer.rho", "–", "0.05"] in rows
    assert ["training.batch_size", "64"] in rows


def test_split_rule_ties_and_excluded_rows_are_visible_outside_the_folds(metrics: Metrics) -> None:
    text = re.sub(r"<details.*?</details>", "", render_report(metrics), flags=re.DOTALL)
    visible = Page(text).text
    for words in (
        "global-time",
        "top-item-share",
        "head_share 0.2",
        "702 of the test interactions (37.3 %) share their timestamp",
        "8,123 test interactions of users without a training history",
        "counted over the whole training part",
    ):
        assert words in visible


def test_a_popularity_window_is_named(metrics: Metrics) -> None:
    metrics["segments"]["popularity_window"] = {"days": 90}
    assert "a window of the training part: days 90" in Page(render_report(metrics)).text


def test_every_chart_has_a_name_and_a_table_of_its_figures(metrics: Metrics) -> None:
    text = render_report(metrics)
    drawings = re.findall(
        r'<svg viewBox="[^"]+" width="[\d.]+" height="[\d.]+" role="img" aria-label="([^"]+)"', text
    )
    assert len(drawings) == 8, "four charts, each for a desk and for a phone"
    assert len(set(drawings)) == 4
    assert text.count("<summary>Figures: ") == 3, "the concentration table stands open beside its curve"


def test_a_variant_keeps_its_colour_and_no_two_look_alike(make: Make) -> None:
    from tailwise.reports._palette import styles

    variants = make(n_treatments=9)["variants"]
    looks = styles(variants)
    assert len({(s.color, s.symbol) for s in looks.values()}) == 12
    assert styles(variants[:4])["eisam"] == looks["eisam"]


def test_every_chart_colour_has_a_dark_counterpart(make: Make) -> None:
    text = render_report(make(n_treatments=9))
    drawn = set(
        re.findall(
            r'(?:fill|stroke)="(#[0-9a-f]{6})"', re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
        )
    )
    assert drawn
    for color in drawn:
        assert f'svg [fill="{color}"]' in text


def test_report_of_broken_metrics_is_refused_and_nothing_is_written(metrics: Metrics, tmp_path: Path) -> None:
    del metrics["data"]["split"]
    with pytest.raises(DataError, match=r"field data\.split is missing"):
        write_report(metrics, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_written_page_is_the_rendered_one_and_stays_small(metrics: Metrics, tmp_path: Path) -> None:
    path = write_report(metrics, tmp_path / "report.html")
    assert path.read_text(encoding="utf-8") == render_report(metrics)
    assert path.stat().st_size < 400_000, "a page to send by mail"


def test_every_section_of_the_page_is_explained_in_the_docs(metrics: Metrics) -> None:
    documentation = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    headings = re.findall(r"<h2>(.*?)</h2>", render_report(metrics))
    assert len(headings) == 7
    for heading in headings:
        assert heading.replace("AdamW", "the baseline") in documentation
