"""What a trainer can be set up with, in combination: every pair of settings occurs in `make test`.

The full product runs with ``TAILWISE_FULL_MATRIX=1 pytest -m matrix tests/integrations``.
"""

import os
from itertools import combinations, product

import pytest
import torch
from transformers import Trainer

from tailwise.integrations import EISAMTrainer

from .builders import arguments, examples, pad, settings, tiny_model, with_adapters

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")

FACTORS = {
    "estimator": ("exact", "single-pass", "sampled", "every-k"),
    "gradient_accumulation_steps": (1, 2),
    "max_grad_norm": (0.0, 0.5),
    "bf16": (False, True),
    "gradient_checkpointing": (False, True),
    "dropout": (0.0, 0.3),
    "adapters": (True, False),
    "optim": ("adamw_torch", "adafactor", "sgd"),
    "lr_scheduler_type": ("cosine", "constant_with_warmup"),
}


def covering_set():
    """Combinations in which every pair of two settings' values occurs; greedy, always the same."""
    names = list(FACTORS)
    everything = [dict(zip(names, values, strict=True)) for values in product(*FACTORS.values())]

    def pairs(chosen):
        return {(a, chosen[a], b, chosen[b]) for a, b in combinations(names, 2)}

    missing = set().union(*(pairs(chosen) for chosen in everything))
    cover = []
    while missing:
        best = max(everything, key=lambda chosen: len(pairs(chosen) & missing))
        cover.append(best)
        missing -= pairs(best)
    return cover


def name_of(chosen):
    return "-".join(str(value) for value in chosen.values())


def build(chosen):
    model = tiny_model(attention_dropout=0.0 if chosen["adapters"] else chosen["dropout"])
    return with_adapters(model, lora_dropout=chosen["dropout"]) if chosen["adapters"] else model


def trained(folder, chosen, *, eisam=None, resume=None, save=False):
    given = {k: v for k, v in chosen.items() if k not in ("estimator", "dropout", "adapters")}
    if given["gradient_checkpointing"]:
        given["gradient_checkpointing_kwargs"] = {"use_reentrant": False}
    args = arguments(
        folder, **given, max_steps=4, save_strategy="steps" if save else "no", save_steps=2, seed=7
    )
    bare = lambda b: pad([{k: v for k, v in e.items() if k != "item"} for e in b])  # noqa: E731
    if eisam is None:
        trainer = Trainer(build(chosen), args, train_dataset=examples(), data_collator=bare)
    else:
        trainer = EISAMTrainer(build(chosen), args, train_dataset=examples(), data_collator=pad, eisam=eisam)
    trainer.train(resume_from_checkpoint=resume)
    return [p.detach().clone() for p in trainer.model.parameters() if p.requires_grad]


def check(folder, chosen):
    """At ρ = 0 the trainer's own training; at ρ > 0 another one, that can be resumed to the bit."""
    # Full training under autocast runs in float32 where parameters are perturbed: no parity there.
    eisam = settings(estimator=chosen["estimator"], every=2, row_share=0.5)
    plain = trained(folder / "plain", chosen)
    off = settings(rho=0.0, keep_precision=False)
    for p, q in zip(trained(folder / "off", chosen, eisam=off), plain, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-2, atol=2e-3 if chosen["bf16"] else 1e-5)
    whole = trained(folder / "whole", chosen, eisam=eisam, save=True)
    again = trained(
        folder / "again", chosen, eisam=eisam, save=True, resume=str(folder / "whole" / "checkpoint-2")
    )
    assert all(torch.equal(p, q) for p, q in zip(again, whole, strict=True))
    assert all(bool(torch.isfinite(p).all()) for p in whole)
    assert any(not torch.equal(p, q) for p, q in zip(whole, plain, strict=True))


@pytest.mark.parametrize("chosen", covering_set(), ids=name_of)
def test_every_pair_of_settings_holds(tmp_path, chosen):
    check(tmp_path, chosen)


@pytest.mark.matrix
@pytest.mark.skipif(os.environ.get("TAILWISE_FULL_MATRIX") != "1", reason="TAILWISE_FULL_MATRIX is not 1")
def test_every_combination_holds(tmp_path):
    names = list(FACTORS)
    for n, values in enumerate(product(*FACTORS.values())):
        check(tmp_path / str(n), dict(zip(names, values, strict=True)))
