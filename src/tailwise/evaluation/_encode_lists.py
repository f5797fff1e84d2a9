"""From lists with a system's own identifiers to rankings that every metric understands."""

import warnings
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from tailwise.errors import DataError
from tailwise.evaluation._given_lists import RANK, SCORE, GivenLists
from tailwise.evaluation._list_checks import ListChecks, ListedUsers
from tailwise.evaluation._rank_targets import TieOrder
from tailwise.evaluation._rankings import UNRANKED, Rankings
from tailwise.interactions import Catalogue, HeldOut, Split, UnknownItems, histories
from tailwise.interactions._columns import first_offenders
from tailwise.schema import ITEM, ITEM_INDEX, USER, USER_INDEX

__all__ = ["encode_lists"]

Part = Literal["validation", "test"]

_SURELY_SOME = 7.0  # targets expected by chance; none found then has a probability below e^-7 < 0.001


def encode_lists(
    given: GivenLists,
    catalogue: Catalogue,
    split: Split,
    *,
    part: Part | None = "test",
    list_length: int | None = None,
    users: ListedUsers = "listed",
    unknown_items: UnknownItems = "error",
    unknown_users: UnknownItems = "error",
    exclude_seen: bool | None = None,
    seed: int = 0,
) -> tuple[Rankings, ListChecks]:
    """Turn lists of any system into :class:`Rankings`, and count everything unusual about them.

    A held-out target at place r of its user's list has r − 1 better items; one that is not in the list
    is a miss at every k. Where scores alone give the order, items of equal score are tied:
    accuracy is the mean over their orders, as everywhere, and in the list a hash of (seed, user,
    item) orders them, the same that :func:`rank_targets` uses.

    Args:
        given: From :func:`read_lists` or :func:`check_lists`.
        catalogue: What can be recommended.
        split: Of the same catalogue; tells users, histories and held-out targets.
        part: ``"test"`` or ``"validation"``: whose targets are looked for. What came before it is
            the users' history, and the lists must not know what comes after. None: no targets,
            exposure alone, and everything in the split is history.
        list_length: Items kept per user, >= 1. None: the longest list given.
        users: ``"listed"`` keeps every list. ``"evaluated"`` keeps those of users with held-out
            targets alone, so that two systems, or one and a run of ours, can be compared.
        unknown_items: Rows whose item the catalogue lacks are an ``"error"``, or ``"drop"``-ped: later
            items move up.
        unknown_users: Likewise for rows whose user the split lacks.
        exclude_seen: Whether the system leaves out items of the history; says what could have been
            recommended to a user, for ``pop_rsp``. None: yes if no list shows such an item.
        seed: Of the hash that orders equal scores.

    Returns:
        Rankings of every user with a list or with targets (who may have an empty list), and the checks.

    Raises:
        ValueError: an argument is unknown or out of range.
        DataError: users or items are unknown (with ``"error"``), no row is left, no evaluated
            user has a list, or the lists say that they were made with the held-out part.

    Example:
        >>> given = read_lists("lists.csv")  # doctest: +SKIP
        >>> rankings, checks = encode_lists(given, dataset.catalogue, split)  # doctest: +SKIP
        >>> evaluate_variant(rankings, segments, ks=(5, 10))  # doctest: +SKIP
    """
    _check_choice("part", part, ("test", "validation", None))
    _check_choice("users", users, ("listed", "evaluated"))
    _check_choice("unknown_items", unknown_items, ("error", "drop"))
    _check_choice("unknown_users", unknown_users, ("error", "drop"))
    if list_length is not None and list_length < 1:
        raise ValueError(f"list_length must be at least 1; got {list_length}.\n  None keeps whole lists.")
    if users == "evaluated" and part is None:
        raise ValueError("users must be 'listed' where part is None, which evaluates nobody; got 'evaluated'")
    if catalogue.n_items != split.n_items:
        raise DataError(
            f"catalogue must be the split's, with {split.n_items:,} items; got {catalogue.n_items:,}.\n"
            "  Take both from one data set."
        )
    _check_knowledge(given, part)

    rows = _with_indices(given, catalogue, split)
    known, n_dropped = _known(rows, given, catalogue, split, items=unknown_items, users=unknown_users)
    placed = _placed(known, split.n_items, seed)
    held_out = None if part is None else histories(split, part)
    targets = _targets(placed, held_out)
    _check_targets(targets, placed, given, split.n_items, part)

    evaluated = np.empty(0, np.int64) if held_out is None else held_out.users
    kept = placed
    if users == "evaluated":
        kept = placed.join(pl.DataFrame({USER_INDEX: evaluated}), on=USER_INDEX, how="semi")
    listed = kept[USER_INDEX].unique().to_numpy()
    length = int(kept["place"].to_numpy().max()) + 1 if list_length is None else list_length
    slots = kept.filter(pl.col("place") < length)
    ranked = np.union1d(listed, evaluated)
    past = _past(split, part, ranked)
    seen = slots.join(past, on=[USER_INDEX, ITEM_INDEX], how="semi")
    leaves_out = seen.height == 0 if exclude_seen is None else exclude_seen
    lists = _lists(ranked, slots, past if leaves_out else past.clear())
    rankings = Rankings(targets, lists, n_items=split.n_items, list_length=length)

    n_read = rows[USER_INDEX].drop_nulls().n_unique()  # users of the split with a row, known items or not
    n_placed = placed[USER_INDEX].n_unique()
    tied = slots.filter(pl.col("n_tied") > 0)
    lengths, n_of_length = np.unique(rankings.lists["items"].list.len().to_numpy(), return_counts=True)
    checks = ListChecks(
        source=given.source,
        order=given.order,
        part=part,
        users=users,
        n_rows_read=given.n_rows_read,
        n_repeated_rows_dropped=given.n_repeated_rows_dropped,
        **n_dropped,
        n_rows_beyond_length=kept.height - slots.height,
        n_left_out_rows=placed.height - kept.height,
        n_left_out_users=n_placed - listed.size,
        n_slots=slots.height,
        list_length=length,
        users_by_length=dict(zip(lengths.tolist(), n_of_length.tolist(), strict=True)),
        n_tied_slots=tied.height,
        n_users_with_ties=tied[USER_INDEX].n_unique(),
        n_seen_slots=seen.height,
        n_users_shown_seen=seen[USER_INDEX].n_unique(),
        exclude_seen=leaves_out,
        n_users=split.n_users,
        n_users_with_list=listed.size,
        n_users_emptied=n_read - n_placed,
        n_users_without_list=split.n_users - n_read,
        n_users_without_targets=int((~np.isin(listed, evaluated)).sum()),
        n_evaluated_users=evaluated.size,
        n_evaluated_users_without_list=int((~np.isin(evaluated, listed)).sum()),
        n_targets=targets.height,
        n_targets_without_list=int((~np.isin(targets[USER_INDEX].to_numpy(), listed)).sum()),
        n_listed_targets=targets.filter(pl.col("n_better") < UNRANKED).height,
    )
    return rankings, checks


