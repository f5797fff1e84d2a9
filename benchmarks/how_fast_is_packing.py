"""How many more targets per second does the title recommender train on when histories are packed?

Packed, one row of text trains every title in it; else every target comes in a row of its own, behind
its whole prompt::

    python benchmarks/how_fast_is_packing.py --output benchmarks/results
    python benchmarks/how_fast_is_packing.py --setting tiny   # seconds, offline

**Settings.** ``ml-100k``: SmolLM2-135M with LoRA of rank 8, cut to ``--depth`` layers (``0`` keeps all),
on the training histories of MovieLens 100K, leave-last-out. ``tiny``: a random Llama of two layers
on made-up titles; times there say nothing.

**What is compared.** The same recommender, prompts, token limit and number of positions per batch, so a
step reads about as many tokens in both layouts; a step is forward, backward, clipping and AdamW.
The layouts give every target the same loss where its history fits (a test holds them to it), so a
target is a target. The two take turns, batch by batch, so that a slow minute of the machine hits
both; batches come in the order in which training would deal them. A first turn of each is
thrown away. A repeat takes ``--steps`` batches of each, each repeat others; its ratio is that of
targets per second. Reported: the median over repeats, with a 95 % interval from order statistics,
by the clock and in the processor's time, in which waiting for a core does not count.

The last line of the output is one JSON object. With ``--output``, table, JSON and settings are kept in
a folder named after date and question.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.optim import AdamW

from _record import aligned, conclude, median_interval, rounded, surroundings
from tailwise.interactions import load_dataset, named_dataset, training_histories
from tailwise.optim import ERM
from tailwise.recommenders import (
    BackboneConfig,
    TitleBatch,
    TitleBatches,
    TitleConfig,
    TitleRecommender,
    build_title,
)

QUESTION = "How many more targets per second does the title recommender train on when histories are packed?"
SLUG = "how-fast-is-packing"
LAYOUTS = ("packed", "per-target")
_WORDS = ("red", "blue", "old", "new", "small", "car", "house", "dog", "song", "day")


def movies(depth: int, max_tokens: int, device: torch.device) -> tuple[TitleRecommender, list[np.ndarray]]:
    """SmolLM2-135M and the training histories of MovieLens 100K."""
    dataset = load_dataset("ml-100k")
    split = named_dataset("ml-100k").recommended_split.apply(dataset, seed=0)
    recommender = build_title(
        dataset.catalogue.titles(),
        BackboneConfig("smollm2-135m", depth=depth or None),
        TitleConfig(max_tokens=max_tokens),
        seed=0,
        device=device,
    )
    return recommender, training_histories(split)[1]


def tiny(depth: int, max_tokens: int, device: torch.device) -> tuple[TitleRecommender, list[np.ndarray]]:
    """A random Llama of two layers that knows ten words, and made-up histories."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(["<s>", "</s>", "<unk>", *_WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=0,
        eos_token_id=1,
    )
    with tempfile.TemporaryDirectory() as folder:
        LlamaForCausalLM(config).save_pretrained(folder)
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        ).save_pretrained(folder)
        rng = np.random.default_rng(0)
        titles = [" ".join(rng.choice(_WORDS, rng.integers(1, 4))) for _ in range(30)]
        recommender = build_title(
            titles,
            BackboneConfig(folder, depth=None, lora_rank=2, dtype="float32"),
            TitleConfig(max_tokens=max_tokens),
            seed=0,
            device=device,
        )
    return recommender, [rng.permutation(30)[: rng.integers(5, 30)] for _ in range(100)]


SETTINGS = {"ml-100k": movies, "tiny": tiny}


class Trainer:
    """Takes steps of AdamW on a recommender's batches, and times them."""

    def __init__(self, recommender: TitleRecommender) -> None:
        self._recommender = recommender.train()
        self._optimizer = ERM(recommender.parameter_groups(1e-4), AdamW)

    def step(self, batch: TitleBatch) -> np.ndarray:
        """Return seconds by the clock and of the processor."""
        batch = batch.to(self._recommender.device)
        began = np.array([time.perf_counter(), time.process_time()])
        self._optimizer.compute_gradient(
            lambda rows: self._recommender.losses(batch.rows(rows)), batch.targets
        )
        torch.nn.utils.clip_grad_norm_(self._optimizer.parameters(), 1.0)
        self._optimizer.step()
        if self._recommender.device.type == "cuda":
            torch.cuda.synchronize()
        return np.array([time.perf_counter(), time.process_time()]) - began


