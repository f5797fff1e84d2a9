"""What a language model makes of each title, as one vector, cached by content."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tailwise import assets
from tailwise.recommenders._language_model import (
    choose_dtype,
    fingerprint,
    hidden_width,
    load_language_model,
    quiet_transformers,
)

__all__ = ["encode_titles"]

_CHUNK = 1024  # titles per cached file; an interrupted run goes on at the next chunk
_BATCH = 64  # titles per forward pass
_MAX_TOKENS = 64  # of a title; the rest is cut off
_RECIPE = "mean-of-last-hidden-states-after-start-token/2"  # raise when the computation changes


def encode_titles(
    titles: Sequence[str],
    model_folder: Path,
    *,
    device: torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Encode titles with the whole language model: the mean of the title tokens' last hidden states.

    A start token precedes the title and is left out of the mean: models dump a huge,
    meaningless activation on whatever comes first.

    Args:
        titles: Texts; more than 64 tokens are cut off.
        model_folder: From :func:`resolve_language_model`.
        device: Where to run; the CPU by default.
        progress: Called with (titles done, titles in all).

    Returns:
        ``[len(titles), width]`` float32 on the CPU. Results are kept in the user cache, by
        the content of the model folder and of each run of 1,024 titles. Where at least half of the
        titles repeat others, each is encoded once.
    """
    distinct = list(dict.fromkeys(titles))
    if 0 < 2 * len(distinct) <= len(titles):  # for fewer, runs would shift and what is cached be lost
        row_of = {title: row for row, title in enumerate(distinct)}
        encodings = encode_titles(distinct, model_folder, device=device, progress=progress)
        return encodings[torch.tensor([row_of[title] for title in titles])]
    device = device or torch.device("cpu")
    dtype = choose_dtype("auto", device)
    cache = assets.cache_dir() / "title-encodings" / fingerprint(model_folder)
    chunks = [list(titles[i : i + _CHUNK]) for i in range(0, len(titles), _CHUNK)]
    files = [cache / f"{_content_key(chunk, dtype)}.safetensors" for chunk in chunks]
    encoder: _Encoder | None = None
    done = 0
    for chunk, file in zip(chunks, files, strict=True):
        if not file.is_file():
            encoder = encoder or _Encoder(model_folder, dtype, device)
            vectors = torch.empty(len(chunk), encoder.width)
            by_length = sorted(range(len(chunk)), key=lambda i: len(chunk[i]))  # little padding
            for begin in range(0, len(chunk), _BATCH):
                rows = by_length[begin : begin + _BATCH]
                vectors[rows] = encoder([chunk[i] for i in rows])
                if progress:
                    progress(done + begin + len(rows), len(titles))
            _save_atomically({"encodings": vectors}, file)
        done += len(chunk)
        if progress:
            progress(done, len(titles))
    return torch.cat([load_file(file)["encodings"] for file in files])


def _content_key(chunk: list[str], dtype: torch.dtype) -> str:
    content = json.dumps([_RECIPE, str(dtype), chunk], ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


class _Encoder:
    """The loaded model and tokenizer; made only when some chunk is not in the cache."""

    def __init__(self, folder: Path, dtype: torch.dtype, device: torch.device) -> None:
        from transformers import AutoTokenizer

        with quiet_transformers():
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = load_language_model(folder, depth=None, dtype=dtype).to(device).eval()
        self._device = device
        self.width = hidden_width(self._model)
        tokenizer = self._tokenizer
        starts = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, 0)
        self._start = next(token for token in starts if token is not None)

    @torch.no_grad()
    def __call__(self, titles: list[str]) -> Tensor:
        ids = [
            self._tokenizer(title, add_special_tokens=False).input_ids[:_MAX_TOKENS] or [self._start]
            for title in titles
        ]
        longest = max(len(i) for i in ids)
        tokens = torch.tensor([[self._start, *i, *[self._start] * (longest - len(i))] for i in ids])
        is_title = torch.tensor([[0, *[1] * len(i), *[0] * (longest - len(i))] for i in ids])
        # Padding is on the right and attention causal, so padding changes nothing that is kept.
        hidden = self._model(input_ids=tokens.to(self._device), use_cache=False).last_hidden_state
        weights = is_title[..., None].to(self._device, torch.float32)  # [titles, tokens, 1]
        mean: Tensor = (hidden.float() * weights).sum(1) / weights.sum(1)
        return mean.cpu()


def _save_atomically(tensors: dict[str, Tensor], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=file.parent, suffix=".partial")
    os.close(handle)
    try:
        save_file(tensors, partial)
        Path(partial).replace(file)
    finally:
        Path(partial).unlink(missing_ok=True)
