"""Bring tables shown in README.md and docs/ in line with those that `tailwise bench` writes from its records.

    python benchmarks/refresh_shown_tables.py

A page shows a part of a table: between `<!-- table of FOLDER: SECTION; TITLE -->` and
`<!-- end of table -->`, the columns of its header and the rows that it names in the columns "method",
"against", "curve of" and "knob". FOLDER lies under `benchmarks/results`; a heading of its `tables.md`, one
only, begins with SECTION, and one below it with TITLE. A new row is a line that holds its name alone.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "benchmarks-by-log.md")
_BLOCK = re.compile(
    r"(?P<begin><!-- table of (?P<folder>[\w-]+): (?P<section>[^;\n]+); (?P<title>.+?) -->\n)"
    r"(?P<shown>.*?)(?P<end><!-- end of table -->)",
    re.DOTALL,
)
_KEYS = ("method", "against", "curve of", "knob")
Row = dict[str, str]


def refreshed(page: str, results: Path) -> str:
    """Return a page with the rows of its tables as the records' tables have them now.

    Raises:
        ValueError: a table, column or row that the page names is not there.
    """
    return _BLOCK.sub(lambda block: _refreshed_block(block, results), page)


def _refreshed_block(block: re.Match[str], results: Path) -> str:
    file = results / block["folder"] / "tables.md"
    rows = _table(file.read_text(), block["section"], block["title"], file)
    header, shown = _read(block["shown"])
    if missing := [column for column in header if column not in rows[0]]:
        raise ValueError(f"columns must be among {', '.join(rows[0])} in {file}; got {', '.join(missing)}.")
    keys = [key for key in _KEYS if key in header]
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for one in shown:
        same = [row for row in rows if all(row[key] == one[key] for key in keys if one.get(key))]
        if len(same) != 1:
            name = ", ".join(one[key] for key in keys if one.get(key))
            raise ValueError(
                f"a row must name one of {block['title']!r} in {file}; got {name!r}: {len(same)}."
            )
        lines.append(f"| {' | '.join(same[0][column] for column in header)} |")
    return block["begin"] + "\n".join(lines) + "\n" + block["end"]


def _table(text: str, section: str, title: str, file: Path) -> list[Row]:
    """Rows of the one table whose heading begins with ``title``, in the one section."""
    part = _only(text.split("\n## ")[1:], section, f"section of {file}")
    return _read(_only(part.split("\n### ")[1:], title, f"table of {section!r} in {file}"))[1]


def _only(parts: list[str], name: str, what: str) -> str:
    """The one part whose heading begins with the words or numbers of ``name``.

    Raises:
        ValueError: none does, or several.
    """
    whole = re.compile(re.escape(name) + r"(?!\w|,\d)")  # "shop, 1" is not the beginning of "shop, 1,024"
    found = [part for part in parts if whole.match(part)]
    if len(found) == 1:
        return found[0]
    headings = "; ".join(part.partition("\n")[0] for part in found or parts)
    raise ValueError(
        f"a page must name one {what}; got {name!r}, which {len(found)} headings begin with.\n"
        f"  Write more of one of: {headings}."
    )


def _read(text: str) -> tuple[list[str], list[Row]]:
    """Header and rows of a Markdown table; cells that a row lacks are left out."""
    lines = [line.strip().strip("|") for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]
    header = cells[0]
    return header, [dict(zip(header, row, strict=False)) for row in cells[2:]]


def main() -> None:
    """Rewrite the pages."""
    for page in PAGES:
        text = page.read_text()
        new = refreshed(text, ROOT / "benchmarks" / "results")
        if new != text:
            page.write_text(new)
            print(f"{page.relative_to(ROOT)}: refreshed")


if __name__ == "__main__":
    main()
