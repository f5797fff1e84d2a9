import json
import warnings

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwise.errors import DataError
from tailwise.evaluation import (
    UNRANKED,
    check_lists,
    compare,
    encode_lists,
    evaluate_variant,
    mean_ndcg,
    rank_targets,
    target_values,
)
from tailwise.interactions import (
    build_dataset,
    check_catalogue,
    check_interactions,
    histories,
    split_by_time,
)
from tailwise.segments import popularity, segment_items

N_USERS, N_ITEMS = 30, 25


@pytest.fixture(scope="module")
def data():
    """30 users over 25 items; some users have no held-out row, some no training row."""
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user:02d}", f"i{item:02d}", int(rng.integers(0, 1000)))
        for user in range(N_USERS)
        for item in rng.choice(N_ITEMS - 3, rng.integers(2, 9), replace=False)
    ]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": [f"i{i:02d}" for i in range(N_ITEMS)], "title": "thing"})
    return build_dataset(check_interactions(log), check_catalogue(items))


@pytest.fixture(scope="module")
def split(data):
    return split_by_time(data, validation_share=0.2, test_share=0.2)


@pytest.fixture(scope="module")
def segments(split):
    return segment_items(popularity(split.train, N_ITEMS))


def rows_of(lists):
    """A table from user -> items, best first."""
    return pl.DataFrame(
        [(user, item, rank) for user, items in lists.items() for rank, item in enumerate(items, 1)],
        schema=["user_id", "item_id", "rank"],
        orient="row",
    )


def encode(data, split, lists, **arguments):
    table = lists if isinstance(lists, pl.DataFrame) else rows_of(lists)
    repeated = arguments.pop("repeated_items", "error")
    return encode_lists(check_lists(table, repeated_items=repeated), data.catalogue, split, **arguments)


def complete_lists(data, held_out, scores, exclude_seen=True):
    """Every item that may be shown to each evaluated user, with its score."""
    ids = data.catalogue.items["item_id"].to_list()
    names = dict(data.interactions.select("user_index", "user_id").unique().rows())
    return pl.DataFrame(
        [
            (names[user], ids[item], float(scores[row, item]))
            for row, user in enumerate(held_out.users.tolist())
            for item in range(len(ids))
            if not exclude_seen or item not in held_out.histories[row]
        ],
        schema=["user_id", "item_id", "score"],
        orient="row",
    )


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_complete_lists_of_scores_give_the_rankings_of_the_scores_ties_and_all(data, split, exclude_seen):
    held_out = histories(split, "test")
    scores = np.random.default_rng(1).integers(0, 4, (held_out.n_users, N_ITEMS)).astype(np.float32)
    expected = rank_targets(
        lambda batch: scores,
        held_out.histories,
        held_out.target_offsets,
        held_out.target_items,
        n_items=N_ITEMS,
        users=held_out.users,
        list_length=7,
        exclude_seen=exclude_seen,
    )
    lists = complete_lists(data, held_out, scores, exclude_seen)
    rankings, checks = encode(data, split, lists.sample(fraction=1, shuffle=True, seed=2), list_length=7)
    assert rankings.targets.equals(expected.targets)
    assert rankings.lists.equals(expected.lists)
    assert checks.exclude_seen is exclude_seen
    assert checks.n_seen_slots == (0 if exclude_seen else checks.n_seen_slots)
    assert checks.n_tied_slots > 0


def test_a_target_at_rank_three_has_two_better_items_and_an_unlisted_one_is_a_miss(data, split):
    held_out = histories(split, "test")
    names = dict(data.interactions.select("user_index", "user_id").unique().rows())
    ids = data.catalogue.items["item_id"].to_list()
    user, target = names[int(held_out.users[0])], int(held_out.targets(0)[0])
    others = [i for i in range(N_ITEMS) if i not in held_out.targets(0)][:3]
    rankings, checks = encode(
        data, split, {user: [ids[others[0]], ids[others[1]], ids[target], ids[others[2]]]}
    )
    rows = rankings.targets.filter(pl.col("user_index") == held_out.users[0])
    assert rows.filter(pl.col("item_index") == target)["n_better"].to_list() == [2]
    missed = rankings.targets.filter(pl.col("n_better") == UNRANKED).height
    assert missed == held_out.n_targets - 1
    assert checks.n_listed_targets == 1
    assert mean_ndcg(rankings, 10) == pytest.approx(0.5 / held_out.n_targets)
    assert target_values(rankings, "recall", 2).sum() == 0


