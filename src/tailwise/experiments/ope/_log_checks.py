"""What a log must not hold, said with counts."""

from typing import NoReturn

import polars as pl

from tailwise.errors import DataError
from tailwise.interactions._columns import first_offenders
from tailwise.schema import ITEM, USER

__all__ = [
    "check_positions",
    "check_propensities",
    "check_rewards",
    "check_target_propensities",
    "refuse_deterministic",
]

_LIST = "recommendation_id"


def check_propensities(values: pl.Series, source: str) -> None:
    """Refuse propensities that are missing or outside (0, 1].

    Raises:
        DataError: with the count of each kind.
    """
    counts = {
        "missing": values.null_count(),
        "zero": int((values == 0).sum()),
        "below zero": int((values < 0).sum()),
        "above 1": int((values > 1).sum()),
    }
    if any(counts.values()):
        found = ", ".join(f"{n:,} {what}" for what, n in counts.items() if n)
        raise DataError(
            f"propensity must be in (0, 1]; got {found} among {len(values):,} slots.\n"
            f"  In {source}. Whoever drew the lists must log with what probability; it cannot be made up "
            "later. Take out lists for which it is not known."
        )


def check_rewards(values: pl.Series, source: str) -> None:
    """Refuse rewards that are missing or infinite.

    Raises:
        DataError: with the counts.
    """
    n_missing, n_infinite = values.null_count(), int(values.is_infinite().sum())
    if n_missing or n_infinite:
        raise DataError(
            f"reward must be a finite number; got {n_missing:,} missing and {n_infinite:,} infinite among "
            f"{len(values):,} slots.\n"
            f"  In {source}. Write 0 where nothing was clicked or bought; take out lists whose outcome is "
            "not known yet."
        )


def check_target_propensities(values: pl.Series, source: str) -> None:
    """Refuse probabilities of the evaluated policy that are missing or outside [0, 1].

    Raises:
        DataError: with the counts.
    """
    n_missing, n_outside = values.null_count(), int(((values < 0) | (values > 1)).sum())
    if n_missing or n_outside:
        raise DataError(
            f"target_propensity must be in [0, 1]; got {n_missing:,} missing and {n_outside:,} outside among "
            f"{len(values):,} slots.\n"
            f"  In {source}. 0 is right for an item that the policy would never show there."
        )


def check_positions(slots: pl.DataFrame, source: str, *, is_prefix_needed: bool) -> None:
    """Refuse lists whose slots are not what a list can be.

    Raises:
        DataError: a position is no whole number >= 1 or repeats in a list, a list has an item twice or
            two users, or places before a slot are missing while its propensity depends on them.
    """
    place = slots["position"]
    bad = place.filter((place < 1) | (place != place.round()))
    if len(bad):
        raise DataError(
            f"position must be a whole number >= 1; got {len(bad):,} others ({first_offenders(bad)}).\n"
            f"  In {source}. 1 is the first place."
        )
    per_list = slots.group_by(_LIST, maintain_order=True).agg(
        pl.len().alias("n"),
        pl.col("position").n_unique().alias("places"),
        pl.col("position").max().alias("last"),
        pl.col(ITEM).n_unique().alias("items"),
        (pl.col(USER).n_unique() if USER in slots.columns else pl.lit(1)).alias("users"),
    )
    joined = "Check how slots and rewards were joined."
    rules = [
        (pl.col("places") < pl.col("n"), "position must not repeat in a list", joined),
        (pl.col("items") < pl.col("n"), "item_id must not repeat in a list", joined),
        (pl.col("users") > 1, "user_id must be the same in all slots of a list", joined),
    ]
    if is_prefix_needed:
        gap = "positions of a list must be 1, 2, 3, ... without a gap"
        need = "A conditional propensity needs the places before; where single slots are logged, pass the "
        rules.append((pl.col("last") > pl.col("n"), gap, need + 'marginal ones and propensities="marginal".'))
    for broken, rule, remedy in rules:
        lists = per_list.filter(broken)[_LIST]
        if len(lists):
            raise DataError(
                f"{rule}; got {len(lists):,} of {per_list.height:,} lists ({first_offenders(lists)}).\n"
                f"  In {source}. {remedy}"
            )


def refuse_deterministic(n_lists: int, source: str, *, by_flag: bool) -> NoReturn:
    """Say that a log supports no other policy, and what would.

    Raises:
        DataError: always.
    """
    why = "is_explored is false everywhere" if by_flag else "every propensity is 1"
    raise DataError(
        f"lists must have been drawn to say what other lists would earn; got {n_lists:,} lists in {source}, "
        f"none of them drawn ({why}).\n"
        "  Turn on exploration (Gumbel top-k with logged propensities) for a share of the requests, in our "
        "service explore_share = 0.05: 5 % is a start, until some thousands of drawn lists are logged."
    )
