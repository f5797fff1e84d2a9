import numpy as np
import pytest

from tailwise.diagnosis._moments import Moments
from tailwise.diagnosis._two_way import two_way_weights

RNG = np.random.default_rng(0)
PARTS = ((0, 1), (0, 2), (0, 1, 2))


def moments(items, users, accuracy, *, omega=None, features=None, strata=None, parts=PARTS):
    items, users = np.asarray(items), np.asarray(users)
    n = int(items.max()) + 1
    if features is None:
        features = np.column_stack([np.ones(n), np.random.default_rng(1).standard_normal((n, 2))])
    return Moments(
        items=items,
        users=users,
        accuracy=np.asarray(accuracy, dtype=float),
        omega=np.ones(items.size) if omega is None else omega,
        features=features,
        parts=parts,
        strata=np.zeros(n, dtype=np.int64) if strata is None else strata,
        products=np.ones((n, 1)),
    )


def drawn(n_targets=150, n_items=25, n_users=12):
    items = np.concatenate([np.arange(n_items), RNG.integers(0, n_items, n_targets - n_items)])
    users = np.concatenate([np.arange(n_users), RNG.integers(0, n_users, n_targets - n_users)])
    return items, users, RNG.random(n_targets)


def test_total_variance_is_the_mean_product_of_pairs_of_other_users_less_the_squared_mean():
    # Item 0: targets 1 and 1 of two users; item 1: 0 and 0. About the mean ½ all products
    # are ¼, and no pair of different items and users: item 0's user 0 with item 1's user 1, and so on.
    found = moments([0, 0, 1, 1], [0, 1, 0, 1], [1, 1, 0, 0], parts=())()
    # The squared mean from pairs that share nothing: four ordered pairs of product -¼, over the
    # four targets, each times 1 / (1 - ½), half of the weight being the item's own; pairs of
    # the same user are taken out without that factor, four of -¼ too.
    between, squared_mean = 0.25, ((-0.25 * 8) * 2 - (-0.25 * 4)) / 4 / 4
    assert found[0] == pytest.approx(between - squared_mean)  # a few sums of quarters


def test_explained_variance_is_the_leave_one_item_out_fit_times_accuracy_where_users_are_distinct():
    items = np.repeat(np.arange(12), 3)
    users = np.arange(36)
    accuracy = RNG.random(36)
    it = moments(items, users, accuracy)
    y = accuracy - accuracy.mean()
    columns = [it.features[:, c] for c in (0, 1, 2)]

    def by_hand(design):
        out = 0.0
        for i in range(12):
            other = items != i
            x = design[items]
            coefficients = np.linalg.lstsq(x[other], y[other], rcond=None)[0]
            out += float(np.sum(y[items == i] * (design[i] @ coefficients)))
        return out / 36

    constant = by_hand(np.column_stack(columns[:1]))
    expected = [by_hand(it.features[:, part]) - constant for part in PARTS]
    assert it()[:3] == pytest.approx(expected, rel=1e-9)  # refitting and the leverage formula agree


def test_a_user_with_everything_leaves_nothing_to_learn_from():
    # All targets are of one user: every pair shares it, so nothing is explained or between.
    it = moments([0, 1, 2, 3], [0, 0, 0, 0], [1, 0, 1, 0], parts=())
    assert it.kappa.tolist() == [0, 0, 0, 0]


def test_derivatives_by_target_and_by_item_match_differences():
    items, users, accuracy = drawn()
    it = moments(items, users, accuracy, strata=np.arange(25) % 2)
    linear = it.linearised()
    by_target, by_item = linear.by_target, linear.by_item
    step = 1e-5
    for t in (0, 40, 149):
        moved = np.zeros(items.size)
        moved[t] = step
        difference = (it(1 + moved) - it(1 - moved)) / (2 * step)
        assert by_target[t] == pytest.approx(difference, rel=1e-5, abs=1e-9)  # differences of 1e-5
    for i in (0, 24):
        moved = np.zeros(25)
        moved[i] = step
        difference = (it(None, 1 + moved) - it(None, 1 - moved)) / (2 * step)
        assert by_item[i] == pytest.approx(difference, rel=1e-5, abs=1e-9)