def test_targets_of_users_without_a_list_are_misses_and_counted(data, split):
    held_out = histories(split, "test")
    names = dict(data.interactions.select("user_index", "user_id").unique().rows())
    listed = names[int(held_out.users[0])]
    rankings, checks = encode(data, split, {listed: ["i00"]})
    assert rankings.n_users == held_out.n_users
    assert checks.n_users_without_list == data.n_users - 1
    assert checks.n_evaluated_users_without_list == held_out.n_users - 1
    assert checks.n_targets_without_list == held_out.n_targets - len(held_out.targets(0))
    assert checks.users_by_length == {0: held_out.n_users - 1, 1: 1}
    assert checks.n_users_with_short_list == 0


def test_users_without_targets_count_for_exposure_and_not_for_accuracy(data, split, segments):
    held_out = histories(split, "test")
    evaluated = set(held_out.users.tolist())
    names = dict(data.interactions.select("user_index", "user_id").unique().rows())
    others = [u for u in names if u not in evaluated]
    assert others
    lists = {names[u]: ["i24", "i23"] for u in others} | {names[u]: ["i00", "i01"] for u in evaluated}
    everyone, checks = encode(data, split, lists)
    fewer, of_evaluated = encode(data, split, lists, users="evaluated")
    assert checks.n_users_without_targets == len(others)
    assert everyone.targets.equals(fewer.targets)
    assert everyone.n_users == len(names)
    assert fewer.lists["user_index"].to_list() == sorted(evaluated)
    assert (of_evaluated.n_left_out_users, of_evaluated.n_left_out_rows) == (len(others), 2 * len(others))
    share = {
        row["segment"]: row["value"]
        for row in evaluate_variant(everyone, segments, ks=(2,), decile_k=2, n_resamples=20)["exposure"]
        if row["metric"] == "slot_share"
    }
    assert share["cold"] == pytest.approx(len(others) / len(names))  # i23 and i24 are in nobody's history


def test_two_systems_can_be_compared_on_the_evaluated_users(data, split, segments):
    rng = np.random.default_rng(3)
    users = data.interactions["user_id"].unique().sort().to_list()
    ids = data.catalogue.items["item_id"].to_list()
    one = {u: rng.permutation(ids)[:10].tolist() for u in users}
    other = {u: rng.permutation(ids)[:10].tolist() for u in users[:20]}
    first, _ = encode(data, split, one, users="evaluated")
    second, _ = encode(data, split, other, users="evaluated", list_length=10)
    difference = compare(first, second, segments, metric="ndcg", k=10)
    assert difference.n_users == histories(split, "test").n_users
    held_out = histories(split, "test")
    ours = rank_targets(
        lambda batch: rng.random((len(batch), N_ITEMS)),
        held_out.histories,
        held_out.target_offsets,
        held_out.target_items,
        n_items=N_ITEMS,
        users=held_out.users,
    )
    assert compare(ours, second, segments, metric="recall", k=5).n_users == held_out.n_users


def test_unknown_items_are_an_error_and_on_request_dropped_with_the_gap_closed(data, split):
    lists = {"u00": ["zz", "i01", "i02"], "u01": ["i05"], "u02": ["zz"]}
    message = r"(?s)2 of 5 rows list items absent from the catalogue \(first: 'zz'\).*unknown_items='drop'"
    with pytest.raises(DataError, match=message):
        encode(data, split, lists)
    rankings, checks = encode(data, split, lists, unknown_items="drop", part=None)
    assert rankings.lists["items"].to_list() == [[1, 2], [5]]
    assert (checks.n_unknown_item_rows_dropped, checks.n_unknown_items, checks.n_users_emptied) == (2, 1, 1)
    assert checks.n_users_without_list == data.n_users - 3
    assert checks.n_users_with_list == 2


