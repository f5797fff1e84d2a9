"""Documentation is a promise: commands, settings, links and code blocks in it are checked here."""

import dataclasses
import re
import shlex
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from tailwise import cli
from tailwise.cli import app
from tailwise.jobs import RescoringConfig, RunConfig, VariantConfig
from tailwise.jobs._methods import METHODS
from tailwise.recommenders import BackboneConfig, ItemTokenConfig, TitleConfig
from tailwise.training import TrainingConfig

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
README = (ROOT / "README.md").read_text()


def code_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[tuple[str, str]]:
    """Every complete `tailwise ...` line of a shell block, and which page shows it."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for block in [b for language in ("", "sh", "bash", "console") for b in code_blocks(text, language)]:
            joined = block.replace("\\\n", " ")
            for line in joined.splitlines():
                command = line.removeprefix("$ ").split("  #")[0].strip()
                if command.startswith("tailwise ") and "..." not in command:
                    found.append((page.name, command))
    return found


@pytest.mark.parametrize(("page", "command"), commands())
def test_every_command_shown_is_one_that_exists(page: str, command: str) -> None:
    tokens = shlex.split(command)[1:]
    function, bound, _ = app.parse_args(tokens, exit_on_error=False, print_error=False)
    assert callable(function), page
    assert bound is not None


def test_every_cell_that_is_shown_is_among_the_records() -> None:
    cells = [shlex.split(command) for _, command in commands() if " --cell " in command]
    assert cells
    for tokens in cells:
        out, cell = (tokens[tokens.index(option) + 1] for option in ("--out", "--cell"))
        setting, method, seed = cell.split("/")
        assert (ROOT / out / setting / "cells" / method / f"seed-{seed}" / "record.json").is_file(), cell


def test_the_readme_shows_the_two_commands_and_they_are_make_targets() -> None:
    command = ["make", "-C", str(ROOT), "help"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test"):
        assert f"make {target}" in README
        assert re.search(rf"^{target}\s", listed, flags=re.MULTILINE)


def test_every_make_target_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for page in PAGES:
        shown = set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), flags=re.MULTILINE))
        assert shown <= targets, page.name


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            path, _, anchor = target.partition("#")
            if "://" in target:
                continue
            file = page.parent / path if path else page
            assert file.exists(), f"{page.name}: {target}"
            if anchor and file.suffix == ".md":
                assert anchor in anchors(file.read_text()), f"{page.name}: {target}"


def anchors(text: str) -> set[str]:
    """What headings are called in links: lower case, words joined by hyphens, no other punctuation."""
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", without_code, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_every_file_named_in_backticks_under_docs_or_src_exists() -> None:
    for page in PAGES:
        for target in re.findall(r"`((?:docs|src|recipes|benchmarks|tests)/[\w./-]+)`", page.read_text()):
            assert (ROOT / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("block", code_blocks(README, "python"))
def test_python_blocks_of_the_readme_run_and_print_what_they_say(block: str) -> None:
    result = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    promised = [line.partition("# prints ")[2] for line in block.splitlines() if "# prints " in line]
    assert promised
    assert result.stdout.splitlines() == promised


@pytest.mark.parametrize("block", code_blocks((ROOT / "docs" / "optim.md").read_text(), "python"))
def test_python_blocks_of_the_optimizer_page_run(block: str) -> None:
    result = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def setting_rows(section: str) -> dict[str, str]:
    """Field -> default of one table of docs/configuration.md."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    body = text.split(f"## {section}\n")[1].split("\n## ")[0]
    rows = {}
    for names, default in re.findall(r"^\| (`[^|]+`) \|([^|]*)\|", body, flags=re.MULTILINE):
        for name in re.findall(r"`(\w+)`", names):
            rows[name] = default.strip()
    return rows


@pytest.mark.parametrize(
    ("section", "cls"),
    [
        ("Top level", RunConfig),
        ("`[model]`", BackboneConfig),
        ("`[recommender]`", ItemTokenConfig),
        ("`[title]`", TitleConfig),
        ("`[training]`", TrainingConfig),
        ("`[[variants]]`", VariantConfig),
        ("`[[rescorings]]`", RescoringConfig),
        *(
            (f"`[{name}]`", typing.get_type_hints(RunConfig)[name])
            for name in ("data", "segments", "evaluation")
        ),
    ],
)
def test_every_setting_is_documented_with_its_default(section: str, cls: type) -> None:
    rows = setting_rows(section)
    fields = {f.name: f.default for f in dataclasses.fields(cls)}
    if cls is RunConfig:
        fields = {name: fields[name] for name in ("references", "seeds", "device")}
    assert rows.keys() == fields.keys()
    for name, default in fields.items():
        if isinstance(default, bool):
            assert rows[name] == str(default).lower(), name
        elif isinstance(default, int | float):
            assert float(rows[name]) == default, name
        elif isinstance(default, str):
            assert rows[name] == default, name
        elif isinstance(default, tuple):
            assert rows[name] == ", ".join(str(entry) for entry in default), name


