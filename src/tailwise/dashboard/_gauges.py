"""What the monitor saw, for Prometheus."""

import math

from prometheus_client import CollectorRegistry, Gauge

from tailwise.dashboard._alarms import Alarm
from tailwise.dashboard._monitor import MonitorReport
from tailwise.dashboard._outbox import Deliveries

__all__ = ["MonitorGauges"]


class MonitorGauges:
    """Gauges of one monitor; unknown numbers are NaN.

    Args:
        registry: Where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=registry, multiprocess_mode="mostrecent")

        self._at = gauge("tailwise_monitor_last_look_seconds", "Unix seconds of the last look.")
        self._lists = gauge("tailwise_monitor_lists", "Lists of a stretch of time.", "stretch")
        self._slot_share = gauge(
            "tailwise_monitor_slot_share",
            "Share of slots per segment, of users' latest lists.",
            "segment",
            "stretch",
        )
        self._coverage = gauge(
            "tailwise_monitor_coverage", "Share of the catalogue shown, at equal slots.", "stretch"
        )
        self._gini = gauge("tailwise_monitor_gini", "Gini index of slots, at equal slots.", "stretch")
        self._moved = gauge(
            "tailwise_monitor_moved_share", "Share of items that another training would move."
        )
        self._open = gauge("tailwise_monitor_open_alarms", "Alarms that are raised.", "level")
        self._undelivered = gauge(
            "tailwise_monitor_undelivered_sinks", "Sinks that have not taken all alarms yet."
        )
        self._owed = gauge("tailwise_monitor_owed_deliveries", "Deliveries that a sink has not taken yet.")
        self._owed_since = gauge(
            "tailwise_monitor_owed_since_seconds", "Unix seconds of the oldest delivery that is owed."
        )
        self._given_up = gauge(
            "tailwise_monitor_given_up_deliveries", "Deliveries given up within the last 30 days."
        )

    def observe(self, report: MonitorReport, open_alarms: list[Alarm]) -> None:
        """Take down a look and what is raised after it."""
        self._at.set(report.at)
        for stretch, audit in (("window", report.window), ("reference", report.reference)):
            self._lists.labels(stretch).set(audit.n_lists)
            for segment, share in audit.slot_share.items():
                self._slot_share.labels(segment, stretch).set(share.value)
        change = report.exposure
        nothing = math.nan
        self._coverage.labels("window").set(nothing if change is None else change.coverage)
        self._coverage.labels("reference").set(nothing if change is None else change.reference_coverage)
        self._gini.labels("window").set(nothing if change is None else change.gini)
        self._gini.labels("reference").set(nothing if change is None else change.reference_gini)
        self._moved.set(math.nan if report.moved is None else report.moved.share)
        for level in ("notice", "warning", "alarm"):
            self._open.labels(level).set(sum(alarm.level == level for alarm in open_alarms))
        self.observe_deliveries(report.deliveries)

    def observe_deliveries(self, deliveries: Deliveries) -> None:
        """Take down what sinks are owed."""
        self._undelivered.set(len(deliveries.owed))
        self._owed.set(deliveries.n_owed)
        self._owed_since.set(math.nan if deliveries.since is None else deliveries.since)
        self._given_up.set(deliveries.n_given_up)
