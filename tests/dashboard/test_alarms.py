import threading

import pytest

from tailwise.dashboard import AlarmFile, Finding
from tailwise.errors import DataError

DAY = 86_400.0
TAIL = Finding("exposure", "tail", "alarm", "The tail share fell.", {"share": 0.1})
COVER = Finding("coverage", "", "warning", "Coverage fell.")


@pytest.fixture
def alarms(tmp_path):
    return AlarmFile(tmp_path / "state" / "alarms.jsonl", repeat_s=7 * DAY)


def states(found):
    return [(alarm.state, alarm.kind) for alarm in found]


def test_what_goes_on_is_raised_once_and_again_after_a_week(alarms):
    assert states(alarms.take([TAIL, COVER], 0.0)) == [("raised", "exposure"), ("raised", "coverage")]
    assert [alarms.take([TAIL, COVER], hour * 3600.0) for hour in (1, 24, 150)] == [[], [], []]
    assert states(alarms.take([TAIL, COVER], 7 * DAY)) == [("raised", "exposure"), ("raised", "coverage")]


def test_what_is_found_no_more_is_cleared_once_and_may_be_raised_again(alarms):
    alarms.take([TAIL, COVER], 0.0)
    assert states(alarms.take([COVER], 1.0)) == [("cleared", "exposure")]
    assert alarms.take([COVER], 2.0) == []
    assert states(alarms.take([TAIL, COVER], 3.0)) == [("raised", "exposure")]


def test_what_could_not_be_judged_stays_raised(alarms):
    alarms.take([TAIL, COVER], 0.0)
    assert states(alarms.take([], 1.0, judged={"coverage"})) == [("cleared", "coverage")]
    assert [alarm.kind for alarm in alarms.open_ones()] == ["exposure"]


def test_a_worse_level_is_news(alarms):
    alarms.take([COVER], 0.0)
    worse = Finding("coverage", "", "alarm", "Coverage fell to nothing.")
    assert [alarm.level for alarm in alarms.take([worse], 1.0)] == ["alarm"]


def test_the_file_only_grows_and_is_read_back_newest_first(alarms):
    alarms.take([TAIL], 0.0)
    before = alarms.file.read_bytes()
    strange = Finding("coverage", "", "notice", 'a "line"\u2028with\nbreaks and ümlauts')
    alarms.take([TAIL, strange], 1.0)
    assert alarms.file.read_bytes().startswith(before)
    assert [alarm.message for alarm in alarms.all()] == [strange.message, TAIL.message]
    assert alarms.all()[1].numbers == {"share": 0.1}


def test_a_line_that_a_killed_writer_left_unfinished_does_not_spoil_the_next(alarms):
    alarms.take([TAIL], 0.0)
    with alarms.file.open("ab") as stream:
        stream.write(b'{"at": 1.0, "sta')
    assert len(alarms.all()) == 1
    alarms.take([TAIL, COVER], 2.0)
    assert states(alarms.all()) == [("raised", "coverage"), ("raised", "exposure")]


def test_a_damaged_line_is_refused_by_its_number(alarms):
    alarms.take([TAIL], 0.0)
    with alarms.file.open("ab") as stream:
        stream.write(b"nonsense\n")
    with pytest.raises(DataError, match=r"got JSONDecodeError in line 2 of .*alarms.jsonl"):
        alarms.take([], 1.0)


def test_several_monitors_raise_one_alarm_together(alarms):
    others = [AlarmFile(alarms.file) for _ in range(4)]
    written = []
    threads = [threading.Thread(target=lambda o=o: written.extend(o.take([TAIL], 0.0))) for o in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == len(alarms.all()) == 1
