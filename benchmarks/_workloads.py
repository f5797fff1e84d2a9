"""What the benchmarks train: a model, its batches as per-target losses, and the catalogue's counts.

Enters the name of a setting; leaves a :class:`Workload`. The settings named ``tiny`` need no
network and no data; the others need SmolLM2-135M, and ``item-token`` ML-100K (``tailwise assets``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tailwise.interactions import load_dataset, named_dataset, training_histories
from tailwise.optim import LossFunction
from tailwise.recommenders import (
    ItemTokenConfig,
    ItemTokenRecommender,
    SASRecConfig,
    SequenceBatches,
    build_item_token,
    build_sasrec,
    choose_dtype,
    encode_titles,
    resolve_language_model,
)
from tailwise.recommenders._language_model import add_adapters, quiet_transformers
from tailwise.segments import popularity
from tailwise.training import TrainingConfig

__all__ = ["SETTINGS", "Batch", "Setting", "Workload"]


@dataclass(frozen=True)
class Batch:
    """One batch as optimizers take it: ``losses(rows)``, and the target ``items`` of all rows."""

    losses: LossFunction
    items: Tensor


@dataclass(frozen=True)
class Workload:
    """A model to train.

    Attributes:
        model: In training mode, on its device.
        groups: Parameter groups for an optimizer, with their learning rates.
        counts: ``[n_items]`` int64 training interactions.
        batches: As many as were asked for.
        facts: What the record says about it; JSON values.
    """

    model: nn.Module
    groups: Callable[[], list[dict[str, Any]]]
    counts: Tensor
    batches: Sequence[Batch]
    facts: dict[str, Any]

    def trainable(self) -> list[Tensor]:
        """Return the trainable parameters."""
        return [p for p in self.model.parameters() if p.requires_grad]


@dataclass(frozen=True)
class Setting:
    """How to build a workload: ``build(n_batches, device)``.

    Attributes:
        build: See above.
        steps: Batches per repeat unless told otherwise: more where batches differ in size.
        methods: What is measured unless told otherwise; None is everything.
    """

    build: Callable[[int, torch.device], Workload]
    steps: int = 1
    methods: tuple[str, ...] | None = None


# Language models: one target item per row


def _smollm2(tokens: int) -> Callable[[int, torch.device], Workload]:
    def build(n_batches: int, device: torch.device) -> Workload:
        from transformers import AutoModelForCausalLM

        folder = resolve_language_model("smollm2-135m")
        with quiet_transformers():
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=choose_dtype("auto", device))
        return _causal_lm(model, n_rows=16, n_tokens=tokens, lora_rank=8, n_batches=n_batches, device=device)

    return build


def _tiny_lm(n_batches: int, device: torch.device) -> Workload:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(config)
    return _causal_lm(model, n_rows=8, n_tokens=6, lora_rank=2, n_batches=n_batches, device=device)


def _causal_lm(
    model: nn.Module, *, n_rows: int, n_tokens: int, lora_rank: int, n_batches: int, device: torch.device
) -> Workload:
    """Rows of ``n_tokens`` inputs, all of them next-token targets; the row's loss is their mean."""
    n_items, n_vocabulary = 10_000, int(model.config.vocab_size)  # type: ignore[union-attr, arg-type]
    dtype = next(model.parameters()).dtype
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = add_adapters(model.requires_grad_(False), rank=lora_rank).to(device).train()
        with torch.no_grad():
            for parameter in (p for p in model.parameters() if p.requires_grad):
                parameter.add_(0.01 * torch.randn_like(parameter))  # adapters start with one factor at 0
        popularity_law = 1 / torch.arange(1, n_items + 1)  # Zipf's: popularity falls as 1/rank
        text = torch.randint(n_vocabulary, (n_batches, n_rows, n_tokens + 1)).to(device)
        items = torch.multinomial(popularity_law.expand(n_batches, -1), n_rows, replacement=True).to(device)

    def losses_of(tokens: Tensor) -> LossFunction:
        def losses(rows: Tensor) -> Tensor:
            part = tokens[rows]  # [rows, n_tokens + 1]
            logits = model(input_ids=part[:, :-1], use_cache=False).logits.float()
            per_token = functional.cross_entropy(
                logits.flatten(0, 1), part[:, 1:].flatten(), reduction="none"
            )
            return per_token.view(len(rows), -1).mean(1)  # [rows]

        return losses

    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return Workload(
        model=model,
        groups=lambda: [{"params": named, "lr": 1e-4}],
        counts=(n_items * popularity_law).ceil().long().to(device),
        batches=[Batch(losses_of(t), i) for t, i in zip(text, items, strict=True)],
        facts={
            "rows_per_batch": n_rows,
            "targets_per_batch": n_rows,
            "tokens_per_row": n_tokens,
            "n_items": n_items,
            "trainable_parameters": sum(p.numel() for _, p in named),
            "frozen_dtype": str(dtype).removeprefix("torch."),
            "dropout": 0.0,
        },
    )


