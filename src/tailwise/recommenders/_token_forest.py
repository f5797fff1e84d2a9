"""Many texts that begin alike, read by a language model at once: every shared beginning a single time."""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailwise.errors import ConfigError
from tailwise.recommenders._text_model import TextModel

__all__ = ["TokenForest"]

_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}


class TokenForest:
    """Tokens that a model has read, each after one earlier token: its own past and nothing else.

    All tokens stand in one row. A mask lets each see its ancestors alone, at their distance in its
    text. So prompts of any lengths and all their continuations share every forward pass without
    padding, and no key or value is ever copied. Attention costs the square of all tokens read,
    which is little beside the rest up to one or two thousand; begin a new forest beyond.

    Layers that look back a limited distance look back without limit here: the same as long as
    texts are shorter than that.

    Args:
        model: Its weights are loaded at the first :meth:`grow`.

    Example (``model`` is a :class:`TextModel`)::

        forest = TokenForest(model)
        films, books = ([model.start, *model.tokenize(text)] for text in ("A good film:", "A good book:"))
        (film, book), first = forest.plant([films, books])  # what follows each: [2, vocabulary]
        second = forest.grow(model.tokenize(" Star Rocky Emma"), after=[film, film, book])
    """

    def __init__(self, model: TextModel) -> None:
        from transformers import DynamicCache

        self._model = model
        self._cache: Any = DynamicCache()
        self._depth: list[int] = []
        self._sees: NDArray[np.bool_] = np.zeros((256, 256), dtype=np.bool_)  # [tokens, tokens]

    @property
    def n_tokens(self) -> int:
        """Number of tokens read so far."""
        return len(self._depth)

    @torch.no_grad()
    def grow(
        self, tokens: Sequence[int], after: Sequence[int], *, ask: Sequence[int] | None = None
    ) -> Tensor:
        """Read tokens, each after an earlier one.

        Args:
            tokens: They get the positions ``n_tokens``, ``n_tokens + 1``, ...
            after: Position of the token before each, which may be one of the same call; -1 where a
                text begins.
            ask: Which of ``tokens``, counted from 0, to be told what follows; None: all.

        Returns:
            ``[len(ask), vocabulary]`` float32 logits on the CPU.

        Raises:
            ValueError: nothing to read, or a token would come before the one that it follows.
            ConfigError: the model has layers other than attention, or does not take positions.
        """
        begin, end = self.n_tokens, self.n_tokens + len(tokens)
        wrong = [i for i, before in enumerate(after) if not -1 <= before < begin + i]
        if not tokens or len(after) != len(tokens) or wrong:
            raise ValueError(
                f"after must name an earlier token for each of {len(tokens)} tokens, one or more; got "
                f"{len(after)}, {len(wrong)} of them not earlier (first: {[after[i] for i in wrong[:1]]}).\n"
                f"  {begin} tokens have been read."
            )
        _check(self._model)
        self._make_room(end)
        for position, before in enumerate(after, start=begin):
            if before >= 0:
                self._sees[position, :position] = self._sees[before, :position]
            self._sees[position, position] = True
            self._depth.append(self._depth[before] + 1 if before >= 0 else 0)
        sees = torch.from_numpy(self._sees[begin:end, :end])
        mask = torch.zeros(sees.shape, dtype=self._model.dtype)
        mask.masked_fill_(~sees, torch.finfo(self._model.dtype).min)
        kept = torch.arange(len(tokens)) if ask is None else torch.tensor(list(ask), dtype=torch.long)
        device = self._model.device
        logits = self._model._logits(
            torch.tensor([list(map(int, tokens))]),
            self._cache,
            keep=kept.to(device),
            attention_mask=mask[None, None].to(device),
            position_ids=torch.tensor([self._depth[begin:end]], device=device),
        )
        return logits[0].float().cpu()

    def plant(self, texts: Sequence[Sequence[int]]) -> tuple[list[int], Tensor]:
        """Read whole texts from their beginnings; what several begin with is read once.

        Returns:
            Position of each text's last token, and ``[len(texts), vocabulary]`` float32 logits of what
            follows it.

        Raises:
            ValueError: a text is empty.
        """
        if not all(texts):
            raise ValueError(
                "texts must hold one token or more each; got an empty one.\n  Begin with model.start."
            )
        known: dict[tuple[int, int], int] = {}
        tokens: list[int] = []
        after: list[int] = []
        ends: list[int] = []
        for text in texts:
            position = -1
            for token in text:
                step = (position, token)
                if step not in known:
                    known[step] = self.n_tokens + len(tokens)
                    tokens.append(token)
                    after.append(position)
                position = known[step]
            ends.append(position)
        return ends, self.grow(tokens, after, ask=[end - self.n_tokens for end in ends])

    def _make_room(self, n_tokens: int) -> None:
        size = len(self._sees)
        if n_tokens > size:
            larger = np.zeros((max(n_tokens, 2 * size),) * 2, dtype=np.bool_)
            larger[:size, :size] = self._sees
            self._sees = larger


def _check(model: TextModel) -> None:
    """Refuse models in which a token would see more than its mask allows, or not know its place."""
    network = model._model
    takes = inspect.signature(network.forward).parameters
    layers = set(getattr(network.config, "layer_types", None) or ["full_attention"])
    missing = {"attention_mask", "position_ids", "logits_to_keep"} - set(takes)
    if missing or not layers <= _ATTENTION:
        raise ConfigError(
            f"model must be a transformer of attention layers that takes a mask and positions; got "
            f"{model.folder.name} ({network.config.model_type}: layers {sorted(layers)}, takes no "
            f"{sorted(missing)}).\n  Take another language model."
        )
