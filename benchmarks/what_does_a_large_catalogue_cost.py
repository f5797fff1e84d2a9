"""What does a training step cost on a sampled softmax, and on the whole catalogue, as the catalogue grows?

    python benchmarks/what_does_a_large_catalogue_cost.py --output benchmarks/results
    python benchmarks/what_does_a_large_catalogue_cost.py --items 500 --whole-up-to 500 --negatives 50

An item-token recommender over a small backbone (two layers of width 64) whose items are known by
encodings alone (64 numbers each, random: no cost depends on them), so that what the catalogue costs is
what is seen. A batch is 16 rows of 50 positions, items drawn by Zipf's law. A step is forward, backward
and AdamW's update. Both ways train the same model in one process, turn by turn in an order drawn anew
each time; a ratio is that of two neighbouring turns' median steps, and the median over repeats is
reported with a 95 % interval from order statistics. Beyond ``--whole-up-to`` items the whole softmax is
left out: its scores alone take ``800 x items x 4`` bytes, and as much again in the backward.

Then users per second whose best 20 items are found, 64 users of 50 items at a time, and the highest memory of
the process so far.
"""

import argparse
import random
import resource
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from _record import aligned, by_turns, conclude, rounded, surroundings
from tailwise.optim import ERM
from tailwise.recommenders import (
    ItemTokenConfig,
    ItemTokenRecommender,
    NegativeSampler,
    SASRecConfig,
    SequenceBatch,
    build_sasrec,
    recommend,
)

QUESTION = "What does a training step cost as the catalogue grows, sampled and whole?"
SLUG = "what-does-a-large-catalogue-cost"
WIDTH, N_ROWS, N_POSITIONS, N_USERS = 64, 16, 50, 64


def _recommender(n_items: int) -> ItemTokenRecommender:
    config = ItemTokenConfig(max_length=N_POSITIONS, dropout=0.0, id_residual=False)
    backbone = build_sasrec(2, SASRecConfig(WIDTH, 2, 2, 0.0), config, seed=0).backbone
    encodings = torch.randn(n_items, WIDTH, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    return ItemTokenRecommender(
        backbone, n_items, WIDTH, title_encodings=encodings, token_scale=1.0, config=config
    )


def measure(n_items: int, *, n_negatives: int, with_whole: bool, steps: int, repeats: int) -> dict[str, Any]:
    """Seconds of a step both ways, their ratio, and users scored per second."""
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, n_items + 1)
    drawn = rng.choice(n_items, (N_ROWS, N_POSITIONS + 1), p=popularity / popularity.sum())
    batch = SequenceBatch(torch.from_numpy(drawn[:, :-1].copy()), torch.from_numpy(drawn[:, 1:].copy()))
    counts = (popularity / popularity[-1]).astype(np.int64)
    sampler = NegativeSampler(counts, n=n_negatives, power=0.5, seed=0)
    recommender = _recommender(n_items)
    optimizer = ERM(recommender.parameter_groups(1e-3), torch.optim.AdamW)

    def turn(kind: str) -> float:
        recommender.train()
        seconds = []
        for number in range(steps):
            started = time.perf_counter()
            negatives = None if kind == "whole" else sampler.draw(0, number)
            given = SequenceBatch(batch.inputs, batch.targets, negatives)
            optimizer.step(lambda rows, given=given: recommender.losses(given.rows(rows)), batch.targets)
            seconds.append(time.perf_counter() - started)
        return median(seconds)

    kinds = ["sampled", *(["whole"] if with_whole else [])]
    for kind in kinds:
        turn(kind)
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    order = random.Random(0)
    for _ in range(repeats):
        for kind in order.sample(kinds, len(kinds)):
            times[kind].append(turn(kind))
    row: dict[str, Any] = {"n_items": n_items, "sampled_seconds": median(times["sampled"])}
    if with_whole:
        row |= {"whole_seconds": median(times["whole"]), **by_turns(times["whole"], times["sampled"])}
    recommender.eval()
    histories = [row[:-1] for row in rng.choice(n_items, (N_USERS, N_POSITIONS + 1))]
    recommend(recommender, histories[:2], k=20)  # items' vectors are made once
    started = time.perf_counter()
    recommend(recommender, histories, k=20)
    row["users_per_second"] = N_USERS / (time.perf_counter() - started)
    row["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return row


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--negatives", type=int, default=1024)
    parser.add_argument("--whole-up-to", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=3, help="steps of a turn")
    parser.add_argument("--repeats", type=int, default=6, help="six are the least for a 95 %% interval")
    parser.add_argument("--output", type=Path, help="keep the record in a dated folder below this one")
    options = parser.parse_args(arguments)
    if options.steps < 1 or options.repeats < 1 or options.negatives >= min(options.items):
        parser.error(
            "--steps and --repeats must be >= 1 and --negatives below --items; got "
            f"{options.steps}, {options.repeats}, {options.negatives}."
        )
    rows = [
        rounded(
            measure(
                n,
                n_negatives=options.negatives,
                with_whole=n <= options.whole_up_to,
                steps=options.steps,
                repeats=options.repeats,
            )
        )
        for n in sorted(options.items)
    ]
    table = aligned(
        ("items", "sampled, s", "whole, s", "whole / sampled", "95 % interval", "users/s", "peak MiB"),
        [
            (
                f"{r['n_items']:,}",
                f"{r['sampled_seconds']:.3f}",
                f"{r['whole_seconds']:.3f}" if "ratio" in r else "-",
                f"{r['ratio']:.2f}" if "ratio" in r else "-",
                f"{r['ratio_low']:.2f}-{r['ratio_high']:.2f}" if "ratio" in r else "-",
                f"{r['users_per_second']:.0f}",
                f"{r['peak_memory_mib']:,.0f}",
            )
            for r in rows
        ],
        n_left=0,
    )
    record = {"question": QUESTION, **surroundings(), "threads": torch.get_num_threads(), "rows": rows}
    return conclude(record, table, options, SLUG)


if __name__ == "__main__":
    main()
