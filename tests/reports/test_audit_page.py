import html
import re
from pathlib import Path
from typing import Any

import pytest

from tailwise.errors import DataError
from tailwise.reports import render_audit, write_audit_page
from tailwise.reports._audit_results import Audit
from tailwise.reports._audit_words import words_for_audit
from tests.reports.audit_results import (
    make_attribution,
    make_audit,
    make_checks,
    make_column,
    make_prior_side,
    make_sharpness,
)
from tests.reports.test_page import ATTACK, Page, check_offline

DOCS = Path(__file__).parents[2] / "docs"
HOSTILE_TITLES = (
    ATTACK,
    '"quoted" \' &amp; <b>bold</b>',
    "x" * 500,
    "كتاب عن الحب والحرب: «ألف ليلة»",
    "七人の侍 <Шинель> 기생충",
    "",
)

Content = dict[str, Any]


@pytest.fixture(scope="module")
def audit() -> Content:
    return make_audit()


@pytest.fixture(scope="module")
def page(audit: Content) -> str:
    return render_audit(audit)


def without_folds(text: str) -> str:
    return Page(re.sub(r"<details.*?</details>", "", text, flags=re.DOTALL)).text


def section(text: str, heading: str) -> str:
    found = [
        part
        for part in re.findall(r"<section.*?</section>", text, re.DOTALL)
        if f"<h2>{heading}</h2>" in part
    ]
    assert len(found) == 1, heading
    return found[0]


def test_the_page_is_offline_well_formed_and_complete(page: str) -> None:
    check_offline(page)
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    for trace in ("None", "nan", "Undefined", "{{", "{%", "/*"):
        assert trace not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert re.findall(r"<h2>(.*?)</h2>", page) == [
        "The two sides",
        "Which side explains it",
        "What the language model knew",
        "Who is shown",
        "The most neglected items",
        "How concentrated the log is",
        "How sharp the models are",
        "What was measured on",
        "In full",
    ]


def test_the_words_on_the_page_are_those_of_the_words_module(audit: Content, page: str) -> None:
    words, text = words_for_audit(Audit(audit)), Page(page).text
    for sentence in (words.headline, words.paragraph, *words.caveats):
        assert " ".join(sentence.replace("\u202f", " ").split()) in text


def test_every_number_of_the_grids_is_on_the_page(audit: Content, page: str) -> None:
    rows = Page(page).rows
    for grid in audit["subjects"][0]["grids"]:
        for cell in grid["cells"]:
            if cell["n_targets"]:
                a = cell["accuracy"]
                figures = f"{a['value']:.4f}{a['low']:.4f} to {a['high']:.4f}{cell['n_targets']:,} targets"
                assert any(figures in row for row in rows), figures
    assert sum(row.count("no targets") for row in rows) == 4, "one cell of two grids of two models"
    assert page.count('class="heat-none"') >= 4


def test_sentences_of_the_measurements_are_shown_as_they_are(audit: Content, page: str) -> None:
    text = Page(page).text
    for sentence in (
        audit["subjects"][0]["attribution"]["sentence"],
        audit["prior_side"]["sentence"],
        audit["shuffled_titles"]["sentence"],
        audit["sharpness"]["comparisons"][0]["sentence"],
        audit["sharpness"]["comparisons"][0]["notes"][0],
    ):
        assert " ".join(sentence.split()) in text


def test_the_interaction_is_called_no_share_wherever_it_stands(page: str) -> None:
    assert "The interaction is no share" in without_folds(page)
    assert "(not a share)" in page


def test_ten_neglected_items_stand_open_and_the_others_fold(audit: Content, page: str) -> None:
    visible = without_folds(section(page, "The most neglected items"))
    titles = [row["title"] for row in audit["subjects"][0]["neglected"]]
    assert all(title in visible for title in titles[:10])
    assert not any(title in visible for title in titles[10:])
    assert all(title in Page(page).text for title in titles)
    assert "Fargo (1996) 1 · 100 · tail 300 rank 20 0 expected 40 30 % log −0.012 prior +0.003" in visible


