"""Two lists of one user next to each other: what they share, what only one of them has."""

from dataclasses import dataclass

from tailwise.dashboard._sources import ShownItem, ShownList

__all__ = ["SideBySide", "SlotPair", "side_by_side"]


@dataclass(frozen=True)
class SlotPair:
    """The same place in both lists.

    Attributes:
        position: 1 is the first.
        control: What stands there; None: the list is shorter.
        treatment: Likewise.
        control_elsewhere: Place of control's item in treatment's list; None: it is not in it.
        treatment_elsewhere: Place of treatment's item in control's list, likewise.
    """

    position: int
    control: ShownItem | None
    treatment: ShownItem | None
    control_elsewhere: int | None
    treatment_elsewhere: int | None


@dataclass(frozen=True)
class SideBySide:
    """Both lists compared.

    Attributes:
        pairs: Places from the first on.
        n_shared: Items in both lists.
        n_tail: Tail items of control's and of treatment's list.
        notes: Why a list is none of its model's own: control's and treatment's; empty where it is.
    """

    pairs: tuple[SlotPair, ...]
    n_shared: int
    n_tail: tuple[int, int]
    notes: tuple[str, str]


def side_by_side(control: ShownList, treatment: ShownList) -> SideBySide:
    """Compare two lists.

    Example:
        >>> a, b = (ShownItem(1, name, name.upper(), "tail") for name in "ab")
        >>> found = side_by_side(ShownList("old", (a,)), ShownList("new", (b,)))
        >>> found.n_shared, found.pairs[0].treatment.title
        (0, 'B')
    """
    places = [{item.item_id: item.position for item in each.items} for each in (control, treatment)]
    at = [{item.position: item for item in each.items} for each in (control, treatment)]
    pairs = []
    for position in range(1, max([0, *at[0], *at[1]]) + 1):
        left, right = at[0].get(position), at[1].get(position)
        pairs.append(
            SlotPair(
                position,
                left,
                right,
                None if left is None else places[1].get(left.item_id),
                None if right is None else places[0].get(right.item_id),
            )
        )
    n_control, n_treatment = (sum(i.segment == "tail" for i in each.items) for each in (control, treatment))
    return SideBySide(
        tuple(pairs),
        n_shared=len(places[0].keys() & places[1].keys()),
        n_tail=(n_control, n_treatment),
        notes=(control.note, treatment.note),
    )
