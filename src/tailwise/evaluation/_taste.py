"""What users like of the tail, against what they are shown of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import binom

from tailwise.errors import DataError
from tailwise.evaluation._evaluate import check_inputs
from tailwise.evaluation._exposure import check_list_length
from tailwise.evaluation._own_taste import TASTE_GROUPS, OwnTaste, TasteRows, shown_slots
from tailwise.evaluation._rankings import Rankings
from tailwise.evaluation._user_sums import UserSums, bootstrap, build, mean_over_seeds
from tailwise.evaluation._with_interval import WithInterval
from tailwise.schema import USER_INDEX
from tailwise.segments import Segments

__all__ = ["TASTE_GROUPS", "TasteForTheTail", "TasteGroup", "taste_for_the_tail"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class TasteGroup:
    """A third of the users by their own tail share.

    Attributes:
        name: In :data:`TASTE_GROUPS`.
        n_users: Users of equal share stay together, so thirds may differ in size, or be empty.
        own_tail_share: Mean share of tail items in the half of their history that did not decide
            on the group, 0–1.
        shown_tail_share: Mean share of tail items in their list, 0–1.
        difference: Shown minus own.
    """

    name: str
    n_users: int
    own_tail_share: WithInterval
    shown_tail_share: WithInterval
    difference: WithInterval

    def as_dict(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return {
            "name": self.name,
            "n_users": self.n_users,
            "own_tail_share": self.own_tail_share.as_dict(),
            "shown_tail_share": self.shown_tail_share.as_dict(),
            "difference": self.difference.as_dict(),
        }


@dataclass(frozen=True)
class TasteForTheTail:
    """Whether lists follow their users into the tail. Every user counts alike.

    Attributes:
        k: Slots of each list that count.
        tail: Name of the segment that is the tail.
        n_users: With a training history and a filled slot; all numbers are about these.
        n_users_without_history: With a list and without training rows, left out.
        n_users_without_slot: With an empty list, left out.
        own_tail_share: Mean share of tail items in the user's training history, 0–1.
        shown_tail_share: Mean share of tail items in the user's list, 0–1 (APLT of these users).
        shown_cold_share: Mean share of never-trained items in the list; no history holds them, and
            they count neither as tail nor against it.
        difference: Mean of shown minus own.
        shown_less_share: Share of users shown less tail than their own share.
        shown_less_by_chance: What that share would be if every slot were drawn from the user's own
            history: short lists cannot hit a share exactly.
        correlation: Pearson's, of own and shown share over users; with ``reliability`` r it cannot be
            expected to exceed √r, however well lists follow taste.
        reliability: Of the own share as a measure of taste: split-half correlation of the history,
            stepped up to its full length (Spearman–Brown). None where histories are too short.
        groups: Niche, mixed and mainstream users, by a random half of their history; the other half
            is their own share, so that chance in a short history does not pass for taste.
        n_users_not_grouped: With a history of one item, which has no halves.
    """

    k: int
    tail: str
    n_users: int
    n_users_without_history: int
    n_users_without_slot: int
    own_tail_share: WithInterval
    shown_tail_share: WithInterval
    shown_cold_share: WithInterval
    difference: WithInterval
    shown_less_share: WithInterval
    shown_less_by_chance: WithInterval
    correlation: WithInterval
    reliability: WithInterval
    groups: tuple[TasteGroup, ...]
    n_users_not_grouped: int

    def as_dict(self) -> dict[str, Any]:
        """Give plain JSON values."""
        found: dict[str, Any] = {}
        for name, value in vars(self).items():
            found[name] = value.as_dict() if isinstance(value, WithInterval) else value
        return found | {"groups": [group.as_dict() for group in self.groups]}


def taste_for_the_tail(
    rankings: Rankings | Sequence[Rankings],
    training: pl.DataFrame,
    segments: Segments,
    k: int = 10,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> TasteForTheTail:
    """Compare each user's own share of tail items with the share in the user's list.

    The tail is the last trained segment, as for ``aplt``. Own shares count training rows, so that
    held-out ones cannot leak.

    Args:
        rankings: Of one variant, or lists of any system; a sequence holds one per training seed.
        training: Encoded training rows: ``user_index``, ``item_index``.
        segments: Which items are tail.
        k: Slots that count, 1..list_length.
        n_resamples: Of the bootstrap over users.
        seed: Of the bootstrap, and of the halves.

    Raises:
        ValueError: ``k`` exceeds the stored list length.
        DataError: no user has both a history and a slot, or seeds hold different cases.

    Example:
        >>> from tailwise.evaluation import rank_targets
        >>> from tailwise.segments import segment_items
        >>> segments = segment_items(np.array([9, 1, 1]), head_share=0.4)
        >>> training = pl.DataFrame({"user_index": [0, 0, 1, 1], "item_index": [0, 1, 0, 0]})
        >>> r = rank_targets(lambda h: np.array([[3, 2, 1]] * 2), [[], []], [0, 0, 0], [], n_items=3)
        >>> found = taste_for_the_tail(r, training, segments, k=1)
        >>> found.own_tail_share.value, found.shown_tail_share.value, found.shown_less_share.value
        (0.25, 0.0, 0.5)
    """
    runs = check_inputs(rankings, segments)
    check_list_length(runs, [k])
    users = runs[0].lists[USER_INDEX].to_numpy()
    shown = [shown_slots(r, segments, k) for r in runs]  # one [n_users, 3] per seed: tail, cold, all slots
    rows = TasteRows.of(training, users, segments)
    n_own = rows.n_of_user
    has_slot = np.all([slots[:, 2] > 0 for slots in shown], axis=0)
    kept = (n_own > 0) & has_slot
    if not kept.any():
        raise DataError(
            "a user must have both a training history and a filled slot; got none among "
            f"{users.size:,} with a list.\n"
            "  Pass the training rows of the same users, encoded alike."
        )
    own = OwnTaste.of(rows, kept, seed)
    sums = mean_over_seeds([_sums(own, slots[kept], k) for slots in shown])
    values = _derived(sums.values()[None, :], sums)
    draws = _derived(bootstrap(sums, n_resamples=n_resamples, seed=seed), sums)
    sizes = {name: round(float(total)) for (name, _, _), total in zip(sums.keys, sums.totals, strict=True)}

    def number(name: str) -> WithInterval:
        return WithInterval.from_draws(float(values[name][0]), draws[name], sizes.get(name, sizes["own"]))

    return TasteForTheTail(
        k=k,
        tail=segments.names[-2],
        n_users=int(kept.sum()),
        n_users_without_history=int((n_own == 0).sum()),
        n_users_without_slot=int(((n_own > 0) & ~has_slot).sum()),
        own_tail_share=number("own"),
        shown_tail_share=number("shown"),
        shown_cold_share=number("cold"),
        difference=number("difference"),
        shown_less_share=number("less"),
        shown_less_by_chance=number("less_by_chance"),
        correlation=number("correlation"),
        reliability=number("reliability"),
        groups=tuple(
            TasteGroup(
                name=name,
                n_users=sizes[f"{name} own"],
                own_tail_share=number(f"{name} own"),
                shown_tail_share=number(f"{name} shown"),
                difference=number(f"{name} difference"),
            )
            for name in TASTE_GROUPS
        ),
        n_users_not_grouped=int(kept.sum()) - int(own.is_grouped.sum()),
    )


def _sums(own: OwnTaste, slots: Ints, k: int) -> UserSums:
    """Everything as means over users, so that one bootstrap serves all: ``slots`` are of the kept users."""
    tail, cold, n_slots = slots.T
    taste, shown = own.tail / own.size, tail / n_slots
    # Whole numbers, so that equal shares are equal: less is tail/n_slots < own.tail/own.size.
    less = tail * own.size < own.tail * n_slots
    most_below = (own.tail * n_slots - 1) // own.size  # largest number of tail slots that is less
    x, y = taste - 0.5, shown - 0.5
    a, b = own.first - 0.5, own.second - 0.5
    everyone = {
        "own": taste,
        "shown": shown,
        "cold": cold / n_slots,
        "difference": shown - taste,
        "less": less.astype(np.float64),
        "less_by_chance": binom.cdf(most_below, n_slots, taste),
        "x": x,
        "y": y,
        "xx": x * x,
        "yy": y * y,
        "xy": x * y,
    }
    halves = {"a": a, "b": b, "aa": a * a, "bb": b * b, "ab": a * b}
    columns: list[tuple[tuple[str, int, str | None], Floats, int]] = []
    columns += [((name, k, None), values, 0) for name, values in everyone.items()]
    columns += [((name, k, None), values * own.is_grouped, 1) for name, values in halves.items()]
    denominators = [np.ones(taste.size), own.is_grouped.astype(np.float64)]
    for i, group in enumerate(TASTE_GROUPS):
        mask = (own.group == i).astype(np.float64)
        denominators.append(mask)
        of_group = {"own": own.second, "shown": shown, "difference": shown - own.second}
        columns += [((f"{group} {name}", k, None), values * mask, i + 2) for name, values in of_group.items()]
    return build(columns, denominators)


def _derived(means: Floats, sums: UserSums) -> dict[str, Floats]:
    """Means by name, each ``[r]``, with the two correlations made of them."""
    found = {name: means[:, i] for i, (name, _, _) in enumerate(sums.keys)}
    found["correlation"] = _correlation(*(found[name] for name in ("x", "y", "xx", "yy", "xy")))
    halves = _correlation(*(found[name] for name in ("a", "b", "aa", "bb", "ab")))
    positive = np.maximum(halves, 0.0)
    found["reliability"] = np.where(halves > 0, 2 * positive / (1 + positive), halves)
    return found


def _correlation(x: Floats, y: Floats, xx: Floats, yy: Floats, xy: Floats) -> Floats:
    """Pearson's correlation from means; NaN where one of the two does not vary."""
    of_x, of_y = xx - x * x, yy - y * y
    varies = (of_x > 1e-12) & (of_y > 1e-12)  # shares are at least 1e-6 apart where they differ at all
    below = np.sqrt(np.where(varies, of_x * of_y, 1.0))
    return np.asarray(np.where(varies, (xy - x * y) / below, np.nan), dtype=np.float64)
