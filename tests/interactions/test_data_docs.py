import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"


def test_the_program_on_the_data_page_runs_and_prints_what_it_says(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    program = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    shown = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    exec(compile(program, str(PAGE), "exec"), {})
    printed = capsys.readouterr().out
    assert shown
    for block in shown:
        assert block in printed


@pytest.mark.parametrize("name", ["load_interactions", "load_catalogue", "check_interactions"])
def test_every_option_of_the_readers_is_on_the_data_page(name: str):
    import inspect

    from tailwise import interactions

    text = PAGE.read_text(encoding="utf-8")
    options = set(inspect.signature(getattr(interactions, name)).parameters) - {
        "path", "table", "source", "notes",
    }  # fmt: skip
    assert {option for option in options if f"{option}=" not in text} == set()
