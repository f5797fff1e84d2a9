import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.errors import DataError
from tailwise.interactions import (
    Dataset,
    Split,
    build_dataset,
    check_catalogue,
    check_interactions,
    histories,
    split_by_time,
    split_leave_last_out,
    training_histories,
)

KEY = ["user_index", "item_index", "timestamp"]


def _dataset(
    rows: list[tuple[str, str, int]], *, repeats: str = "first", duplicates: str = "drop"
) -> Dataset:
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = log.select(pl.col("item_id").unique()).with_columns(title=pl.col("item_id"))
    return build_dataset(
        check_interactions(log, duplicates=duplicates),  # type: ignore[arg-type]
        check_catalogue(items),
        repeats=repeats,  # type: ignore[arg-type]
    )


# ann: a@1 b@2 c@3 d@4; bob: a@2 b@5; cat: c@6
BY_HAND = [
    ("ann", "a", 1),
    ("ann", "b", 2),
    ("ann", "c", 3),
    ("ann", "d", 4),
    ("bob", "a", 2),
    ("bob", "b", 5),
    ("cat", "c", 6),
]


def test_leave_last_out_by_hand():
    split = split_leave_last_out(_dataset(BY_HAND))
    assert split.test.select(KEY).rows() == [(0, 3, 4)]
    assert split.validation.select(KEY).rows() == [(0, 2, 3)]
    assert split.train.select(KEY).rows() == [(0, 0, 1), (0, 1, 2), (1, 0, 2), (1, 1, 5), (2, 2, 6)]
    assert split.parameters == {"seed": 0, "repeats": "first", "n_training_only_users": 2}
    assert (split.n_tied_test, split.n_excluded_test) == (0, 0)


def test_global_time_by_hand():
    # 7 rows at 1 2 2 3 4 5 6. Shares of 2/7 each: test from 5 on, validation from 3 on.
    split = split_by_time(_dataset(BY_HAND), validation_share=2 / 7, test_share=2 / 7)
    assert split.parameters["validation_from"] == 3
    assert split.parameters["test_from"] == 5
    assert split.validation.select(KEY).rows() == [(0, 2, 3), (0, 3, 4)]
    assert split.test.select(KEY).rows() == [(1, 1, 5), (2, 2, 6)]
    assert split.n_excluded_test == 1  # cat had no history
    assert (split.n_validation_targets, split.n_test_targets) == (2, 1)


def test_cut_goes_to_the_boundary_nearest_to_the_wanted_share():
    # Ten rows: five at time 1, one each at 2..6. A tenth is the row at 6, a fifth those at 5 and 6.
    rows = [(user, item, 1) for user, item in zip("uvwxy", "abcde", strict=True)]
    rows += [("u", item, moment) for item, moment in zip("fghij", range(2, 7), strict=True)]
    split = split_by_time(_dataset(rows), validation_share=0.1, test_share=0.1)
    assert (split.parameters["validation_from"], split.parameters["test_from"]) == (5, 6)
    assert split.parameters["realised_test_share"] == 0.1


def test_histories_by_hand():
    split = split_leave_last_out(_dataset(BY_HAND))
    test, validation = histories(split, "test"), histories(split, "validation")
    assert test.users.tolist() == [0]
    assert [history.tolist() for history in test.histories] == [[0, 1, 2]]
    assert (test.target_items.tolist(), test.target_offsets.tolist()) == ([3], [0, 1])
    assert [history.tolist() for history in validation.histories] == [[0, 1]]
    assert validation.targets(0).tolist() == [2]
    users, sequences = training_histories(split)
    assert users.tolist() == [0, 1, 2]
    assert [sequence.tolist() for sequence in sequences] == [[0, 1], [0, 1], [2]]


