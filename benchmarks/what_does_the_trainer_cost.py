"""What does a training step of `EISAMTrainer` cost over `transformers.Trainer`?

    python benchmarks/what_does_the_trainer_cost.py --output benchmarks/results
    python benchmarks/what_does_the_trainer_cost.py --setting tiny    # seconds, offline

``smollm2``: SmolLM2-135M with LoRA of rank 8 in float32, two micro-batches of eight rows of 64 tokens
per update, of which the last 16 are targets, one item per row drawn from 10,000 by Zipf's law.
Tokens are random, which no cost depends on. ``tiny`` is its small random likeness; times there say
nothing.

Every trainer trains in one process on the same examples. They take turns of ``--steps`` updates, in
an order drawn anew each time, with plain `Trainer` between any two; a ratio is that of a turn's
median step to the mean of the plain ones just before and after. The first step of a turn, which
builds the optimizer's state, is left out, and so is a first turn of each. Reported: the median over
repeats, with a 95 % interval from order statistics. Where others use the machine too, set
``OMP_NUM_THREADS=1``.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from _record import aligned, conclude, median_interval, rounded, surroundings
from tailwise.integrations import EISAMSettings, EISAMTrainer
from tailwise.optim import item_weights

QUESTION = "What does a training step of EISAMTrainer cost over transformers.Trainer?"
SLUG = "what-does-the-trainer-cost"
N_ITEMS = 10_000
METHODS = {
    "single-pass": {"estimator": "single-pass"},
    "sampled": {"estimator": "sampled"},
    "exact": {"estimator": "exact"},
    "rho 0": {"estimator": "exact", "rho": 0.0},
}


class _StepTimes(TrainerCallback):
    """Seconds of each update."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._started = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seconds.append(time.perf_counter() - self._started)


def _model(setting: str) -> Any:
    torch.manual_seed(0)
    if setting == "tiny":
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **sizes))
    else:
        from tailwise.recommenders import resolve_language_model

        folder = resolve_language_model("smollm2-135m")
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    return get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))


def _examples(n: int, vocabulary: int, *, n_tokens: int, n_targets: int) -> tuple[list[dict[str, Any]], Any]:
    generator = torch.Generator().manual_seed(0)
    popularity = 1 / torch.arange(1, N_ITEMS + 1).double()
    items = torch.multinomial(popularity, n, replacement=True, generator=generator)
    made = []
    for item in items.tolist():
        ids = torch.randint(3, vocabulary, (n_tokens,), generator=generator)
        labels = torch.where(torch.arange(n_tokens) < n_tokens - n_targets, -100, ids)
        made.append({"input_ids": ids.tolist(), "labels": labels.tolist(), "item": item})
    return made, (popularity / popularity[-1]).long()


def _collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: torch.tensor([row[name] for row in rows]) for name in ("input_ids", "labels")}


def measure(setting: str, methods: list[str], *, steps: int, repeats: int) -> list[dict[str, Any]]:
    """Ratios of each method to plain Trainer."""
    model = _model(setting)
    n_rows, n_tokens, n_targets = (2, 12, 4) if setting == "tiny" else (8, 64, 16)
    rows, counts = _examples(
        2 * n_rows * steps, model.config.vocab_size, n_tokens=n_tokens, n_targets=n_targets
    )
    start = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    def turn(method: str | None) -> float:
        with torch.no_grad():
            for name, p in model.named_parameters():
                if name in start:
                    p.copy_(start[name])
        times = _StepTimes()
        with tempfile.TemporaryDirectory() as folder:
            args = TrainingArguments(
                folder,
                per_device_train_batch_size=n_rows,
                gradient_accumulation_steps=2,
                max_steps=steps,
                learning_rate=1e-3,
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                use_cpu=not torch.cuda.is_available(),
                disable_tqdm=True,
                dataloader_pin_memory=False,
            )
            common = {"train_dataset": rows, "data_collator": _collate, "callbacks": [times]}
            if method is None:
                trainer: Any = Trainer(model, args, **common)
            else:
                settings = {"rho": 0.05} | METHODS[method]
                trainer = EISAMTrainer(
                    model, args, **common, eisam=EISAMSettings(item_weights(counts), **settings)
                )
            trainer.train()
        return median(times.seconds[1:])

    for method in (None, *methods):
        turn(method)
    ratios: dict[str, list[float]] = {method: [] for method in methods}
    order = random.Random(0)
    before = turn(None)
    plain = [before]
    for _ in range(repeats):
        for method in order.sample(methods, len(methods)):
            ours, after = turn(method), turn(None)
            ratios[method].append(ours / ((before + after) / 2))
            plain.append(after)
            before = after
    result = [{"method": "Trainer", "seconds": median(plain)}]
    for method in methods:
        low, high, _ = median_interval(ratios[method])
        result.append(
            {"method": f"EISAMTrainer, {method}", "ratio": median(ratios[method]), "low": low, "high": high}
        )
    return result


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--setting", choices=("smollm2", "tiny"), default="smollm2")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["single-pass", "exact", "rho 0"])
    parser.add_argument("--steps", type=int, default=4, help="updates of a turn, >= 2")
    parser.add_argument("--repeats", type=int, default=6, help="six are the least for a 95 %% interval")
    parser.add_argument("--output", type=Path, help="keep the record in a dated folder below this one")
    options = parser.parse_args(arguments)
    if options.steps < 2 or options.repeats < 1:
        parser.error(f"--steps must be >= 2 and --repeats >= 1; got {options.steps}, {options.repeats}.")
    rows = measure(options.setting, options.methods, steps=options.steps, repeats=options.repeats)
    table = aligned(
        ("", "times Trainer", "95 % interval"),
        [
            (r["method"], f"{r['ratio']:.2f}", f"{r['low']:.2f}-{r['high']:.2f}")
            if "ratio" in r
            else (r["method"], "1", f"{r['seconds']:.2f} s per step")
            for r in rows
        ],
    )
    record = rounded(
        {"question": QUESTION, **surroundings(), "threads": torch.get_num_threads(), "rows": rows}
    )
    return conclude(record, table, options, SLUG)


if __name__ == "__main__":
    main()
