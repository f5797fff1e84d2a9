"""Prompts that a language model has read, and what it reads after them: many continuations at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailwise.recommenders._cache_argument import cache_argument

__all__ = ["PromptReader"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class PromptReader:
    """Prompts that a model has read, a row each, and tokens read after them, each with its own past."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]]) -> None:
        from transformers import DynamicCache

        self.n_rows = len(prompts)
        self._model = model
        self._device = next(model.parameters()).device
        self._cache: Any = DynamicCache()
        lengths = np.array([len(prompt) for prompt in prompts])
        self._lengths = torch.from_numpy(lengths).to(self._device)
        longest = int(lengths.max())
        tokens = torch.zeros(len(prompts), longest, dtype=torch.int64)
        for row, prompt in enumerate(prompts):  # on the right: what comes next is a neighbour everywhere
            tokens[row, longest - len(prompt) :] = torch.tensor(list(map(int, prompt)))
        columns = torch.arange(longest, device=self._device)
        self._is_prompt = columns >= longest - self._lengths[:, None]  # [rows, longest]
        self._depths = np.zeros((self.n_rows, 0), dtype=np.int64)  # of each slot, 1 = next to the prompt
        self._sees = np.zeros((self.n_rows, 0, 0), dtype=np.bool_)  # [rows, slots, slots]
        with torch.no_grad():
            after = model(
                input_ids=tokens.to(self._device),
                attention_mask=self._is_prompt.long(),
                position_ids=(self._is_prompt.long().cumsum(1) - 1).clamp_min(0),
                use_cache=True,
                logits_to_keep=1,
                **cache_argument(model, self._cache),
            )
        self._first = after.logits[:, -1].float()  # [rows, vocabulary]

    @property
    def n_slots(self) -> int:
        """Tokens of each row after its prompt, padding included."""
        return self._depths.shape[1]

    @torch.no_grad()
    def read(self, tokens: Ints, after: Ints) -> Tensor:
        """Read tokens ``[rows, n]``, each after an earlier slot (-1: after the prompt); -1 is padding.

        ``after`` may name slots of this very call. Returns logits ``[rows, n, vocabulary]`` float32.
        """
        n_rows, n_new = tokens.shape
        begin, end = self.n_slots, self.n_slots + n_new
        sees = np.zeros((n_rows, end, end), dtype=np.bool_)
        sees[:, :begin, :begin] = self._sees
        depths = np.concatenate([self._depths, np.ones((n_rows, n_new), dtype=np.int64)], axis=1)
        every = np.arange(n_rows)
        refers_here = bool((after >= begin).any())
        if refers_here:  # one by one: a token may follow the one before it
            for place in range(n_new):
                self._place(sees, depths, every, begin + place, after[:, place])
        else:
            has_parent = after >= 0
            parents = np.maximum(after, 0)
            if begin:
                past = sees[every[:, None], parents, :begin] & has_parent[..., None]
                sees[:, begin:, :begin] = past
                depths[:, begin:] = np.where(has_parent, depths[every[:, None], parents] + 1, 1)
            sees[:, np.arange(begin, end), np.arange(begin, end)] = True
        self._sees, self._depths = sees, depths
        dtype = self._first.dtype if self._model.dtype is None else self._model.dtype
        visible = torch.cat(
            [
                self._is_prompt[:, None].expand(-1, n_new, -1),
                torch.from_numpy(sees[:, begin:]).to(self._device),
            ],
            dim=2,
        )
        mask = torch.zeros(visible.shape, dtype=dtype, device=self._device)
        mask.masked_fill_(~visible, torch.finfo(dtype).min)
        positions = self._lengths[:, None] - 1 + torch.from_numpy(depths[:, begin:]).to(self._device)
        out = self._model(
            input_ids=torch.from_numpy(np.maximum(tokens, 0)).to(self._device),
            attention_mask=mask[:, None],
            position_ids=positions,
            use_cache=True,
            **cache_argument(self._model, self._cache),
        )
        logits: Tensor = out.logits.float()
        return logits

    @staticmethod
    def _place(sees: NDArray[np.bool_], depths: Ints, every: Ints, slot: int, after: Ints) -> None:
        has_parent, parents = after >= 0, np.maximum(after, 0)
        sees[:, slot] = sees[every, parents] & has_parent[:, None]
        sees[:, slot, slot] = True
        depths[:, slot] = np.where(has_parent, depths[every, parents] + 1, 1)

    def forget(self) -> None:
        """Go back to the prompts."""
        if self.n_slots:
            self._cache.crop(-self.n_slots)
        self._depths = self._depths[:, :0]
        self._sees = self._sees[:, :0, :0]

    def log_probabilities(self, logits: Tensor, before: Ints, tokens: Ints) -> Floats:
        """``[rows, n]``: of each of ``n`` tokens after slots of the last call (-1: the prompt)."""
        together = torch.cat([logits, self._first[:, None]], dim=1)  # -1 is the last
        normaliser = torch.logsumexp(together, dim=-1)  # [rows, slots + 1]
        slots = torch.from_numpy(np.array(before)).to(self._device)
        words = torch.from_numpy(np.array(tokens)).to(self._device)
        said = together[:, slots, words] - normaliser[:, slots]
        return said.double().cpu().numpy()

    def log_probabilities_of(self, logits: Tensor | None, rows: Ints, places: Ints, tokens: Ints) -> Floats:
        """``[n]``: of each token after a place of its row in the last call; after the prompt before any."""
        given = self._first[:, None] if logits is None else logits
        normaliser = torch.logsumexp(given, dim=-1)
        r, p, t = (torch.from_numpy(np.array(x)).to(self._device) for x in (rows, places, tokens))
        return (given[r, p, t] - normaliser[r, p]).double().cpu().numpy()
