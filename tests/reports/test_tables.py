from collections.abc import Callable
from io import StringIO
from typing import Any

from rich.console import Console

from tailwise.reports import markdown_table, summary_table

Metrics = dict[str, Any]
Make = Callable[..., Metrics]


def show(metrics: Metrics, width: int = 80) -> list[str]:
    out = StringIO()
    Console(file=out, width=width, color_system=None).print(summary_table(metrics))
    return out.getvalue().splitlines()


def test_the_table_fits_a_terminal_of_80_columns_with_all_its_figures(metrics: Metrics) -> None:
    lines = show(metrics)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 80
    for figure in (".0328", ".0272–.0384", "1.93×", "7.8%", "49.4%", "702 of them tied", "8,123 left out"):
        assert figure in text
    assert "…\n" not in text, "a cell was cut"


def test_rows_come_as_references_baseline_treatments_differences(metrics: Metrics) -> None:
    text = "\n".join(show(metrics, width=140))
    labels = ["Most popular", "Item-kNN", "AdamW ", "EISAM (exact, ρ=0.05) ", "EISAM (exact, ρ=0.05) − AdamW"]
    places = [text.index(label) for label in labels]
    assert places == sorted(places)


def test_only_differences_whose_interval_excludes_zero_are_marked(make: Make) -> None:
    lines = show(make(tail_effect=(0.0043, 0.0030), head_effect=(-0.004, 0.001)), width=140)
    row = next(line for line in lines if "− AdamW" in line)
    assert "+.0043 ▲" in row
    assert "−.0040 ▼" in row
    assert "+.0006 " in row
    assert "+.0006 ▲" not in row


def test_a_name_with_markup_is_shown_as_it_is(metrics: Metrics) -> None:
    metrics["variants"][3]["label"] = "[bold]x[/nothing]"
    metrics["data"]["name"] = "[red]y"
    text = "\n".join(show(metrics, width=140))
    assert "[bold]x[/nothing]" in text
    assert "[red]y" in text


def test_a_long_label_is_broken_after_a_space_or_a_hyphen_and_not_within_a_word(metrics: Metrics) -> None:
    metrics["variants"][3]["label"] = "EISAM (single-pass, ρ=0.05, λ=1, rank) + re-weighting 0.5"
    lines = [line[:10].strip() for line in show(metrics)]
    assert "(single-" in lines
    assert lines.count("pass,") == 2  # in its own row and in that of its difference
    assert lines.count("weighting") == 2


def test_one_variant_makes_a_table_without_differences(make: Make) -> None:
    text = "\n".join(show(make(references=False, baseline=False)))
    assert "−" not in text
    assert "excludes zero" not in text


def test_missing_figures_are_dashes(make: Make) -> None:
    metrics = make()
    for variant in metrics["variants"]:
        variant["exposure"] = []
        for row in variant["accuracy"]:
            row.update(value=None, low=None, high=None)
    text = "\n".join(show(metrics, width=140))
    assert "None" not in text
    assert "–" in text


def test_markdown_rows_all_have_as_many_cells_as_the_header(make: Make) -> None:
    metrics = make(n_treatments=3)
    metrics["variants"][3]["label"] = "a|b <c>"
    rows = markdown_table(metrics).splitlines()
    assert len({row.replace("\\|", "").count("|") for row in rows}) == 1
    assert any(row.startswith("| a\\|b &lt;c> |") for row in rows)


def test_markdown_makes_bold_what_excludes_zero_and_nothing_else(metrics: Metrics) -> None:
    text = markdown_table(metrics)
    assert "**+0.0043 (+0.0013 to +0.0073)**" in text
    assert "| +0.0006 (−0.0016 to +0.0028) |" in text
    assert "| 0.0328 (0.0272 to 0.0384) |" in text
