import json

import numpy as np
import polars as pl
import pytest
from scipy.stats import pearsonr

from tailwise.errors import DataError
from tailwise.evaluation import Rankings, exposure, taste_for_the_tail
from tailwise.segments import segment_items

# Items 0-4 are head, 5-19 tail, 20-24 never trained.
SEGMENTS = segment_items(np.array([50, 49, 48, 47, 46] + [2] * 15 + [0] * 5), head_share=0.25)
assert SEGMENTS.mask("head").sum() == 5


def lists_of(lists, users=None, list_length=10):
    users = np.arange(len(lists)) if users is None else users
    targets = pl.DataFrame(schema=["user_index", "item_index", "n_better", "n_tied"])
    table = pl.DataFrame({"user_index": users, "items": pl.Series(lists, dtype=pl.List(pl.Int32))})
    return Rankings(targets, table, n_items=25, list_length=list_length)


def training_of(histories, users=None):
    users = range(len(histories)) if users is None else users
    rows = [(user, item) for user, history in zip(users, histories, strict=True) for item in history]
    return pl.DataFrame(rows, schema=["user_index", "item_index"], orient="row")


def drawn(rng, share, n):
    """``n`` slots of which each is a tail item with probability ``share``."""
    is_tail = rng.random(n) < share
    return np.where(is_tail, rng.integers(5, 20, n), rng.integers(0, 5, n)).tolist()


def test_shares_are_those_counted_by_hand():
    # own: 1/2, 0, 1; shown: 1/4, 0, 1/2 of which the rest is cold
    histories = [[0, 5], [0, 1, 2], [5, 6, 7, 8]]
    lists = [[0, 1, 2, 5], [0, 1], [5, 20]]
    found = taste_for_the_tail(lists_of(lists), training_of(histories), SEGMENTS, k=4, n_resamples=50)
    assert found.own_tail_share.value == pytest.approx(0.5)
    assert found.shown_tail_share.value == pytest.approx(0.25)
    assert found.shown_cold_share.value == pytest.approx(0.5 / 3)
    assert found.difference.value == pytest.approx(-0.25)
    assert found.shown_less_share.value == pytest.approx(2 / 3)
    assert found.correlation.value == pytest.approx(pearsonr([0.5, 0, 1], [0.25, 0, 0.5]).statistic)
    assert (found.n_users, found.tail, found.k) == (3, "tail", 4)


def test_shown_tail_share_is_aplt_where_every_user_has_a_history():
    rng = np.random.default_rng(0)
    lists = [rng.permutation(25)[: rng.integers(1, 11)].tolist() for _ in range(20)]
    found = taste_for_the_tail(lists_of(lists), training_of([[0]] * 20), SEGMENTS, k=6)
    (aplt,) = [r["value"] for r in exposure(lists_of(lists), SEGMENTS, 6) if r["metric"] == "aplt"]
    assert found.shown_tail_share.value == pytest.approx(aplt)


def test_equal_shares_are_not_less_whatever_their_fractions():
    # 1/3 of three rows and 3/9 of nine slots; floats need not agree on that
    found = taste_for_the_tail(
        lists_of([[5, 6, 7, 0, 1, 2, 3, 4, 20]] * 2), training_of([[0, 1, 5]] * 2), SEGMENTS, k=9
    )
    assert found.shown_less_share.value == 0.0


def test_chance_alone_shows_less_as_often_as_lists_drawn_from_each_history_would():
    rng = np.random.default_rng(1)
    shares = rng.choice([0.0, 0.2, 0.3, 0.5, 0.7, 1.0], 3000)
    histories = [[5] * round(10 * s) + [0] * round(10 * (1 - s)) for s in shares]
    lists = [drawn(rng, s, 7) for s in shares]
    found = taste_for_the_tail(lists_of(lists), training_of(histories), SEGMENTS, k=7, n_resamples=20)
    # a share of 3,000 users has a standard deviation below 0.0092
    assert found.shown_less_share.value == pytest.approx(found.shown_less_by_chance.value, abs=0.03)
    assert 0.3 < found.shown_less_by_chance.value < 0.5


