"""What does a training step of every estimator and rival cost over plain AdamW?

In time, in memory, and in counted forwards and backwards::

    python benchmarks/what_does_a_step_cost.py --output benchmarks/results
    python benchmarks/what_does_a_step_cost.py --settings tiny tiny-item-token   # seconds, offline

**Settings.** ``smollm2-16x64`` and ``smollm2-16x256``: SmolLM2-135M with LoRA of rank 8 as a causal
language model, 16 rows of 64 or 256 tokens, one target item per row, the row's loss being the
mean over its tokens. Tokens are random, which no cost depends on; targets are drawn from 10,000
items by Zipf's law. The longer rows are for the main estimators only, unless ``--methods`` says
otherwise: a step takes half a minute on one core. ``item-token``: the item-token LRS on ML-100K
as ``--preset quick`` trains it, on that preset's first batches (dropout on, every position a
target). ``item-token-12k``: the same model over 12,000 items known by random encodings, with
random histories of 5 to 13 items drawn by Zipf's law. ``tiny`` and ``tiny-item-token`` are their
small random likenesses; times there say nothing. Where others use the machine too, set
``OMP_NUM_THREADS=1``: threads that wait for each other take many times as long.

**Time.** Every method trains the same model in one process. For each batch, the methods have their
turn in an order drawn anew, and AdamW has one between any two of them; a time ratio is that
of a turn to the mean of AdamW's just before and after, so that a slow minute of the machine
hits both. A turn starts from the same parameters, and is one step or, for methods that do
something costly every k steps, one cycle of k; optimizer states live on from turn to turn. A
step is what the training loop does: gradient, clipping, update. A first turn of each is
thrown away. A repeat takes ``--steps`` batches, each repeat others. Reported: the median over
repeats, with a 95 % interval from order statistics. "Processor" is the same in the processor's
time: waiting for a core that others use does not count in it.

**Counts.** Forwards and backwards per step, in batches: evaluating 3 of 16 rows counts 3/16. So
``single-pass`` shows 1 and 1, though it calls the loss function twice. F is the time of a
forward alone, B that of AdamW's step less F (clipping and update included); "from counts" is what
forwards × F + backwards × B predicts. ``exact`` promises at most 2F+3B, which is its "from counts".

**Memory.** Each method trains alone, from a new optimizer, two turns on every batch of a repeat. On
CUDA the peak is that of the allocated memory. On the CPU it is that of the resident memory of
a process, the frozen model and the interpreter included (Linux only). Freed memory that an
allocator keeps would be charged to whoever comes next, so a fresh process builds the workload and
forks one process per method, on one thread, and glibc is told (``mallopt``) to give freed blocks
back at once: the peak is what the method needs, and repeats within 1 MiB. Left to itself, glibc
may keep some more.

The last line of the output is one JSON object. With ``--output``, table, JSON and settings are kept in
a folder named after date and question, rewritten after every setting.
"""

import argparse
import ctypes
import gc
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import AdamW

from _course import FORWARD, Course, Method
from _record import aligned, keep, median_interval, rounded, surroundings
from _workloads import SETTINGS, Workload
from tailwise.optim import (
    ASAM,
    EISAM,
    ERM,
    SAM,
    FocalSAM,
    GroupSAM,
    ImbSAM,
    LookSAM,
    MomentumSAM,
    item_weights,
)
from tailwise.training._memory import PeakMemory

QUESTION = "What does a training step of every estimator and rival cost over plain AdamW?"
SLUG = "what-does-a-step-cost"
BASELINE = "adamw"
RHO = 0.05  # costs do not depend on it
CYCLE = 5  # of methods that do something costly every k steps


def _eisam(workload: Workload, estimator: str, *, gamma: float = 1.0, **arguments: Any) -> EISAM:
    weights = item_weights(workload.counts, gamma=gamma)
    return EISAM(
        workload.groups(), AdamW, item_weights=weights, rho=RHO, estimator=estimator, seed=0, **arguments
    )