def test_unknown_users_are_an_error_and_on_request_dropped(data, split):
    lists = {"u00": ["i01"], "eve": ["i01", "zz"]}
    message = r"(?s)2 of 3 rows are of 1 users who are not in the data \(first: 'eve'\).*unknown_users='drop'"
    with pytest.raises(DataError, match=message):
        encode(data, split, lists)
    rankings, checks = encode(data, split, lists, unknown_users="drop", part=None)
    assert rankings.n_users == 1
    # a row that is unknown on both sides is counted once
    assert (checks.n_unknown_user_rows_dropped, checks.n_unknown_users) == (2, 1)
    assert checks.n_unknown_item_rows_dropped == 0


@pytest.mark.parametrize(
    ("user", "item", "reason"),
    [
        (" u00", "i01", "surrounding spaces"),
        ("U00", "i01", "upper and lower case"),
        ("u00", "i01.0", "a decimal part '.0'"),
        ("00u00", "i01", "leading zeros"),
    ],
)
def test_an_identifier_that_only_a_spreadsheet_changed_is_recognised(data, split, user, item, reason):
    with pytest.raises(DataError, match=f"1 of them match but for {reason}"):
        encode(data, split, {user: [item]})


def test_rows_of_which_nothing_is_known_are_an_error_even_when_dropped(data, split):
    with pytest.raises(DataError, match="a row must name a user and an item of the data; got 0 of 2"):
        encode(data, split, {"eve": ["i01"], "u00": ["zz"]}, unknown_users="drop", unknown_items="drop")


def test_lists_of_no_evaluated_user_are_an_error_unless_exposure_alone_is_asked_for(data, split):
    evaluated = set(histories(split, "test").users.tolist())
    names = dict(data.interactions.select("user_index", "user_id").unique().rows())
    other = next(name for user, name in names.items() if user not in evaluated)
    with pytest.raises(DataError, match=r"(?s)lists must hold a user with test .*got 1 users.*part=None"):
        encode(data, split, {other: ["i01"]})
    rankings, checks = encode(data, split, {other: ["i01"]}, part=None)
    assert (rankings.targets.height, checks.n_targets) == (0, 0)


def test_seen_items_are_counted_and_stay(data, split):
    held_out = histories(split, "test")
    names = dict(data.interactions.select("user_index", "user_id").unique().rows())
    ids = data.catalogue.items["item_id"].to_list()
    user, seen = names[int(held_out.users[0])], held_out.histories[0]
    unseen = [i for i in range(N_ITEMS) if i not in seen]
    lists = {user: [ids[seen[0]], ids[unseen[0]]]}
    rankings, checks = encode(data, split, lists)
    assert rankings.lists["items"].to_list()[0] == [seen[0], unseen[0]]
    assert (checks.n_seen_slots, checks.n_users_shown_seen, checks.seen_slot_share) == (1, 1, 0.5)
    assert not checks.exclude_seen
    assert rankings.lists["seen"].list.len().sum() == 0
    forced, _ = encode(data, split, lists, exclude_seen=True)
    assert forced.lists["seen"].to_list()[0] == np.unique(seen).tolist()


@pytest.mark.parametrize(("part", "n_seen"), [(None, 3), ("test", 2), ("validation", 1)])
def test_history_is_what_came_before_the_part_that_is_judged(data, split, part, n_seen):
    users = [set(getattr(split, p)["user_index"]) for p in ("train", "validation", "test")]
    user = min(set.intersection(*users))
    rows = [getattr(split, p).filter(pl.col("user_index") == user) for p in ("train", "validation", "test")]
    lists = {rows[0]["user_id"][0]: [r["item_id"][0] for r in rows]}
    _, checks = encode(data, split, lists, part=part)
    assert checks.n_seen_slots == n_seen


