import numpy as np
import pytest

from tailwise.diagnosis._added import Added, precisions
from tailwise.diagnosis._moments import Moments


def drawn(rng, slope=0.0, n_items=60, n_users=40, n_targets=400):
    items = np.concatenate([np.arange(n_items), rng.integers(0, n_items, n_targets - n_items)])
    users = rng.integers(0, n_users, n_targets)
    features = np.column_stack([np.ones(n_items), rng.standard_normal((n_items, 2))])
    accuracy = rng.standard_normal(n_targets) + slope * features[items, 2] + features[items, 1]
    accuracy = accuracy + rng.standard_normal(n_users)[users]
    _, users = np.unique(users, return_inverse=True)
    moments = Moments(
        items=items,
        users=users,
        accuracy=accuracy,
        omega=np.ones(n_targets),
        features=features,
        parts=((0, 1), (0, 1, 2)),
        strata=np.zeros(n_items, dtype=np.int64),
        products=np.ones((n_items, 1)),
    )
    return moments, features


def test_added_is_the_difference_of_what_moments_explain_when_items_weigh_by_their_targets():
    moments, features = drawn(np.random.default_rng(0), slope=0.5)
    by_targets = np.bincount(moments.items).astype(float)
    fewer, more = moments()[:2] * by_targets.sum()
    found = Added(moments, by_targets)(features, (0, 1), [(0, 1, 2)])
    one = Added(moments, by_targets)
    # The unit is one number for all numerators: with twice the accuracy both are four times as large.
    moments.y = moments.y * 2
    assert Added(moments, by_targets)(features, (0, 1), [(0, 1, 2)]) == pytest.approx(found)
    moments.y = moments.y / 2
    assert np.sign(found) == np.sign(more - fewer)
    both = one(features, (0, 1), [(0, 1, 2), (0, 1, 2)])
    assert both == pytest.approx(2 * found)


def test_where_nothing_is_added_it_has_mean_zero_and_deviation_one():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(600):
        moments, features = drawn(rng, n_items=200, n_users=400, n_targets=1600)
        weights = precisions(np.bincount(moments.items), between=0.1, noise=1.0)
        found.append(Added(moments, weights)(features, (0, 1), [(0, 1, 2)]))
    # Residuals of the larger fit are small when it explains much, which bends the ratio up a little.
    assert abs(np.mean(found)) < 3.5 / np.sqrt(600)
    # With one degree of freedom, (χ² − 1)/√2, fourth moments are 15: 600 know the deviation to 8 %.
    assert np.std(found) == pytest.approx(1.0, abs=0.25)


def test_an_effect_is_many_units():
    moments, features = drawn(np.random.default_rng(2), slope=1.0)
    weights = precisions(np.bincount(moments.items), between=0.0, noise=1.0)
    assert Added(moments, weights)(features, (0, 1), [(0, 1, 2)]) > 20


def test_columns_that_say_the_same_again_add_nothing():
    moments, features = drawn(np.random.default_rng(3))
    features = np.column_stack([features[:, :2], 2 * features[:, 1]])
    weights = np.ones(60)
    assert abs(Added(moments, weights)(features, (0, 1), [(0, 1, 2)])) < 1e-3


def test_precisions_go_from_targets_to_items():
    n = np.array([1.0, 4.0, 100.0])
    assert precisions(n, between=0.0, noise=2.0) == pytest.approx(n / n.mean())
    assert precisions(n, between=2.0, noise=0.0) == pytest.approx(np.ones(3))
    assert precisions(n, between=0.0, noise=0.0) == pytest.approx(np.ones(3))
    one, _, other = precisions(n, between=1.0, noise=4.0)
    assert other / one == pytest.approx((1 + 4) / (1 + 0.04))
