"""Answers of a language model, kept by content: nothing is ever asked twice."""

import hashlib
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tailwise import assets
from tailwise.diagnosis._prior_estimate import PriorCost

__all__ = ["Arrays", "PriorCache"]

Arrays = dict[str, NDArray[Any]]


class PriorCache:
    """Chunks of arrays in ``<cache>/prior/<model>/``, each under the hash of what decides its values.

    A chunk is written whole or not at all, so a run that is killed goes on at the first chunk
    that it had not finished. Each file carries the hash of its own arrays; one that does not
    fit is reported and computed again.

    Args:
        fingerprint: Of the model, from :attr:`TextModel.fingerprint`.
        recipe: Name and version of the computation; raise the version when it changes.
        settings: What else decides the values of every chunk and is the same for all: dtype,
            depth, ... Plain JSON values.

    Example (``model`` is a :class:`TextModel`)::

        cache = PriorCache(model.fingerprint, "title-likelihood/1", {"dtype": str(model.dtype)})
        arrays, cost = cache.get({"prompt": ids, "titles": titles}, compute, n_answers=len(titles))
    """

    def __init__(self, fingerprint: str, recipe: str, settings: Mapping[str, Any]) -> None:
        self.folder = assets.cache_dir() / "prior" / fingerprint
        self._common = {"recipe": recipe, "settings": dict(settings)}

    def path(self, content: Any) -> Path:
        """Return the file of a chunk, whether or not it exists."""
        text = json.dumps(self._common | {"content": content}, ensure_ascii=False, sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()}.safetensors"

    def get(
        self, content: Any, compute: Callable[[], tuple[Arrays, int]], *, n_answers: int
    ) -> tuple[Arrays, PriorCost]:
        """Return the arrays of a chunk and what they cost, computing them where they are missing.

        Args:
            content: What decides the values; plain JSON values.
            compute: Returns the arrays and the number of tokens read.
            n_answers: How many answers the chunk holds; counted in the cost.
        """
        file = self.path(content)
        kept = _read(file)
        if kept is not None:
            arrays, seconds = kept
            return arrays, PriorCost(n_from_cache=n_answers, seconds_when_computed=seconds)
        begin = time.perf_counter()
        arrays, n_tokens = compute()
        seconds = time.perf_counter() - begin
        _write(file, arrays, seconds)
        cost = PriorCost(seconds, n_tokens, n_computed=n_answers, seconds_when_computed=seconds)
        return arrays, cost


def _digest(arrays: Arrays) -> str:
    """Hash names, kinds, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _read(file: Path) -> tuple[Arrays, float] | None:
    """Return arrays and the seconds they took; None when there is no file, or a damaged one."""
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="numpy") as stored:
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            notes = stored.metadata() or {}
        if notes.get("sha256") == _digest(arrays):
            return arrays, float(notes["seconds"])
        found = "its values do not fit their hash"
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        found = f"{type(error).__name__}: {error}"
    warnings.warn(
        f"A cached file is damaged and is computed again ({found}): {file}", RuntimeWarning, stacklevel=4
    )
    return None


def _write(file: Path, arrays: Arrays, seconds: float) -> None:
    """Write all or nothing, also when two processes write the same chunk."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=file.parent, suffix=".partial")
    os.close(handle)
    try:
        whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        save_file(whole, partial, metadata={"sha256": _digest(whole), "seconds": repr(seconds)})
        Path(partial).replace(file)
    finally:
        Path(partial).unlink(missing_ok=True)
