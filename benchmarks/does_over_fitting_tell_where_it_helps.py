"""Does a baseline's over-fitting tell in which settings flatter training gains?

    python benchmarks/does_over_fitting_tell_where_it_helps.py DECLARATION=FOLDER=SEED ... --output results

``FOLDER`` is what ``tailwise bench DECLARATION --out FOLDER`` wrote, with the baseline's model of ``SEED``
still under ``work/`` and the gains of ``--method`` (the even draw with
τ = 0.1) among its records. Of the baseline, on up to
``--targets`` training targets (of the histories that it was trained on) and as many validation targets: the
mean negative log likelihood over the whole catalogue, in nats, overall and of head and tail. From these two
signals, of the tail: the gap (validation less training) and the excess (validation less ln of the number of
items: above zero the model is worse than guessing blindly).

Reported: both beside the method's relative difference from the baseline in tail and overall NDCG@100, and
Spearman's rank correlation over the settings with its exact two-sided p.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import permutation_test, spearmanr

from _record import aligned, keep, surroundings
from tailwise.jobs import load_bench_config
from tailwise.jobs._bench_folder import BenchFolder
from tailwise.jobs._measure import cut_segments
from tailwise.jobs._run_data import RunData, load_run_data, sample_users
from tailwise.recommenders import Recommender, load_recommender
from tailwise.reports import read_bench
from tailwise.reports._bench_row_types import DEEP
from tailwise.reports._bench_rows import bench_rows

SLUG = "does-over-fitting-tell-where-it-helps"
QUESTION = "Does a baseline's over-fitting tell in which settings flatter training gains?"
HEADER = (
    *("setting", "trained: head", "tail", "validation: head", "tail", "gap, tail", "excess, tail"),
    *("overall@100, %", "tail@100, %"),
)
METHODS = (
    "sampled-uniform-logit-adjustment@0.1",
    "sampled-even-logit-adjustment",
)  # the even draw with τ = 0.1
_AT_ONCE = 64  # histories


@dataclass(frozen=True)
class Targets:
    """Targets with what came before each.

    Attributes:
        histories: Items before, oldest first.
        items: ``[n]`` int64; the targets.
    """

    histories: list[np.ndarray]
    items: np.ndarray

    def drawn(self, n: int, seed: int) -> "Targets":
        """Return at most ``n`` of them, drawn by ``seed``, in their order."""
        if len(self.items) <= n:
            return self
        rows = np.sort(np.random.default_rng(seed).choice(len(self.items), n, replace=False))
        return Targets([self.histories[row] for row in rows], self.items[rows])


def training_targets(histories: Sequence[np.ndarray]) -> Targets:
    """Every item of a training history but its first, with what came before it."""
    pairs = [(history[:i], int(history[i])) for history in histories for i in range(1, len(history))]
    return Targets([before for before, _ in pairs], np.array([item for _, item in pairs], dtype=np.int64))


def target_losses(recommender: Recommender, targets: Targets) -> np.ndarray:
    """Return ``[n]`` float64: negative log likelihood of each target over the catalogue, in nats."""
    found = []
    for start in range(0, len(targets.items), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        scores = recommender.scores(targets.histories[part]).double()
        items = torch.from_numpy(targets.items[part])
        found.append(torch.nn.functional.cross_entropy(scores, items, reduction="none").numpy())
    return np.concatenate(found)


def losses_by_part(losses: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the mean loss overall, and of head and tail; NaN where there is no target."""
    found = {"overall": float(losses.mean())}
    for part in ("head", "tail"):
        of_part = losses[labels == part]
        found[part] = float(of_part.mean()) if of_part.size else math.nan
    return found


def measure_setting(
    data: RunData, labels: np.ndarray, recommender: Recommender, *, n_histories: int | None, seed: int, n: int
) -> dict[str, Any]:
    """Measure one baseline.

    Args:
        data: Of its setting.
        labels: ``[n_items]`` name of each item's segment.
        recommender: The baseline.
        n_histories: That it was trained on; None for all.
        seed: That drew them; also draws the targets.
        n: Targets of either part at most.

    Returns:
        ``training`` and ``validation`` (as of :func:`losses_by_part`), ``gap`` and ``excess`` of the tail.
    """
    trained = training_targets(data.training_histories(n_histories, seed=seed)).drawn(n, seed)
    held_out = sample_users(data.held_out("validation"), n, seed)
    before = [held_out.histories[row] for row in held_out.target_rows]
    validation = Targets(before, held_out.target_items).drawn(n, seed)
    found = {
        name: losses_by_part(target_losses(recommender, targets), labels[targets.items])
        for name, targets in (("training", trained), ("validation", validation))
    }
    return {
        **found,
        "gap": found["validation"]["tail"] - found["training"]["tail"],
        "excess": found["validation"]["tail"] - math.log(data.n_items),
    }


