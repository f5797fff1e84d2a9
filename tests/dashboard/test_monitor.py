import threading

import numpy as np
import polars as pl
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tailwise.dashboard import (
    AlarmFile,
    ExposureChange,
    LiveAudit,
    MonitorGauges,
    MonitorSettings,
    Outbox,
    audit_lists,
    compare_exposure,
    monitor_forever,
    moved_items,
    run_monitor_once,
)
from tailwise.dashboard._live_audit import Share
from tailwise.dashboard._monitor_rules import exposure_findings
from tailwise.errors import DataError, LogUnavailableError
from tailwise.segments import segment_items
from tests.dashboard.making import DAY, START, Sink, choices, slots

ITEMS = [f"i{i:02d}" for i in range(40)]
# i00..i07 are the head: 20 % of the items.
SEGMENTS = segment_items(np.concatenate([np.arange(60, 52, -1), np.full(32, 3)]), head_share=0.2)
NOW = START + 9 * DAY
BOUNDS = MonitorSettings(minimum_lists=50, minimum_choices=100, reference_days=8, k=5)


class Log:
    """Tables in memory, cut in time as a log does."""

    def __init__(self, shown=None, chosen=None):
        self.shown = slots() if shown is None else shown
        self.chosen = choices() if chosen is None else chosen

    def slots(self, since=None, until=None):
        mine = self.shown.filter((pl.col("served_at") >= since) & (pl.col("served_at") < until))
        yield from (mine[:37], mine[37:])  # cut in the middle of a list

    def events(self, since=None, until=None):
        yield self.chosen.filter((pl.col("occurred_at") >= since) & (pl.col("occurred_at") < until))


def look(tmp_path, log, *, at=NOW, settings=BOUNDS, segments=SEGMENTS, **rest):
    alarms = AlarmFile(tmp_path / "alarms.jsonl")
    return run_monitor_once(log, segments, ITEMS, alarms, now=at, settings=settings, **rest)


def test_shares_count_each_user_by_the_latest_list_and_coverage_all_lists():
    table = pl.DataFrame(
        {
            "recommendation_id": ["a", "a", "b", "b", "c", "d"],
            "user_id": ["u", "u", "u", "u", "v", None],
            "served_at": [1.0, 1.0, 2.0, 2.0, 1.0, 1.0],
            "method": ["model"] * 4 + ["most-popular", "model"],
            "position": [1, 2, 1, 2, 1, 1],
            "item_id": ["i00", "i01", "i20", "i21", "i00", "gone"],
        }
    )
    found = audit_lists([table[:1], table[1:]], SEGMENTS, ITEMS, k=2, n_resamples=20)
    # u's latest list is two tail items, v's one head item; list d shows nothing that is known
    assert found.slot_share["tail"].value == pytest.approx(2 / 3)
    assert (found.n_lists, found.n_users, found.n_unknown, found.n_slots) == (4, 2, 1, 5)
    assert found.coverage == 4 / 40
    assert found.fallback_share == 1 / 4
    assert audit_lists([table], SEGMENTS, ITEMS, k=1, n_resamples=20).n_slots == 3


def test_nothing_shown_is_an_audit_of_nothing():
    found = audit_lists([], SEGMENTS, ITEMS)
    assert (found.n_lists, found.n_slots, found.coverage, found.gini) == (0, 0, 0.0, None)
    assert compare_exposure(found, found) is None


def test_coverage_is_compared_at_equal_slots_so_that_traffic_plays_no_part():
    rng = np.random.default_rng(0)

    def audit(n):
        table = pl.DataFrame(
            {
                "recommendation_id": [f"l{i}" for i in range(n)],
                "user_id": [f"u{i}" for i in range(n)],
                "served_at": np.arange(n, dtype=float),
                "method": ["model"] * n,
                "position": [1] * n,
                "item_id": [f"i{i:02d}" for i in rng.integers(0, 40, n)],
            }
        )
        return audit_lists([table], SEGMENTS, ITEMS, n_resamples=2)

    few, many = audit(40), audit(4000)
    assert few.coverage < 0.8 < many.coverage == 1.0
    found = compare_exposure(few, many)
    assert found.n_slots == 40
    # of 40 draws from 40 items 63 % are expected, with a standard deviation of 5 points
    assert abs(found.coverage - found.reference_coverage) < 0.25


