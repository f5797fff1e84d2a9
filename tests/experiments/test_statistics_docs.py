import re
import subprocess
import sys
from pathlib import Path

import pytest

from tailwise.experiments import (
    METRICS,
    BurnIn,
    PrePeriod,
    critical_value,
    information_per_user,
    plan_duration,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "experiments-statistics.md").read_text()
WORDS = " ".join(PAGE.split())
DECISION = " ".join((DOCS / "decisions" / "0016-always-valid-inference.md").read_text().split())


@pytest.mark.parametrize("block", re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL))
def test_code_blocks_of_the_page_run(block):
    result = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


def test_the_table_of_metrics_is_the_registry():
    section = PAGE.split("## Metrics")[1].split("`skewed`:")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows == [
        f"| `{m.name}` | {m.numerator} | {m.denominator or 'assigned users'} | {m.unit} | {m.good} "
        f"| {m.kind}{', skewed' if m.is_skewed else ''} |"
        for m in METRICS.values()
    ]


def test_the_page_states_the_numbers_of_the_code():
    burn_in = BurnIn()
    assert f"until {burn_in.users} windows are closed and {burn_in.active_users} users have" in WORDS
    assert f"of the absolute difference until {burn_in.active_users_of_bounds} users have" in WORDS
    assert f"**{burn_in.users} users with closed windows, {burn_in.active_users} of them" in DECISION
    at_tuned = float(critical_value(information_per_user(1.0)))
    assert f"{at_tuned:.2f} standard errors in place of 1.96" in WORDS
    assert f"{at_tuned / 1.96:.2f} times the fixed-horizon width" in DECISION
    rate = information_per_user(1.0)
    assert (
        f"Ten times too large costs {float(critical_value(rate / 10)) / at_tuned - 1:.0%}".replace("%", " %")
        in DECISION
    )
    assert (
        f"ten times too small {float(critical_value(rate * 10)) / at_tuned - 1:.0%}".replace("%", " %")
        in DECISION
    )


def test_what_is_out_of_reach_is_said_as_the_page_quotes_it():
    plan = plan_duration(PrePeriod(2.0, 9.0), users_per_day=100, relative_effect=0.01)
    assert plan.sentence in PAGE
