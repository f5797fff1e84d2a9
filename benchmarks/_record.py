"""What every benchmark leaves behind: an aligned table, one JSON line, and a folder that keeps both."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tailwise.training import describe_surroundings

__all__ = ["aligned", "keep", "median_interval", "rounded", "surroundings"]


def surroundings() -> dict[str, Any]:
    """Return date, commit and machine, without names of hosts or paths."""
    found = describe_surroundings()
    return {
        "date": found["created_at"][:10],
        "commit": found["commit"],
        "machine": {
            **found["machine"],
            "n_cores": os.cpu_count(),
            "python": found["python"],
            **{name: found["packages"][name] for name in ("torch", "transformers", "peft")},
        },
    }


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], *, n_left: int = 1) -> str:
    """Lay out a plain-text table; the first ``n_left`` columns are texts, the others numbers."""
    widths = [max(len(line[column]) for line in (header, *rows)) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if column < n_left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    return "\n".join([line(header), "  ".join("-" * width for width in widths), *map(line, rows)])


def median_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Interval of the median from order statistics, whatever the distribution.

    Between the k-th smallest and the k-th largest of n values lies the median with
    probability ``1 − 2 P(Binomial(n, 1/2) < k)``. The largest k that reaches ``level`` is
    taken; below six values none reaches 95 %, and the smallest and the largest are returned.

    Returns:
        Low, high, and the probability that the interval covers the median.

    Example:
        >>> median_interval([5.0, 1.0, 3.0, 2.0, 4.0, 6.0])
        (1.0, 6.0, 0.96875)
    """
    n, ordered = len(values), sorted(values)

    def coverage(k: int) -> float:
        return 1 - 2 * sum(math.comb(n, i) for i in range(k)) * 0.5**n

    k = max((k for k in range(1, (n + 1) // 2 + 1) if coverage(k) >= level), default=1)
    return ordered[k - 1], ordered[n - k], coverage(k)


def keep(folder: Path, record: dict[str, Any], config: dict[str, Any], table: str) -> None:
    """Write ``table.txt``, ``result.json`` and ``config.json`` into ``folder``, over older ones."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.txt").write_text(table + "\n")
    (folder / "result.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    (folder / "config.json").write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n")


def rounded(values: dict[str, Any], digits: int = 6) -> dict[str, Any]:
    """Round every float to ``digits`` significant digits; the rest would be noise."""
    return {k: float(f"{v:.{digits}g}") if isinstance(v, float) else v for k, v in values.items()}
