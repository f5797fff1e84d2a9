"""Every recipe that fine-tunes runs as its first lines say, with the real LLM and real films."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[2] / "recipes"
ROOT = RECIPES.parent
SCRIPTS = sorted(path.name for path in RECIPES.glob("finetune_*.py"))


@pytest.mark.slow
@pytest.mark.llm
@pytest.mark.realdata
@pytest.mark.parametrize("script", SCRIPTS)
def test_recipe_trains_and_saves_adapters(script, tmp_path, fetched):
    fetched("smollm2-135m")
    fetched("ml-100k")
    if "sft" in script:
        pytest.importorskip("trl", reason="TRL comes with the extra 'sft'")
    done = subprocess.run(
        [sys.executable, str(RECIPES / script), "--steps", "1", "--examples", "8", "--output", str(tmp_path)],
        env=os.environ | {"ACCELERATE_USE_CPU": "true"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "adapter_model.safetensors").is_file()
    assert "loss" in done.stdout


def test_the_page_shows_the_command_of_every_recipe():
    page = (ROOT / "docs" / "trainer.md").read_text()
    for script in SCRIPTS:
        command = re.search(r"^ {4}(python recipes/.*)$", (RECIPES / script).read_text(), re.MULTILINE)
        assert command is not None, script
        assert command[1] in page


def test_there_is_a_recipe_for_every_integration():
    assert SCRIPTS == [
        "finetune_with_accelerate.py",
        "finetune_with_sft_trainer.py",
        "finetune_with_trainer.py",
    ]
