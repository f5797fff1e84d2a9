import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.diagnosis._group_targets import GroupTargets, draw_halves
from tailwise.errors import DataError


def table(seed: int, n_users: int = 12, n_groups: int = 3) -> GroupTargets:
    """Users of several rows of several targets; some targets have no group."""
    rng = np.random.default_rng(seed)
    users, rows, groups = [], [], []
    row = 0
    for user in range(n_users):
        for _ in range(int(rng.integers(1, 4))):
            for _ in range(int(rng.integers(4, 12))):
                users.append(user)
                rows.append(row)
                groups.append(int(rng.choice([-1, *range(n_groups)])))
            groups[-n_groups:] = range(n_groups)  # every user has a target of every group
            row += 1
    return GroupTargets(tuple("abcdef"[:n_groups]), groups, users, rows)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 30))
def test_halves_hold_equal_numbers_of_distinct_targets_of_disjoint_users(seed, at_most):
    targets = table(seed)
    draw = draw_halves(targets, at_most=at_most, n_splits=2, seed=seed)
    assert draw.n_per_group <= at_most
    assert draw.targets.shape == (2, 2, 3, draw.n_per_group)
    for halves in draw.targets:
        users = [set(targets.users[half].ravel()) for half in halves]
        assert not users[0] & users[1]
        for half in halves:
            for g, chosen in enumerate(half):
                assert (targets.groups[chosen] == g).all()
                assert np.unique(chosen).size == chosen.size


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_without_a_limit_the_scarcest_half_of_the_scarcest_group_is_used_up(seed):
    targets = table(seed)
    draw = draw_halves(targets, at_most=None, n_splits=1, seed=seed)
    more = draw_halves(targets, at_most=draw.n_per_group + 5, n_splits=1, seed=seed)
    assert more.n_per_group == draw.n_per_group
    sizes = []
    for half in draw.targets[0]:
        users = np.unique(targets.users[half])
        inside = np.isin(targets.users, users)
        sizes += [np.count_nonzero(inside & (targets.groups == g)) for g in range(3)]
    assert min(sizes) == draw.n_per_group


def test_few_rows_serve_many_targets():
    # 100 users with ten rows each, of five targets per group: 50 targets need 10 rows a half, not 50.
    rows = np.repeat(np.arange(1000), 10)
    targets = GroupTargets(("a", "b"), np.tile([0, 1], 5000), rows // 10, rows)
    for half in draw_halves(targets, at_most=50, n_splits=1, seed=0).targets[0]:
        assert np.unique(rows[half]).size == 10
        assert np.unique(rows[half] // 10).size > 5  # and those of many users


def test_popular_groups_are_spread_over_the_rows_that_the_rare_one_needs():
    rows = np.repeat(np.arange(100), 10)
    targets = GroupTargets(("a", "b"), np.tile([0] * 9 + [1], 100), rows)
    for head, tail in draw_halves(targets, at_most=20, n_splits=1, seed=0).targets[0]:
        assert np.unique(rows[tail]).size == 20
        assert np.unique(rows[head]).size > 10
        assert set(rows[head]) <= set(rows[tail])


def test_the_fingerprint_is_of_targets_and_draw():
    targets = table(1)
    one = draw_halves(targets, at_most=4, n_splits=1, seed=0).fingerprint
    assert one == draw_halves(table(1), at_most=4, n_splits=1, seed=0).fingerprint
    assert one != draw_halves(targets, at_most=4, n_splits=1, seed=1).fingerprint
    relabelled = GroupTargets(targets.names, targets.groups, targets.users + 1, targets.rows)
    assert one != draw_halves(relabelled, at_most=4, n_splits=1, seed=0).fingerprint


def test_a_group_without_targets_in_a_half_is_named():
    targets = GroupTargets(("head", "tail"), [0] * 20 + [1], [*range(20), 0])
    with pytest.raises(DataError, match="got none in one half for 'tail', of 1 in all"):
        draw_halves(targets, at_most=None, n_splits=1, seed=0)


@pytest.mark.parametrize(
    ("names", "groups", "users", "rows", "message"),
    [
        (("a",), [0, 0], [1], None, r"must all be \[n_targets\]; got shapes"),
        (("a", "a"), [0], [1], None, r"names must be distinct, at least one; got \('a', 'a'\)"),
        ((), [], [], None, r"names must be distinct, at least one; got \(\)"),
        (("a",), [0, 1], [1, 1], None, r"groups must lie in -1..0; got 0..1"),
        (("a",), [0, -2], [1, 1], None, r"groups must lie in -1..0; got -2..0"),
        (("a",), [0, 0], [1, 2], [7, 7], r"rows must each be of one user; got row 7 of several"),
    ],
)
def test_tables_that_make_no_sense_are_refused(names, groups, users, rows, message):
    with pytest.raises(ValueError, match=message):
        GroupTargets(names, groups, users, rows)
