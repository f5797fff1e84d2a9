"""Give both evaluations of a row the same dropout masks."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["RandomState"]


class RandomState:
    """The state of torch's global generators (CPU, and the CUDA device in use, if any) at one moment."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cpu = torch.get_rng_state()
        self._cuda: Tensor | None = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def has_changed(self) -> bool:
        """True if anything drew random numbers since: the loss function uses dropout, say."""
        if not torch.equal(self._cpu, torch.get_rng_state()):
            return True
        return self._cuda is not None and not torch.equal(self._cuda, torch.cuda.get_rng_state(self._device))

    def _restore(self) -> None:
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda, self._device)

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Draw the same random numbers again inside the block; go on after it as if it had not been."""
        after = RandomState(self._device)
        self._restore()
        try:
            yield
        finally:
            after._restore()
