"""Everything that was counted, changed or left out between a file of lists and its metrics."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["ListChecks", "ListedUsers"]

ListedUsers = Literal["listed", "evaluated"]


@dataclass(frozen=True)
class ListChecks:
    """What :func:`~tailwise.evaluation.encode_lists` found and did; no row disappears without a count here.

    A *slot* is a place of a kept list that shows an item.
    """

    source: str
    order: str
    """What the lists were ordered by: ``rank``, ``score`` or ``rank and score`` (then by rank)."""
    part: str | None
    """Held-out part whose targets are looked for; None = exposure alone."""
    users: ListedUsers
    n_rows_read: int
    n_repeated_rows_dropped: int
    """Rows that named an item a second time in a user's list."""
    n_unknown_item_rows_dropped: int
    n_unknown_items: int
    """Distinct items absent from the catalogue, in the rows that were dropped."""
    n_unknown_user_rows_dropped: int
    n_unknown_users: int
    n_rows_beyond_length: int
    """Rows after the first ``list_length`` of their list: targets there count as found that far down."""
    n_left_out_rows: int
    """Rows of users without held-out targets, where only evaluated users were asked for."""
    n_left_out_users: int
    n_slots: int
    """Of the kept lists; with rows dropped, left out and beyond the length they are the rows read."""
    list_length: int
    users_by_length: Mapping[int, int]
    """Length of a list -> users who have one so long, in ascending order; 0 = no list at all."""
    n_tied_slots: int
    """Slots whose score another item of the same list has too; only where scores alone give the order."""
    n_users_with_ties: int
    n_seen_slots: int
    """Slots that show an item of the user's own history; kept."""
    n_users_shown_seen: int
    exclude_seen: bool
    """Whether the system is taken to leave out seen items: what could be recommended to a user."""
    n_users: int
    """Of the split."""
    n_users_with_list: int
    """Of these, users of a kept list."""
    n_users_emptied: int
    """Users of the split whose rows were all dropped; they count as users without a list."""
    n_users_without_list: int
    """Users of the split of whom no row was read; normal for a system that has no answer."""
    n_users_without_targets: int
    """Users of a kept list without held-out targets: they count for exposure, not for accuracy."""
    n_evaluated_users: int
    n_evaluated_users_without_list: int
    n_targets: int
    n_targets_without_list: int
    """Targets of evaluated users without a list: misses at every k."""
    n_listed_targets: int
    """Targets that are somewhere in their user's list."""

    @property
    def seen_slot_share(self) -> float:
        """Share of the slots that show an item of the user's own history, 0–1."""
        return self.n_seen_slots / max(self.n_slots, 1)

    @property
    def n_users_with_short_list(self) -> int:
        """Users whose list is shorter than ``list_length`` but not empty."""
        return sum(n for length, n in self.users_by_length.items() if 0 < length < self.list_length)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as plain JSON values."""
        return dataclasses.asdict(self) | {
            "users_by_length": [
                {"length": length, "n_users": n} for length, n in self.users_by_length.items()
            ],
            "seen_slot_share": self.seen_slot_share,
            "n_users_with_short_list": self.n_users_with_short_list,
        }

    def __str__(self) -> str:
        lines = [
            f"{self.n_slots:,} slots of {self.n_users_with_list:,} users, at most {self.list_length:,} each, "
            f"ordered by {self.order}",
            f"read {self.n_rows_read:,} rows from {self.source}",
            f"seen items: {self.n_seen_slots:,} slots ({self.seen_slot_share:.1%}) of "
            f"{self.n_users_shown_seen:,} users; taken to be "
            + ("left out by the system" if self.exclude_seen else "recommendable"),
            f"users of the data without a list: {self.n_users_without_list:,} of {self.n_users:,}",
        ]
        if self.part is not None:
            lines.append(
                f"{self.part} targets: {self.n_targets:,} of {self.n_evaluated_users:,} users; "
                f"{self.n_listed_targets:,} are in a list"
            )
        counts = {
            "rows that repeat an item of their list, dropped": self.n_repeated_rows_dropped,
            "rows with an item outside the catalogue, dropped (lists close up)": (
                self.n_unknown_item_rows_dropped
            ),
            "rows of unknown users, dropped": self.n_unknown_user_rows_dropped,
            "rows beyond the list length": self.n_rows_beyond_length,
            "rows of users without targets, left out": self.n_left_out_rows,
            "users with a shorter list (empty places are misses)": self.n_users_with_short_list,
            "users whose rows were all dropped": self.n_users_emptied,
            "slots with tied scores (accuracy: the mean over their orders)": self.n_tied_slots,
            "users with a list and without targets (exposure only)": (
                self.n_users_without_targets if self.part is not None else 0
            ),
            "targets of users without a list (misses)": self.n_targets_without_list,
        }
        return "\n".join([*lines, *(f"{text}: {count:,}" for text, count in counts.items() if count)])