def test_every_chart_has_a_name_a_dark_counterpart_and_a_table(page: str) -> None:
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    drawings = re.findall(
        r'<svg viewBox="[^"]+" width="[\d.]+" height="[\d.]+" role="img" aria-label="([^"]+)"', body
    )
    assert len(drawings) == 16, "eight charts, each for a desk and for a phone"
    assert len(set(drawings)) == 8
    drawn = set(re.findall(r'(?:fill|stroke)="(#[0-9a-f]{6})"', body))
    assert drawn
    for color in drawn:
        assert f'svg [fill="{color}"]' in page
    assert page.count("<summary>Figures: ") >= 8


def test_heat_has_colours_in_both_schemes(page: str) -> None:
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)[0]
    light, dark = styles.rsplit("prefers-color-scheme: dark", 1)
    assert ".heat-6 {" in light
    assert ".heat-6 {" in dark
    assert set(re.findall(r'class="((?:heat|cool)-\d)"', page)) <= set(
        re.findall(r"\.((?:heat|cool)-\d) ", light)
    )


def test_the_hostile_is_escaped_everywhere(audit: Content) -> None:
    content = make_audit(
        subjects=("adamw", "eisam"),
        ratios={ATTACK: (0.2, 0.05), "<b>": (2.0, 0.1), HOSTILE_TITLES[3]: (1.0, 0.1)},
        checks=make_checks() | {"source": ATTACK},
        prior_side=make_prior_side() | {"sentence": ATTACK, "model": ATTACK},
    )
    for subject in content["subjects"]:
        subject["label"] = f"{ATTACK} {subject['name']}"
        subject["attribution"]["sentence"] = ATTACK
        for row, title in zip(subject["neglected"], HOSTILE_TITLES, strict=False):
            row.update(title=title, item_id=ATTACK, category=ATTACK, brand=ATTACK, segment=ATTACK)
    content["data"]["name"] = content["segments"]["rule"] = ATTACK
    content["settings"][ATTACK] = ATTACK
    content["seconds"][ATTACK] = 1.0
    content["data_side"]["power_law"], content["data_side"]["omitted"] = None, {"power_law": ATTACK}
    content["sharpness"]["comparisons"][0]["notes"] = [ATTACK]
    text = render_audit(content)
    check_offline(text)
    assert "<script" not in text.lower()
    assert "<b>bold" not in text
    shown = Page(text).text
    assert html.escape(ATTACK) in text
    for title in HOSTILE_TITLES[:-1]:
        assert title in shown
    assert '<bdi dir="auto">كتاب' in text, "the browser finds the direction of each title"


def test_without_targets_nothing_is_said_of_accuracy(page: str) -> None:
    text = render_audit(make_audit(targets=False, sharpness=None, shuffled=False))
    check_offline(text)
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert "The two sides" not in headings
    assert "How sharp the models are" not in headings
    found = Page(text).text
    assert "accuracy was not measured" in found
    assert "AdamW was not asked: no held-out interaction of its users is known." in found
    assert "What weighs on it" not in found
    assert "What weighs on it" in page


def test_given_lists_alone_make_a_page_with_their_checks() -> None:
    content = make_audit(
        subjects=("lists",),
        checks=make_checks(n_unknown_item_rows_dropped=41),
        sharpness=None,
        shuffled=False,
    )
    text = render_audit(content)
    check_offline(text)
    found = Page(text).text
    assert "What was checked of Lists of theirs.parquet" in found
    assert "41 rows name items outside the catalogue and were dropped" in without_folds(text)
    assert "How sharp" not in found
    assert "trained once" not in found


def test_a_reference_alone_has_its_neglected_items_and_beside_others_has_not(page: str) -> None:
    alone = render_audit(make_audit(subjects=("most-popular",), sharpness=None, shuffled=False))
    assert "Most popular, lists of 10" in section(alone, "The most neglected items")
    assert "Most popular" not in section(page, "The most neglected items")


