"""How long does the data side of a diagnosis take, and how much memory, for a million interactions?

Promised: 1,000,000 interactions with 100,000 items in under 20 seconds and 2 GiB, with every interval
and p-value switched on::

    python benchmarks/how_fast_is_the_data_side.py --output benchmarks/results
    python benchmarks/how_fast_is_the_data_side.py --interactions 2000 --items 300   # seconds

**Log.** Items are drawn by Zipf's law, users uniformly (ten interactions each on average), times at
random within a year; each item has one of 1,000 brands, of Zipfian size, and up to two of 20
categories. A repeat draws another log.

**Time.** Each part alone, then ``diagnose_data`` as a whole, as a user would call them: by the clock,
the median over repeats with a 95 % interval from order statistics; and in the processor's
time, in which waiting for a core that others use does not count. A small log goes first, so that
imports and caches are not charged to anyone. One thread, for numpy as for Polars, unless
``OMP_NUM_THREADS`` and ``POLARS_MAX_THREADS`` say otherwise.

**Memory.** The peak of the process during ``diagnose_data``, and what the process held before
(interpreter, libraries, the log itself).

The last line of the output is one JSON object. With ``--output``, table, JSON and settings are kept in
a folder named after date and question.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")

import numpy as np
import polars as pl
import torch

from _record import aligned, conclude, median_interval, rounded, surroundings
from tailwise.diagnosis import (
    bootstrap_skew,
    diagnose_data,
    fit_power_law,
    measure_drift,
    measure_skew,
    segments_by_column,
)
from tailwise.segments import popularity, segment_items
from tailwise.training._memory import PeakMemory

QUESTION = "How long does the data side of a diagnosis take for a million interactions?"
SLUG = "how-fast-is-the-data-side"
WHOLE = "all, by diagnose_data"
LIMIT_SECONDS, LIMIT_MIB = 20.0, 2048.0


@dataclass(frozen=True)
class Log:
    """One random log: encoded rows and the catalogue's table."""

    interactions: pl.DataFrame
    items: pl.DataFrame


def draw_log(n_interactions: int, n_items: int, seed: int) -> Log:
    """Draw what the top of this file describes."""
    rng = np.random.default_rng(seed)
    zipf = np.cumsum(1 / np.arange(1, n_items + 1))
    item = np.searchsorted(zipf, rng.random(n_interactions) * zipf[-1])
    brands = np.cumsum(1 / np.arange(1, 1_001))
    brand = np.searchsorted(brands, rng.random(n_items) * brands[-1])
    categories = rng.integers(0, 20, (n_items, 2))
    return Log(
        pl.DataFrame(
            {
                "user_index": rng.integers(0, max(n_interactions // 10, 2), n_interactions),
                "item_index": rng.permutation(n_items)[item],
                "timestamp": rng.integers(1_600_000_000, 1_631_536_000, n_interactions),
            }
        ),
        pl.DataFrame(
            {
                "brand": [f"brand {b}" for b in brand.tolist()],
                "category": [f"kind {a}|kind {b}" for a, b in categories.tolist()],
            }
        ),
    )


def parts(log: Log, n_resamples: int) -> dict[str, Callable[[], object]]:
    """Name -> what is timed."""
    n_items = log.items.height
    counts = popularity(log.interactions, n_items)
    segments = segment_items(counts)
    return {
        "skew": lambda: measure_skew(popularity(log.interactions, n_items)),
        f"skew over {n_resamples} resamples of users": lambda: bootstrap_skew(
            log.interactions, n_items, n_resamples=n_resamples
        ),
        f"power law, 2 × {n_resamples} resamples": lambda: fit_power_law(counts, n_resamples=n_resamples),
        "drift, 4 windows, 10 shuffles": lambda: measure_drift(log.interactions, n_items),
        "by brand": lambda: segments_by_column(log.items["brand"], segments),
        "by category, several an item": lambda: segments_by_column(
            log.items["category"], segments, separator="|"
        ),
        WHOLE: lambda: diagnose_data(
            log.interactions,
            log.items,
            separators={"category": "|"},
            n_resamples=n_resamples,
            n_user_resamples=n_resamples,
        ),
    }


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time every part on every repeat's log."""
    for run in parts(draw_log(2_000, 200, 0), 2).values():
        run()
    seconds: dict[str, list[tuple[float, float]]] = {}
    before_mib, peak_mib = [], []
    for seed in range(options.repeats):
        log = draw_log(options.interactions, options.items, seed)
        for name, run in parts(log, options.resamples).items():
            memory = PeakMemory(torch.device("cpu"))
            before = memory.mib()
            clock, processor = time.perf_counter(), time.process_time()
            run()
            taken = time.perf_counter() - clock, time.process_time() - processor
            seconds.setdefault(name, []).append(taken)
            if name == WHOLE:
                before_mib.append(before)
                peak_mib.append(memory.mib())
        print(f"repeat {seed + 1} of {options.repeats}: {taken[0]:.1f} s", file=sys.stderr, flush=True)
    rows = []
    for name, taken_each in seconds.items():
        wall = [clock for clock, _ in taken_each]
        low, high, coverage = median_interval(wall)
        rows.append(
            {
                "part": name,
                "seconds": median(wall),
                "seconds_low": low,
                "seconds_high": high,
                "interval_coverage": coverage,
                "processor_seconds": median(processor for _, processor in taken_each),
                "peak_memory_mib": max(peak_mib) if name == WHOLE else None,
                "memory_before_mib": max(before_mib) if name == WHOLE else None,
            }
        )
    return [rounded(row) for row in rows]


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """Lay the rows out."""
    header = ["", "seconds", "interval", "processor", "peak MiB", "before"]
    lines = [
        [
            row["part"],
            f"{row['seconds']:.2f}",
            f"{row['seconds_low']:.2f} to {row['seconds_high']:.2f}",
            f"{row['processor_seconds']:.2f}",
            *(
                "–" if row[key] is None else f"{row[key]:,.0f}"
                for key in ("peak_memory_mib", "memory_before_mib")
            ),
        ]
        for row in rows
    ]
    return aligned(header, lines)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the command line, measure, print, keep; return the record."""
    options = _parser().parse_args(arguments)
    rows = measure(options)
    whole = rows[-1]
    record: dict[str, Any] = {
        "question": QUESTION,
        **surroundings(),
        "n_interactions": options.interactions,
        "n_items": options.items,
        "n_resamples": options.resamples,
        "repeats": options.repeats,
        "threads": {name: os.environ[name] for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS")},
        "limit_seconds": LIMIT_SECONDS,
        "limit_mib": LIMIT_MIB,
        "is_within_limits": whole["seconds_high"] < LIMIT_SECONDS and whole["peak_memory_mib"] < LIMIT_MIB,
        "rows": rows,
    }
    title = f"{options.interactions:,} interactions, {options.items:,} items, {options.repeats} repeats"
    table = f"{title}\n\n{as_table(rows)}"
    return conclude(record, table, options, SLUG)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--interactions", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--resamples", type=int, default=100, help="of users, and for the power law")
    parser.add_argument(
        "--repeats", type=int, default=6, help="logs drawn; six are the least for a 95 %% interval"
    )
    parser.add_argument("--output", type=Path, help="keep the record in a dated folder below this one")
    return parser


if __name__ == "__main__":
    main()
