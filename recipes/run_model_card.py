"""Recommend with an exported model as somebody without Tailwise would: run the lines of its model card.

    tailwise export runs/titles --variant eisam --out exports/titles
    python recipes/run_model_card.py exports/titles

The card's lines need `transformers`, `safetensors` and Polars, for either kind of recommender; peft only
where the export has no merged weights. They are shown before they are run. See docs/export.md.
"""

import argparse
import contextlib
import re
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("export", type=Path, help="a folder that `tailwise export` wrote")
options = parser.parse_args()

card = (options.export / "README.md").read_text(encoding="utf-8")
blocks = re.findall(r"^```python\n(.*?)^```", card, flags=re.MULTILINE | re.DOTALL)
loading = next(block for block in blocks if "AutoModel" in block)  # of two ways, the one without peft
using = next(block for block in blocks if "catalogue" in block)
code = f"{loading}\n{using}"
print(code)
with contextlib.chdir(options.export):
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
