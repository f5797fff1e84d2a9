"""Experiments, the log and the served models in; pages that people read, and alarms, out.

Enters: a :class:`DashboardSource`, which hands over rollouts, audit logs and tables. Leaves: a router of
server-rendered pages (:func:`dashboard_routes`), and the monitor's findings (:func:`run_monitor_once`), kept
in an :class:`AlarmFile`, owed by an :class:`Outbox` to a :class:`Webhook` until it takes them, counted by
:class:`MonitorGauges`. A runnable line::

    >>> cost_benefit(CostAssumptions(monthly_gmv=1e6), MeasuredChange(0.02, 0.01, 0.03)).extra_gmv.estimate
    20000.0

What the pages say is in docs/dashboard.md.
"""

from tailwise.dashboard._access import Access, session_secret
from tailwise.dashboard._alarms import Alarm, AlarmFile, Finding
from tailwise.dashboard._cache import Cached, PageCache
from tailwise.dashboard._cost_benefit import (
    CostAssumptions,
    CostBenefit,
    MeasuredChange,
    Range,
    cost_benefit,
)
from tailwise.dashboard._experiment_page import ExperimentPage, experiment_page
from tailwise.dashboard._gauges import MonitorGauges
from tailwise.dashboard._live_audit import (
    ExposureChange,
    LiveAudit,
    MovedItems,
    audit_lists,
    compare_exposure,
    moved_items,
)
from tailwise.dashboard._live_page import LivePage, live_page
from tailwise.dashboard._monitor import MonitorReport, monitor_forever, run_monitor_once
from tailwise.dashboard._monitor_settings import MonitorSettings
from tailwise.dashboard._outbox import AlarmSink, Deliveries, Outbox, Outcome, Owed
from tailwise.dashboard._outbox_file import GivenUp
from tailwise.dashboard._routes import dashboard_routes
from tailwise.dashboard._served_lists import ServedLists
from tailwise.dashboard._side_by_side import SideBySide, side_by_side
from tailwise.dashboard._sources import (
    DashboardSource,
    ExperimentTables,
    ListMaker,
    LiveTables,
    ShownItem,
    ShownList,
)
from tailwise.dashboard._webhook import Webhook, sign

__all__ = [
    "Access",
    "Alarm",
    "AlarmFile",
    "AlarmSink",
    "Cached",
    "CostAssumptions",
    "CostBenefit",
    "DashboardSource",
    "Deliveries",
    "ExperimentPage",
    "ExperimentTables",
    "ExposureChange",
    "Finding",
    "GivenUp",
    "ListMaker",
    "LiveAudit",
    "LivePage",
    "LiveTables",
    "MeasuredChange",
    "MonitorGauges",
    "MonitorReport",
    "MonitorSettings",
    "MovedItems",
    "Outbox",
    "Outcome",
    "Owed",
    "PageCache",
    "Range",
    "ServedLists",
    "ShownItem",
    "ShownList",
    "SideBySide",
    "Webhook",
    "audit_lists",
    "compare_exposure",
    "cost_benefit",
    "dashboard_routes",
    "experiment_page",
    "live_page",
    "monitor_forever",
    "moved_items",
    "run_monitor_once",
    "session_secret",
    "side_by_side",
    "sign",
]
