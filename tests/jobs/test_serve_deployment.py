"""The files that tell every worker what to serve."""

import json
import threading

import pytest

from tailwise.errors import DataError
from tailwise.jobs._serve_control import changed_catalogue
from tailwise.jobs._serve_deployment import Deployed, DeploymentFolder, joined
from tailwise.serving import Filters, ServedCatalogue

MODELS = {"control": "run/adamw", "treatment": "run/eisam"}


@pytest.fixture
def folder(tmp_path):
    folder = DeploymentFolder(tmp_path / "state")
    folder.begin(MODELS)
    return folder


def test_a_start_names_the_models_it_is_given_in_their_order(folder):
    found = folder.read()
    assert [*found.models] == ["control", "treatment"]
    assert found.models["control"] == Deployed("run/adamw", 0)


def test_a_swap_outlives_a_restart_with_the_same_models_and_not_one_with_others(folder):
    swapped = folder.swap("control", "run/new")
    assert swapped.models == {"control": Deployed("run/new", 1), "treatment": Deployed("run/eisam", 0)}
    assert DeploymentFolder(folder.folder).begin(MODELS) == swapped
    again = DeploymentFolder(folder.folder).begin(MODELS | {"treatment": "run/other"})
    assert again.models == {"control": Deployed("run/adamw", 2), "treatment": Deployed("run/other", 2)}


def test_models_in_another_order_are_another_start_for_the_first_is_for_everybody(folder):
    folder.swap("control", "run/new")
    turned = dict(reversed(MODELS.items()))
    assert [*DeploymentFolder(folder.folder).begin(turned).models] == ["treatment", "control"]


def swap_often(path, name, barrier):
    barrier.wait(30)
    for number in range(50):
        DeploymentFolder(path).swap(name, f"run/{number}")


def test_swaps_of_two_writers_at_once_are_all_counted(folder):
    barrier = threading.Barrier(2)
    crew = [threading.Thread(target=swap_often, args=(folder.folder, name, barrier)) for name in MODELS]
    for writer in crew:
        writer.start()
    for writer in crew:
        writer.join(60)
    found = folder.read()
    assert found.generation == 100
    assert {model.source for model in found.models.values()} == {"run/49"}


def test_every_change_moves_the_stamp(folder):
    stamps = [folder.stamp()]
    folder.swap("control", "run/b")
    stamps.append(folder.stamp())
    folder.append_changes([{"item_id": "a", "price": 1.0}])
    stamps.append(folder.stamp())
    folder.append_changes([{"item_id": "a", "price": 2.0}])
    stamps.append(folder.stamp())
    assert len(set(stamps)) == 4


def test_changes_are_read_from_where_the_last_look_ended(folder):
    assert folder.changes_after(0) == ([], 0, None)
    assert folder.append_changes([{"item_id": "a", "price": 1.0}]) == 1
    first, offset, number = folder.changes_after(0)
    assert (first, number) == ([{"item_id": "a", "price": 1.0}], 1)
    assert folder.append_changes([{"item_id": "b", "price": None}]) == 2
    assert folder.changes_after(offset)[0] == [{"item_id": "b", "price": None}]


def test_a_line_whose_writer_was_killed_is_no_change_and_spoils_no_other(folder):
    folder.append_changes([{"item_id": "a", "price": 1.0}])
    file = folder.folder / "catalogue.jsonl"
    with file.open("ab") as stream:
        stream.write(b'{"number": 2, "items": [{"item_id": "b"')
    seen, offset, _ = folder.changes_after(0)
    assert seen == [{"item_id": "a", "price": 1.0}]
    assert DeploymentFolder(folder.folder).append_changes([{"item_id": "c", "price": 3.0}]) == 2
    assert folder.changes_after(offset)[0] == [{"item_id": "c", "price": 3.0}]


def test_a_start_joins_the_changes_and_keeps_their_number(folder):
    for price in (1.0, 2.0, 3.0):
        folder.append_changes([{"item_id": "a", "price": price}, {"item_id": "b", "in_stock": price > 1}])
    DeploymentFolder(folder.folder).begin(MODELS)
    assert len((folder.folder / "catalogue.jsonl").read_text().splitlines()) == 1
    expected = [{"item_id": "a", "price": 3.0}, {"item_id": "b", "in_stock": True}]
    assert folder.changes_after(0)[0] == expected
    assert folder.changes_after(0)[2] == 3
    assert DeploymentFolder(folder.folder).append_changes([{"item_id": "c"}]) == 4


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "models": 3}'])
def test_a_damaged_deployment_is_refused_with_its_remedy(folder, content):
    (folder.folder / "deployment.json").write_text(content)
    with pytest.raises(DataError, match=r"deployment must be a file that the service wrote.*\n.*Remove it"):
        folder.read()


def test_what_a_worker_says_is_there_until_it_is_gone(folder):
    for worker in (10, 2):
        folder.write_worker(worker, {"worker": worker})
    assert [state["worker"] for state in folder.read_workers()] == [2, 10]
    folder.forget_worker(10)
    folder.forget_worker(10)
    assert [state["worker"] for state in folder.read_workers()] == [2]
    folder.begin(MODELS)
    assert folder.read_workers() == []


def test_changes_of_different_properties_meet_in_the_catalogue():
    catalogue = ServedCatalogue(["a", "b", "c"], ["A", "B", "C"], [3, 2, 1], ["head", "tail", "tail"])
    changes = json.loads(
        '[{"item_id": "a", "price": 1}, {"item_id": "b", "price": 2.5, "category": "x"}, {"item_id": "zz",'
        ' "price": 1}, {"item_id": "a", "in_stock": false}, {"item_id": "c"}]'
    )
    changed = changed_catalogue(catalogue, changes)
    assert [changed.property_of(i, "price") for i in range(3)] == [1.0, 2.5, None]
    assert changed.property_of(1, "category") == "x"
    assert changed.mask(Filters(in_stock=True)).tolist() == [False, True, True]
    again = changed_catalogue(changed, [{"item_id": "a", "price": None}])
    assert again.property_of(0, "price") is None
    assert again.property_of(0, "in_stock") is False


def test_later_changes_lie_over_earlier_ones():
    changes = [{"item_id": "a", "price": 1.0, "in_stock": True}, {"item_id": "a", "price": None}]
    assert joined(changes) == [{"item_id": "a", "price": None, "in_stock": True}]