def test_steady_lists_raise_nothing(tmp_path):
    report = look(tmp_path, Log())
    assert report.findings == ()
    assert report.window.n_lists == 60
    assert report.reference.n_lists == 480


def test_a_tail_that_loses_its_slots_is_an_alarm_and_the_head_a_warning(tmp_path):
    report = look(tmp_path, Log(slots(last_tail=0.02)))
    found = {finding.key: finding for finding in report.findings}
    assert found["exposure", "tail"].level == "alarm"
    assert "fell from" in found["exposure", "tail"].message
    assert ("coverage", "") in found
    assert found["exposure", "tail"].numbers["share"] < 0.06


def test_a_change_within_the_noise_of_few_users_is_none():
    def audit(value, low, high):
        return LiveAudit(60, 60, 0.0, 0, {"tail": Share(value, low, high)}, np.full(40, 3))

    before, same = audit(0.2, 0.15, 0.25), ExposureChange(120, 1.0, 1.0, 0.0, 0.0)
    for window, kinds in ((audit(0.1, 0.02, 0.18), []), (audit(0.1, 0.06, 0.14), ["exposure"])):
        assert [f.kind for f in exposure_findings(window, before, same, BOUNDS)] == kinds


def test_lists_that_stop_are_an_alarm(tmp_path):
    shown = slots().filter(pl.col("served_at") < NOW - DAY)
    report = look(tmp_path, Log(shown))
    assert [finding.kind for finding in report.findings] == ["no-traffic"]


def test_too_few_lists_are_not_judged_and_clear_nothing(tmp_path):
    look(tmp_path, Log(slots(last_tail=0.02)))
    few = slots(last_tail=0.02).filter((pl.col("served_at") < NOW - DAY) | (pl.col("user_id") < "u010"))
    report = look(tmp_path, Log(few), at=NOW)
    assert report.findings == ()
    assert report.new == ()


def test_another_fashion_is_popularity_drift(tmp_path):
    report = look(tmp_path, Log(chosen=choices(shift=8)))
    assert "popularity-drift" in {finding.kind for finding in report.findings}
    assert report.head.previous_head_share < 0.3


def test_counts_that_move_items_say_train_again_since_the_training_alone(tmp_path):
    fashion = choices(shift=20, per_day=400)
    report = look(tmp_path, Log(chosen=fashion), trained_until=START)
    retrain = next(finding for finding in report.findings if finding.kind == "retrain")
    assert retrain.message.startswith("Train again: counts have moved")
    assert report.moved.share > 0.05
    later = look(tmp_path, Log(chosen=fashion), trained_until=NOW)
    assert later.moved.n_moved == 0
    assert ("cleared", "retrain") in {(alarm.state, alarm.kind) for alarm in later.new}


def test_moved_items_worked_by_hand():
    segments = segment_items(np.array([9, 5, 4, 1, 0]), "head-share", head_share=0.25)
    moved = moved_items(segments, np.array([0, 7, 0, 0, 1]), ["a", "b", "c", "d", "e"])
    # head of four trained items: a; of five: b, as 1.25 items are cut down to one
    assert moved.into_head == ("b",)
    assert moved.out_of_head == ("a",)
    assert (moved.n_moved, moved.n_warmed, moved.share) == (3, 1, 0.6)


def test_segments_of_the_users_own_cannot_move(tmp_path):
    own = segment_items(np.ones(40, int), "column", labels=["x"] * 40)
    with pytest.raises(ValueError, match=r"must follow counts; got 'column'"):
        moved_items(own, np.zeros(40, dtype=np.int64), ITEMS)
    assert look(tmp_path, Log(), segments=own).moved is None