def test_lists_of_one_share_for_all_show_niche_users_less_and_mainstream_users_more():
    rng = np.random.default_rng(2)
    tastes = np.repeat([0.1, 0.5, 0.9], 100)
    histories = [drawn(rng, t, 20) for t in tastes]
    lists = [drawn(rng, 0.5, 10) for _ in tastes]
    found = taste_for_the_tail(lists_of(lists), training_of(histories), SEGMENTS)
    niche, mixed, mainstream = found.groups
    assert [g.name for g in found.groups] == ["niche", "mixed", "mainstream"]
    assert sum(g.n_users for g in found.groups) == 300
    assert niche.difference.high < -0.2
    assert mainstream.difference.low > 0.2
    assert abs(mixed.difference.value) < 0.1
    assert niche.own_tail_share.value > mixed.own_tail_share.value > mainstream.own_tail_share.value
    assert abs(found.correlation.value) < 0.2
    assert found.reliability.value > 0.8


def test_chance_in_short_histories_does_not_pass_for_taste():
    # Everybody has the same taste, 0.4, and lists follow it: no group is shown less than it likes.
    rng = np.random.default_rng(3)
    histories = [drawn(rng, 0.4, 6) for _ in range(4000)]
    lists = [drawn(rng, 0.4, 10) for _ in range(4000)]
    found = taste_for_the_tail(lists_of(lists), training_of(histories), SEGMENTS, n_resamples=200)
    assert found.groups[0].n_users > 500
    assert found.groups[2].n_users > 500
    for group in found.groups:
        # some 1,000 users, each within 0.32 of the mean: a standard deviation of 0.01
        assert abs(group.difference.value) < 0.04
    assert abs(found.reliability.value) < 0.1


def test_reliability_is_the_correlation_of_two_histories_of_full_length():
    rng = np.random.default_rng(4)
    tastes = rng.beta(2, 3, 4000)
    first, second = ([drawn(rng, t, 12) for t in tastes] for _ in range(2))
    lists = [[0]] * len(tastes)
    found = taste_for_the_tail(lists_of(lists), training_of(first), SEGMENTS, k=1, n_resamples=20)
    shares = [[np.mean([i >= 5 for i in h]) for h in histories] for histories in (first, second)]
    # correlations of 4,000 users differ by about 0.015 from one draw to the next
    assert found.reliability.value == pytest.approx(pearsonr(*shares).statistic, abs=0.05)
    assert found.correlation.value is None  # nobody is shown any tail


def test_users_of_equal_share_stay_together():
    # Halves of one item each: shares are 0 or 1, and a third of the users cannot be cut off.
    histories = [[0, 0]] * 20 + [[5, 5]] * 80
    found = taste_for_the_tail(lists_of([[0]] * 100), training_of(histories), SEGMENTS, k=1)
    assert [g.n_users for g in found.groups] == [0, 80, 20]  # at their mean places, 60 and 10 of 100
    empty = next(g for g in found.groups if not g.n_users)
    assert empty.difference.value is None


def test_the_half_that_groups_a_user_does_not_measure_the_user():
    # One tail item in two: whoever is niche by the first half has none in the second.
    found = taste_for_the_tail(lists_of([[0]] * 60), training_of([[0, 5]] * 60), SEGMENTS, k=1)
    own = {g.n_users: g.own_tail_share.value for g in found.groups if g.n_users}
    assert sorted(own.values()) == [0.0, 1.0]
    assert found.own_tail_share.value == 0.5


def test_users_without_history_or_slots_are_left_out_and_counted():
    found = taste_for_the_tail(
        lists_of([[0, 5], [5], [], [1]], users=[3, 5, 8, 9]),
        training_of([[0, 5], [1], [5, 5, 0]], users=[3, 8, 9]),
        SEGMENTS,
        k=2,
    )
    assert (found.n_users, found.n_users_without_history, found.n_users_without_slot) == (2, 1, 1)
    assert found.shown_tail_share.value == 0.25
    assert found.own_tail_share.value == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_users_of_a_single_row_count_but_are_not_grouped():
    found = taste_for_the_tail(lists_of([[0]] * 3), training_of([[5], [0, 5], [0, 0]]), SEGMENTS, k=1)
    assert (found.n_users, found.n_users_not_grouped) == (3, 1)
    assert sum(g.n_users for g in found.groups) == 2


