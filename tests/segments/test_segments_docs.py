import doctest
import importlib
import pkgutil

import numpy as np
import polars as pl
import pytest

import tailwise.segments

MODULES = ["tailwise.segments"] + [
    f"tailwise.segments.{module.name}" for module in pkgutil.iter_modules(tailwise.segments.__path__)
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_of_segments_give_what_they_show(name):
    module = importlib.import_module(name)
    names = {"np": np, "pl": pl, **{n: getattr(tailwise.segments, n) for n in tailwise.segments.__all__}}
    assert doctest.testmod(module, extraglobs=names).failed == 0
