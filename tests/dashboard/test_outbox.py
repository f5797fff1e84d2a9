import json
import logging
import os
import signal
import subprocess
import sys
import threading

import pytest

from tailwise.dashboard import AlarmFile, Finding, GivenUp, Outbox, Owed
from tailwise.dashboard._outbox_file import read_outbox
from tailwise.errors import DataError
from tests.dashboard.making import DAY, Sink

TAIL = Finding("exposure", "tail", "alarm", "The tail share fell.", {"share": 0.1})
COVER = Finding("coverage", "", "warning", "Coverage fell.")


@pytest.fixture
def alarms(tmp_path):
    return AlarmFile(tmp_path / "state" / "alarms.jsonl")


def kinds(sink):
    return [[(alarm.kind, alarm.state) for alarm in sent] for sent in sink.alarms]


def test_what_a_sink_does_not_take_is_sent_again_in_order_under_the_same_ids(alarms):
    hook = Sink("hook", "away")
    outbox = Outbox(alarms, [hook])
    outbox.deliver(0.0)
    alarms.take([TAIL], 1.0)
    assert outbox.deliver(1.0).owed == (Owed("hook", 1, 1.0),)
    alarms.take([TAIL, COVER], 2.0)
    assert outbox.deliver(2.0).owed == (Owed("hook", 2, 1.0),)
    hook.answer = "taken"
    assert outbox.deliver(3.0).owed == ()
    exposure, coverage = [("exposure", "raised")], [("coverage", "raised")]
    # the second is not tried while the first is not taken
    assert kinds(hook) == [exposure, exposure, exposure, coverage]
    assert len(set(hook.ids[:3])) == 1
    assert hook.ids[3] != hook.ids[0]
    outbox.deliver(4.0)
    assert len(hook.ids) == 4


def test_each_sink_is_owed_what_it_did_not_take_whatever_others_took(alarms):
    near, away = Sink("near"), Sink("away", "away")
    outbox = Outbox(alarms, [away, near])
    outbox.deliver(0.0)
    alarms.take([TAIL], 1.0)
    assert [each.sink for each in outbox.deliver(1.0).owed] == ["away"]
    assert len(near.ids) == 1


def test_an_outbox_begins_with_what_is_raised_after_it_and_a_new_sink_likewise(alarms):
    alarms.take([TAIL], 0.0)
    old, new = Sink("old"), Sink("new")
    Outbox(alarms, [old]).deliver(1.0)
    alarms.take([TAIL, COVER], 2.0)
    Outbox(alarms, [old, new]).deliver(3.0)
    alarms.take([TAIL], 4.0)
    Outbox(alarms, [old, new]).deliver(5.0)
    assert kinds(old) == [[("coverage", "raised")], [("coverage", "cleared")]]
    assert kinds(new) == [[("coverage", "cleared")]]


def test_what_is_refused_for_good_is_given_up_and_said(alarms, caplog):
    hook = Sink("hook", "refused")
    outbox = Outbox(alarms, [hook])
    outbox.deliver(0.0)
    for at in (1.0, 2.0):
        alarms.take([TAIL] if at == 1 else [], at)
        with caplog.at_level(logging.ERROR, logger="tailwise.monitor"):
            state = outbox.deliver(at)
    assert state.owed == ()
    assert state.given_up == (GivenUp("hook", "refused", 2, 2.0, 2.0),)
    assert caplog.text.count("hook was not told of 1 alarms: the receiver refused for good") == 2
    assert len(hook.ids) == 2
    assert outbox.deliver(2.0 + 31 * DAY).given_up == ()


def test_what_is_too_old_is_tried_once_more_then_given_up_and_said(alarms, caplog):
    hook = Sink("hook", "away")
    outbox = Outbox(alarms, [hook], max_age_s=DAY)
    outbox.deliver(0.0)
    alarms.take([TAIL], 1.0)
    assert outbox.deliver(DAY).n_owed == 1
    with caplog.at_level(logging.ERROR, logger="tailwise.monitor"):
        assert outbox.deliver(DAY + 2).given_up == (GivenUp("hook", "age", 1, 1.0, DAY + 2),)
    assert "owed for too long" in caplog.text
    assert len(hook.ids) == 2

    alarms.take([], 2 * DAY)
    hook.answer = "taken"
    assert outbox.deliver(4 * DAY).n_given_up == 1
    assert len(hook.ids) == 3


def test_beyond_the_most_that_are_kept_the_oldest_are_given_up_and_said(alarms):
    hook = Sink("hook", "away")
    outbox = Outbox(alarms, [hook], max_owed=2)
    outbox.deliver(0.0)
    for at in range(1, 6):
        alarms.take([TAIL] if at % 2 else [], float(at))
        state = outbox.deliver(float(at))
    assert state.owed == (Owed("hook", 2, 4.0),)
    assert state.given_up == (GivenUp("hook", "count", 3, 3.0, 5.0),)
    assert len(read_outbox(outbox.file).deliveries) == 2


def test_a_process_that_does_not_know_a_sink_owes_it_what_it_raised(alarms):
    hook = Sink("hook")
    Outbox(alarms, [hook]).deliver(0.0)
    alarms.take([TAIL], 1.0)
    assert Outbox(alarms).deliver(1.0).owed == (Owed("hook", 1, 1.0),)
    Outbox(alarms, [hook]).deliver(2.0)
    assert kinds(hook) == [[("exposure", "raised")]]


