"""The monitor of a service: the run that is served, the log, the alarms in the state."""

import threading
from pathlib import Path

import pytest

from tailwise.dashboard import MonitorSettings
from tailwise.errors import DataError
from tailwise.jobs._monitor import ServiceMonitor
from tailwise.jobs._run_data import prepare_run_data
from tailwise.jobs._run_folder import RunFolder
from tailwise.jobs._serve_deployment import DeploymentFolder
from tests.dashboard.making import Sink

from .builders import tiny_config
from .rollouts import DAY, NOW, Shop


@pytest.fixture(scope="module")
def root(tiny_log, tmp_path_factory) -> Path:
    """A run as far as the monitor reads it: settings and data; nothing is trained."""
    root = tmp_path_factory.mktemp("models")
    config = tiny_config(tiny_log.interactions, tiny_log.items, root / "no-model")
    folder = RunFolder(root / "run")
    folder.claim(config, resume=False)
    prepare_run_data(config.data, folder.data, lambda _: None)
    return root


@pytest.fixture
def shop(tmp_path):
    made = Shop(tmp_path)
    yield made
    made.close()


def monitor(shop, tmp_path, root, **rest):
    DeploymentFolder(tmp_path / "state").begin({"control": "run/adamw", "treatment": "run/item-knn"})
    settings = MonitorSettings(minimum_lists=1, minimum_choices=2, moved_share=0.01)
    return ServiceMonitor(
        shop.database,
        state=tmp_path / "state",
        root=root,
        settings=settings,
        clock=lambda: NOW + DAY / 2,
        **rest,
    )


def test_the_segments_are_those_of_the_run_that_answers_everybody(shop, tmp_path, root):
    shop.list("u", at=NOW, items=("i00", "i39"))
    report = monitor(shop, tmp_path, root).look()
    assert (report.window.n_lists, report.window.n_slots, report.window.n_unknown) == (1, 2, 0)
    assert report.window.slot_share["head"].value == 0.5
    assert report.moved.n_moved == 0


def test_choices_after_the_training_move_items_and_raise_one_alarm(shop, tmp_path, root):
    watching = monitor(shop, tmp_path, root)
    for i in range(40):
        shop.event("click", f"u{i}", "i39", at=NOW + i)
    first, again = watching.look(), watching.look()
    assert "i39" in first.moved.into_head
    assert [alarm.kind for alarm in first.new] == ["retrain"]
    assert again.new == ()
    assert [alarm.kind for alarm in watching.alarms.open_ones()] == ["retrain"]


def test_a_state_without_a_service_is_said(shop, tmp_path, root):
    watching = ServiceMonitor(shop.database, state=tmp_path / "none", root=root)
    with pytest.raises(DataError):
        watching.look()


def test_the_thread_looks_and_ends_with_its_block(shop, tmp_path, root):
    looked = threading.Event()

    class Hook(Sink):
        def send(self, alarms, *, delivery):
            looked.set()
            return "taken"

    for i in range(40):
        shop.event("click", f"u{i}", "i39", at=NOW + i)
    watching = monitor(shop, tmp_path, root, sinks=[Hook()])
    with watching.running(every_s=3600):
        assert looked.wait(20)
    assert "monitor" not in {thread.name for thread in threading.enumerate()}