def test_what_is_counted_twice_is_half_the_squares_of_second_derivatives_by_two_items():
    items, users, accuracy = drawn(n_users=60)
    it = moments(items, users, accuracy)
    step, n = 1e-4, 25
    unit = step * np.eye(n)

    def second(i, j):
        corners = [it(None, 1 + s * unit[i] + t * unit[j]) * s * t for s in (1, -1) for t in (1, -1)]
        return sum(corners) / (4 * step**2)

    found = np.zeros((5, 5))
    for i in range(n):
        for j in range(i):
            mixed = second(i, j)
            found += np.outer(mixed, mixed)
    found = found[:3, :3]
    # Terms of order leverage are left out, and products of one user in the fit: a tenth of it.
    assert it.linearised().twice[:3, :3].diagonal() == pytest.approx(found.diagonal(), rel=0.3)


def test_noise_that_is_only_in_pairs_of_items_is_counted_twice_by_the_derivatives():
    rng = np.random.default_rng(7)
    values, squares, twice = [], [], []
    for _ in range(300):
        items, users = np.repeat(np.arange(40), 3), np.arange(120)
        features = np.column_stack([np.ones(40), rng.standard_normal((40, 2))])
        linear = moments(items, users, rng.standard_normal(120), features=features).linearised()
        values.append(linear.value[:3])
        squares.append((linear.by_item[:, :3] ** 2).sum(axis=0))
        twice.append(linear.twice[:3, :3].diagonal())
    truth = np.var(values, axis=0)
    # A variance of 300 chi-square-like values is known to some 15 %.
    assert np.mean(squares, axis=0) / truth == pytest.approx(np.full(3, 2.0), rel=0.4)
    assert np.mean(np.array(squares) - twice, axis=0) / truth == pytest.approx(np.ones(3), rel=0.4)


def test_explained_variance_has_no_bias_where_nothing_is_explained():
    rng = np.random.default_rng(5)
    found = []
    for _ in range(400):
        items, users = rng.integers(0, 40, 200), rng.integers(0, 30, 200)
        _, items = np.unique(items, return_inverse=True)
        n = int(items.max()) + 1
        of_user = rng.standard_normal(30)
        features = np.column_stack([np.ones(n), rng.standard_normal((n, 2))])
        accuracy = of_user[users] + rng.standard_normal(200)
        found.append(moments(items, users, accuracy, features=features)()[:4])
    mean, error = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(400)
    # In-sample, the three features would explain 1 to 2 of 200 parts of a noise of variance 2. Four
    # quantities, 3.5 standard errors each: one false alarm in 500 seeds.
    assert np.all(abs(mean) < 3.5 * error)
    assert np.all(error[:3] < 0.002)


def test_linear_limit_has_the_variance_of_the_pigeonhole_bootstrap():
    rng = np.random.default_rng(3)
    items, users = rng.integers(0, 200, 4000), rng.integers(0, 300, 4000)
    features = np.column_stack([np.ones(200), rng.standard_normal((200, 2))])
    accuracy = (features @ [0.0, 0.5, 0.3])[items] + 0.3 * rng.standard_normal(200)[items]
    accuracy = accuracy + rng.standard_normal(4000)
    it = moments(items, users, accuracy, features=features)
    linear = it.linearised()
    by_target, by_item = linear.by_target, linear.by_item
    resampled = np.stack(
        [it(a[users], b) for a, b in two_way_weights(300, 200, n_resamples=300, seed=4)]
    ).var(axis=0)
    by_user = np.stack([np.bincount(users, column) for column in by_target.T], axis=1)
    # A product of weights varies by its users, its items and, once more, by each target.
    squares = (by_user**2).sum(axis=0) + (by_item**2).sum(axis=0) + (by_target**2).sum(axis=0)
    # A variance over 300 resamples is known to 8 %; squares of the weights' noise add some 5 %.
    assert resampled[:4] == pytest.approx(squares[:4], rel=0.35)
