"""What does AdamW's update cost, fused (``training.fused``) and not, as items' own vectors grow in number?

    python benchmarks/what_does_an_update_cost.py --output benchmarks/results
    python benchmarks/what_does_an_update_cost.py --items 500 --repeats 2

The parameters are one free vector of ``--width`` numbers per item, as the item-token recommender has them
with ``id_residual``; gradients are random. Both updates run in one process on one core, turn by turn in an
order that alternates. A ratio is that of two neighbouring turns; the median over repeats is reported with a
95 % interval from order statistics. The two must end at the same parameters up to rounding, or the
benchmark stops.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.optim import AdamW

from _record import aligned, by_turns, conclude, rounded, surroundings

QUESTION = "What does AdamW's update cost, fused and not, as the items' own vectors grow in number?"
SLUG = "what-does-an-update-cost"


def measure(n_items: int, *, width: int, repeats: int) -> dict[str, Any]:
    """Seconds of an update both ways, and the ratio."""
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(n_items, width, generator=generator)
    vectors = {way: torch.nn.Parameter(torch.zeros(n_items, width)) for way in ("fused", "plain")}
    optimizers = {
        way: AdamW([{"params": [p], "fused": way == "fused"}], lr=1e-3, weight_decay=0.05)
        for way, p in vectors.items()
    }
    seconds: dict[str, list[float]] = {"fused": [], "plain": []}
    for repeat in range(repeats + 1):
        for way in ("fused", "plain") if repeat % 2 else ("plain", "fused"):
            vectors[way].grad = gradient
            began = time.perf_counter()
            optimizers[way].step()
            seconds[way].append(time.perf_counter() - began)
    torch.testing.assert_close(vectors["fused"], vectors["plain"], rtol=1e-4, atol=1e-6)
    seconds = {way: values[1:] for way, values in seconds.items()}  # the first turn makes the moments
    return rounded(
        {
            "n_items": n_items,
            **{f"ms_{way}": median(values) * 1e3 for way, values in seconds.items()},
            **by_turns(seconds["plain"], seconds["fused"]),
        }
    )


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """Lay the rows out."""
    header = ["items", "fused, ms", "plain, ms", "plain / fused", "95 % interval"]
    lines = [
        [
            f"{row['n_items']:,}",
            f"{row['ms_fused']:.2f}",
            f"{row['ms_plain']:.2f}",
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
    parser.add_argument("--width", type=int, default=576, help="of a vector; SmolLM2-135M has 576")
    parser.add_argument("--repeats", type=int, default=9, help="six are the least for a 95 %% interval")
    parser.add_argument("--output", type=Path, help="keep the record in a dated folder below this one")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = [measure(n_items, width=options.width, repeats=options.repeats) for n_items in options.items]
    record = {"question": QUESTION, **surroundings(), "rows": rows}
    table = as_table(rows)
    return conclude(record, table, options, SLUG)


if __name__ == "__main__":
    main()