def _check_choice(name: str, value: str | None, known: tuple[str | None, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}; got {value!r}")


def _check_knowledge(given: GivenLists, part: Part | None) -> None:
    """Refuse lists of ours that were made from the very rows that are held out."""
    known = None if given.made_with is None else given.made_with.get("history")
    if part is None or known is None or known == "train" or (known == "before-test" and part == "test"):
        return
    fitting = "before-test" if part == "test" else "train"
    raise DataError(
        f"lists must be made without the {part} part to be judged on it; got history={known!r}.\n"
        f"  In {given.source}. Make them with `tailwise recommend ... --history {fitting}`, or pass "
        "part=None to look at exposure alone."
    )


def _with_indices(given: GivenLists, catalogue: Catalogue, split: Split) -> pl.DataFrame:
    """The rows with ``user_index`` and ``item_index``, null where unknown."""
    tables = (split.train, split.validation, split.test)
    users = pl.concat([table.select(USER, USER_INDEX) for table in tables]).unique(USER)
    items = catalogue.items.select(ITEM, pl.int_range(catalogue.n_items, dtype=pl.Int64).alias(ITEM_INDEX))
    return given.table.join(users, on=USER, how="left").join(items, on=ITEM, how="left")


def _known(
    rows: pl.DataFrame,
    given: GivenLists,
    catalogue: Catalogue,
    split: Split,
    *,
    items: UnknownItems,
    users: UnknownItems,
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Rows whose user and item are known, and the counts of the others; or an error that names them."""
    of_users = rows.filter(pl.col(USER_INDEX).is_null())
    if of_users.height and users == "error":
        known = pl.concat([table[USER] for table in (split.train, split.validation, split.test)]).unique()
        raise DataError(
            f"{of_users.height:,} of {rows.height:,} rows are of {of_users[USER].n_unique():,} users who are "
            f"not in the data ({first_offenders(of_users[USER].unique().sort())}).\n"
            f"  In {given.source}.{_hint(of_users[USER], known)}\n"
            "  Load their interactions, or pass unknown_users='drop', which leaves them out and counts them."
        )
    rows = rows.filter(pl.col(USER_INDEX).is_not_null())
    of_items = rows.filter(pl.col(ITEM_INDEX).is_null())
    if of_items.height and items == "error":
        raise DataError(
            f"{of_items.height:,} of {rows.height:,} rows list items absent from the catalogue "
            f"({first_offenders(of_items[ITEM].unique().sort())}).\n"
            f"  In {given.source}; the catalogue is {catalogue.source}."
            f"{_hint(of_items[ITEM], catalogue.items[ITEM])}\n"
            "  Add them to the catalogue, or pass unknown_items='drop', which moves later items up and "
            "counts them."
        )
    rows = rows.filter(pl.col(ITEM_INDEX).is_not_null())
    if not rows.height:
        raise DataError(
            f"a row must name a user and an item of the data; got 0 of {given.table.height:,}.\n"
            f"  {given.source} belongs to other data, or writes its identifiers differently."
        )
    return rows, {
        "n_unknown_user_rows_dropped": of_users.height,
        "n_unknown_users": of_users[USER].n_unique(),
        "n_unknown_item_rows_dropped": of_items.height,
        "n_unknown_items": of_items[ITEM].n_unique(),
    }


def _hint(unknown: pl.Series, known: pl.Series) -> str:
    """Say so when identifiers differ only in what a spreadsheet or a float column tends to change."""
    value = pl.col("value")
    for reason, clean in (
        ("surrounding spaces", value.str.strip_chars()),
        ("upper and lower case", value.str.to_lowercase()),
        ("leading zeros", value.str.strip_chars_start("0")),
        ("a decimal part '.0'", value.str.strip_suffix(".0")),
    ):
        theirs, ours = (values.unique().to_frame("value").select(clean) for values in (unknown, known))
        n_close = theirs.join(ours.unique(), on="value", how="semi").height
        if n_close:
            return f"\n  {n_close:,} of them match but for {reason}."
    return ""


def _placed(rows: pl.DataFrame, n_items: int, seed: int) -> pl.DataFrame:
    """Rows in list order, each with its ``place`` (0 = first), ``n_better`` and ``n_tied`` in its list."""
    if RANK in rows.columns:  # as shown: nobody's order is open
        rows = rows.sort(USER_INDEX, RANK)
        place = _since_start(_starts(rows[USER_INDEX].to_numpy()))
        n_better, n_tied = place, np.zeros_like(place)
    else:
        users, items = rows[USER_INDEX].to_numpy(), torch.from_numpy(np.array(rows[ITEM_INDEX].to_numpy()))
        keys = TieOrder(n_items, seed).keys(users, items[:, None])[:, 0]  # [n_rows]
        rows = rows.with_columns(pl.Series("key", keys.numpy()))
        rows = rows.sort(USER_INDEX, SCORE, "key", descending=[False, True, False])
        users, scores = rows[USER_INDEX].to_numpy(), rows[SCORE].to_numpy()
        place = _since_start(_starts(users))
        tied = _starts(users, scores)  # where a run of equal scores begins
        n_better = place - _since_start(tied)
        group = np.cumsum(tied) - 1
        n_tied = np.bincount(group)[group] - 1
    return rows.select(USER_INDEX, ITEM_INDEX).with_columns(
        pl.Series("place", place), pl.Series("n_better", n_better), pl.Series("n_tied", n_tied)
    )


def _starts(*columns: NDArray[Any]) -> NDArray[np.bool_]:
    """``[n]``: whether a row differs from the one before in a column; the first does."""
    starts = np.ones(columns[0].size, dtype=np.bool_)
    starts[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return starts


def _since_start(starts: NDArray[np.bool_]) -> NDArray[np.int64]:
    """``[n]``: rows since the last start."""
    rows = np.arange(starts.size)
    return np.asarray(rows - np.maximum.accumulate(np.where(starts, rows, 0)), dtype=np.int64)


def _targets(placed: pl.DataFrame, held_out: HeldOut | None) -> pl.DataFrame:
    """Where each held-out target stands in its user's list; ``UNRANKED`` where it does not."""
    empty = np.empty(0, np.int64)
    users = empty if held_out is None else held_out.users[held_out.target_rows]
    items = empty if held_out is None else held_out.target_items
    cases = pl.DataFrame({USER_INDEX: users, ITEM_INDEX: items})
    found = cases.join(placed, on=[USER_INDEX, ITEM_INDEX], how="left", maintain_order="left")
    return found.select(
        USER_INDEX, ITEM_INDEX, pl.col("n_better").fill_null(UNRANKED), pl.col("n_tied").fill_null(0)
    )


def _check_targets(
    targets: pl.DataFrame, placed: pl.DataFrame, given: GivenLists, n_items: int, part: Part | None
) -> None:
    """Refuse lists of which no evaluated user has one; warn where no target is listed at all."""
    if not targets.height:
        return
    lengths = placed.group_by(USER_INDEX).len("n_listed")
    listed = targets.join(lengths, on=USER_INDEX, how="inner")
    if not listed.height:
        raise DataError(
            f"lists must hold a user with {part} targets; got {lengths.height:,} users, none of the "
            f"{targets[USER_INDEX].n_unique():,} with targets.\n"
            f"  In {given.source}. Pass part=None to look at exposure alone."
        )
    by_chance = float(listed["n_listed"].to_numpy().sum()) / n_items
    if (targets["n_better"] == UNRANKED).all() and by_chance >= _SURELY_SOME:
        warnings.warn(
            f"lists should hold some of the {targets.height:,} {part} targets; got none, where random lists "
            f"of this length would hold about {by_chance:,.0f}. In {given.source}. A system that was given "
            f"the {part} part leaves out what its users already have: make the lists without it, or pass "
            "part=None.",
            stacklevel=3,
        )


def _past(split: Split, part: Part | None, users: NDArray[np.int64]) -> pl.DataFrame:
    """Distinct (user, item) of these users' histories, sorted."""
    tables = [split.train]
    tables += [split.validation] if part != "validation" else []
    tables += [split.test] if part is None else []
    pairs = pl.concat([table.select(USER_INDEX, ITEM_INDEX) for table in tables])
    pairs = pairs.join(pl.DataFrame({USER_INDEX: users}), on=USER_INDEX, how="semi")
    return pairs.unique().sort(USER_INDEX, ITEM_INDEX)


def _lists(users: NDArray[np.int64], slots: pl.DataFrame, excluded: pl.DataFrame) -> pl.DataFrame:
    """A row per user: ``items`` and ``seen``, empty where there is nothing."""
    table = pl.DataFrame({USER_INDEX: users})
    for name, rows in (("items", slots), ("seen", excluded)):
        by_user = rows.group_by(USER_INDEX, maintain_order=True).agg(pl.col(ITEM_INDEX).alias(name))
        table = table.join(by_user, on=USER_INDEX, how="left")
    nothing = pl.lit([], dtype=pl.List(pl.Int64))
    return table.with_columns(pl.col("items").fill_null(nothing), pl.col("seen").fill_null(nothing))