def test_users_of_a_single_row_do_not_touch_reliability():
    # Halves of one item each, alike for nine users of ten.
    pairs = [[0, 0]] * 7 + [[5, 5]] * 2 + [[0, 5]]
    with_singles = pairs + [[5]] * 5 + [[0]] * 4
    found = [
        taste_for_the_tail(lists_of([[0]] * len(h)), training_of(h), SEGMENTS, k=1, n_resamples=20)
        for h in (pairs, with_singles)
    ]
    # Over the ten users either half holds 2 tail items and the other 3: variances 0.16 and 0.21.
    r = (0.2 - 0.2 * 0.3) / np.sqrt(0.16 * 0.21)
    assert found[0].reliability.value == pytest.approx(2 * r / (1 + r))
    assert found[1].n_users_not_grouped == 9
    assert found[1].reliability.value == pytest.approx(found[0].reliability.value)


def test_the_value_with_two_seeds_is_their_mean():
    training = training_of([[0, 5], [0, 5]])
    seeds = [lists_of([[0], [0]]), lists_of([[5], [0]])]
    found = taste_for_the_tail(seeds, training, SEGMENTS, k=1)
    assert found.shown_tail_share.value == 0.25
    assert found.shown_less_share.value == 0.75


def test_intervals_cover_the_mean_difference_of_other_users():
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(100):
        tastes = rng.beta(1, 3, 60)  # mean 1/4
        histories, lists = [drawn(rng, t, 8) for t in tastes], [drawn(rng, t / 2, 10) for t in tastes]
        difference = taste_for_the_tail(
            lists_of(lists), training_of(histories), SEGMENTS, n_resamples=200
        ).difference
        covered += difference.low <= -0.125 <= difference.high
    assert covered >= 88  # 95 of 100, with a standard deviation of 2.2


def test_the_same_seed_gives_the_same_result_whatever_the_order_of_rows():
    rng = np.random.default_rng(6)
    training = training_of([drawn(rng, 0.5, 9) for _ in range(30)])
    lists = lists_of([drawn(rng, 0.5, 5) for _ in range(30)])
    first = taste_for_the_tail(lists, training, SEGMENTS, k=5, n_resamples=20)
    shuffled = training.sample(fraction=1, shuffle=True, seed=1)
    assert taste_for_the_tail(lists, shuffled, SEGMENTS, k=5, n_resamples=20) == first
    assert taste_for_the_tail(lists, training, SEGMENTS, k=5, n_resamples=20, seed=1) != first


def test_the_result_is_json():
    found = taste_for_the_tail(lists_of([[0], [5]]), training_of([[0, 5], [0, 0]]), SEGMENTS, k=1)
    told = json.loads(json.dumps(found.as_dict()))
    assert told["difference"]["value"] == pytest.approx(0.25)
    assert [group["name"] for group in told["groups"]] == ["niche", "mixed", "mainstream"]
    assert set(told["groups"][0]) == {"name", "n_users", "own_tail_share", "shown_tail_share", "difference"}


def test_what_does_not_fit_is_refused():
    training = training_of([[0, 5]], users=[7])
    with pytest.raises(DataError, match="both a training history and a filled slot; got none among 1 with"):
        taste_for_the_tail(lists_of([[0]]), training, SEGMENTS, k=1)
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.10"):
        taste_for_the_tail(lists_of([[0]]), training, SEGMENTS, k=11)
    with pytest.raises(
        DataError, match=r"item_index of training must lie in 0\.\.24; got 1 others \(first: 25\)"
    ):
        taste_for_the_tail(lists_of([[0]]), training_of([[0, 25]]), SEGMENTS, k=1)
