"""A made-up shop and a made-up language model on disk: what a run needs, offline and in seconds."""

from pathlib import Path

import numpy as np
import polars as pl
import torch

__all__ = ["TINY_RUN", "write_tiny_model", "write_tiny_shop"]

_DAY = 86_400
_END = 1_764_000_000
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 "

TINY_RUN = (
    "model.depth=1", "model.lora_rank=2", "model.dtype=float32", "recommender.max_length=8",
    "training.max_epochs=2", "training.positions_per_batch=40", "training.checkpoint_seconds=60",
    "evaluation.n_resamples=100", "evaluation.validation_users=20", "variants=[{name='adamw'}]",
    "references=[]", "data.split='global-time'", "data.test_share=0.2",
    "rescorings=[{name='lifted',popularity_penalty=0.05},{name='overdone',popularity_penalty=5.0}]",
)  # fmt: skip
"""Settings of a run over both: seconds."""


def write_tiny_model(folder: Path) -> Path:
    """Write a random Llama of width 32, whose tokens are letters, and return its folder."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {"<s>": 0, "</s>": 1, "<unk>": 2} | {letter: i + 3 for i, letter in enumerate(_LETTERS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                num_attention_heads=2, max_position_embeddings=128, initializer_range=0.2,
                bos_token_id=0, eos_token_id=1,
            )
        )  # fmt: skip
    model.save_pretrained(folder)
    return folder


def write_tiny_shop(folder: Path, *, n_users: int = 240, n_items: int = 60) -> tuple[Path, Path]:
    """Write a log of Zipf popularity over ten weeks and a catalogue with prices; return both files."""
    rng = np.random.default_rng(0)
    chance = 1 / np.arange(1, n_items + 1)
    rows = [
        (f"u{user:03}", f"i{item:02}", _END - int(at))
        for user in range(n_users)
        for item, at in zip(
            rng.choice(n_items, 16, replace=False, p=chance / chance.sum()),
            rng.uniform(0, 70 * _DAY, 16),
            strict=True,
        )
    ]
    log, items = folder / "log.csv", folder / "items.csv"
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").write_csv(log)
    prices = np.round(20 * np.exp(0.5 * rng.standard_normal(n_items)), 2)
    names = [f"i{item:02}" for item in range(n_items)]
    pl.DataFrame({"item_id": names, "title": [f"thing {n}" for n in names], "price": prices}).write_csv(items)
    return log, items
