"""The code of a model card, run as its reader would."""

import contextlib
import io
import re
import warnings


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
