import numpy as np
import pytest
from scipy import stats

from tailwise.experiments.reference import pooled_z_test, repeated_z_test


def test_the_repeated_z_test_is_at_every_look_the_test_of_the_first_users():
    rng = np.random.default_rng(0)
    treated, values = rng.integers(0, 2, 500), rng.lognormal(size=500)
    looks = [3, 100, 500]
    p_values = repeated_z_test(treated, values, looks)
    for look, p in zip(looks[1:], p_values[1:], strict=True):
        sides = [values[:look][treated[:look] == v] for v in (1, 0)]
        t = stats.ttest_ind(*sides, equal_var=False).statistic
        assert p == pytest.approx(2 * stats.norm.sf(abs(t)))
    assert repeated_z_test([1, 1, 0], [1.0, 2.0, 3.0], [3])[0] == 1.0


def test_the_pooled_z_test_takes_all_users_for_one_group():
    difference, low, high = pooled_z_test([1, 1, 0, 0], [3.0, 5.0, 1.0, 1.0])
    assert difference == 3.0
    assert (high - low) / 2 == pytest.approx(1.959964 * 1.0)