def _is_tail(workload: Workload) -> Tensor:
    return item_weights(workload.counts, "step") > 0


METHODS = {
    BASELINE: Method("AdamW", lambda w: ERM(w.groups(), AdamW)),
    "exact": Method("EISAM exact", lambda w: _eisam(w, "exact")),
    "single-pass": Method("EISAM single-pass", lambda w: _eisam(w, "single-pass")),
    "single-pass-unit": Method(
        "EISAM single-pass, unit weights", lambda w: _eisam(w, "single-pass", row_weights="unit")
    ),
    # Draws no row in some steps, so that it too has costs that only several steps show.
    "sampled": Method("EISAM sampled, 1/20 of rows", lambda w: _eisam(w, "sampled"), CYCLE),
    "sampled-tenth": Method(
        "EISAM sampled, 1/10 of rows", lambda w: _eisam(w, "sampled", row_share=0.1), CYCLE
    ),
    # Draws longer rows more often, and so more targets than a tenth.
    "sampled-even": Method(
        "EISAM sampled, γ = 0, 1/10 of rows",
        lambda w: _eisam(w, "sampled", gamma=0.0, row_share=0.1),
        CYCLE,
    ),
    "sampled-unit": Method(
        "EISAM sampled, unit weights, 1/10 of rows",
        lambda w: _eisam(w, "sampled", row_weights="unit", row_share=0.1),
        CYCLE,
    ),
    "every-k": Method("EISAM every-k, k=5", lambda w: _eisam(w, "every-k", every=CYCLE), CYCLE),
    "sam": Method("SAM", lambda w: SAM(w.groups(), AdamW, rho=RHO)),
    "asam": Method("ASAM", lambda w: ASAM(w.groups(), AdamW, rho=RHO)),
    "imbsam": Method("ImbSAM", lambda w: ImbSAM(w.groups(), AdamW, tail_items=_is_tail(w), rho=RHO)),
    "focal-sam": Method("Focal-SAM", lambda w: FocalSAM(w.groups(), AdamW, counts=w.counts, rho=RHO)),
    "group-sam": Method(
        "CC-SAM style, 2 groups",
        lambda w: GroupSAM(w.groups(), AdamW, item_groups=_is_tail(w).long(), rhos=[0.5, 1.0], rho=RHO),
    ),
    "looksam": Method("LookSAM, k=5", lambda w: LookSAM(w.groups(), AdamW, rho=RHO, every=CYCLE), CYCLE),
    "momentum-sam": Method("Momentum-SAM", lambda w: MomentumSAM(w.groups(), AdamW, rho=RHO)),
}


@dataclass(frozen=True)
class Timing:
    """One method's turns, an entry per repeat.

    Attributes:
        seconds: Per step, by the clock.
        ratios: To the baseline's turns just before and after, by the clock.
        processor_ratios: Likewise, in the processor's time.
        counts: Forwards and backwards per step, in batches.
    """

    seconds: list[float]
    ratios: list[float]
    processor_ratios: list[float]
    counts: tuple[float, float]


def measure_time(
    workload: Workload, methods: Sequence[str], *, steps: int, repeats: int, say: Callable[[str], None]
) -> dict[str, Timing]:
    """Time all methods, and a forward alone, side by side; see the top of this file."""
    course = Course(workload, {name: METHODS[name] for name in methods})
    others = [name for name in methods if name != BASELINE] + [FORWARD]
    for name in (BASELINE, *others):
        course.turn(name, workload.batches[0])  # warm up
    order = random.Random(0)
    own = {name: np.zeros((repeats, 2)) for name in (BASELINE, *others)}
    beside = {name: np.zeros((repeats, 2)) for name in others}
    for repeat in range(repeats):
        began = time.perf_counter()
        for batch in workload.batches[repeat * steps : (repeat + 1) * steps]:
            before = course.turn(BASELINE, batch)
            for name in order.sample(others, len(others)):
                own[name][repeat] += course.turn(name, batch) / steps
                after = course.turn(BASELINE, batch)
                beside[name][repeat] += (before + after) / 2 / steps
                own[BASELINE][repeat] += after / len(others) / steps
                before = after
        say(f"repeat {repeat + 1} of {repeats}, {time.perf_counter() - began:.0f} s")
    course.restore()
    beside[BASELINE] = own[BASELINE]
    timings = {}
    for name, seconds in own.items():
        ratios = (seconds / beside[name]).T.tolist()
        timings[name] = Timing(seconds[:, 0].tolist(), ratios[0], ratios[1], course.counts(name))
    return timings