# The item-token recommender: every position is a target


def _item_token(n_batches: int, device: torch.device) -> Workload:
    from tailwise.jobs import load_config  # slow to import; the tiny settings do without

    config = load_config(preset="quick", file=None, overrides={"data": {"name": "ml-100k"}})
    dataset = load_dataset("ml-100k")
    split = named_dataset("ml-100k").recommended_split.apply(dataset, seed=config.data.split_seed)
    encodings = encode_titles(
        dataset.catalogue.titles(), resolve_language_model(config.model.model), device=device
    )
    recommender = build_item_token(encodings, config.model, config.recommender, seed=0, device=device)
    return _sequences(
        recommender,
        training_histories(split)[1],
        torch.from_numpy(popularity(split.train, split.n_items)),
        config.training,
        n_batches=n_batches,
    )


def _item_token_12k(n_batches: int, device: torch.device) -> Workload:
    from tailwise.jobs import load_config  # slow to import; the tiny settings do without

    config = load_config(preset="quick", file=None, overrides={"data": {"name": "ml-100k"}})
    n_items = 12_000
    encodings = torch.randn(n_items, 576, generator=torch.Generator().manual_seed(0))
    recommender = build_item_token(encodings, config.model, config.recommender, seed=0, device=device)
    histories = _zipf_histories(n_items, 5, 14, n=120 * n_batches)
    counts = torch.from_numpy(np.bincount(np.concatenate(histories), minlength=n_items))
    return _sequences(recommender, histories, counts, config.training, n_batches=n_batches)


def _tiny_item_token(n_batches: int, device: torch.device) -> Workload:
    n_items = 30
    histories = _zipf_histories(n_items, 3, 9, n=20 * n_batches)
    recommender = build_sasrec(
        n_items,
        SASRecConfig(width=8, depth=1),
        ItemTokenConfig(max_length=8, dropout=0.1),
        seed=0,
        device=device,
    )
    counts = torch.from_numpy(np.bincount(np.concatenate(histories), minlength=n_items))
    return _sequences(
        recommender, histories, counts, TrainingConfig(positions_per_batch=48), n_batches=n_batches
    )


def _zipf_histories(n_items: int, shortest: int, longest: int, *, n: int) -> list[np.ndarray]:
    """Items by Zipf's law, as many as ``shortest`` up to below ``longest`` a history."""
    rng = np.random.default_rng(0)
    law = 1 / np.arange(1, n_items + 1)
    lengths = rng.integers(shortest, longest, size=n)
    return [rng.choice(n_items, size=length, p=law / law.sum()) for length in lengths]


def _sequences(
    recommender: ItemTokenRecommender,
    histories: Sequence[np.ndarray],
    counts: Tensor,
    training: TrainingConfig,
    *,
    n_batches: int,
) -> Workload:
    source = SequenceBatches(
        histories,
        max_length=recommender.config.max_length,
        positions_per_batch=training.positions_per_batch,
        seed=0,
    )
    dealt = source.epoch(0)
    if len(dealt) < n_batches:
        raise ValueError(f"steps times repeats must be at most {len(dealt)}, an epoch; got {n_batches}.")
    batches = [batch.to(recommender.device) for batch in dealt[:n_batches]]
    trainable = [p for p in recommender.parameters() if p.requires_grad]
    recommender.train()
    return Workload(
        model=recommender,
        groups=lambda: recommender.parameter_groups(training.learning_rate, training.weight_decay),
        counts=counts.to(recommender.device),
        batches=[
            Batch(lambda rows, batch=batch: recommender.losses(batch.rows(rows)), batch.targets)  # type: ignore[misc]
            for batch in batches
        ],
        facts={
            "rows_per_batch": float(np.mean([len(batch.inputs) for batch in batches])),
            "targets_per_batch": float(np.mean([batch.n_targets for batch in batches])),
            "n_items": recommender.n_items,
            "trainable_parameters": sum(p.numel() for p in trainable),
            "frozen_dtype": str(next(recommender.backbone.parameters()).dtype).removeprefix("torch."),
            "dropout": recommender.config.dropout,
        },
    )


SETTINGS = {
    "smollm2-16x64": Setting(_smollm2(64)),
    # A step takes half a minute on one core, and cycles of five would take hours.
    "smollm2-16x256": Setting(
        _smollm2(256), methods=("adamw", "exact", "single-pass", "single-pass-unit", "sam")
    ),
    "item-token": Setting(_item_token, steps=4),
    "item-token-12k": Setting(_item_token_12k, steps=4),
    "tiny": Setting(_tiny_lm),
    "tiny-item-token": Setting(_tiny_item_token, steps=2),
}
