"""What one needs to know to repeat a run, or to doubt it."""

import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import tailwise

__all__ = ["describe_surroundings", "differing_surroundings"]

_ROUNDING = ("system", "processor", "instructions", "n_threads", "cuda_device")
_ROUNDING_INSTRUCTIONS = ("avx2", "avx512_f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16")
_PACKAGES = ("torch", "transformers", "peft", "polars", "numpy", "safetensors", "implicit")


def describe_surroundings() -> dict[str, Any]:
    """Return code version and commit, library versions, machine and time, as JSON values."""
    return {
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "tailwise_version": tailwise.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        # torch itself says which build it is ("+cpu", "+cu130"); what pip knows may lack that.
        "packages": {name: _version(name) for name in _PACKAGES} | {"torch": str(torch.__version__)},
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": _processor(),
            "instructions": _instructions(),
            "n_threads": torch.get_num_threads(),
            "cuda_device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def differing_surroundings(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Say what of two surroundings may round sums otherwise: machine, threads, torch.

    Example:
        >>> then, now = ({"machine": {"processor": p}, "packages": {"torch": "2.13.0"}} for p in "ab")
        >>> differing_surroundings(then, now)
        ['processor: recorded a, here b']
    """
    then, now = (
        {**{key: one["machine"].get(key, "nothing") for key in _ROUNDING}, "torch": one["packages"]["torch"]}
        for one in (recorded, found)
    )
    return [f"{key}: recorded {then[key]}, here {now[key]}" for key in then if then[key] != now[key]]


def _commit() -> str | None:
    """Commit of the source tree this package runs from; None outside a git checkout."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    try:
        head = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _instructions() -> list[str] | None:
    """Which of the instructions that decide how products are summed and rounded the processor has."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return None
    found = torch.cpu.get_capabilities()
    return [name for name in _ROUNDING_INSTRUCTIONS if found.get(name)]


def _processor() -> str:
    if hasattr(torch.cpu, "get_capabilities"):
        name = torch.cpu.get_capabilities().get("cpu_name")
        if name:
            return str(name)
    return platform.processor() or "unknown"