def test_an_item_seen_twice_is_one_seen_item():
    log = pl.DataFrame({"user_id": ["ann"] * 5, "item_id": [0, 0, 1, 2, 0], "timestamp": range(5)})
    items = pl.DataFrame({"item_id": range(4), "title": "thing"})
    data = build_dataset(check_interactions(log), check_catalogue(items), repeats="keep")
    split = split_by_time(data, validation_share=0.2, test_share=0.2)
    rankings, checks = encode(data, split, {"ann": ["3", "0"]}, exclude_seen=True)
    assert rankings.lists["seen"].to_list() == [[0, 1, 2]]
    assert (checks.n_seen_slots, checks.n_listed_targets) == (1, 1)


def test_equal_scores_earn_their_mean_over_orders_across_the_end_of_the_list(data, split):
    held_out = histories(split, "test")
    names = dict(data.interactions.select("user_index", "user_id").unique().rows())
    ids = data.catalogue.items["item_id"].to_list()
    target = int(held_out.targets(0)[0])
    others = [i for i in range(N_ITEMS) if i not in held_out.targets(0)][:4]
    rows = pl.DataFrame(
        {
            "user_id": [names[int(held_out.users[0])]] * 5,
            "item_id": [ids[i] for i in [others[0], target, *others[1:]]],
            "score": [2.0, 1.0, 1.0, 1.0, 0.0],
        }
    )
    rankings, checks = encode(data, split, rows, list_length=2)
    found = rankings.targets.filter(pl.col("n_better") < UNRANKED)
    assert found.select("n_better", "n_tied").rows() == [(1, 2)]
    # ranks 2, 3, 4 with equal chance, of which only rank 2 is within two places
    assert target_values(rankings, "recall", 2).sum() == pytest.approx(1 / 3)
    assert (checks.n_slots, checks.n_rows_beyond_length) == (2, 3)
    assert (checks.n_tied_slots, checks.n_users_with_ties) == (1, 1)


def test_minus_zero_ties_with_zero(data, split):
    rows = pl.DataFrame({"user_id": ["u00"] * 2, "item_id": ["i01", "i02"], "score": [0.0, -0.0]})
    _, checks = encode(data, split, rows, part=None)
    assert checks.n_tied_slots == 2


def test_ranks_stand_as_shown_whatever_the_scores(data, split):
    rows = pl.DataFrame(
        {
            "user_id": ["u00"] * 3,
            "item_id": ["i05", "i02", "i09"],
            "rank": [1, 2, 3],
            "score": [1.0, 1.0, 1.0],
        }
    )
    rankings, checks = encode(data, split, rows, part=None)
    assert rankings.lists["items"].to_list() == [[5, 2, 9]]
    assert (checks.n_tied_slots, checks.order) == (0, "rank and score")


def test_order_of_tied_items_differs_between_users_and_not_between_calls(data, split):
    users = data.interactions["user_id"].unique().sort().to_list()
    rows = pl.DataFrame([(u, f"i{i:02d}", 1.0) for u in users for i in range(8)], orient="row")
    rows.columns = ["user_id", "item_id", "score"]
    first, _ = encode(data, split, rows, part=None)
    again, _ = encode(data, split, rows.reverse(), part=None)
    other, _ = encode(data, split, rows, part=None, seed=1)
    assert first.lists.equals(again.lists)
    assert not first.lists.equals(other.lists)
    assert first.lists["items"].list.first().n_unique() > 4


