"""A change of sharpness in words that a product manager can read."""

from collections.abc import Sequence

from tailwise.diagnosis._sharpness_change import GroupChange, direction
from tailwise.diagnosis._uncertain import Uncertain

__all__ = ["sharpness_notes", "sharpness_sentence"]

_NEARLY_AS_MUCH = 0.5  # of the held-out rise in a random direction: then it is hardly the direction's
_MOSTLY_NOISE = 2.0  # in-sample rise over held-out rise


def sharpness_sentence(groups: Sequence[GroupChange], name: str, *, n_seeds: int) -> str:
    """Say of every group whether it got flatter; groups that did come first."""
    name = f"In one training of each, {name}" if n_seeds == 1 else name
    verbs = {"flatter": "flattened", "sharper": "sharpened"}
    told = [g for g in groups if g.verdict in verbs]
    unclear = "; ".join(f"{g.name} {_from_to(g)}" for g in groups if g.verdict not in verbs)
    if not told:
        return f"{name} changed the sharpness of no group beyond noise: {unclear}."
    clauses = [
        f"{verbs[g.verdict]} the {g.name}{': sharpness' if i == 0 else ':'} {_from_to(g)}"
        for i, g in enumerate(told)
    ]
    if unclear:
        clauses.append(f"elsewhere no change can be told from noise: {unclear}")
    return f"{name} {'; '.join(clauses)}."


def sharpness_notes(groups: Sequence[GroupChange], *, n_seeds: int) -> tuple[str, ...]:
    """List what qualifies the sentence: nothing where nothing does but a single seed."""
    notes = []
    if n_seeds == 1:
        notes.append(
            "One training of each: the intervals speak of other users, not of what training "
            "again with another seed would give."
        )
    for g in groups:
        notes += [note for note in (_on_parts(g), _on_loss(g), _on_random(g), _on_noise(g)) if note]
    return tuple(notes)


def _on_parts(g: GroupChange) -> str | None:
    """The change is in the slope alone."""
    if g.verdict == "unclear" or _same_way(g.curvature_difference, g.difference):
        return None
    return (
        f"In the {g.name} it is the slope that changed: the curvature, {_number(g.curvature_before)} → "
        f"{_number(g.curvature_after)}, {_as_well(g.curvature_difference)}."
    )


def _on_loss(g: GroupChange) -> str | None:
    """The change goes with the loss, and vanishes when measured against it."""
    if g.verdict == "unclear" or _same_way(g.relative_difference, g.difference):
        return None
    return (
        f"In the {g.name} the loss itself changed too: as a share of it, the rise "
        f"{_as_well(g.relative_difference)}."
    )


def _on_random(g: GroupChange) -> str | None:
    shares = [r / s for r, s in zip(g.random, (g.before, g.after), strict=True) if s > 0]
    if not shares or max(shares) < _NEARLY_AS_MUCH:
        return None
    return (
        f"In the {g.name} a random step of the same length raises the loss by {_number(g.random[0])} before "
        f"and {_number(g.random[1])} after: much of the sharpness belongs to no particular direction."
    )


def _on_noise(g: GroupChange) -> str | None:
    gaps = list(zip(g.in_sample, (g.before, g.after), strict=True))
    if all(inside < _MOSTLY_NOISE * outside for inside, outside in gaps):
        return None
    return (
        f"In the {g.name} the rise on the targets that gave the direction, {_number(g.in_sample[0])} before "
        f"and {_number(g.in_sample[1])} after, is mostly noise: the held-out one is compared, and more "
        "targets would show more of it."
    )


def _same_way(one: Uncertain, other: Uncertain) -> bool:
    """Both are told from zero, on the same side."""
    return direction(one) == direction(other) != "unclear"


def _as_well(change: Uncertain) -> str:
    return {"flatter": "went down", "sharper": "went up", "unclear": "cannot be told from unchanged"}[
        direction(change)
    ]


def _from_to(g: GroupChange) -> str:
    """Write "0.021 → 0.012 (−43 %, −52 to −33)"."""
    ends = (g.ratio.value, g.ratio.low, g.ratio.high)
    if all(end is not None and end < 10 for end in ends):
        change = [_signed(100 * ((end or 0.0) - 1), 0) for end in ends]
        within = f"{change[0]} %, {change[1]} to {change[2]}"
    elif g.difference.low is not None:
        change = [_signed(end or 0.0, 4) for end in (g.difference.value, g.difference.low, g.difference.high)]
        within = f"{change[0]}, {change[1]} to {change[2]}"
    else:
        within = "no interval"
    return f"{_number(g.before)} → {_number(g.after)} ({within})"


def _number(value: float) -> str:
    """Two significant digits, never in powers of ten unless tiny, with a true minus sign."""
    text = f"{value:.2g}" if abs(value) < 1e-4 or abs(value) >= 100 else f"{float(f'{value:.2g}'):.6f}"
    if "e" not in text and "." in text:
        text = text.rstrip("0").rstrip(".")
    return text.replace("-", "−")


def _signed(value: float, digits: int) -> str:
    """Plain rounding, with a true minus sign and never a negative zero."""
    rounded = round(value, digits) or 0.0
    return f"{rounded:.{digits}f}".replace("-", "−")
