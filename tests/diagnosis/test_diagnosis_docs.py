import re
import subprocess
import sys
from pathlib import Path

import pytest

from tailwise.diagnosis import diagnose_data
from tailwise.interactions import load_dataset

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "diagnosis.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL))
def test_code_blocks_of_the_page_run(block):
    result = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.realdata
def test_the_page_says_of_ml_100k_what_the_code_says(fetched):
    fetched("ml-100k")
    data = load_dataset("ml-100k")
    separators = {"category": " "}
    found = diagnose_data(
        data.interactions, data.catalogue.items, separators=separators, n_user_resamples=100
    )
    gini = found.skew.intervals.gini
    half, five = found.skew.holders[1], found.skew.rare_items[3]
    rows = {row["value"]: row for row in found.columns[0].table.to_dicts()}
    jaccard, without = (
        sum(getattr(change, name) for change in found.drift.changes) / 3
        for name in ("jaccard", "jaccard_without_drift")
    )
    for promised in (
        f"{gini.value:.3f} ({gini.low:.3f} to {gini.high:.3f})",
        f"{half.n_items} ({half.item_share:.0%})".replace("%", " %"),
        f"{five.n_items} ({five.item_share:.0%})".replace("%", " %"),
        f"| {found.power_law.exponent:.1f}, {found.power_law.x_min}, {found.power_law.support} |",
        f"| {jaccard:.2f}, {without:.2f} |",
        "head ratio {head_ratio:.2f}, {head_ratio_low:.2f} to {head_ratio_high:.2f}".format(
            **rows["Documentary"]
        ),
        "{head_ratio:.2f}, {head_ratio_low:.2f}".format(**rows["War"]),
    ):
        assert promised in PAGE
