"""What every benchmark leaves behind: an aligned table, one JSON line, and a folder that keeps both."""

import argparse
import hashlib
import json
import math
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tailwise.training import describe_surroundings

__all__ = [
    "aligned",
    "by_turns",
    "check_measured",
    "code_version",
    "conclude",
    "keep",
    "median_interval",
    "rounded",
    "surroundings",
]

_ROOT = Path(__file__).resolve().parents[1]


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


def code_version(*paths: str) -> dict[str, str | None]:
    """Say which code is measured: the commit, and a digest of the files that count.

    The digest stays the same over commits that change other files only, and tells apart what no commit holds.

    Args:
        paths: Of files, or folders of Python files, from the root of the checkout.

    Returns:
        ``commit`` (None outside a checkout; ends in ``-dirty`` where these files differ from it) and
        ``code``, the digest.

    Raises:
        ValueError: a path holds no Python file.
    """
    digest = hashlib.sha256()
    for path in paths:
        whole = _ROOT / path
        files = [whole] if whole.is_file() else sorted(whole.rglob("*.py"))
        if not files:
            raise ValueError(f"paths must hold Python files; got {path!r}.")
        for file in files:
            digest.update(f"{file.relative_to(_ROOT)}\0".encode() + file.read_bytes() + b"\0")
    commit = None
    if (_ROOT / ".git").exists():
        commit = _git("rev-parse", "--short=12", "HEAD")
        commit += "-dirty" if _git("status", "--porcelain", "--", *paths) else ""
    return {"commit": commit, "code": digest.hexdigest()[:12]}


def check_measured(rows: Sequence[dict[str, Any]], now: dict[str, Any], *, name: Sequence[str]) -> None:
    """Refuse rows that another run measured under conditions other than this one's.

    Args:
        rows: Each with ``measured``: ``date``, ``commit``, ``code``, ``config``, ``machine``.
        now: The same of this run; dates and commits may differ.
        name: Keys of a row that name it.

    Raises:
        ValueError: a row was measured by other code, with another config, or on another machine.
    """
    differing = []
    for row in rows:
        then = row["measured"]
        why = [what for what in ("code", "config", "machine") if then[what] != now[what]]
        if why:
            row_name = " / ".join(str(row[key]) for key in name)
            differing.append(f"{row_name!r} (another {', '.join(why)}; {then['date']}, {then['commit']})")
    if differing:
        raise ValueError(
            "kept rows must be measured by the code, with the config and on the machine of this run; "
            f"got {len(differing)} of {len(rows)} that were not.\n"
            f"  First: {'; '.join(differing[:3])}.\n"
            "  Keep them as they are with --keep-older, or measure all anew into another --output."
        )


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


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


def by_turns(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """Put two ways in proportion by what each took, or did in a second, turn by turn.

    Args:
        above: Of every turn, the ratio's numerator.
        below: The same turns, its denominator.

    Returns:
        ``ratio``, the median over the turns, and its :func:`median_interval`: ``ratio_low``, ``ratio_high``,
        ``interval_coverage``.
    """
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    low, high, coverage = median_interval(ratios)
    return {"ratio": median(ratios), "ratio_low": low, "ratio_high": high, "interval_coverage": coverage}


def conclude(record: dict[str, Any], table: str, options: argparse.Namespace, slug: str) -> dict[str, Any]:
    """End a benchmark: keep the record where ``--output`` asks for it, print table and JSON line.

    Args:
        record: With ``date``; what is printed and returned.
        table: Plain text.
        options: Of the command line; what is kept beside the record, without ``output``.
        slug: Of the folder, after the date.
    """
    if options.output:
        config = {name: value for name, value in vars(options).items() if name != "output"}
        keep(options.output / f"{record['date']}-{slug}", record, config, table)
    print(table)
    print(json.dumps(record, ensure_ascii=False))
    return record


def keep(folder: Path, record: dict[str, Any], config: dict[str, Any], table: str) -> None:
    """Write ``table.txt``, ``result.json`` and ``config.json`` into ``folder``, over older ones.

    Each is whole at any time: whoever stops the run finds the old one or the new one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("table.txt", table),
        ("result.json", json.dumps(record, indent=1, ensure_ascii=False)),
        ("config.json", json.dumps(config, indent=1, ensure_ascii=False)),
    ):
        unfinished = folder / f".{name}"
        unfinished.write_text(text + "\n")
        unfinished.replace(folder / name)


def rounded(values: dict[str, Any], digits: int = 6) -> dict[str, Any]:
    """Round every float to ``digits`` significant digits; the rest would be noise."""
    return {k: float(f"{v:.{digits}g}") if isinstance(v, float) else v for k, v in values.items()}
