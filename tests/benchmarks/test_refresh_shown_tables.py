"""Numbers on pages are those of the records' tables, and are brought in line by one command."""

import re

import pytest

from refresh_shown_tables import PAGES, ROOT, refreshed

TABLES = """# Question

## Pooled over 2 settings

### Curves over each knob

| method | knob | tail |
| --- | ---: | ---: |
| A \\| B | τ = 0.1 | **+3 %** |
| A \\| B | τ = 0.2 | +4 % |

## shop, all histories

### NDCG@10 and cost

| method | overall | tail |
| --- | ---: | ---: |
| AdamW | 0.3 | 0.1 |
| SAM | 0.2 | 0.2 |

### NDCG@100

| method | overall |
| --- | ---: |
| AdamW | 0.9 |
"""
PAGE = """Before.

<!-- table of own: shop; NDCG@10 and cost -->
| method | tail |
|---|---|
| SAM | 0.7 |
| AdamW |
<!-- end of table -->

| another | table |

<!-- table of own: Pooled; Curves -->
| method | knob | tail |
|---|---|---|
| A \\| B | τ = 0.1 | +1 % |
<!-- end of table -->
"""


@pytest.fixture
def results(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "tables.md").write_text(TABLES)
    return tmp_path


def test_named_rows_and_columns_come_from_the_tables_and_nothing_else_changes(results):
    page = refreshed(PAGE, results)
    assert "| method | tail |\n|---|---|\n| SAM | 0.2 |\n| AdamW | 0.1 |\n<!-- end of table -->" in page
    assert "| A \\| B | τ = 0.1 | **+3 %** |\n<!-- end" in page
    assert page.startswith("Before.\n\n<!-- table of own: shop; NDCG@10 and cost -->\n")
    assert "\n\n| another | table |\n\n" in page
    assert refreshed(page, results) == page


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("| SAM |", "| LookSAM |", "got 'LookSAM': 0"),
        ("| τ = 0.1 |", "| |", r"got 'A \\\\\| B': 2"),
        ("| method | tail |", "| method | head |", "columns must be among method, overall, tail"),
        (
            "own: shop;",
            "own: store;",
            "one section of .*got 'store'.*0 headings.*Pooled over 2 settings; shop,",
        ),
        (
            "; NDCG@10 and cost",
            "; Recall",
            "one table of 'shop' .*got 'Recall'.*: NDCG@10 and cost; NDCG@100",
        ),
    ],
)
def test_what_the_tables_do_not_hold_is_named(results, old, new, message):
    assert old in PAGE
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        refreshed(PAGE.replace(old, new), results)


def test_a_name_that_fits_several_headings_is_refused_and_they_are_named(results):
    file = results / "own" / "tables.md"
    shop = TABLES[TABLES.index("## shop") :]
    file.write_text(TABLES + "\n" + shop.replace("all histories", "1,024 histories"))
    with pytest.raises(
        ValueError, match=r"(?s)got 'shop'.*2 headings.*shop, all histories; shop, 1,024 histories"
    ):
        refreshed(PAGE, results)
    assert refreshed(PAGE.replace("own: shop;", "own: shop, 1,024;"), results)
    with pytest.raises(ValueError, match=r"(?s)got 'shop, 1'.*0 headings"):
        refreshed(PAGE.replace("own: shop;", "own: shop, 1;"), results)
    file.write_text(TABLES + "\n### NDCG@10 and cost, again\n\n| method |\n| --- |\n| SAM |\n")
    with pytest.raises(ValueError, match=r"(?s)got 'NDCG@10 and cost'.*2 headings.*NDCG@10 and cost, again"):
        refreshed(PAGE, results)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_show_what_the_records_tables_hold(page):
    text = page.read_text()
    assert text.count("<!-- table of ") == text.count("<!-- end of table -->") > 0
    assert refreshed(text, ROOT / "benchmarks" / "results") == text
