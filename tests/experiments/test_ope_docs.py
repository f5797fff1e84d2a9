"""The page on off-policy evaluation says what the code does."""

import inspect
import re
from pathlib import Path

from tailwise._cli_ope import ope
from tailwise.experiments.ope import Estimator, Interaction, evaluate_policy
from tailwise.experiments.ope._cautions import _BAD_PARETO_K, _FEW
from tailwise.experiments.ope._log import _OPTIONAL, _REQUIRED

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "off-policy.md").read_text("utf-8")


def test_the_example_of_the_page_runs_and_says_what_the_policy_would_earn(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(block, "docs/off-policy.md", "exec"), {})
    said = capsys.readouterr().out
    assert said.startswith("the new model would have earned ")
    assert "% more than what was shown" in said
    assert "cannot tell" not in said


def test_every_column_of_a_log_is_on_the_page():
    for name in set(_REQUIRED) | set(_OPTIONAL):
        assert f"| `{name}`" in PAGE or f"`{name}`" in PAGE or name == "reward", name


def test_every_estimator_and_every_kind_of_weights_is_on_the_page():
    for name in (*Estimator.__args__, *Interaction.__args__):
        assert f"| `{name}` |" in PAGE, name


def test_limits_on_the_page_are_those_of_the_code():
    limit = inspect.signature(evaluate_policy).parameters["max_unsupported"].default
    assert f"mean weight is below {1 - limit:g}" in PAGE
    assert f"effective sample size below {_FEW:g}" in PAGE
    assert f"Pareto k above {_BAD_PARETO_K:g}" in PAGE


def test_flags_that_the_page_names_exist():
    known = {name.replace("_", "-") for name in inspect.signature(ope).parameters}
    named = set(re.findall(r"--([a-z][a-z-]+)", PAGE))
    assert named <= known
    assert {"policy", "reward", "positions", "clip", "whole-lists", "temperature", "max-unsupported"} <= named
