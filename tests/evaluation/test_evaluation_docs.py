import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import tailwise.evaluation
from tailwise.evaluation import METRICS, USER_MEANS
from tailwise.segments import RULES, segment_items

MODULES = ["tailwise.evaluation"] + [
    f"tailwise.evaluation.{module.name}" for module in pkgutil.iter_modules(tailwise.evaluation.__path__)
]
DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_of_evaluation_give_what_they_show(name):
    module = importlib.import_module(name)
    public = {n: getattr(tailwise.evaluation, n) for n in tailwise.evaluation.__all__}
    assert (
        doctest.testmod(module, extraglobs={"np": np, "segment_items": segment_items, **public}).failed == 0
    )


def test_every_metric_and_every_rule_is_documented():
    text = (DOCS / "metrics.md").read_text()
    others = ["slot_share", "coverage", "gini", "pop_rsp", "pop_reo"]
    assert [name for name in (*METRICS, *USER_MEANS, *others, *RULES) if f"`{name}`" not in text] == []


@pytest.mark.parametrize("page", ["metrics.md", "how-to-add/metric.md"])
def test_code_on_the_pages_about_metrics_runs(page):
    # a page may add to the registries: put them back
    before = dict(METRICS), dict(USER_MEANS)
    namespace = {}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert blocks  # a page that lost its code must not pass
    try:
        for block in blocks:
            exec(compile(block, page, "exec"), namespace)
    finally:
        for registry, original in zip((METRICS, USER_MEANS), before, strict=True):
            registry.clear()
            registry.update(original)
