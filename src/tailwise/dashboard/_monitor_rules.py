"""From what was measured to what is out of bounds: pure functions with the bounds as arguments."""

from collections.abc import Iterator

from tailwise.dashboard._alarms import Finding
from tailwise.dashboard._live_audit import ExposureChange, LiveAudit, MovedItems
from tailwise.dashboard._monitor_settings import MonitorSettings
from tailwise.diagnosis import HeadChange

__all__ = ["exposure_findings", "popularity_findings", "retrain_findings"]


def exposure_findings(
    window: LiveAudit, reference: LiveAudit, change: ExposureChange | None, settings: MonitorSettings
) -> Iterator[Finding]:
    """Say what changed in who gets the slots."""
    if reference.n_lists >= settings.minimum_lists and window.n_lists == 0:
        yield Finding(
            "no-traffic",
            "",
            "alarm",
            f"No list was answered in the last {settings.window_days:g} days; {reference.n_lists:,} in the "
            f"{settings.reference_days:g} days before.",
            {"lists": 0.0, "reference_lists": float(reference.n_lists)},
        )
        return
    if min(window.n_lists, reference.n_lists) < settings.minimum_lists or change is None:
        return
    for segment, share in window.slot_share.items():
        before = reference.slot_share.get(segment)
        if before is None or before.value == 0 or share.low is None or share.high is None:
            continue
        if before.low is None or before.high is None:
            continue
        relative = share.value / before.value - 1
        is_apart = share.high < before.low or share.low > before.high
        if is_apart and abs(relative) > settings.share_change:
            word = "fell" if relative < 0 else "rose"
            yield Finding(
                "exposure",
                segment,
                "alarm" if segment == "tail" and relative < 0 else "warning",
                f"The {segment} share of slots {word} from {before.value:.1%} to {share.value:.1%} "
                f"({relative:+.0%}; a change of {settings.share_change:.0%} is accepted).",
                {"share": share.value, "reference_share": before.value},
            )
    if change.coverage < (1 - settings.coverage_drop) * change.reference_coverage:
        yield Finding(
            "coverage",
            "",
            "warning",
            f"Lists cover {change.coverage:.1%} of the catalogue, {change.reference_coverage:.1%} before, at "
            f"{change.n_slots:,} slots each; a drop of {settings.coverage_drop:.0%} is accepted.",
            {"coverage": change.coverage, "reference_coverage": change.reference_coverage},
        )
    if change.gini > change.reference_gini + settings.gini_rise:
        yield Finding(
            "concentration",
            "",
            "warning",
            f"The Gini index of slots rose from {change.reference_gini:.3f} to {change.gini:.3f}, at "
            f"{change.n_slots:,} slots each; a rise of {settings.gini_rise:g} is accepted.",
            {"gini": change.gini, "reference_gini": change.reference_gini},
        )


def popularity_findings(change: HeadChange | None, settings: MonitorSettings) -> Iterator[Finding]:
    """Say whether what was popular still is."""
    if change is None or change.previous_head_share is None:
        return
    expected = change.previous_head_share_without_drift
    if expected is not None and change.previous_head_share < expected - settings.head_loss:
        yield Finding(
            "popularity-drift",
            "",
            "warning",
            f"The earlier head holds {change.previous_head_share:.1%} of what is chosen; without drift it "
            f"would hold {expected:.1%}. {change.n_entered:,} items entered the head, "
            f"{change.n_left:,} left.",
            {"head_share": change.previous_head_share, "without_drift": expected},
        )


def retrain_findings(moved: MovedItems | None, settings: MonitorSettings) -> Iterator[Finding]:
    """Say whether the segments are still those that the model was trained with."""
    if moved is not None and moved.share > settings.moved_share:
        yield Finding(
            "retrain",
            "",
            "warning",
            f"Train again: counts have moved {moved.n_moved:,} items ({moved.share:.1%} of the catalogue; "
            f"{settings.moved_share:.0%} are accepted) into another segment, {moved.n_warmed:,} of them "
            "from cold.",
            {"moved_share": moved.share, "moved_items": float(moved.n_moved)},
        )
