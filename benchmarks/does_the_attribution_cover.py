"""Does the attribution of the accuracy gap find planted shares, and cover them as often as it says?

::

    OMP_NUM_THREADS=1 python benchmarks/does_the_attribution_cover.py --output benchmarks/results
    python benchmarks/does_the_attribution_cover.py --worlds null --repeats 5   # seconds

In every repeat a shop is drawn from a world whose shares are known
(``tailwise.diagnosis.PlantedWorld``; the true ones are computed on 300,000 items), and
``attribute_gap`` is asked for them. Reported per share: truth, mean and standard deviation of the
estimates, median half width of the intervals over 1.96, and how many intervals hold the
truth, with the Clopper-Pearson interval of that frequency: it should contain 95 %. A share that gets
no interval is left out and counted. "Told" is how often a side was said to add something
(p <= 0.05): 5 % where it adds nothing. Uncorrected shares are shown for contrast; they need not cover.

The first nine worlds are worth 200 items of equal weight and more. "bent-null" and "known-prior" have a
side without effect, the latter an error-free prior beside a log that adds nothing. The last four are below
what the result itself calls calibrated: 57 and 25 effective items, or 12 effective users.

The last line of the output is one JSON object. With ``--output``, table, JSON and settings are kept in
a folder named after date and question.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from _record import aligned, keep, rounded, surroundings
from tailwise.diagnosis import PlantedWorld, attribute_gap

QUESTION = "Does the attribution of the accuracy gap find planted shares, and cover them as often as it says?"
SLUG = "does-the-attribution-cover"
SHARES = ("data", "prior", "data_alone", "prior_alone", "v_data", "v_prior", "v_both", "interaction")
HEADER = ("world", "share", "truth", "mean", "deviation", "error", "covered", "of it 95 %", "none")

SMALL = PlantedWorld(n_items=250, n_users=500, n_targets=2000, base=-1.0, item_noise=0.3)

# Name -> (what is planted, what an item counts for).
WORLDS = {
    "both": (PlantedWorld(), "targets"),
    "null": (PlantedWorld(prior_effect=0.0), "targets"),
    "sparse": (
        PlantedWorld(
            n_items=3000,
            n_users=4000,
            n_targets=8000,
            mean_count=8.0,
            base=-3.0,
            data_effect=0.7,
            prior_effect=0.4,
            reliability=0.6,
        ),
        "targets",
    ),
    "bent": (
        PlantedWorld(data_curve=0.2, interaction=0.2, correlation=0.3, prior_effect=0.6, reliability=0.6),
        "targets",
    ),
    "prior": (PlantedWorld(data_effect=0.1, prior_effect=0.8, correlation=0.6, reliability=0.5), "targets"),
    "few-users": (PlantedWorld(n_users=150, user_noise=0.8), "targets"),
    "by-items": (PlantedWorld(), "items"),
    "bent-null": (
        PlantedWorld(data_curve=0.2, correlation=0.3, prior_effect=0.0, reliability=0.6),
        "targets",
    ),
    "known-prior": (PlantedWorld(data_effect=0.0, prior_effect=0.7, reliability=1.0), "targets"),
    "small": (SMALL, "targets"),
    "small-null": (replace(SMALL, prior_effect=0.0), "targets"),
    "tiny": (replace(SMALL, n_items=100, n_users=250, n_targets=1000), "targets"),
    "15-users": (PlantedWorld(n_users=15, user_noise=0.8, n_targets=3000), "targets"),
}


def measure(name: str, *, repeats: int, permutations: int) -> dict[str, Any]:
    """Attribute the gap of ``repeats`` draws of one world."""
    world, weigh = WORLDS[name]
    truth = world.truth(weigh=weigh)
    found: dict[str, list[tuple[float, float, float]]] = {}
    without: Counter[str] = Counter()
    worth = np.zeros(2)
    told = np.zeros(2)
    n_withheld = 0
    began = time.perf_counter()
    for seed in range(repeats):
        result = attribute_gap(
            world.draw(seed).outcomes,
            weigh=weigh,
            n_permutations=permutations,
            seed=seed,
        )
        told += [result.p_data <= 0.05, result.p_prior <= 0.05]
        worth += [result.effective_items, result.effective_users]
        if result.corrected is None or not result.is_measurable:
            n_withheld += 1
            continue
        for kind, shares in (("", result.corrected), ("uncorrected ", result.uncorrected)):
            for share in SHARES if not kind else ("prior", "prior_alone"):
                one = getattr(shares, share)
                if one.low is None:
                    without[kind + share] += 1
                else:
                    found.setdefault(kind + share, []).append((one.value, one.low, one.high))
        if (seed + 1) % 20 == 0:
            print(f"{name}: {seed + 1} repeats, {time.perf_counter() - began:.0f} s", file=sys.stderr)
    rows = []
    for label, values in found.items():
        value, low, high = np.array(values).T
        aim = truth[label.removeprefix("uncorrected ")]
        n_covered = int(np.count_nonzero((low <= aim) & (aim <= high)))
        chance = stats.binomtest(n_covered, value.size).proportion_ci(0.95)
        rows.append(
            rounded(
                {
                    "share": label,
                    "truth": aim,
                    "mean": float(value.mean()),
                    "deviation": float(value.std(ddof=1)) if value.size > 1 else 0.0,
                    "error": float(np.median(high - low) / (2 * 1.96)),
                    "covered": n_covered / value.size,
                    "covered_low": float(chance.low),
                    "covered_high": float(chance.high),
                    "n_without": without[label],
                },
                4,
            )
        )
    return {
        "world": name,
        "weigh": weigh,
        "planted": asdict(world),
        "n_repeats": repeats,
        "n_withheld": n_withheld,
        "told_data": told[0] / repeats,
        "told_prior": told[1] / repeats,
        "told_data_interval": list(stats.binomtest(int(told[0]), repeats).proportion_ci(0.95)),
        "told_prior_interval": list(stats.binomtest(int(told[1]), repeats).proportion_ci(0.95)),
        "effective_items": worth[0] / repeats,
        "effective_users": worth[1] / repeats,
        "shares": rows,
    }


def table(results: list[dict[str, Any]]) -> str:
    """Lay the results out, a line of tests under each world."""
    rows, notes = [], []
    for result in results:
        for row in result["shares"]:
            rows.append(
                (
                    result["world"],
                    row["share"],
                    *(f"{row[k]:.3f}" for k in ("truth", "mean", "deviation", "error", "covered")),
                    f"{row['covered_low']:.3f} to {row['covered_high']:.3f}",
                    str(row["n_without"]),
                )
            )
        (low, high), (data_low, data_high) = result["told_prior_interval"], result["told_data_interval"]
        notes.append(
            f"{result['world']}: {result['n_repeats']} repeats, {result['n_withheld']} withheld, "
            f"worth {result['effective_items']:.0f} items and {result['effective_users']:.0f} users; "
            f"told that data add {result['told_data']:.1%} ({data_low:.1%} to {data_high:.1%}), "
            f"that the prior adds {result['told_prior']:.1%} ({low:.1%} to {high:.1%})"
        )
    return "\n".join([aligned(HEADER, rows, n_left=2), "", *notes])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, then one JSON line."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--repeats", type=int, default=400)
    parser.add_argument("--permutations", type=int, default=19, help="19 make the test exact at 5 %%")
    parser.add_argument("--output", type=Path, help="folder for results/<date>-<question>")
    chosen = parser.parse_args(arguments)
    results = [
        measure(name, repeats=chosen.repeats, permutations=chosen.permutations) for name in chosen.worlds
    ]
    text = table(results)
    record = {"question": QUESTION, **surroundings(), "worlds": results}
    print(text)
    print(json.dumps(record, ensure_ascii=False))
    if chosen.output:
        config = {k: str(v) if isinstance(v, Path) else v for k, v in vars(chosen).items()}
        keep(chosen.output / f"{record['date']}-{SLUG}", record, config, text)


if __name__ == "__main__":
    main()
