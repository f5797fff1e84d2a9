"""Checkpoints that survive a process dying at any moment.

A checkpoint is a folder ``step-<n>`` (``step-<n>.<m>`` when a step is saved again) holding
``tensors.safetensors`` and ``state.json``. It is written under another name, flushed to the
disk, and renamed when complete; it is renamed back before it is removed. So a folder of
that name is always whole, and from the first on there is always one.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from tailwise.errors import CheckpointError

__all__ = ["load_newest_checkpoint", "save_checkpoint", "save_tensors_atomically"]

_FORMAT = 1


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Save ``state`` as the newest checkpoint in ``folder``, then remove older ones.

    Args:
        folder: Holds the checkpoints of one training; created if need be.
        step: Optimizer steps taken; names the checkpoint.
        state: Nested dicts, lists and tuples of tensors and JSON values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    outline = _to_outline(state, "state", tensors)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    try:
        save_file(tensors, partial / "tensors.safetensors")
        (partial / "state.json").write_text(json.dumps({"format": _FORMAT, "step": step, "state": outline}))
        for file in partial.iterdir():
            _flush(file)
        # A step is saved again when its epoch ends, or by a resume that is stopped at once.
        n_saves = 1 + max(
            (again for saved, again in map(_number, _complete(folder)) if saved == step), default=-1
        )
        partial.rename(folder / (f"step-{step:09d}" + (f".{n_saves}" if n_saves else "")))
        _flush(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for old in _complete(folder)[:-1]:
        old.rename(folder / f".partial-{old.name}")
    for leftover in folder.glob(".partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def load_newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return the state of the newest checkpoint in ``folder``, or None if there is none.

    Raises:
        CheckpointError: the checkpoint is of another format version or damaged.
    """
    complete = _complete(folder)
    if not complete:
        return None
    newest = complete[-1]
    try:
        description = json.loads((newest / "state.json").read_text())
        tensors = load_file(newest / "tensors.safetensors")
    except Exception as error:  # unreadable in whatever way: the remedy is the same
        raise CheckpointError(
            f"checkpoint {str(newest)!r} must be readable; got {type(error).__name__}: {error}. "
            "Delete that folder to start this training anew."
        ) from error
    if description["format"] != _FORMAT:
        raise CheckpointError(
            f"checkpoint format must be {_FORMAT}; got {description['format']} in {str(newest)!r}. "
            "Resume with the version of tailwise that wrote it, or delete that folder to start anew."
        )
    state: dict[str, Any] = _from_outline(description["state"], tensors)
    return state


def save_tensors_atomically(tensors: dict[str, Tensor], file: Path) -> None:
    """Write a safetensors file that is either the old one or the new one, never a part."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for leftover in file.parent.glob(f".{file.name}.*"):  # of a process that was killed here
        leftover.unlink(missing_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, partial)
        _flush(partial)
        partial.replace(file)
        _flush(file.parent)
    finally:
        partial.unlink(missing_ok=True)


def _complete(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), key=_number) if folder.is_dir() else []


def _number(checkpoint: Path) -> tuple[int, int]:
    step, _, again = checkpoint.name.removeprefix("step-").partition(".")
    return int(step), int(again or 0)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _to_outline(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """JSON for ``value``, its tensors moved into ``tensors``; dict keys keep their type."""
    if isinstance(value, Tensor):
        tensors[path] = value.detach().cpu().contiguous().clone()
        return {"tensor": path}
    if isinstance(value, dict):
        pairs = [[key, _to_outline(entry, f"{path}.{key}", tensors)] for key, entry in value.items()]
        return {"dict": pairs}
    if isinstance(value, list | tuple):
        entries = [_to_outline(entry, f"{path}.{i}", tensors) for i, entry in enumerate(value)]
        return {type(value).__name__: entries}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a checkpoint must hold tensors and JSON values; got {type(value).__name__} at {path}.")


def _from_outline(outline: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(outline, dict):
        return outline
    ((kind, content),) = outline.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _from_outline(entry, tensors) for key, entry in content}
    entries = [_from_outline(entry, tensors) for entry in content]
    return tuple(entries) if kind == "tuple" else entries