def reference(table, data, split, *, part, list_length, users):
    """The same by loops: lists by user, targets found, counts."""
    items = {name: i for i, name in enumerate(data.catalogue.items["item_id"])}
    index = dict(data.interactions.select("user_id", "user_index").unique().rows())
    held_out = histories(split, part)
    by_user, unknown_items, unknown_users = {}, 0, 0
    for row in table.iter_rows(named=True):
        if row["user_id"] not in index:
            unknown_users += 1
        elif row["item_id"] not in items:
            unknown_items += 1
        else:
            key = row["rank"] if "rank" in row else -row["score"]
            by_user.setdefault(index[row["user_id"]], []).append((key, items[row["item_id"]]))
    targets = []
    for position, user in enumerate(held_out.users.tolist()):
        listed = by_user.get(user, [])
        for target in sorted(held_out.targets(position).tolist()):
            own = [key for key, item in listed if item == target]
            better = sum(key < own[0] for key, _ in listed) if own else UNRANKED
            tied = sum(key == own[0] for key, _ in listed) - 1 if own else 0
            targets.append((user, target, better, tied))
    kept = {u: rows for u, rows in by_user.items() if users == "listed" or u in held_out.users}
    slots = {u: [key for key, _ in sorted(rows)][:list_length] for u, rows in kept.items()}
    counts = {
        "n_unknown_user_rows_dropped": unknown_users,
        "n_unknown_item_rows_dropped": unknown_items,
        "n_slots": sum(map(len, slots.values())),
        "n_rows_beyond_length": sum(len(rows) for rows in kept.values()) - sum(map(len, slots.values())),
        "n_left_out_rows": sum(len(rows) for u, rows in by_user.items() if u not in kept),
        "n_users_with_list": len(kept),
        "n_evaluated_users_without_list": sum(u not in by_user for u in held_out.users.tolist()),
        "n_listed_targets": sum(better < UNRANKED for _, _, better, _ in targets),
    }
    keys = {(u, item): key for u, rows in kept.items() for key, item in rows}
    return targets, slots, keys, counts


