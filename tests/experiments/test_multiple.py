import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from tailwise.experiments import holm


def test_holm_agrees_with_statsmodels():
    p_values = np.random.default_rng(0).random(12) ** 3
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_holm_worked_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_p_values_out_of_range_are_named():
    with pytest.raises(ValueError, match=r"p_values must be in \[0, 1\]; got \[2\]"):
        holm([2])
