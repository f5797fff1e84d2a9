"""A look of the monitor as tables for a person, as JSON for programs, and as an exit status."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tailwise.dashboard import Alarm, Deliveries, LiveAudit, MonitorReport, MonitorSettings
from tailwise.dashboard._words import GIVEN_UP, when

__all__ = ["NOTHING_OPEN", "OWED", "RAISED", "exit_status", "monitor_tables", "report_as_plain"]

NOTHING_OPEN, RAISED, OWED = 0, 2, 3  # 1: it could not look, as of every command
_STYLES = {"notice": "cyan", "warning": "yellow", "alarm": "bold red"}


def exit_status(raised: Sequence[Alarm], deliveries: Deliveries) -> int:
    """0: nothing is raised, nobody is owed anything; 2: something is raised; 3: only deliveries are owed."""
    if raised:
        return RAISED
    return OWED if deliveries.n_owed else NOTHING_OPEN


def report_as_plain(report: MonitorReport, raised: Sequence[Alarm]) -> dict[str, Any]:
    """Return nested plain values for JSON; numbers that are not finite become None.

    Args:
        report: Of a look.
        raised: What is raised after it.
    """
    head, moved, exposed = report.head, report.moved, report.exposure
    plain = {
        "at": report.at,
        "window": _audit(report.window),
        "reference": _audit(report.reference),
        "exposure": None if exposed is None else asdict(exposed),
        "drift": None if head is None else asdict(head),
        "moved": None if moved is None else asdict(moved),
        "findings": [asdict(finding) for finding in report.findings],
        "new": [asdict(alarm) for alarm in report.new],
        "raised": [asdict(alarm) for alarm in raised],
        "owed": [asdict(each) for each in report.deliveries.owed],
        "given_up": [asdict(each) for each in report.deliveries.given_up],
    }
    return _finite(plain)  # type: ignore[no-any-return]


def _audit(audit: LiveAudit) -> dict[str, Any]:
    return {
        "lists": audit.n_lists,
        "users": audit.n_users,
        "slots": audit.n_slots,
        "unknown_slots": audit.n_unknown,
        "fallback_share": audit.fallback_share,
        "slot_share": {segment: asdict(share) for segment, share in audit.slot_share.items()},
        "coverage": audit.coverage,
        "gini": audit.gini,
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def monitor_tables(
    report: MonitorReport, raised: Sequence[Alarm], settings: MonitorSettings
) -> RenderableType:
    """Lay a look out for a person.

    Args:
        report: Of a look.
        raised: What is raised after it.
        settings: By which it looked.
    """
    title = (
        f"{when(report.at)}: the last {settings.window_days:g} days against the "
        f"{settings.reference_days:g} before"
    )
    return Group(
        Text(title, style="bold"),
        _lists(report),
        *(Text(line) for line in _sentences(report)),
        *_alarms(report, raised),
        *_deliveries(report.deliveries),
    )


def _lists(report: MonitorReport) -> Table:
    table = Table("lists", "window", "reference")
    both = report.window, report.reference
    table.add_row("answered", *(f"{audit.n_lists:,}" for audit in both))
    table.add_row("users", *(f"{audit.n_users:,}" for audit in both))
    table.add_row("made without the model", *(f"{audit.fallback_share:.1%}" for audit in both))
    if any(audit.n_unknown for audit in both):
        table.add_row("slots of unknown items", *(f"{audit.n_unknown:,}" for audit in both))
    for segment in dict.fromkeys([*report.window.slot_share, *report.reference.slot_share]):
        table.add_row(f"slots on {segment}", *(_share(audit, segment) for audit in both))
    if (exposed := report.exposure) is not None:
        coverage = exposed.coverage, exposed.reference_coverage
        table.add_row("coverage, at equal slots", *(f"{value:.1%}" for value in coverage))
        table.add_row("Gini, at equal slots", f"{exposed.gini:.3f}", f"{exposed.reference_gini:.3f}")
    return table


def _share(audit: LiveAudit, segment: str) -> str:
    share = audit.slot_share.get(segment)
    if share is None:
        return "-"
    if share.low is None or share.high is None:
        return f"{share.value:.1%}"
    return f"{share.value:.1%} [{share.low:.1%}, {share.high:.1%}]"


def _sentences(report: MonitorReport) -> Iterator[str]:
    head, moved = report.head, report.moved
    if head is None:
        yield "Popularity: too few clicks and purchases to judge."
    else:
        yield (
            f"Popularity: the earlier head still holds {head.previous_head_share:.1%} of what is chosen; "
            f"without drift it would hold {head.previous_head_share_without_drift:.1%}."
        )
    if moved is None:
        yield "Segments do not follow counts: no training moves an item."
    else:
        yield f"Another training would move {moved.n_moved:,} items ({moved.share:.1%}) between segments."
        for name, items in (("Into", moved.into_head), ("Out of", moved.out_of_head)):
            if items:
                yield f"  {name} the head: {', '.join(items)}"


def _alarms(report: MonitorReport, raised: Sequence[Alarm]) -> Iterator[Text]:
    found = {finding.key for finding in report.findings}
    for alarm in raised:
        still = "" if alarm.key in found else " (not judged now)"
        yield Text.assemble(
            (f"{alarm.level:8}", _STYLES[alarm.level]), f"{alarm.message} Since {when(alarm.at)}.{still}"
        )
    for alarm in report.new:
        if alarm.state == "cleared":
            yield Text.assemble(("cleared ", "green"), alarm.message)
    if not raised:
        yield Text("Nothing is raised.", style="green")


def _deliveries(deliveries: Deliveries) -> Iterator[Text]:
    for owed in deliveries.owed:
        yield Text(f"{owed.sink} is owed {owed.n:,} deliveries, since {when(owed.since)}.", style="yellow")
    for gone in deliveries.given_up:
        text = f"{gone.sink}: {gone.n:,} deliveries given up by {when(gone.ended_at)}: {GIVEN_UP[gone.why]}."
        yield Text(text, style="bold red")
