"""Histories that a causal recommender has read, and what it reads after them: new items alone."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailwise.recommenders._cache_argument import cache_argument
from tailwise.recommenders._item_token import ItemTokenRecommender
from tailwise.recommenders._sequences import pad_right

__all__ = ["IncrementalReader", "ReadItems"]

_PASS_ITEMS = 24  # a pass through the backbone costs about as much as this many items in it
_MAX_PARTS = 8  # pieces of one user's keys and values; more are joined


@dataclass(frozen=True, eq=False)
class ReadItems:
    """Items that have been read, with the backbone's keys and values of them.

    Attributes:
        items: ``[n]`` item indices, oldest first.
        parts: ``[layers, 2, heads, n_part, head_width]`` each, keys before values; the lengths of the parts
            add up to ``n``.
    """

    items: NDArray[np.int64]
    parts: tuple[Tensor, ...]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return int(self.items.nbytes) + sum(part.numel() * part.element_size() for part in self.parts)

    def first(self, n: int) -> "ReadItems":
        """Return what was read up to item number ``n``, in 1..n; causal, it knows nothing of later ones."""
        parts, left = [], n
        for part in self.parts:
            if left > 0:  # a copy where it is cut: a view would hold on to the whole
                parts.append(part if part.shape[3] <= left else part[:, :, :, :left].clone())
            left -= part.shape[3]
        return ReadItems(self.items[:n], tuple(parts))


class IncrementalReader:
    """Reads histories, or only what is new in them, into the vectors that item vectors are multiplied with.

    A causal backbone's keys and values of an item depend on the items before it alone, so those of an
    unchanged beginning can be kept and the new items read after them. The outcome is that of reading
    the whole again up to rounding: other shapes, other kernels, sums in another order.

    This holds for a window that begins where it began. Once a history is longer than ``max_length``,
    every new item moves the window's beginning, each state depends on items that are gone, and the
    window has to be read anew.

    Args:
        recommender: In evaluation mode from now on.

    Example:
        >>> from tailwise.recommenders import ItemTokenConfig, SASRecConfig, build_sasrec
        >>> sasrec = build_sasrec(9, SASRecConfig(width=8), ItemTokenConfig(), seed=0)
        >>> reader = IncrementalReader(sasrec)
        >>> _, [read] = reader.read([None], [np.array([3, 1])])
        >>> query, _ = reader.read([read], [np.array([4])])
        >>> torch.allclose(query @ sasrec.item_vectors().T, sasrec.scores([[3, 1, 4]]), atol=1e-4)
        True
    """

    def __init__(self, recommender: ItemTokenRecommender) -> None:
        self._recommender = recommender.eval()
        self._can_continue = _keeps_all_positions(recommender.backbone)

    @property
    def max_length(self) -> int:
        """Items of a window at most."""
        return self._recommender.config.max_length

    @property
    def can_continue(self) -> bool:
        """Whether the backbone can read after what it has read; if not, nothing is kept."""
        return self._can_continue

    @torch.no_grad()
    def read(
        self, pasts: Sequence[ReadItems | None], news: Sequence[NDArray[np.int64]]
    ) -> tuple[Tensor, list[ReadItems | None]]:
        """Read new items, each user's after what was read of it before.

        Users of different pasts and different numbers of new items go through together. Those with few
        new items are not made to wait for those with many: the batch is cut into passes where that
        saves more padding than a pass costs.

        Args:
            pasts: Per user; None where nothing was read.
            news: Per user, ``[n >= 1]`` item indices; with the past at most ``max_length``.

        Returns:
            ``[users, width]`` float32, to be multiplied with item vectors; and what has been read now,
            None where the backbone cannot go on from it.

        Raises:
            ValueError: a user has nothing new, too much, or a past that the backbone cannot go on from.
        """
        lengths = [0 if past is None else len(past.items) for past in pasts]
        for length, new in zip(lengths, news, strict=True):
            if not 1 <= len(new) <= self.max_length - length:
                raise ValueError(
                    f"news must hold 1..{self.max_length - length} items after {length} read ones; got "
                    f"{len(new)}.\n  max_length is {self.max_length}. Read the window anew."
                )
        if any(lengths) and not self._can_continue:
            raise ValueError(
                f"pasts must be None for a backbone that keeps nothing; got {sum(map(bool, lengths))} others."
            )
        queries = torch.empty(len(news), self._recommender.projection.out_features)
        read: list[ReadItems | None] = [None] * len(news)
        for rows in _passes(lengths, [len(new) for new in news]):
            queries[rows], now = self._pass([pasts[row] for row in rows], [news[row] for row in rows])
            for row, one in zip(rows, now, strict=True):
                read[row] = one
        return queries, read

    def _pass(
        self, pasts: list[ReadItems | None], news: list[NDArray[np.int64]]
    ) -> tuple[Tensor, list[ReadItems | None]]:
        """One pass: pasts end side by side, so padding is on their left, and on the right of what is new.

        Every real position sees itself, so no row of the attention is empty, and none sees padding.
        """
        model, device = self._recommender.backbone, self._recommender.device
        n_new = torch.tensor([len(new) for new in news], device=device)
        items = pad_right(list(news), fill=0).to(device)  # [rows, n]
        tokens = self._recommender.tokens(self._recommender.item_vectors(items.flatten()))
        tokens = tokens.view(*items.shape, -1)
        arguments: dict[str, Any] = {"inputs_embeds": tokens, "use_cache": self._can_continue}
        longest = max(0 if past is None else len(past.items) for past in pasts)
        cache: Any = None
        if self._can_continue:
            from transformers import DynamicCache

            cache = DynamicCache()
            if longest:
                n_past = torch.tensor([0 if p is None else len(p.items) for p in pasts], device=device)
                for layer, (keys, values) in enumerate(_side_by_side(pasts, longest)):
                    cache.update(keys, values, layer)
                columns = torch.arange(longest + items.shape[1], device=device)
                is_real = (columns >= longest - n_past[:, None]) & (columns < longest + n_new[:, None])
                arguments["attention_mask"] = is_real.long()
                arguments["position_ids"] = n_past[:, None] + torch.arange(items.shape[1], device=device)
            arguments |= cache_argument(model, cache)
        states = model(**arguments).last_hidden_state  # [rows, n, width]
        last = states[torch.arange(len(news), device=device), n_new - 1]
        queries = self._recommender.project(last).cpu()
        if cache is None:
            return queries, [None] * len(news)
        grown = torch.stack([torch.stack([a.keys, a.values])[..., longest:, :] for a in cache.layers])
        return queries, [
            _grown(past, new, grown[:, :, row, :, : len(new)])
            for row, (past, new) in enumerate(zip(pasts, news, strict=True))
        ]


def _keeps_all_positions(backbone: Any) -> bool:
    """Whether a backbone takes and gives keys and values, and attends to all of them in every layer."""
    inside = backbone.get_base_model() if hasattr(backbone, "get_base_model") else backbone
    known = inspect.signature(inside.forward).parameters
    takes = {"inputs_embeds", "attention_mask", "position_ids", "use_cache"} <= known.keys()
    config = getattr(inside, "config", None)
    kinds = getattr(config, "layer_types", None)
    if not kinds:
        kinds = ["full_attention" if getattr(config, "sliding_window", None) is None else "sliding_attention"]
    return takes and ("cache" in known or "past_key_values" in known) and set(kinds) == {"full_attention"}


def _passes(n_past: Sequence[int], n_new: Sequence[int]) -> list[list[int]]:
    """Cut users into passes, each of similar numbers of new items, so that padding and passes cost least."""
    rows = sorted(range(len(n_new)), key=lambda row: (n_new[row], n_past[row]))
    cost, begins = [0.0], [0]  # of the first so many rows; where their last pass begins
    for end in range(1, len(rows) + 1):
        widest = n_new[rows[end - 1]]
        options = [cost[begin] + _PASS_ITEMS + (end - begin) * widest for begin in range(end)]
        begins.append(min(range(end), key=options.__getitem__))
        cost.append(options[begins[-1]])
    passes, end = [], len(rows)
    while end:
        passes.append(rows[begins[end] : end])
        end = begins[end]
    return passes


def _side_by_side(pasts: Sequence[ReadItems | None], longest: int) -> Tensor:
    """Keys and values of all users, zeros on the left: ``[layers, 2, rows, heads, longest, head_width]``."""
    like = next(past.parts[0] for past in pasts if past is not None)
    layers, two, heads, _, width = like.shape
    together = like.new_zeros(layers, two, len(pasts), heads, longest, width)
    for row, past in enumerate(pasts):
        if past is not None:
            begin = longest - len(past.items)
            for part in past.parts:
                together[:, :, row, :, begin : begin + part.shape[3]] = part
                begin += part.shape[3]
    return together


def _grown(past: ReadItems | None, new: NDArray[np.int64], part: Tensor) -> ReadItems:
    part = part.clone()  # of its own: a view would hold on to the whole batch
    if past is None:
        return ReadItems(new, (part,))
    parts = (*past.parts, part)
    if len(parts) > _MAX_PARTS:
        parts = (torch.cat(parts, dim=3),)
    return ReadItems(np.concatenate([past.items, new]), parts)
