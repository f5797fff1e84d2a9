"""What is kept of users is used where it is true, and forgotten in time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from tailwise.errors import ConfigError
from tailwise.recommenders import IncrementalReader
from tailwise.serving._user_states import UserStates
from tests.serving.engines import MAX_LENGTH, N_ITEMS, sasrec

SASREC = sasrec()
ROUNDING = {"rtol": 1e-4, "atol": 2e-5}  # other shapes, other kernels: units in the last place of float32


def states(max_bytes: int = 10**7, window_hop: int = 1) -> UserStates:
    return UserStates(IncrementalReader(SASREC), max_bytes=max_bytes, window_hop=window_hop)


def ints(items) -> np.ndarray:
    return np.array(items, dtype=np.int64)


def check(kept: UserStates, users, histories) -> None:
    foreseen = sum(
        kept.n_to_read(u, ints(h))
        for u, h in {(u, *h): (u, h) for u, h in zip(users, histories, strict=True)}.values()
    )
    before = kept.n_items_read
    queries = kept.queries(users, [ints(h) for h in histories])
    assert kept.n_items_read - before <= foreseen  # less where several have the same history
    windows = [h[kept.begin_of(len(h)) :] for h in histories]
    assert_close((queries @ SASREC.item_vectors().T).detach(), SASREC.scores(windows), **ROUNDING)


# A change to a history: new items, others in place of the last, a shorter one, one without its first item.
changes = st.one_of(
    st.tuples(st.just("more"), st.lists(st.integers(0, N_ITEMS - 1), min_size=1, max_size=4)),
    st.tuples(st.just("other"), st.lists(st.integers(0, N_ITEMS - 1), min_size=1, max_size=1)),
    st.tuples(st.sampled_from(["shorter", "later", "same"]), st.just([])),
)


def changed(history: list[int], change: tuple[str, list[int]]) -> list[int]:
    kind, items = change
    if kind == "more":
        return history + items
    if kind == "other":
        return history[:-1] + items
    if kind == "shorter":
        return history[:-1] or history
    return (history[1:] or history) if kind == "later" else history


@settings(max_examples=40)
@given(
    rounds=st.lists(st.lists(st.tuples(st.sampled_from("abc"), changes), min_size=1, max_size=3), max_size=8),
    max_bytes=st.sampled_from([0, 1500, 6000, 10**7]),
    window_hop=st.sampled_from([1, 4, MAX_LENGTH]),
)
def test_no_history_is_ever_answered_from_what_is_no_longer_true(rounds, max_bytes, window_hop):
    kept = states(max_bytes, window_hop)
    histories = {user: [ord(user) % N_ITEMS, 1, 2] for user in "abc"}
    for together in rounds:
        for user, change in together:
            histories[user] = changed(histories[user], change)
        users = [user for user, _ in together]
        check(kept, users, [histories[user] for user in users])
        assert kept.nbytes <= max_bytes


def test_a_long_history_is_read_anew_at_every_item_or_once_in_a_hop():
    history = list(range(MAX_LENGTH))
    exact, hopping = states(), states(window_hop=4)
    for n in range(9):
        for kept in (exact, hopping):
            check(kept, ["u"], [history + [7] * n])
    assert (exact.n_anew, exact.n_grown) == (9, 0)
    assert exact.n_items_read == 9 * MAX_LENGTH
    # At 12, 13 and 17 items the window begins at 0, 4 and 8: it holds 12, 9 and 9 items then.
    assert (hopping.n_anew, hopping.n_grown) == (3, 6)
    assert hopping.n_items_read == 12 + 9 + 3 + 9 + 3


def test_a_window_of_hops_never_outgrows_the_model_nor_shrinks_by_more_than_a_hop():
    for hop in (1, 3, MAX_LENGTH):
        kept = states(window_hop=hop)
        for n in range(1, 60):
            length = n - kept.begin_of(n)
            assert min(n, MAX_LENGTH - hop + 1) <= length <= MAX_LENGTH


def test_the_same_history_in_a_batch_is_read_once():
    kept = states()
    check(kept, [None, "a", "b", None], [[1, 2], [1, 2], [1, 2], [3]])
    assert (kept.n_anew, kept.n_items_read, kept.n_queries) == (2, 3, 2)


def test_users_who_return_stay_and_the_others_go():
    kept = states()
    check(kept, ["a"], [[1, 2, 3]])
    room = 4 * kept.nbytes  # for the readings of about four users
    kept = states(max_bytes=room)
    for round_ in range(12):
        check(kept, ["regular", f"passer-by {round_}"], [[1, 2, 3] + [4] * (round_ % 3), [5, 6, round_]])
    assert kept.n_anew == 1 + 12
    assert kept.nbytes <= room


def test_a_user_who_is_forgotten_leaves_no_byte_and_the_others_stay():
    kept = states()
    check(kept, ["a"], [[1, 2, 3]])
    before = kept.nbytes
    check(kept, ["b"], [[4, 5, 6, 7]])
    kept.forget(["b", "nobody"])
    assert (kept.users(), kept.n_queries, kept.n_readings, kept.nbytes) == (["a"], 1, 1, before)
    check(kept, ["a", "b"], [[1, 2, 3], [4, 5, 6, 7]])
    assert (kept.n_unchanged, kept.n_anew) == (1, 3)


def test_a_hop_longer_than_the_window_is_refused():
    with pytest.raises(ConfigError, match=r"window_hop must be at most .* \(12\); got 13"):
        states(window_hop=13)