def test_a_user_has_several_targets_under_global_time():
    rows = [("u", item, moment) for moment, item in enumerate("abcdefghij", start=1)]
    split = split_by_time(_dataset(rows), validation_share=0.2, test_share=0.3)
    test = histories(split, "test")
    assert test.targets(0).tolist() == [7, 8, 9]
    assert test.histories[0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert test.target_rows.tolist() == [0, 0, 0]
    assert test.users.dtype == test.target_items.dtype == test.target_offsets.dtype == np.int64


def test_validation_rows_are_history_of_the_test_even_without_training_rows():
    rows = [("old", item, moment) for moment, item in enumerate("abcdef", start=1)]
    rows += [("new", "a", 5), ("new", "b", 6)]
    split = split_by_time(_dataset(rows), validation_share=2 / 8, test_share=2 / 8)
    assert split.n_excluded_validation == 1
    assert split.n_excluded_test == 0
    assert histories(split, "test").users.tolist() == [0, 1]
    assert histories(split, "validation").users.tolist() == [1]


def test_tied_held_out_rows_are_counted():
    rows = [("u", "a", 1), ("u", "b", 2), ("u", "c", 2), ("v", "a", 1), ("v", "b", 2), ("v", "c", 3)]
    split = split_leave_last_out(_dataset(rows))
    assert (split.n_tied_validation, split.n_tied_test) == (1, 1)
    assert split.as_dict()["n_tied_test_targets"] == 1


def test_ties_are_broken_by_user_and_seed_not_by_item_or_file_order():
    # 400 users with ten items at one moment: the held-out item is uniform over the items.
    rows = [(f"u{user:03}", str(item), 7) for user in range(400) for item in range(10)]
    counts = np.bincount(split_leave_last_out(_dataset(rows)).test["item_index"].to_numpy(), minlength=10)
    # Binomial(400, 0.1) has mean 40 and deviation 6: five deviations will not fail by chance.
    assert counts.min() > 10
    assert counts.max() < 70
    other = split_leave_last_out(_dataset(rows), seed=1)
    assert not other.test.select(KEY).equals(split_leave_last_out(_dataset(rows)).test.select(KEY))


def test_tie_order_is_fixed_for_ever():
    rows = [("u", item, 7) for item in "abcdefgh"]
    split = split_leave_last_out(_dataset(rows))
    assert (
        "".join(split.train["item_id"]) + split.validation["item_id"][0] + split.test["item_id"][0]
        == "efhdacgb"
    )


def test_repeats_may_be_targets_when_they_are_kept():
    rows = [("u", "a", 1), ("u", "b", 2), ("u", "a", 3), ("u", "a", 4)]
    split = split_leave_last_out(_dataset(rows, repeats="keep"))
    test = histories(split, "test")
    assert test.targets(0).tolist() == [0]
    assert test.histories[0].tolist() == [0, 1, 0]
    assert split.parameters["repeats"] == "keep"


def test_too_few_times_name_the_count_and_the_way_out():
    with pytest.raises(DataError, match=r"at least 3 distinct timestamps; got 2(?s:.*)split_leave_last_out"):
        split_by_time(_dataset([("u", "a", 1), ("u", "b", 2), ("v", "a", 2)]))


def test_users_too_short_for_leave_last_out_name_their_length():
    with pytest.raises(DataError, match=r"at least 3 interactions; got at most 2 .*(?s:.*)split_by_time"):
        split_leave_last_out(_dataset([("u", "a", 1), ("u", "b", 2), ("v", "a", 2)]))


def test_split_by_time_without_any_evaluable_user_is_refused():
    with pytest.raises(
        DataError, match=r"validation part .* got none in data set 'data' .3 users, 3 interactions"
    ):
        split_by_time(_dataset([("u", "a", 1), ("v", "b", 2), ("w", "c", 3)]))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 20])
def test_shares_outside_their_range_are_refused(share: float):
    with pytest.raises(ValueError, match=rf"test_share must be a fraction in \(0, 1\); got {share}"):
        split_by_time(_dataset(BY_HAND), test_share=share)


def test_shares_that_leave_no_training_are_refused():
    with pytest.raises(ValueError, match=r"must be below 1; got 0.5 \+ 0.5"):
        split_by_time(_dataset(BY_HAND), validation_share=0.5, test_share=0.5)


def test_unknown_part_is_refused():
    with pytest.raises(ValueError, match="part must be 'validation' or 'test'; got 'train'"):
        histories(split_leave_last_out(_dataset(BY_HAND)), "train")  # type: ignore[arg-type]


# Properties. User "long" acts at every moment, so that every drawn log can be split either way.

_ROWS = st.lists(
    st.tuples(st.sampled_from(["u1", "u2", "u3", "u4"]), st.sampled_from("abcdef"), st.integers(0, 9)),
    max_size=40,
).map(lambda rows: [("long", item, moment) for moment, item in enumerate("abcdefghijk")] + rows)
_REPEATS = st.sampled_from(["first", "keep"])


def _splits(dataset: Dataset) -> list[Split]:
    return [
        split_leave_last_out(dataset, seed=3),
        split_by_time(dataset, validation_share=0.25, test_share=0.25, seed=3),
    ]