def test_sinks_hear_of_news_once_and_one_that_is_away_is_owed_them_until_it_is_back(tmp_path):
    near, away = Sink("near"), Sink("away", "away")
    log = Log(slots(last_tail=0.02))
    outbox = Outbox(AlarmFile(tmp_path / "alarms.jsonl"), [near, away])
    first = look(tmp_path, log, outbox=outbox)
    again = look(tmp_path, log, at=NOW + 1, outbox=outbox)
    assert [(each.sink, each.n) for each in again.deliveries.owed] == [("away", 1)]
    away.answer = "taken"
    assert look(tmp_path, log, at=NOW + 2, outbox=outbox).deliveries.n_owed == 0
    assert near.alarms == away.alarms[-1:] == [first.new]
    assert len(set(away.ids)) == 1


def test_what_is_owed_is_sent_also_while_the_log_is_away(tmp_path):
    class Away(Log):
        def slots(self, since=None, until=None):
            raise LogUnavailableError("away")

    hook = Sink("hook", "away")
    outbox = Outbox(AlarmFile(tmp_path / "alarms.jsonl"), [hook])
    look(tmp_path, Log(slots(last_tail=0.02)), outbox=outbox)
    hook.answer = "taken"
    with pytest.raises(LogUnavailableError):
        look(tmp_path, Away(), at=NOW + 1, outbox=outbox)
    assert (len(hook.ids), outbox.state().n_owed) == (2, 0)


def test_the_outbox_of_other_alarms_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"outbox must be that of .*alarms.jsonl'; got that of .*other"):
        look(tmp_path, Log(), outbox=Outbox(AlarmFile(tmp_path / "other")))


def test_gauges_show_the_last_look(tmp_path):
    registry = CollectorRegistry()
    gauges = MonitorGauges(registry)
    outbox = Outbox(AlarmFile(tmp_path / "alarms.jsonl"), [Sink("hook", "away")])
    report = look(tmp_path, Log(slots(last_tail=0.02)), outbox=outbox)
    gauges.observe(report, AlarmFile(tmp_path / "alarms.jsonl").open_ones())
    assert registry.get_sample_value("tailwise_monitor_owed_deliveries") == 1
    assert registry.get_sample_value("tailwise_monitor_owed_since_seconds") == NOW
    assert registry.get_sample_value("tailwise_monitor_undelivered_sinks") == 1
    assert registry.get_sample_value("tailwise_monitor_given_up_deliveries") == 0
    text = generate_latest(registry).decode()
    assert registry.get_sample_value("tailwise_monitor_last_look_seconds") == NOW
    assert 'tailwise_monitor_lists{stretch="window"} 60.0' in text
    assert 'tailwise_monitor_open_alarms{level="alarm"} 1.0' in text
    assert f'segment="tail",stretch="window"}} {report.window.slot_share["tail"].value}' in text


def test_columns_that_are_missing_are_named():
    with pytest.raises(DataError, match=r"slots must have the columns .*; got none named served_at"):
        audit_lists([slots().drop("served_at")], SEGMENTS, ITEMS)
    with pytest.raises(ValueError, match=r"must name the 40 items of the segments; got 3"):
        audit_lists([], SEGMENTS, ITEMS[:3])


@pytest.mark.parametrize(
    ("name", "value"),
    [("window_days", 0), ("moved_share", 1.5), ("gini_rise", 0), ("k", 0), ("minimum_lists", 0)],
)
def test_bounds_out_of_range_are_refused_by_name_and_value(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be .*; got {value}"):
        MonitorSettings(**{name: value})


def test_the_loop_looks_at_even_moments_whatever_a_look_takes_and_ends_when_told():
    moments, waits, now = [], [], [1000.0]

    def look_once(at):
        moments.append(at)
        now[0] += 20.0  # a look takes so long
        if len(moments) == 2:
            raise LogUnavailableError("away")

    def wait(seconds):
        waits.append(seconds)
        now[0] += seconds
        return len(waits) == 4

    n_looks = monitor_forever(look_once, every_s=60, stop=threading.Event(), clock=lambda: now[0], wait=wait)
    assert n_looks == 4
    assert moments == [1000.0, 1060.0, 1120.0, 1180.0]
    assert waits == [40.0] * 4


def test_the_loop_ends_at_once_when_it_is_stopped():
    stop = threading.Event()
    looked = []

    def look_once(at):
        looked.append(at)
        stop.set()

    assert monitor_forever(look_once, every_s=3600, stop=stop) == 1
