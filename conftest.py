"""Doctests may use numpy, polars and torch under their usual names."""

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch


@pytest.fixture(autouse=True)
def _usual_names(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace.update(np=np, pl=pl, torch=torch)
