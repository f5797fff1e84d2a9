"""Tiny models for the tests of ``tailwise.optim``; see ``builders.py``."""

import pytest
import torch

from .builders import SETTINGS, TinyRecommender


@pytest.fixture(autouse=True)
def _known_seed():
    """Tests that draw random numbers start from the same state, whatever ran before them."""
    torch.manual_seed(0)


@pytest.fixture
def model():
    """A two-layer softmax in float64 on items ``[rows, positions]`` with paddings."""
    return TinyRecommender()


@pytest.fixture(params=SETTINGS)
def method(request):
    """Every optimizer of the package, by name."""
    return request.param


@pytest.fixture(params=["EISAM", "SAM", "LookSAM"])
def perturbing(request):
    """The optimizers that perturb, by name."""
    return request.param
