"""How much faster is a target's rank found from a user's sorted scores than by comparing it with all of them?

    python benchmarks/how_fast_is_ranking.py --output benchmarks/results
    python benchmarks/how_fast_is_ranking.py --items 500 --targets 1 3 --repeats 2

Scores are random (no cost depends on them), of a batch of ``--users`` users, each with as many held-out
targets; both ways count the better and the tied items of every target, on the same scores, in one process,
turn by turn in an order that alternates. A ratio is that of two neighbouring turns; the median over repeats
is reported with a 95 % interval from order statistics. Both must find the same ranks, or the benchmark
stops.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from _record import aligned, by_turns, conclude, rounded, surroundings
from tailwise.evaluation._rank_targets import competitors_by_comparing, competitors_by_sorting

QUESTION = "How much faster is a target's rank found from sorted scores than by comparing it with all?"
SLUG = "how-fast-is-ranking"


def measure(n_items: int, n_targets: int, *, n_users: int, repeats: int) -> dict[str, Any]:
    """Microseconds a target both ways, and the ratio."""
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.standard_normal((n_users, n_items), dtype=np.float32))
    users = np.repeat(np.arange(n_users), n_targets)
    items = rng.integers(0, n_items, users.size)
    seconds: dict[str, list[float]] = {"sorted": [], "compared": []}
    for repeat in range(repeats + 1):
        found = {}
        for way in ("sorted", "compared") if repeat % 2 else ("compared", "sorted"):
            began = time.perf_counter()
            if way == "sorted":
                found[way] = competitors_by_sorting(scores.numpy(), users, items)
            else:
                found[way] = competitors_by_comparing(scores, users, items)
            seconds[way].append(time.perf_counter() - began)
        np.testing.assert_array_equal(found["sorted"], found["compared"])
    seconds = {way: values[1:] for way, values in seconds.items()}  # the first turn warms up
    return rounded(
        {
            "n_items": n_items,
            "n_targets": n_targets,
            **{f"us_{way}": median(values) / users.size * 1e6 for way, values in seconds.items()},
            **by_turns(seconds["compared"], seconds["sorted"]),
        }
    )


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """Lay the rows out."""
    header = ["items", "targets a user", "sorted, µs", "compared, µs", "compared / sorted", "95 % interval"]
    lines = [
        [
            f"{row['n_items']:,}",
            str(row["n_targets"]),
            f"{row['us_sorted']:.1f}",
            f"{row['us_compared']:.1f}",
            f"{row['ratio']:.1f}",
            f"{row['ratio_low']:.1f}-{row['ratio_high']:.1f}",
        ]
        for row in rows
    ]
    return aligned(header, lines)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the command line, measure, print, keep; return the record."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--items", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--targets", type=int, nargs="+", default=[1, 5, 40], help="of a user")
    parser.add_argument("--users", type=int, default=256, help="of the batch")
    parser.add_argument("--repeats", type=int, default=7, help="six are the least for a 95 %% interval")
    parser.add_argument("--output", type=Path, help="keep the record in a dated folder below this one")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = [
        measure(n_items, n_targets, n_users=options.users, repeats=options.repeats)
        for n_items in options.items
        for n_targets in options.targets
    ]
    record = {"question": QUESTION, **surroundings(), "rows": rows}
    table = as_table(rows)
    return conclude(record, table, options, SLUG)


if __name__ == "__main__":
    main()