@given(
    seed=st.integers(0, 2**32 - 1),
    order=st.sampled_from(["rank", "score"]),
    part=st.sampled_from(["test", "validation"]),
    users=st.sampled_from(["listed", "evaluated"]),
    list_length=st.integers(1, 9),
)
@settings(max_examples=40, deadline=None)
def test_encoding_follows_the_slow_reference(data, split, *, seed, order, part, users, list_length):
    rng = np.random.default_rng(seed)
    people = [f"u{u:02d}" for u in range(N_USERS)] + ["eve", "mallory"]
    names = [*data.catalogue.items["item_id"].to_list(), "zz", "yy"]
    rows = []
    for user in rng.permutation(people)[: rng.integers(20, 32)].tolist():
        listed = rng.permutation(names)[: rng.integers(1, 8)].tolist()
        keys = range(1, len(listed) + 1) if order == "rank" else rng.integers(0, 4, len(listed)).tolist()
        rows += [(user, item, key) for item, key in zip(listed, keys, strict=True)]
    rng.shuffle(rows)
    table = pl.DataFrame(rows, schema=["user_id", "item_id", order], orient="row")
    table = table.with_columns(pl.col(order).cast(pl.Float64))
    targets, slots, keys, counts = reference(
        table, data, split, part=part, list_length=list_length, users=users
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # now and then no target is listed
        rankings, checks = encode(
            data,
            split,
            table,
            part=part,
            users=users,
            list_length=list_length,
            unknown_items="drop",
            unknown_users="drop",
        )
    assert rankings.targets.rows() == targets
    for user, items in rankings.lists.select("user_index", "items").iter_rows():
        assert [keys[user, item] for item in items] == slots.get(user, [])  # in order, up to ties
        assert len(set(items)) == len(items)
    assert {name: getattr(checks, name) for name in counts} == counts
    # Every row read is somewhere, and so is every user of the data.
    assert checks.n_rows_read == (
        checks.n_repeated_rows_dropped
        + checks.n_unknown_user_rows_dropped
        + checks.n_unknown_item_rows_dropped
        + checks.n_left_out_rows
        + checks.n_rows_beyond_length
        + checks.n_slots
    )
    assert checks.n_users == (
        checks.n_users_with_list
        + checks.n_left_out_users
        + checks.n_users_emptied
        + checks.n_users_without_list
    )
    assert sum(n for n in checks.users_by_length.values()) == rankings.n_users
    assert sum(length * n for length, n in checks.users_by_length.items()) == checks.n_slots


@pytest.mark.parametrize(
    ("history", "part", "fitting"),
    [("all", "test", "before-test"), ("all", "validation", "train"), ("before-test", "validation", "train")],
)
def test_lists_made_with_the_held_out_part_are_refused_for_accuracy(data, split, history, part, fitting):
    given_lists = check_lists(rows_of({"u00": ["i01"]}), made_with={"history": history})
    with pytest.raises(DataError, match=f"(?s)got history='{history}'.*--history {fitting}") as error:
        encode_lists(given_lists, data.catalogue, split, part=part)
    assert "part=None" in str(error.value)
    encode_lists(given_lists, data.catalogue, split, part=None)


@pytest.mark.parametrize(
    ("history", "part"), [("before-test", "test"), ("train", "test"), ("train", "validation")]
)
def test_lists_made_from_what_came_before_are_accepted(data, split, history, part):
    everyone = {f"u{u:02d}": ["i00", "i01", "i02", "i03", "i04"] for u in range(N_USERS)}
    given_lists = check_lists(rows_of(everyone), made_with={"history": history})
    assert encode_lists(given_lists, data.catalogue, split, part=part)[1].n_listed_targets > 0


def test_lists_without_any_target_where_chance_would_give_some_are_warned_about(data, split):
    held_out = histories(split, "test")
    names = dict(data.interactions.select("user_index", "user_id").unique().rows())
    ids = data.catalogue.items["item_id"].to_list()
    lists = {
        names[int(user)]: [ids[i] for i in range(N_ITEMS) if i not in held_out.targets(row)]
        for row, user in enumerate(held_out.users)
    }
    with pytest.warns(UserWarning, match=rf"some of the {held_out.n_targets} test targets; got none"):
        encode(data, split, lists)


def test_a_list_length_beyond_the_lists_leaves_empty_places(data, split, segments):
    everyone = {f"u{u:02d}": ["i00", "i01"] for u in range(N_USERS)}
    rankings, checks = encode(data, split, everyone, list_length=5)
    assert rankings.list_length == 5
    assert checks.n_users_with_short_list == data.n_users
    two, five = (
        evaluate_variant(rankings, segments, ks=(k,), decile_k=k, n_resamples=20)["accuracy"] for k in (2, 5)
    )
    assert [row["value"] for row in two] == [row["value"] for row in five]


def test_checks_are_json_and_a_text_that_names_what_was_done(data, split):
    lists = {"u00": ["zz", "i01", "i02"], "u01": ["i05"], "eve": ["i01"]}
    _, checks = encode(
        data, split, lists, part=None, unknown_items="drop", unknown_users="drop", list_length=1
    )
    told = json.loads(json.dumps(checks.as_dict()))
    assert told["users_by_length"] == [{"length": 1, "n_users": 2}]
    assert told["n_rows_read"] == 5
    text = str(checks)
    assert "2 slots of 2 users" in text
    for line in (
        "rows with an item outside the catalogue, dropped (lists close up): 1",
        "rows of unknown users, dropped: 1",
        "rows beyond the list length: 1",
        f"users of the data without a list: {data.n_users - 2:,} of {data.n_users:,}",
    ):
        assert line in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"part": "train"}, "part must be one of 'test', 'validation', None; got 'train'"),
        ({"users": "all"}, "users must be one of 'listed', 'evaluated'; got 'all'"),
        ({"unknown_items": "keep"}, "unknown_items must be one of 'error', 'drop'; got 'keep'"),
        ({"unknown_users": "keep"}, "unknown_users must be one of 'error', 'drop'; got 'keep'"),
        ({"list_length": 0}, "list_length must be at least 1; got 0"),
        ({"users": "evaluated", "part": None}, "users must be 'listed' where part is None"),
    ],
)
def test_an_argument_out_of_range_is_refused_by_name(data, split, arguments, message):
    with pytest.raises(ValueError, match=message):
        encode(data, split, {"u00": ["i01"]}, **arguments)


def test_a_catalogue_of_another_split_is_refused(data, split):
    fewer = check_catalogue(data.catalogue.items.head(20))
    with pytest.raises(DataError, match="catalogue must be the split's, with 25 items; got 20"):
        encode_lists(check_lists(rows_of({"u00": ["i01"]})), fewer, split)