def test_a_sink_that_nobody_has_known_for_long_is_forgotten_and_said(alarms):
    Outbox(alarms, [Sink("gone", "away")]).deliver(0.0)
    alarms.take([TAIL], 1.0)
    state = Outbox(alarms, [Sink("new")]).deliver(8 * DAY)
    assert (state.n_owed, state.given_up) == (0, (GivenUp("gone", "forgotten", 1, 1.0, 8 * DAY),))
    alarms.take([], 8 * DAY + 1)
    assert Outbox(alarms, [Sink("new")]).deliver(8 * DAY + 2).n_owed == 0


def test_without_a_sink_there_is_no_file(alarms):
    alarms.take([TAIL], 0.0)
    outbox = Outbox(alarms)
    assert outbox.deliver(1.0) == outbox.state()
    assert not outbox.file.exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from tailwise.dashboard import AlarmFile, Finding, Outbox

class Hook:
    name = "hook"

    def send(self, alarms, *, delivery):
        Path(sys.argv[1], "sent").write_text(delivery)
        os.kill(os.getpid(), signal.SIGKILL)

alarms = AlarmFile(Path(sys.argv[1], "alarms.jsonl"))
outbox = Outbox(alarms, [Hook()])
outbox.take_up(0.0)
alarms.take([Finding("exposure", "tail", "alarm", "The tail share fell.")], 1.0)
if sys.argv[2] == "before":
    os.kill(os.getpid(), signal.SIGKILL)
outbox.deliver(1.0)
"""


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_process_killed_before_or_while_it_delivers_loses_nothing(tmp_path, when):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), when], check=False, timeout=60, env=dict(os.environ)
    )
    assert done.returncode == -signal.SIGKILL
    hook = Sink("hook")
    Outbox(AlarmFile(tmp_path / "alarms.jsonl"), [hook]).deliver(2.0)
    assert kinds(hook) == [[("exposure", "raised")]]
    if when == "during":  # the receiver may have it: the id says that it is the same
        assert hook.ids == [(tmp_path / "sent").read_text()]


def test_half_a_line_of_a_killed_writer_is_owed_to_nobody_and_what_replaces_it_is(alarms):
    hook = Sink("hook")
    outbox = Outbox(alarms, [hook])
    outbox.deliver(0.0)
    alarms.take([TAIL], 1.0)
    with alarms.file.open("ab") as stream:
        stream.write(b'{"at": 2.0, "ki')
    outbox.deliver(2.0)
    alarms.take([TAIL, COVER], 3.0)
    outbox.deliver(3.0)
    assert kinds(hook) == [[("exposure", "raised")], [("coverage", "raised")]]


def test_an_alarm_file_in_the_place_of_another_is_read_from_its_beginning(alarms):
    hook = Sink("hook")
    outbox = Outbox(alarms, [hook])
    outbox.deliver(0.0)
    alarms.take([TAIL, COVER], 1.0)
    outbox.deliver(1.0)
    alarms.file.rename(alarms.file.with_name("away"))
    outbox.take_up(2.0)
    alarms.take([COVER], 3.0)
    outbox.deliver(3.0)
    assert kinds(hook)[1:] == [[("coverage", "raised")]]


def test_two_at_a_time_send_each_delivery_once_and_never_side_by_side(alarms):
    inside, most = [0], [0]

    class Slow(Sink):
        def send(self, alarms, *, delivery):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            threading.Event().wait(0.05)
            inside[0] -= 1
            return super().send(alarms, delivery=delivery)

    hook = Slow("hook")
    Outbox(alarms, [hook]).deliver(0.0)
    for at in range(1, 7):
        alarms.take([TAIL] if at % 2 else [], float(at))
    threads = [threading.Thread(target=Outbox(alarms, [hook]).deliver, args=(9.0,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    Outbox(alarms, [hook]).deliver(10.0)
    assert most[0] == 1
    assert (len(hook.ids), len(set(hook.ids))) == (6, 6)


def test_an_end_in_the_middle_leaves_the_rest_owed(alarms):
    hook = Sink("hook")
    outbox = Outbox(alarms, [hook])
    outbox.deliver(0.0)
    for at in (1.0, 2.0, 3.0):
        alarms.take([TAIL] if at != 2 else [], at)
    assert outbox.deliver(4.0, is_ending=lambda: len(hook.ids) == 1).n_owed == 2


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2}', "[1]"])
def test_a_damaged_outbox_is_named(alarms, text):
    outbox = Outbox(alarms, [Sink()])
    outbox.deliver(0.0)
    outbox.file.write_text(text)
    with pytest.raises(
        DataError, match=r"the outbox must be a file that the monitor wrote; got .*alarms-out"
    ):
        outbox.deliver(1.0)


def test_a_delivery_that_is_owed_and_not_there_is_damage(alarms):
    outbox = Outbox(alarms, [Sink("hook", "away")])
    outbox.deliver(0.0)
    alarms.take([TAIL], 1.0)
    outbox.deliver(1.0)
    plain = json.loads(outbox.file.read_text())
    outbox.file.write_text(json.dumps(plain | {"deliveries": {}}))
    with pytest.raises(DataError, match="the outbox must be"):
        outbox.state()


def test_arguments_out_of_range_are_refused_by_name_and_value(alarms):
    with pytest.raises(ValueError, match=r"max_age_s must be > 0 and max_owed >= 1; got 0 and 1000"):
        Outbox(alarms, max_age_s=0)
    with pytest.raises(ValueError, match=r"sinks must have names of their own; got hook, hook"):
        Outbox(alarms, [Sink("hook"), Sink("hook")])
