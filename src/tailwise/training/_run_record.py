"""What one needs to know to repeat a run, or to doubt it."""

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import tailwise

__all__ = ["describe_surroundings"]

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
            "n_threads": torch.get_num_threads(),
            "cuda_device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


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


def _processor() -> str:
    if hasattr(torch.cpu, "get_capabilities"):
        name = torch.cpu.get_capabilities().get("cpu_name")
        if name:
            return str(name)
    return platform.processor() or "unknown"
