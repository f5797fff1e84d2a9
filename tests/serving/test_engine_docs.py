"""docs/serving-engine.md keeps its word."""

import contextlib
import dataclasses
import io
import re
from pathlib import Path

from tailwise.serving import EngineSettings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "serving-engine.md").read_text()


def test_the_page_s_example_prints_what_it_says():
    code, output = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", PAGE, flags=re.DOTALL).groups()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "serving-engine.md", "exec"), {"__name__": "example"})
    assert printed.getvalue() == output


def test_every_setting_is_in_the_page_s_table_with_its_default():
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", PAGE.split("## Settings")[1], flags=re.MULTILINE))
    fields = dataclasses.fields(EngineSettings)
    assert list(rows) == [field.name for field in fields]
    written = {None: "torch's", True: "on"}
    for field in fields:
        shown = rows[field.name].strip()
        if isinstance(field.default, bool) or field.default is None:
            assert shown == written[field.default]
        elif isinstance(field.default, str):
            assert shown == field.default
        else:
            assert float(shown) == field.default


def test_every_number_of_the_text_that_is_a_setting_is_its_default():
    for name, shown in re.findall(r"`(\w+)` \((\d+)\)", PAGE):
        assert float(shown) == getattr(EngineSettings(), name)
