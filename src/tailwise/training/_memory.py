"""Peak memory of a stretch of work."""

import resource
import sys
from pathlib import Path

import torch

__all__ = ["PeakMemory"]

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class PeakMemory:
    """Measures the peak resident memory of this process since it was made, in MiB.

    On a CUDA device, the peak of the device's allocated memory instead. Where the system
    cannot reset its peak (outside Linux), the peak is that of the whole process so far.

    The peak never falls from one reading to the next. The kernel's own may by some hundred
    KiB: it counts resident pages per CPU and reads the sum without stopping them.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._peak_mib = 0.0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        try:
            _CLEAR_REFS.write_text("5")  # resets the peak of resident memory, see proc(5)
        except OSError:
            return

    def mib(self) -> float:
        """Return the peak so far, in MiB."""
        self._peak_mib = max(self._peak_mib, self._read_mib())
        return self._peak_mib

    def _read_mib(self) -> float:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 2**20
        if _STATUS.is_file():
            for line in _STATUS.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 1024
