import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.experiments._shares import _BETS, excess_bounds, share_bounds


def slow_wealth_of_a_share(shares, c):
    """User by user, as the definition says."""
    wealth = np.ones_like(_BETS)
    for share in shares:
        wealth = wealth * (1 + _BETS / c * (share - c))
    return wealth.mean()


def slow_wealth_of_an_excess(shares, treated, m):
    wealth = np.ones_like(_BETS)
    for share, is_treated in zip(shares, treated, strict=True):
        wealth = wealth * (1 + _BETS / (2 + m) * ((2 if is_treated else -2) * share - m))
    return wealth.mean()


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.sampled_from([0.01, 0.05, 0.3]))
def test_the_lower_bound_is_where_the_wealth_of_betting_user_by_user_has_grown_enough(bad, alpha):
    (low,), _ = share_bounds([sum(bad)], [len(bad)], alpha)
    if low > 1e-6:
        assert slow_wealth_of_a_share(bad, low - 1e-6) >= 1 / alpha
    assert slow_wealth_of_a_share(bad, low + 1e-6) < 1 / alpha


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_the_lower_bound_of_an_excess_is_that_of_betting_user_by_user(users):
    bad, treated = np.array(users).T
    sums = [bad[treated].sum()], [treated.sum()], [bad[~treated].sum()], [(~treated).sum()]
    (low,), _ = excess_bounds(*sums, 0.05)
    if low > -1 + 1e-6:
        assert slow_wealth_of_an_excess(bad, treated, low - 1e-6) >= 20
    assert slow_wealth_of_an_excess(bad, treated, low + 1e-6) < 20


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_shares_between_none_and_all_never_bound_more_than_they_may(shares):
    (low,), (high,) = share_bounds([sum(shares)], [len(shares)], 0.05)
    if low > 1e-6:
        assert slow_wealth_of_a_share(shares, low - 1e-6) >= 20  # more, where shares are within
    assert low <= np.mean(shares) <= high


def test_bounds_hold_at_all_looks_at_once():
    rng, runs, n = np.random.default_rng(0), 400, 1500
    looks = np.arange(1, n + 1, 11)
    misses = dict.fromkeys(("share low", "share high", "excess low", "excess high"), 0)
    for _ in range(runs):
        treated = rng.random(n) < 0.5
        level = 0.05 + 0.05 * np.sin(np.arange(n) / 100)  # drifts, alike for both
        bad = (rng.random(n) < level + 0.1 * treated).astype(float)
        fixed = (rng.random(n) < 0.06).astype(float)
        low, high = share_bounds(np.cumsum(fixed)[looks - 1], looks, 0.05)
        misses["share low"] += (low > 0.06).any()
        misses["share high"] += (high < 0.06).any()
        low, high = excess_bounds(
            np.cumsum(bad * treated)[looks - 1],
            np.cumsum(treated)[looks - 1],
            np.cumsum(bad * ~treated)[looks - 1],
            np.cumsum(~treated)[looks - 1],
            0.05,
        )
        misses["excess low"] += (low > 0.1).any()
        misses["excess high"] += (high < 0.1).any()
    assert {name: n / runs for name, n in misses.items() if n / runs > 0.05} == {}


def test_a_handful_of_users_who_all_waited_is_enough():
    low, _ = share_bounds([4.0, 5.0], [4, 5], alpha=0.05 / 3)
    assert low[0] > 0.05 > share_bounds([1.0], [1], alpha=0.05 / 3)[0][0]


def test_many_users_leave_little_room():
    low, high = excess_bounds([500.0], [10_000], [400.0], [10_000], 0.05)
    assert 0 < low[0] < 0.01 < high[0] < 0.02


def test_nothing_is_known_of_nobody():
    assert [float(end[0]) for end in share_bounds([0.0], [0], 0.05)] == [0, 1]
    assert [float(end[0]) for end in excess_bounds([0.0], [0], [0.0], [0], 0.05)] == [-1, 1]


def test_impossible_sums_and_probabilities_are_named():
    with pytest.raises(ValueError, match="sums of shares must be between 0 and the number of users"):
        share_bounds([2.0], [1], 0.05)
    with pytest.raises(ValueError, match=r"alpha must be an error probability in \(0, 1\); got 1"):
        share_bounds([0.0], [1], 1)
    with pytest.raises(ValueError, match=r"flat and of one length; got \(1,\) and \(2,\)"):
        share_bounds([0.0], [1, 2], 0.05)