def gains(folder: Path, methods: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the relative difference in NDCG@100 from the baseline, overall and of the tail, by setting.

    Args:
        folder: Of the benchmark.
        methods: As ``name`` or ``name@value``; the first that a setting has.
    """
    bench = read_bench(folder)
    rows = bench_rows(bench, n_resamples=10)
    named = {(row.setting, row.method.name): row.found for row in rows.methods}
    named |= {(row.setting, f"{row.method.name}@{row.value:g}"): row.found for row in rows.curves}
    found = {}
    for setting in bench.settings:
        of_setting = [named[setting.name, m] for m in methods if (setting.name, m) in named]
        if of_setting:
            differences = {part: of_setting[0]["ndcg", DEEP, part].against for part in ("overall", "tail")}
            found[setting.name] = {part: d.difference for part, d in differences.items() if d is not None}
    return found


def measure_benchmark(
    declaration: Path, folder: Path, *, methods: Sequence[str], seed: int, n: int
) -> list[dict[str, Any]]:
    """Measure every setting of a benchmark that has the method's gains and the baseline's model."""
    config = load_bench_config(declaration)
    results = []
    for setting, gain in gains(folder, methods).items():
        of_setting = BenchFolder(folder).setting(setting)
        model = of_setting.cell_work(config.baseline.name, seed).model
        if not model.is_dir():
            print(f"{setting}: no model {str(model)!r}, left out", flush=True)
            continue
        baseline = config.knobs(config.baseline, {}, {})
        run = config.run_config(config.setting(setting), config.baseline, baseline, seed=seed)
        data = load_run_data(of_setting.data)
        segments = cut_segments(data, run.segments)
        labels = np.array(segments.names)[segments.labels]
        recommender = load_recommender(model, device=torch.device("cpu"))
        measured = measure_setting(
            data, labels, recommender, n_histories=run.data.training_histories, seed=seed, n=n
        )
        results.append({"setting": setting, "seed": seed, **measured, "gain": gain})
        print(f"{setting}: done", flush=True)
    return results


def correlations(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rank correlation of each signal with each gain over the settings."""
    found = []
    for signal in ("gap", "excess"):
        for part in ("overall", "tail"):
            x, y = [r[signal] for r in results], [r["gain"][part] for r in results]
            found.append({"signal": signal, "gain": part, "n": len(results), **_exact(x, y)})
    return found


def _exact(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Spearman's rank correlation, its p from all pairings: exact."""
    if len(x) < 3:
        return {"spearman": math.nan, "p": math.nan}
    all_pairings = math.factorial(len(x))
    found = permutation_test(
        (x,), lambda z: spearmanr(z, y).statistic, permutation_type="pairings", n_resamples=all_pairings
    )
    return {"spearman": float(found.statistic), "p": float(found.pvalue)}


def table(results: Sequence[dict[str, Any]]) -> str:
    """Lay the results out, and the correlations below."""
    rows = [
        (
            result["setting"],
            *(
                f"{result[name][part]:.2f}"
                for name in ("training", "validation")
                for part in ("head", "tail")
            ),
            *(f"{result[name]:+.2f}" for name in ("gap", "excess")),
            *(f"{100 * result['gain'][part]:+.1f}" for part in ("overall", "tail")),
        )
        for result in results
    ]
    notes = [
        f"{c['signal']} against {c['gain']}: Spearman {c['spearman']:+.2f}, p {c['p']:.3f}, {c['n']} settings"
        for c in correlations(results)
    ]
    return "\n".join([aligned(HEADER, rows, n_left=1), "", *notes])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, then one JSON line."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("benchmarks", nargs="+", metavar="DECLARATION=FOLDER=SEED")
    parser.add_argument(
        "--method",
        action="append",
        help="whose gains, as name or name@value; the first that a setting has",
    )
    parser.add_argument("--targets", type=int, default=4000)
    parser.add_argument("--output", type=Path, help="folder for results/<date>-<question>")
    chosen = parser.parse_args(arguments)
    methods = chosen.method or list(METHODS)
    results: list[dict[str, Any]] = []
    for one in chosen.benchmarks:
        declaration, folder, seed = one.split("=")
        results += measure_benchmark(
            Path(declaration), Path(folder), methods=methods, seed=int(seed), n=chosen.targets
        )
    text = table(results)
    record = {
        "question": QUESTION,
        **surroundings(),
        "settings": results,
        "correlations": correlations(results),
    }
    print(text)
    print(json.dumps(record, ensure_ascii=False))
    if chosen.output:
        declared = [
            {"declaration": d, "seed": int(s)} for d, _, s in (b.split("=") for b in chosen.benchmarks)
        ]
        config = {"benchmarks": declared, "methods": methods, "targets": chosen.targets}
        keep(chosen.output / f"{record['date']}-{SLUG}", record, config, text)


if __name__ == "__main__":
    main()