def test_tiles_fill_their_last_row_whatever_their_number(page: str) -> None:
    desk, phone = page.split("max-width: 820px", 1)
    for rule in (
        ".tile:last-child:nth-child(3n + 2) { grid-column: span 2 }",
        ".tile:last-child:nth-child(3n + 1) { grid-column: span 3 }",
    ):
        assert rule in desk
    assert ".tile:last-child:nth-child(odd) { grid-column: span 2 }" in phone
    assert ".tile:last-child:nth-child(even) { grid-column: auto }" in phone


def test_a_null_attribution_and_empty_parts_leave_no_hole() -> None:
    content = make_audit(
        subjects=("adamw",),
        attribution=None,
        n_neglected=0,
        sharpness=None,
        shuffled=False,
        tail_coverage=None,
    )
    content["subjects"][0] |= {
        "columns": [],
        "taste": None,
        "exposure_deciles": [],
        "no_attribution_because": "of this",
    }
    content["data_side"] |= {"drift": None, "power_law": None, "columns": []}
    content["data_side"]["skew"]["intervals"] = None
    content["prior_side"] |= {"pairwise": None, "length_checks": [], "stabilities": []}
    text = render_audit(content)
    check_offline(text)
    headings = re.findall(r"<h[23]>(.*?)</h[23]>", text)
    for heading in (
        "The most neglected items",
        "By category",
        "By popularity",
        "Does the head stay the head?",
    ):
        assert heading not in headings
    assert '<figure class="chart">\n</figure>' not in text
    assert not re.search(r"<tbody>\s*</tbody>", text)


def test_a_gap_that_chance_could_make_is_drawn_by_nobody() -> None:
    content = make_audit(attribution=make_attribution(measurable=False), shuffled=False, sharpness=None)
    text = section(render_audit(content), "Which side explains it")
    assert 'role="img"' not in text
    assert "Items do not differ measurably" in text


def test_sharpness_that_could_not_be_measured_gives_its_reason() -> None:
    content = make_audit(subjects=("adamw",), shuffled=False)
    content["sharpness"] = {"models": [], "comparisons": [], "missing_because": "cold has 3 targets."}
    text = section(render_audit(content), "How sharp the models are")
    assert "Sharpness was not measured: cold has 3 targets." in text
    assert "<table" not in text


def test_curvature_is_shown_where_it_was_measured(page: str) -> None:
    assert "top Hessian eigenvalue" in page
    assert "31.00" in page
    content = make_audit(subjects=("adamw",), shuffled=False)
    content["sharpness"] = make_sharpness(hessian=False)
    content["sharpness"] |= {"models": content["sharpness"]["models"][:1], "comparisons": []}
    assert "top Hessian eigenvalue" not in render_audit(content)


def test_a_column_of_many_values_shows_its_ends_and_lists_all() -> None:
    content = make_audit(subjects=("adamw",), sharpness=None, shuffled=False)
    ratios = {f"Value number {i:02d} of the long column": (0.2 + 0.1 * i, 0.05) for i in range(30)}
    content["subjects"][0]["columns"] = [make_column("brand", ratios)]
    text = render_audit(content)
    drawn = " ".join(re.findall(r"<text[^>]*>(.*?)</text>", text))
    assert "number 00" in drawn
    assert "number 29" in drawn
    assert "number 15" not in drawn
    assert all(value in Page(text).text for value in ratios)


def test_a_broken_audit_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    content = make_audit()
    del content["data_side"]["skew"]
    with pytest.raises(DataError, match=r"field data_side\.skew is missing"):
        write_audit_page(content, tmp_path / "audit.html")
    assert list(tmp_path.iterdir()) == []


def test_the_written_page_is_the_rendered_one_and_stays_small(
    audit: Content, page: str, tmp_path: Path
) -> None:
    path = write_audit_page(audit, tmp_path / "deep" / "audit.html")
    assert path.read_text(encoding="utf-8") == page
    assert path.stat().st_size < 600_000, "a page to send by mail"


def test_every_section_of_the_page_is_explained_in_the_docs(page: str) -> None:
    documentation = (DOCS / "audit.md").read_text(encoding="utf-8")
    for heading in re.findall(r"<h2>(.*?)</h2>", page):
        assert heading in documentation