def variant_rows() -> list[tuple[str, str, str]]:
    """(setting, default, whose it is) of the variants' table, for the settings of some optimizers."""
    text = (ROOT / "docs" / "configuration.md").read_text().split("## `[[variants]]`\n")[1]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|", text.split("\n## ")[0], flags=re.MULTILINE)
    return [row for row in rows if row[2] != "all"]


def test_every_setting_of_every_optimizer_is_documented_with_its_default() -> None:
    documented: dict[str, dict[str, str]] = {name: {} for name in METHODS}
    for setting, default, whose in variant_rows():
        general, *exceptions = default.split("; ")
        but = whose.removeprefix("all but ").split(", ")
        for optimizer in [n for n in METHODS if n not in but] if whose.startswith("all but") else but:
            own = [e.removeprefix(f"{optimizer} ") for e in exceptions if e.startswith(f"{optimizer} ")]
            documented[optimizer][setting] = (own or [general])[0]
    for optimizer, method in METHODS.items():
        assert documented[optimizer].keys() == method.defaults.keys(), optimizer
        for setting, default in method.defaults.items():
            written = documented[optimizer][setting]
            same = (
                written == str(default).lower()
                if isinstance(default, bool | str)
                else float(written) == default
            )
            assert same, (optimizer, setting)


def test_every_optimizer_is_documented_and_named_by_the_command_line() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    for optimizer in METHODS:
        assert f"| `{optimizer}` |" in page
        assert re.search(rf"\b{optimizer}\b", cli.run.__doc__ or "")


def test_the_changelog_names_an_issue_on_every_line() -> None:
    added = (ROOT / "CHANGELOG.md").read_text().split("## Unreleased")[1]
    for entry in re.split(r"^- ", added, flags=re.MULTILINE)[1:]:
        assert re.search(r"\(issue \d+\)", entry), entry


def test_every_stage_says_what_enters_and_shows_a_line() -> None:
    for init in sorted((ROOT / "src" / "tailwise").glob("*/__init__.py")):
        text = init.read_text()
        assert text.startswith('"""'), init
        assert "__all__" in text, init
        assert "One line" in text or ">>>" in text, init


_NUMBER = r"[+−-]?\d[\d,]*(?:\.\d+)?"


def differences(text: str) -> list[tuple[str, str, str]]:
    """Every `x % (low to high)` or `x %, low to high` of a text, as plain numbers."""
    plain = " ".join(text.replace("\u202f", " ").replace("−", "-").split())
    pattern = rf"({_NUMBER}) ?%(?:\*\*)?,? \(?({_NUMBER}) to ({_NUMBER})"
    return [tuple(n.replace(",", "") for n in found) for found in re.findall(pattern, plain)]  # type: ignore[misc]


def is_rounded_from(shown: str, exact: str) -> bool:
    """True if a number could be `exact`, a number of one decimal, written with fewer."""
    step = 10.0 ** -len(shown.partition(".")[2])
    return abs(float(shown) - float(exact)) <= step / 2 + 0.05 + 1e-9


@pytest.mark.parametrize("page", ["README.md", "docs/benchmarks.md", "docs/benchmarks-by-log.md"])
def test_every_difference_told_with_its_interval_stands_in_a_table_of_the_records(page: str) -> None:
    tables = [file.read_text() for file in ROOT.glob("benchmarks/results/*/tables.md")]
    recorded = {found for table in tables for found in differences(table)}
    text = (ROOT / page).read_text()
    told = differences(re.sub("<!-- table of.*?<!-- end of table -->", "", text, flags=re.DOTALL))
    assert len(told) >= 4
    for one in told:
        pairs = [list(zip(one, other, strict=True)) for other in recorded]
        assert any(all(is_rounded_from(*pair) for pair in of_one) for of_one in pairs), one