def measure(
    recommender: TitleRecommender,
    histories: Sequence[np.ndarray],
    *,
    positions_per_batch: int,
    steps: int,
    repeats: int,
) -> list[dict[str, Any]]:
    """Train in both layouts by turns; see the top of this file. Return a row for each."""
    dealt = {
        layout: TitleBatches(
            histories, recommender.prompts, layout=layout, positions_per_batch=positions_per_batch, seed=0
        ).epoch(0)
        for layout in LAYOUTS
    }
    fewest = min(len(batches) for batches in dealt.values())
    if fewest < steps * repeats:
        raise ValueError(f"steps times repeats must be at most {fewest}, an epoch; got {steps * repeats}.")
    trainer = Trainer(recommender)
    for layout in LAYOUTS:
        trainer.step(dealt[layout][0])  # warm up
    seconds = {layout: np.zeros((repeats, 2)) for layout in LAYOUTS}
    for repeat in range(repeats):
        for number in range(repeat * steps, (repeat + 1) * steps):
            for layout in LAYOUTS if number % 2 else LAYOUTS[::-1]:
                seconds[layout][repeat] += trainer.step(dealt[layout][number])
        print(f"repeat {repeat + 1} of {repeats}", file=sys.stderr, flush=True)
    counted = {
        layout: np.array([[_counts(b)] for b in batches[: steps * repeats]]).reshape(repeats, steps, 2)
        for layout, batches in dealt.items()
    }
    totals = {layout: counts.sum(1) for layout, counts in counted.items()}  # [repeats, (targets, tokens)]
    speed = {layout: totals[layout][:, :1] / seconds[layout] for layout in LAYOUTS}  # [repeats, 2]
    rows = []
    for layout in LAYOUTS:
        ratios = speed[layout] / speed["per-target"]
        low, high, coverage = median_interval(ratios[:, 0].tolist())
        rows.append(
            rounded(
                {
                    "layout": layout,
                    "targets_per_second": median(speed[layout][:, 0].tolist()),
                    "ratio": median(ratios[:, 0].tolist()),
                    "ratio_low": low,
                    "ratio_high": high,
                    "interval_coverage": coverage,
                    "processor_ratio": None
                    if recommender.device.type == "cuda"
                    else median(ratios[:, 1].tolist()),
                    "targets_per_step": float(totals[layout][:, 0].mean() / steps),
                    "tokens_per_step": float(totals[layout][:, 1].mean() / steps),
                    "seconds_per_step": median((seconds[layout][:, 0] / steps).tolist()),
                }
            )
        )
    return rows


def _counts(batch: TitleBatch) -> tuple[int, int]:
    return batch.n_targets, batch.tokens.numel()


def as_table(facts: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """Lay the rows out."""
    header = ["", "targets/s", "ratio", "interval", "processor", "targets/step", "tokens/step", "s/step"]
    lines = [
        [
            row["layout"],
            f"{row['targets_per_second']:.3g}",
            f"{row['ratio']:.1f}×",
            f"{row['ratio_low']:.1f} to {row['ratio_high']:.1f}",
            "–" if row["processor_ratio"] is None else f"{row['processor_ratio']:.1f}×",
            f"{row['targets_per_step']:.1f}",
            f"{row['tokens_per_step']:.0f}",
            f"{row['seconds_per_step']:.3g}",
        ]
        for row in rows
    ]
    title = (
        f"{facts['setting']} ({facts['device']}, {facts['n_layers']} layers, frozen {facts['frozen_dtype']}, "
        f"{facts['max_tokens']} tokens a row, {facts['positions_per_batch']} a batch); {facts['repeats']} "
        f"repeats of {facts['steps_per_repeat']} batches"
    )
    return f"{title}\n\n{aligned(header, lines)}"


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the command line, measure, print, keep; return the record."""
    options = _parser().parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        recommender, histories = SETTINGS[options.setting](options.depth, options.max_tokens, device)
    facts = {
        "setting": options.setting,
        "device": device.type,
        "n_layers": int(recommender.backbone.config.num_hidden_layers),  # type: ignore[union-attr, arg-type]
        "frozen_dtype": str(next(recommender.backbone.parameters()).dtype).removeprefix("torch."),
        "max_tokens": options.max_tokens,
        "positions_per_batch": options.positions_per_batch,
        "steps_per_repeat": options.steps,
        "repeats": options.repeats,
        "n_items": recommender.n_items,
        "titles_per_history": float(np.mean([len(history) for history in histories])),
        "tokens_per_title": float(np.mean([len(title) + 1 for title in recommender.prompts.titles])),
    }
    rows = measure(
        recommender,
        histories,
        positions_per_batch=options.positions_per_batch,
        steps=options.steps,
        repeats=options.repeats,
    )
    record = {"question": QUESTION, **surroundings(), "facts": rounded(facts), "rows": rows}
    table = as_table(facts, rows)
    return conclude(record, table, options, SLUG)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--setting", choices=SETTINGS, default="ml-100k", help="what to train")
    parser.add_argument("--depth", type=int, default=12, help="layers of the language model; 0 keeps all")
    parser.add_argument("--max-tokens", type=int, default=192, help="of a row")
    parser.add_argument("--positions-per-batch", type=int, default=768, help="padding included")
    parser.add_argument("--steps", type=_at_least_one, default=3, help="batches per repeat")
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