def measure_memory(
    setting: str, methods: Sequence[str], *, steps: int, workload: Workload
) -> dict[str, float | None]:
    """Return each method's peak in MiB; see the top of this file."""
    if workload.counts.device.type == "cuda":
        return {name: peak_memory(workload, name, steps=steps) for name in methods}
    if sys.platform != "linux":
        return dict.fromkeys(methods)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh_process:
        return fresh_process.submit(_peaks_of_forks, setting, methods, steps).result()


def _peaks_of_forks(setting: str, methods: Sequence[str], steps: int) -> dict[str, float | None]:
    """Build the workload once and fork a process per method: all start from the same memory."""
    torch.set_num_threads(1)  # a process whose thread pool has run must not fork
    _give_freed_memory_back()
    workload = SETTINGS[setting].build(steps, torch.device("cpu"))
    fork = get_context("fork")
    peaks: dict[str, float | None] = {}
    for name in methods:
        receiver, sender = fork.Pipe(duplex=False)

        def measure(name: str = name, sender: Connection = sender) -> None:
            sender.send(peak_memory(workload, name, steps=steps))

        process = fork.Process(target=measure)
        process.start()
        sender.close()  # so that a process which fails ends the wait
        peaks[name] = receiver.recv()
        process.join()
        progress(setting, f"memory of {METHODS[name].label}: {peaks[name]:,.0f} MiB")
    return peaks


def _give_freed_memory_back() -> None:
    """Let glibc return freed blocks of 64 KiB and more to the system at once; other C libraries ignore it."""
    trim_threshold, mmap_threshold = -1, -3  # names of malloc.h
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(trim_threshold, 2**16)
        library.mallopt(mmap_threshold, 2**16)


def peak_memory(workload: Workload, method: str, *, steps: int) -> float:
    """Return the peak in MiB of two turns on each of the first ``steps`` batches."""
    gc.collect()
    peak = PeakMemory(workload.counts.device)
    course = Course(workload, {method: METHODS[method]})
    for batch in workload.batches[:steps]:
        course.turn(method, batch)
        course.turn(method, batch)  # optimizer states and directions are there from the second step on
    course.restore()
    return peak.mib()


def progress(setting: str, text: str) -> None:
    """Tell whoever waits."""
    print(f"{setting}: {text}", file=sys.stderr, flush=True)


