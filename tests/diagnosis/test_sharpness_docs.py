import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from tailwise.diagnosis import GroupSharpness

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "sharpness.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL))
def test_code_blocks_of_the_page_run(block):
    result = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "In one training of each, halving twice" in result.stdout


def test_every_field_of_a_group_is_explained():
    for field in fields(GroupSharpness):
        assert field.name in {"name", "n_available", "n_users", "loss"} or f"`{field.name}`" in PAGE, (
            field.name
        )