@settings(max_examples=60, deadline=None)
@given(rows=_ROWS, repeats=_REPEATS)
def test_splits_partition_the_interactions(rows: list[tuple[str, str, int]], repeats: str):
    dataset = _dataset(rows, repeats=repeats)
    for split in _splits(dataset):
        together = pl.concat([split.train, split.validation, split.test])
        assert together.select(KEY).sort(KEY).equals(dataset.interactions.select(KEY).sort(KEY))


@settings(max_examples=60, deadline=None)
@given(rows=_ROWS, repeats=_REPEATS)
def test_no_held_out_row_is_earlier_than_a_training_row_of_its_user(
    rows: list[tuple[str, str, int]], repeats: str
):
    for split in _splits(_dataset(rows, repeats=repeats)):
        for earlier, later in ((split.train, split.validation), (split.validation, split.test)):
            last = earlier.group_by("user_index").agg(pl.col("timestamp").max().alias("last"))
            joined = later.join(last, on="user_index")
            assert (joined["timestamp"] >= joined["last"]).all()


@settings(max_examples=60, deadline=None)
@given(rows=_ROWS, repeats=_REPEATS, shuffled=st.randoms(use_true_random=False))
def test_row_order_of_the_input_changes_nothing(rows, repeats: str, shuffled):
    mixed = list(rows)
    shuffled.shuffle(mixed)
    first, second = _dataset(rows, repeats=repeats), _dataset(mixed, repeats=repeats)
    assert first.checksum() == second.checksum()
    for one, other in zip(_splits(first), _splits(second), strict=True):
        for part in ("train", "validation", "test"):
            assert getattr(one, part).equals(getattr(other, part))
        assert one.as_dict() == other.as_dict()


@settings(max_examples=60, deadline=None)
@given(rows=_ROWS)
def test_global_time_never_puts_one_moment_on_both_sides(rows: list[tuple[str, str, int]]):
    split = _splits(_dataset(rows))[1]
    assert split.train["timestamp"].max() < split.parameters["validation_from"]  # type: ignore[operator]
    assert split.validation["timestamp"].max() < split.parameters["test_from"]  # type: ignore[operator]
    assert split.test["timestamp"].min() >= split.parameters["test_from"]  # type: ignore[operator]


@settings(max_examples=60, deadline=None)
@given(rows=_ROWS, repeats=_REPEATS)
def test_histories_agree_with_a_plain_loop_and_with_the_counts(
    rows: list[tuple[str, str, int]], repeats: str
):
    for split in _splits(_dataset(rows, repeats=repeats)):
        for part, past, future in (
            ("validation", [split.train], split.validation),
            ("test", [split.train, split.validation], split.test),
        ):
            seen: dict[int, list[int]] = {}
            for row in pl.concat(past).rows(named=True):
                seen.setdefault(row["user_index"], []).append(row["item_index"])
            wanted: dict[int, list[int]] = {}
            for row in future.rows(named=True):
                if row["user_index"] in seen:
                    wanted.setdefault(row["user_index"], []).append(row["item_index"])
            held_out = histories(split, part)  # type: ignore[arg-type]
            assert held_out.users.tolist() == sorted(wanted)
            assert [history.tolist() for history in held_out.histories] == [seen[u] for u in sorted(wanted)]
            assert [held_out.targets(i).tolist() for i in range(held_out.n_users)] == [
                wanted[u] for u in sorted(wanted)
            ]
            assert held_out.n_targets == getattr(split, f"n_{part}_targets")
            if repeats == "first":
                for row, history in enumerate(held_out.histories):
                    assert not set(held_out.targets(row).tolist()) & set(history.tolist())


def test_a_million_rows_load_and_split_in_seconds():
    rng = np.random.default_rng(0)
    n = 1_000_000
    log = pl.DataFrame(
        {
            "user_id": rng.integers(0, 50_000, n),
            "item_id": rng.zipf(1.3, n) % 20_000,
            "timestamp": 1_600_000_000 + rng.integers(0, 400, n) * 86_400,
        }
    )
    items = pl.DataFrame({"item_id": range(20_000), "title": [f"Item {i}" for i in range(20_000)]})
    start = time.perf_counter()
    dataset = build_dataset(check_interactions(log), check_catalogue(items))
    for split in (split_by_time(dataset), split_leave_last_out(dataset)):
        histories(split, "test")
    # About 2 s on two cores; the bound only guards against a loop over rows (minutes).
    assert time.perf_counter() - start < 20
