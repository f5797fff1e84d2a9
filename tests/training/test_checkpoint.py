from pathlib import Path

import pytest
import torch

from tailwise.errors import CheckpointError
from tailwise.training import _checkpoint as module
from tailwise.training import load_newest_checkpoint, save_checkpoint
from tailwise.training._checkpoint import save_tensors_atomically


class Killed(BaseException):
    """Stands for SIGKILL at one place: nothing after it runs that matters."""


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_state_comes_back_with_its_kinds(tmp_path):
    state = {
        "parameters": {"a.b": torch.arange(3.0), "half": torch.ones(2, dtype=torch.bfloat16)},
        "optimizer": {"state": {0: {"step": torch.tensor(2.0)}}, "betas": (0.9, 0.999), "lr": 1e-3},
        "nothing": None,
        "flags": [True, False, 3, "text", float("inf")],
    }
    save_checkpoint(tmp_path, 7, state)
    loaded = load_newest_checkpoint(tmp_path)
    assert loaded is not None
    assert torch.equal(loaded["parameters"]["a.b"], torch.arange(3.0))
    assert loaded["parameters"]["half"].dtype == torch.bfloat16
    assert loaded["optimizer"]["betas"] == (0.9, 0.999)
    assert loaded["optimizer"]["state"][0]["step"].shape == ()  # the key is still a number
    assert loaded["flags"] == [True, False, 3, "text", float("inf")]
    assert loaded["nothing"] is None


def test_a_saved_tensor_is_that_of_the_moment(tmp_path):
    tensor = torch.zeros(2)
    save_checkpoint(tmp_path, 1, {"t": tensor, "row": torch.arange(6.0).reshape(2, 3)[:, 1]})
    tensor.add_(1)
    loaded = load_newest_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded["t"].tolist() == [0, 0]
    assert loaded["row"].tolist() == [1, 4]  # of a view, its own part alone


def test_no_folder_means_no_checkpoint(tmp_path):
    assert load_newest_checkpoint(tmp_path / "never") is None
    assert load_newest_checkpoint(tmp_path) is None


def test_what_cannot_be_saved_is_refused_by_place_and_kind_and_leaves_nothing(tmp_path):
    with pytest.raises(TypeError, match=r"got set at state\.a\.0"):
        save_checkpoint(tmp_path, 1, {"a": [{1}]})
    assert names(tmp_path) == []


def test_only_the_newest_is_kept(tmp_path):
    for step in (9, 10, 100):
        save_checkpoint(tmp_path, step, {"t": torch.tensor(step)})
    assert names(tmp_path) == ["step-000000100"]


def test_a_step_can_be_saved_again_and_again(tmp_path):
    for value in range(12):
        save_checkpoint(tmp_path, 5, {"value": value})
        assert load_newest_checkpoint(tmp_path) == {"value": value}
        assert len(names(tmp_path)) == 1
    save_checkpoint(tmp_path, 6, {"value": "next"})
    assert load_newest_checkpoint(tmp_path) == {"value": "next"}
    assert names(tmp_path) == ["step-000000006"]


CALLS = ("save_file", "_flush", "rename", "rmtree")


@pytest.mark.parametrize("second_step", [5, 6], ids=["same-step", "next-step"])
def test_killed_at_any_call_of_a_save_either_the_old_or_the_new_state_is_there(
    tmp_path, monkeypatch, second_step
):
    """Dies before each file operation in turn, and in the middle of every removal."""
    n_moments = 0
    for dies_at in range(1, 100):
        folder = tmp_path / str(dies_at)
        save_checkpoint(folder, 5, {"value": "old", "t": torch.zeros(2)})
        n_calls = 0

        def spoil(original, in_the_middle=None, dies_at=dies_at):
            def call(*arguments, **settings):
                nonlocal n_calls
                n_calls += 1
                if n_calls == dies_at:
                    if in_the_middle:
                        in_the_middle(*arguments)
                    raise Killed
                if n_calls < dies_at:  # the dead do not clean up after themselves
                    return original(*arguments, **settings)
                return None

            return call

        def remove_half(path: Path, *_: object) -> None:
            for file in sorted(Path(path).glob("*"))[:1]:
                file.unlink()

        with monkeypatch.context() as patch:
            patch.setattr(module, "save_file", spoil(module.save_file))
            patch.setattr(module, "_flush", spoil(module._flush))
            patch.setattr(module.shutil, "rmtree", spoil(module.shutil.rmtree, remove_half))
            patch.setattr(Path, "rename", spoil(Path.rename))
            try:
                save_checkpoint(folder, second_step, {"value": "new", "t": torch.ones(2)})
            except Killed:
                n_moments += 1
        loaded = load_newest_checkpoint(folder)
        assert loaded is not None, dies_at
        assert loaded["value"] in ("old", "new"), dies_at
        save_checkpoint(folder, 7, {"value": "later"})
        assert names(folder) == ["step-000000007"], "leftovers are removed by the next save"
        if n_calls < dies_at:
            break
    assert n_moments >= 6


@pytest.mark.parametrize("file", ["state.json", "tensors.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_checkpoint_is_refused_by_folder_with_what_to_do(tmp_path, file, damage):
    save_checkpoint(tmp_path, 5, {"t": torch.zeros(100)})
    path = tmp_path / "step-000000005" / file
    if damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    with pytest.raises(
        CheckpointError,
        match=rf"checkpoint '{tmp_path}/step-000000005' must be readable; got .*(?s:.)*Delete that folder",
    ):
        load_newest_checkpoint(tmp_path)


def test_a_checkpoint_of_another_format_is_refused_by_value(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_FORMAT", 99)
    save_checkpoint(tmp_path, 5, {"t": torch.zeros(1)})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="checkpoint format must be 1; got 99"):
        load_newest_checkpoint(tmp_path)


def test_tensors_are_replaced_as_a_whole_and_leftovers_removed(tmp_path, monkeypatch):
    file = tmp_path / "best.safetensors"
    save_tensors_atomically({"t": torch.zeros(1)}, file)
    before = file.read_bytes()
    (tmp_path / ".best.safetensors.4711").write_bytes(b"of a killed process")

    def fail(*arguments: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_flush", fail)
        with pytest.raises(OSError, match="disk full"):
            save_tensors_atomically({"t": torch.ones(1)}, file)
    assert file.read_bytes() == before
    assert names(tmp_path) == ["best.safetensors"]