def measure(
    setting: str,
    methods: Sequence[str],
    *,
    steps: int,
    repeats: int,
    device: torch.device,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what a setting is, with the times of F and B, and one row per method."""
    workload = SETTINGS[setting].build(steps * repeats, device)
    timings = measure_time(
        workload, methods, steps=steps, repeats=repeats, say=lambda text: progress(setting, text)
    )
    peaks = measure_memory(setting, methods, steps=steps, workload=workload)

    step_seconds = median(timings[BASELINE].seconds)
    share_of_forward = median(timings[FORWARD].ratios)  # F in units of F + B
    rows = []
    for name in methods:
        timing = timings[name]
        forwards, backwards = timing.counts
        low, high, coverage = median_interval(timing.ratios)
        rows.append(
            {
                "setting": setting,
                "estimator": name,
                "label": METHODS[name].label,
                "time_ratio": median(timing.ratios),
                "time_ratio_low": low,
                "time_ratio_high": high,
                "interval_coverage": coverage,
                "processor_time_ratio": None if device.type == "cuda" else median(timing.processor_ratios),
                "time_ratio_from_counts": forwards * share_of_forward + backwards * (1 - share_of_forward),
                "memory_ratio": _ratio(peaks[name], peaks[BASELINE]),
                "forwards": forwards,
                "backwards": backwards,
                "seconds_per_step": median(timing.seconds),
                "peak_memory_mib": peaks[name],
            }
        )
    facts = {
        "setting": setting,
        "device": device.type,
        "steps_per_repeat": steps,
        "repeats": repeats,
        "forward_seconds": share_of_forward * step_seconds,
        "backward_seconds": (1 - share_of_forward) * step_seconds,
        **workload.facts,
    }
    return rounded(facts), [rounded(row) for row in rows]


def _ratio(value: float | None, baseline: float | None) -> float | None:
    return None if value is None or baseline is None else value / baseline


def as_table(settings: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> str:
    """Lay the rows out, a table per setting."""
    header = ["", "time", "interval", "processor", "from counts", "F", "B", "s/step", "memory", "MiB"]
    parts = []
    for facts in settings:
        lines = [
            [
                row["label"],
                _times(row["time_ratio"]),
                f"{row['time_ratio_low']:.2f} to {row['time_ratio_high']:.2f}",
                _times(row["processor_time_ratio"]),
                _times(row["time_ratio_from_counts"]),
                f"{row['forwards']:.2f}",
                f"{row['backwards']:.2f}",
                f"{row['seconds_per_step']:.3g}",
                _times(row["memory_ratio"]),
                "–" if row["peak_memory_mib"] is None else f"{row['peak_memory_mib']:,.0f}",
            ]
            for row in rows
            if row["setting"] == facts["setting"]
        ]
        title = (
            f"{facts['setting']} ({facts['device']}, frozen {facts['frozen_dtype']}): "
            f"F {facts['forward_seconds']:.3g} s, B {facts['backward_seconds']:.3g} s; "
            f"{facts['repeats']} repeats of {facts['steps_per_repeat']} batches"
        )
        parts.append(f"{title}\n\n{aligned(header, lines)}")
    return "\n\n".join(parts)


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}×"


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the command line, measure, print, keep; return the record."""
    options = _parser().parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    record: dict[str, Any] = {
        "question": QUESTION,
        **surroundings(),
        "settings": [],
        "rows": [],
    }
    config = {name: value for name, value in vars(options).items() if name != "output"}
    table = ""
    for name in options.settings:
        setting = SETTINGS[name]
        chosen = options.methods or setting.methods or METHODS
        facts, rows = measure(
            name,
            [BASELINE, *(method for method in chosen if method != BASELINE)],
            steps=options.steps or setting.steps,
            repeats=options.repeats,
            device=device,
        )
        record["settings"].append(facts)
        record["rows"] += rows
        table = as_table(record["settings"], record["rows"])
        if options.output:
            keep(options.output / f"{record['date']}-{SLUG}", record, config, table)
    print(table)
    print(json.dumps(record, ensure_ascii=False))
    return record


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument(
        "--settings",
        nargs="+",
        choices=SETTINGS,
        default=["smollm2-16x64", "smollm2-16x256", "item-token"],
        metavar="SETTING",
        help=f"what to train: {', '.join(SETTINGS)}",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        metavar="METHOD",
        help=f"besides {BASELINE}: {', '.join(METHODS)}; default: the setting's own, mostly all",
    )
    parser.add_argument("--steps", type=_at_least_one, help="batches per repeat; default: the setting's own")
    parser.add_argument(
        "--repeats", type=_at_least_one, default=6, help="six are the least for a 95 %% interval"
    )
    parser.add_argument("--output", type=Path, help="keep the record in a dated folder below this one")
    return parser


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be >= 1; got {value}.")
    return value


if __name__ == "__main__":
    main()
