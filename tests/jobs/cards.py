"""The code of a model card, run as its reader would."""

import contextlib
import io
import re
import subprocess
import sys
import warnings
from pathlib import Path

RECIPE = Path(__file__).parents[2] / "recipes" / "run_model_card.py"


def blocks_of(card):
    return re.findall(r"^```python\n(.*?)^```", card, flags=re.MULTILINE | re.DOTALL)


def run_blocks(blocks, folder):
    """What the blocks of a card leave behind, run in its folder."""
    names: dict[str, object] = {}
    told = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(told), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # between peft and transformers; not ours to mend
        for block in blocks:
            exec(block, names)
    return names, told.getvalue()


def run_recipe(export):
    """What `recipes/run_model_card.py` prints of an export, its copy of the code apart."""
    done = subprocess.run(
        [sys.executable, str(RECIPE), str(export)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
