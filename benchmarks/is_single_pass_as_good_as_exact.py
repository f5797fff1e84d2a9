"""Is EISAM's estimator ``single-pass`` as good as ``exact``, at equal steps and at equal time?

Equivalence test on MovieLens 100K with the item-token LRS over SmolLM2-135M (depth cut). Plain AdamW
is the negative control: a test that cannot tell it from ``exact`` says nothing about ``single-pass``.

- **Users, not interactions, are split** (seeded): the training sees whole histories of some users; of the
  others, the last twenty interactions (half of them where there are fewer than forty) are targets and what
  comes before is history. Twenty targets a user rather than one, because the differences sought are
  smaller than what 943 targets resolve.
- Popularity and segments come from the training users. Never-trained items are "cold" and count
  overall only.
- All methods take the same steps on the same batches; no early stopping; the last parameters are
  measured, once, on the test users. Settings were chosen on the validation users, with other seeds.
- **Margin, stated before the test users were looked at**: tail and overall NDCG@10 of ``single-pass``
  within ``MARGIN`` (relative to ``exact``) of those of ``exact``: the 90 % interval of the paired
  difference (users and seeds, t) lies inside. That is two one-sided tests at 5 %.

A cell is a method and a seed; what is finished is kept under ``--work`` and not repeated.

    python benchmarks/is_single_pass_as_good_as_exact.py --processes 2 --output benchmarks/results
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread a cell: cells run side by side

import numpy as np
import polars as pl
import torch
from scipy import stats

from _record import aligned, keep, surroundings
from tailwise.evaluation import PairedDifference, Rankings, compare, rank_targets
from tailwise.interactions import Dataset, load_dataset, split_leave_last_out
from tailwise.optim import EISAM, ERM, PerTargetOptimizer, item_weights
from tailwise.recommenders import (
    BackboneConfig,
    ItemTokenConfig,
    ItemTokenRecommender,
    SequenceBatches,
    build_item_token,
    encode_titles,
    resolve_language_model,
)
from tailwise.schema import ITEM_INDEX, TIMESTAMP, USER_INDEX
from tailwise.segments import Segments, segment_items
from tailwise.training import TrainingConfig, learning_rate_factor

SEGMENTS = ("overall", "head", "tail")
QUESTION = "is-single-pass-as-good-as-exact"
MARGIN = 0.10
RHO = 0.2
SEEDS = (0, 1, 2, 3, 4)
N_TRAINING_USERS = 256
N_TEST_USERS = 400
MAX_TARGETS = 20
DEPTH = 2
MAX_LENGTH = 50
TRAINING = TrainingConfig(max_epochs=8, learning_rate=4e-3, weight_decay=0.05, positions_per_batch=800)

MakeOptimizer = Callable[[list[dict[str, Any]], torch.Tensor, int], PerTargetOptimizer]


@dataclass(frozen=True)
class Method:
    """A way to train: ``make(parameter groups, training counts, seed)``, for a number of epochs."""

    make: MakeOptimizer
    epochs: int = TRAINING.max_epochs


def plain(groups: list[dict[str, Any]], counts: torch.Tensor, seed: int) -> PerTargetOptimizer:
    """AdamW."""
    return ERM(groups, torch.optim.AdamW)


def eisam(**settings: Any) -> MakeOptimizer:
    """EISAM with ``rank`` weights over AdamW."""

    def make(groups: list[dict[str, Any]], counts: torch.Tensor, seed: int) -> PerTargetOptimizer:
        gamma = settings.get("gamma", 1.0)
        own = {name: value for name, value in settings.items() if name != "gamma"}
        weights = item_weights(counts, "rank", gamma=gamma)
        return EISAM(groups, torch.optim.AdamW, item_weights=weights, seed=seed, **own)

    return make


METHODS: dict[str, Method] = {
    "adamw": Method(plain),
    "exact": Method(eisam(rho=RHO)),
    "single-pass": Method(eisam(rho=RHO, estimator="single-pass")),
    "unit weights": Method(eisam(rho=RHO, estimator="single-pass", row_weights="unit")),
    "sampled": Method(eisam(rho=RHO, estimator="sampled")),
    "exact, equal time": Method(eisam(rho=RHO), epochs=3),  # 8 epochs at 1/2.5 of the price
}


@dataclass(frozen=True)
class Data:
    """ML-100K with its users dealt out.

    Attributes:
        histories: Of the training users, item indices, oldest first.
        counts: ``[n_items]`` interactions of the training users.
        segments: Of the catalogue, by ``counts``.
        parts: For ``validation`` and ``test``: histories, and the targets that follow each.
        encodings: Title encodings, ``[n_items, d]``.
        n_tied: Test targets that share their timestamp with an item of the user's history.
    """

    histories: list[np.ndarray]
    counts: np.ndarray
    segments: Segments
    parts: dict[str, tuple[list[np.ndarray], list[np.ndarray]]]
    encodings: torch.Tensor
    n_tied: int = field(default=0)


def load_data() -> Data:
    """Read ML-100K, deal out its users, encode its titles (cached)."""
    dataset: Dataset = load_dataset("ml-100k")
    # A split keeps each user's rows in time order, ties broken by a seeded hash; together its parts are all.
    split = split_leave_last_out(dataset)
    rows = pl.concat([split.train, split.validation, split.test])
    items, times = (
        [group[column].to_numpy() for _, group in rows.group_by(USER_INDEX, maintain_order=True)]
        for column in (ITEM_INDEX, TIMESTAMP)
    )
    order = np.random.default_rng(2026).permutation(len(items))
    test, training = order[:N_TEST_USERS], order[-N_TRAINING_USERS:]
    validation = order[N_TEST_USERS:-N_TRAINING_USERS]
    cut = [len(history) - min(MAX_TARGETS, len(history) // 2) for history in items]
    counts = np.bincount(np.concatenate([items[u] for u in training]), minlength=dataset.n_items)
    language_model = resolve_language_model("smollm2-135m")
    return Data(
        histories=[items[u] for u in training],
        counts=counts,
        segments=segment_items(counts),
        parts={
            part: ([items[u][: cut[u]] for u in users], [items[u][cut[u] :] for u in users])
            for part, users in (("validation", validation), ("test", test))
        },
        encodings=encode_titles(dataset.catalogue.titles(), language_model, device=torch.device("cpu")),
        n_tied=sum(int(np.isin(times[u][cut[u] :], times[u][: cut[u]]).sum()) for u in test),
    )


def train(
    data: Data, method: Method, seed: int, *, after_epoch: Callable[..., None] | None = None
) -> tuple[ItemTokenRecommender, dict[str, Any]]:
    """Train one cell; return the recommender with its last parameters, and what it cost."""
    torch.manual_seed(seed)
    recommender = build_item_token(
        data.encodings,
        BackboneConfig(depth=DEPTH),
        ItemTokenConfig(max_length=MAX_LENGTH),
        seed=seed,
        device=torch.device("cpu"),
    )
    optimizer = method.make(
        recommender.parameter_groups(TRAINING.learning_rate, TRAINING.weight_decay),
        torch.from_numpy(data.counts),
        seed,
    )
    batches = SequenceBatches(
        data.histories,
        max_length=MAX_LENGTH,
        positions_per_batch=TRAINING.positions_per_batch,
        seed=seed,
    )
    epochs = [batches.epoch(epoch) for epoch in range(method.epochs)]
    n_steps = sum(map(len, epochs))
    step, seconds, losses = 0, 0.0, []
    for epoch, of_this_epoch in enumerate(epochs):
        epoch_loss = 0.0
        for batch in of_this_epoch:
            started = time.perf_counter()
            torch.manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1)[0]))
            recommender.train()
            for group in optimizer.param_groups:
                group["lr"] = TRAINING.learning_rate * learning_rate_factor(step, n_steps, TRAINING)
            epoch_loss += float(
                optimizer.compute_gradient(
                    lambda rows, b=batch: recommender.losses(b.rows(rows)), batch.targets
                )
            )
            torch.nn.utils.clip_grad_norm_(optimizer.parameters(), TRAINING.max_grad_norm)
            optimizer.step()
            step += 1
            seconds += time.perf_counter() - started
        losses.append(epoch_loss / len(of_this_epoch))
        if after_epoch is not None:
            after_epoch(epoch, recommender, losses[-1], seconds)
    recommender.eval()
    return recommender, {"n_steps": n_steps, "train_seconds": seconds, "loss_by_epoch": losses}


def rank(recommender: ItemTokenRecommender, data: Data, part: str) -> Rankings:
    """Rank the targets of ``part`` over the whole catalogue."""
    histories, targets = data.parts[part]
    return rank_targets(
        recommender.scores,
        histories,
        np.cumsum([0, *map(len, targets)]),
        np.concatenate(targets),
        n_items=recommender.n_items,
        batch_size=256,
    )


# Cells


def cell_folder(work: Path, name: str, seed: int) -> Path:
    """Where a cell is kept."""
    return work / name.replace(", ", "-").replace(" ", "-") / f"seed-{seed}"


def run_cell(task: tuple[str, int, Path]) -> str:
    """Train and measure one cell unless it is there; keep its rankings and its cost."""
    name, seed, work = task
    folder = cell_folder(work, name, seed)
    if (folder / "record.json").is_file():
        return f"{name}, seed {seed}: kept"
    torch.set_num_threads(1)
    data = load_data()
    recommender, cost = train(data, METHODS[name], seed)
    rankings = rank(recommender, data, "test")
    folder.mkdir(parents=True, exist_ok=True)
    rankings.save(folder)
    (folder / "record.json").write_text(
        json.dumps({"method": name, "seed": seed, **cost})
    )  # last: it is whole
    return f"{name}, seed {seed}: {cost['train_seconds']:.0f} s"


def run_cells(names: Sequence[str], seeds: Sequence[int], work: Path, processes: int) -> None:
    """Run what is missing, ``processes`` cells at a time."""
    load_data()  # fetches and encodes once, before the processes would
    tasks = [(name, seed, work) for seed in seeds for name in names]
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, maxtasksperchild=1) as pool:
        for done, message in enumerate(pool.imap_unordered(run_cell, tasks), start=1):
            print(f"[{done}/{len(tasks)}] {message}", file=sys.stderr, flush=True)


# Analysis


def is_equivalent(difference: PairedDifference) -> tuple[float, float, bool]:
    """90 % interval of a difference relative to its baseline, and whether that lies inside the margin."""
    assert difference.standard_error is not None  # hundreds of users
    reach = float(stats.t.ppf(0.95, difference.degrees_of_freedom)) * difference.standard_error
    if not difference.baseline_value:  # nothing was hit: a share of nothing says nothing
        return -math.inf, math.inf, False
    low, high = ((difference.difference + side) / difference.baseline_value for side in (-reach, reach))
    return low, high, low > -MARGIN and high < MARGIN


def analyse(names: Sequence[str], seeds: Sequence[int], work: Path) -> dict[str, Any]:
    """Means of every method; every method against ``exact``; and each against AdamW."""
    data = load_data()
    rankings = {name: [Rankings.load(cell_folder(work, name, seed)) for seed in seeds] for name in names}
    rows = []
    for name in names:
        records = [json.loads((cell_folder(work, name, seed) / "record.json").read_text()) for seed in seeds]
        row: dict[str, Any] = {
            "method": name,
            "epochs": METHODS[name].epochs,
            "n_steps": records[0]["n_steps"],
            "train_seconds": float(np.mean([record["train_seconds"] for record in records])),
        }
        for segment in SEGMENTS:
            against_exact = compare(rankings["exact"], rankings[name], data.segments, segment=segment)
            against_plain = compare(rankings["adamw"], rankings[name], data.segments, segment=segment)
            low, high, inside = is_equivalent(against_exact)
            row[segment] = {
                "value": against_exact.value,
                "minus_adamw": [against_plain.difference, against_plain.low, against_plain.high],
                "minus_exact": [against_exact.difference, against_exact.low, against_exact.high],
                "relative_to_exact_90": [low, high] if math.isfinite(low) else None,
                "is_equivalent_to_exact": inside,
            }
        rows.append(row)
    return {
        "question": QUESTION,
        "margin": MARGIN,
        "metric": "ndcg@10",
        "data": "ml-100k, users split",
        "segment_rule": data.segments.rule,
        "n_training_users": N_TRAINING_USERS,
        "n_test_users": N_TEST_USERS,
        "n_test_targets": sum(map(len, data.parts["test"][1])),
        "n_tied_targets": data.n_tied,
        "depth": DEPTH,
        "training": asdict(TRAINING),
        "seeds": list(seeds),
        "rows": rows,
    }


def table(result: dict[str, Any]) -> str:
    """The result as an aligned text."""
    lines = []
    for row in result["rows"]:
        both = [row[segment]["is_equivalent_to_exact"] for segment in ("overall", "tail")]
        verdict = (
            "yes" if all(both) else "overall only" if both[0] else "tail only" if both[1] else "not shown"
        )
        lines.append(
            [
                row["method"],
                str(row["epochs"]),
                f"{row['train_seconds']:.0f}",
                *(f"{row[segment]['value']:.4f}" for segment in SEGMENTS),
                with_interval(row["overall"]["minus_adamw"]),
                with_interval(row["tail"]["minus_adamw"]),
                band(row["overall"]["relative_to_exact_90"]),
                band(row["tail"]["relative_to_exact_90"]),
                "" if row["method"] == "exact" else verdict,
            ]
        )
    header = ["method", "epochs", "seconds", *SEGMENTS, "overall − AdamW", "tail − AdamW"]
    return aligned([*header, "overall vs exact (90 %)", "tail vs exact (90 %)", "equivalent"], lines)


def with_interval(difference: Sequence[float]) -> str:
    """A difference and its 95 % interval."""
    value, low, high = difference
    return f"{value:+.4f} ({low:+.4f} to {high:+.4f})"


def band(interval: Sequence[float] | None) -> str:
    """A relative interval in percent."""
    if interval is None:
        return "nothing hit"
    low, high = interval
    return f"{100 * low:+.1f} % to {100 * high:+.1f} %"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, print the table, then one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("runs/equivalence"), help="where cells are kept")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--processes", type=int, default=1, help="cells at a time, one thread each")
    parser.add_argument("--output", type=Path, help="keep table and JSON in a folder of this one")
    chosen = parser.parse_args(arguments)
    if missing := {"adamw", "exact"} - set(chosen.methods):
        parser.error(f"--methods must include what the others are compared with; got no {', '.join(missing)}")
    run_cells(chosen.methods, chosen.seeds, chosen.work, chosen.processes)
    result = analyse(chosen.methods, chosen.seeds, chosen.work) | surroundings()
    print(table(result))
    print(json.dumps(result, ensure_ascii=False))
    if chosen.output:
        arguments = {"methods": chosen.methods, "seeds": chosen.seeds, "processes": chosen.processes}
        keep(chosen.output / f"{result['date']}-{QUESTION}", result, arguments, table(result))


if __name__ == "__main__":
    main()
