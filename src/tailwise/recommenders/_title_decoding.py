"""What a language model would say next, among the titles of a catalogue and nothing else."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from tailwise.recommenders._title_trie import TitleTrie

__all__ = ["TitleDecoder", "TitleLists"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TitleLists:
    """The best titles for each prompt.

    Attributes:
        items: ``[rows, k]`` int64; best first, equal scores by item; no item twice in a row.
        scores: ``[rows, k]`` float64; what they are ordered by.
    """

    items: Ints
    scores: Floats


class TitleDecoder:
    """Scores and searches the titles of a catalogue by a causal language model.

    A title's log-likelihood after a prompt is the sum over its tokens and over the ``terminator`` that
    ends it, each given everything before: so a title that begins another one is told apart from it.
    Its score is that sum; or the mean over the same tokens (``per_token``); minus the item's
    ``penalties``, where they are given. Items of equal titles have equal likelihoods.

    A prompt is read once, whatever is asked of it: a mask shows each token of a title its own past, so
    keys and values are never copied.

    Args:
        model: ``transformers`` causal language model, adapters included; in evaluation mode, or what
            it drops out is missed. Its layers are of attention and take a mask of four dimensions.
        trie: Of the titles, tokenised as they follow a prompt.
        terminator: The token that the model says after a title, such as a line feed or its end of text.
        tokens_at_once: Read in one pass, prompts aside, over all rows; bounds memory (``logits`` are
            ``[tokens, vocabulary]``), >= 1.

    Raises:
        ValueError: ``terminator`` is not in the model's vocabulary, or ``tokens_at_once`` < 1.
    """

    def __init__(self, model: Any, trie: TitleTrie, *, terminator: int, tokens_at_once: int = 1024) -> None:
        n_words = int(model.config.vocab_size)
        if not 0 <= terminator < n_words:
            raise ValueError(
                f"terminator must be a token of the model, in 0..{n_words - 1}; got {terminator}.\n"
                "  Take the one that ended titles in training."
            )
        if tokens_at_once < 1:
            raise ValueError(f"tokens_at_once must be >= 1; got {tokens_at_once}.")
        self.trie = trie
        self._model = model
        self._tokens_at_once = tokens_at_once
        spoken = trie.tokens.copy()
        spoken[spoken == trie.end_token] = terminator
        self._spoken: Ints = spoken  # by node; the root's -1 is never said
        self._depths = _depths(trie)
        self._leaf_of = _leaves(trie)

    def scores(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        candidates: Sequence[ArrayLike] | None = None,
        per_token: bool = False,
        penalties: ArrayLike | None = None,
    ) -> NDArray[np.float32]:
        """Score every item's title after every prompt: exactly, at the price of reading every title.

        What titles begin with is read once for all that begin so (but for some at the edges of passes).

        Args:
            prompts: Tokens, one or more each.
            candidates: Items of each row to score, such as another recommender's best; None: all.
            per_token: The mean over a title's tokens in place of the sum.
            penalties: ``[n_items]`` finite; subtracted from each item's score.

        Returns:
            ``[rows, n_items]`` float32; -inf for those that are no candidates.

        Raises:
            ValueError: a prompt is empty, or an argument does not fit the catalogue.
        """
        _check_prompts(prompts)
        penalty = self._checked_penalties(penalties)
        found = np.full((len(prompts), self.trie.n_items), -np.inf)
        if candidates is not None:
            if len(candidates) != len(prompts):
                raise ValueError(f"candidates must have {len(prompts)} rows; got {len(candidates)}.")
            for row, items in enumerate(candidates):
                chosen = self._checked_items(items, row)
                if chosen.size:
                    found[row, chosen] = self._read_titles([prompts[row]], chosen, per_token)[0]
        else:
            everything = self.trie.items
            rows_at_once = max(1, self._tokens_at_once // 256)
            for begin in range(0, len(prompts), rows_at_once):
                rows = slice(begin, begin + rows_at_once)
                found[rows, everything] = self._read_titles(prompts[rows], everything, per_token)
        return (found - penalty).astype(np.float32)

    def beam_search(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        excluded: Sequence[ArrayLike] | None = None,
        k: int,
        width: int,
        per_token: bool = False,
        penalties: ArrayLike | None = None,
    ) -> TitleLists:
        """Search the best titles after every prompt, ``width`` beginnings at a time.

        Only items that a row does not exclude can be said, so every list is valid and of full length: each
        beginning that is kept has an allowed item below it. Token by token the ``width`` most
        likely beginnings (finished titles among them) are kept. As wide as there are titles, the search is
        exact. ``per_token`` and ``penalties`` order what was found; they do not steer the search.

        Args:
            prompts: Tokens, one or more each.
            excluded: Items of each row that must not be listed, such as those seen; None: none.
            k: Items per row, >= 1.
            width: Beginnings that are kept, >= k.
            per_token: The mean over a title's tokens in place of the sum.
            penalties: ``[n_items]`` finite; subtracted from each item's score.

        Raises:
            ValueError: a prompt is empty, ``width`` is below ``k``, an item does not exist, or a row
                allows fewer than ``k`` items.
        """
        _check_prompts(prompts)
        penalty = self._checked_penalties(penalties)
        if not 1 <= k <= width:
            raise ValueError(f"k must be in 1..width={width}; got {k}.\n  Widen the beam.")
        excluded = [()] * len(prompts) if excluded is None else excluded
        if len(excluded) != len(prompts):
            raise ValueError(f"excluded must have {len(prompts)} rows; got {len(excluded)}.")
        lists = TitleLists(
            np.empty((len(prompts), k), dtype=np.int64), np.empty((len(prompts), k), dtype=np.float64)
        )
        rows_at_once = max(1, self._tokens_at_once // width)
        for begin in range(0, len(prompts), rows_at_once):
            rows = slice(begin, begin + rows_at_once)
            self._search(
                prompts[rows],
                excluded[rows],
                TitleLists(lists.items[rows], lists.scores[rows]),
                width=width,
                per_token=per_token,
                penalty=penalty,
            )
        return lists

    # Every title

    def _read_titles(self, prompts: Sequence[Sequence[int]], items: Ints, per_token: bool) -> Floats:
        """Scores ``[rows, len(items)]`` without penalties."""
        reader = _Reader(self._model, prompts)
        wanted, back = np.unique(self._leaf_of[items], return_inverse=True)
        # In the order of titles' tokens: neighbours begin alike.
        order = np.argsort(self.trie._begins[wanted])
        totals = np.empty((len(prompts), wanted.size))
        for part in self._passes(wanted[order], len(prompts)):
            totals[:, order[part]] = self._read_leaves(reader, wanted[order[part]])
        lengths = self._depths[wanted] if per_token else 1
        return (totals / lengths)[:, back]

    def _passes(self, leaves: Ints, n_rows: int) -> Iterator[slice]:
        """Neighbouring leaves whose titles together have no more tokens than a pass may read."""
        most = max(1, self._tokens_at_once // n_rows)
        ends = np.cumsum(self._depths[leaves])
        begin = 0
        while begin < leaves.size:
            read = ends[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, read + most, side="right")))
            yield slice(begin, end)
            begin = end

    def _read_leaves(self, reader: "_Reader", leaves: Ints) -> Floats:
        """Log-likelihoods ``[rows, len(leaves)]`` of some titles, their beginnings read once."""
        path, above = [leaves], self.trie.parents[leaves]
        while above.size:
            above = np.unique(above[above > 0])
            path.append(above)
            above = self.trie.parents[above]
        read = np.unique(np.concatenate(path[1:]))  # ascending: a node comes after its parent
        # Slots of the call are the places in `read`; before the first is the prompt.
        nodes = np.concatenate([read, leaves])
        parents = self.trie.parents[nodes]
        before = np.where(parents > 0, np.searchsorted(read, parents), -1)
        shape = (reader.n_rows, read.size)
        logits = reader.read(
            np.broadcast_to(self._spoken[read], shape), np.broadcast_to(before[: read.size], shape)
        )
        said = reader.log_probabilities(logits, before, self._spoken[nodes])  # [rows, nodes]
        totals = said.copy()
        for depth in range(2, int(self._depths[nodes].max()) + 1):
            level = np.flatnonzero(self._depths[nodes] == depth)
            totals[:, level] += totals[:, before[level]]
        reader.forget()
        return totals[:, read.size :]

    # The best titles

    def _search(
        self,
        prompts: Sequence[Sequence[int]],
        excluded: Sequence[ArrayLike],
        lists: TitleLists,
        *,
        width: int,
        per_token: bool,
        penalty: Floats,
    ) -> None:
        reader = _Reader(self._model, prompts)
        allowed = self.trie.without(excluded)
        k = lists.items.shape[1]
        n_rows = len(prompts)
        n_allowed = allowed.n_below(np.arange(n_rows), np.zeros(n_rows, dtype=np.int64))
        if bool((n_allowed < k).any()):
            row = int(np.argmax(n_allowed < k))
            raise ValueError(
                f"k must be at most the number of items that a row allows; got {k} with {n_allowed[row]} in "
                f"row {row}.\n  Exclude fewer items, or ask for a shorter list."
            )
        # Beginnings that are open, and titles that are finished: row, node and log-likelihood of each.
        rows, nodes, totals = np.arange(n_rows), np.zeros(n_rows, dtype=np.int64), np.zeros(n_rows)
        slots = np.full(n_rows, -1, dtype=np.int64)
        done_rows, done_nodes, done_totals = rows[:0], nodes[:0], totals[:0]
        logits: Tensor | None = None
        places = np.zeros(n_rows, dtype=np.int64)
        while rows.size:
            found = allowed.children(rows, nodes)
            of = found.parents
            said = reader.log_probabilities_of(logits, rows[of], places[of], self._spoken[found.nodes])
            is_end = found.tokens == self.trie.end_token
            all_rows = np.concatenate([done_rows, rows[of]])
            all_nodes = np.concatenate([done_nodes, found.nodes])
            all_totals = np.concatenate([done_totals, totals[of] + said])
            all_done = np.concatenate([np.ones(done_rows.size, dtype=np.bool_), is_end])
            all_slots = np.concatenate([np.full(done_rows.size, -1), slots[of]])
            kept = _best_of_each_row(all_rows, all_totals, all_nodes, width)
            finished, opened = kept[all_done[kept]], kept[~all_done[kept]]
            done_rows, done_nodes, done_totals = all_rows[finished], all_nodes[finished], all_totals[finished]
            rows, nodes, totals = all_rows[opened], all_nodes[opened], all_totals[opened]
            if not rows.size:
                break
            # One token after each beginning, those of a row side by side.
            places = _places_in_rows(rows)
            tokens = np.full((n_rows, int(places.max()) + 1), -1, dtype=np.int64)
            after = np.full(tokens.shape, -1, dtype=np.int64)
            tokens[rows, places], after[rows, places] = self._spoken[nodes], all_slots[opened]
            slots = reader.n_slots + places
            logits = reader.read(tokens, after)
        which, items = allowed.items_below(done_rows, done_nodes)
        lengths = self._depths[done_nodes][which] if per_token else 1
        scores = done_totals[which] / lengths - penalty[items]
        best = _best_of_each_row(done_rows[which], scores, items, k)
        lists.items[:] = items[best].reshape(n_rows, k)
        lists.scores[:] = scores[best].reshape(n_rows, k)

    def _checked_penalties(self, penalties: ArrayLike | None) -> Floats:
        if penalties is None:
            return np.zeros(self.trie.n_items)
        given = np.asarray(penalties, dtype=np.float64)
        if given.shape != (self.trie.n_items,) or not bool(np.isfinite(given).all()):
            raise ValueError(
                f"penalties must be {self.trie.n_items} finite numbers, one per item; got shape "
                f"{given.shape}, {int((~np.isfinite(given)).sum())} of them not finite."
            )
        return given

    def _checked_items(self, items: ArrayLike, row: int) -> Ints:
        chosen = np.unique(np.asarray(items).astype(np.int64))
        if chosen.size and not 0 <= chosen[0] <= chosen[-1] < self.trie.n_items:
            raise ValueError(
                f"candidates must be items in 0..{self.trie.n_items - 1}; got "
                f"{chosen[0] if chosen[0] < 0 else chosen[-1]} in row {row}."
            )
        return chosen


class _Reader:
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
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
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
            past_key_values=self._cache,
            use_cache=True,
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


def _best_of_each_row(rows: Ints, scores: Floats, ties: Ints, n: int) -> Ints:
    """Positions of the ``n`` highest scores of each row, row by row, best first; equal ones by ``ties``."""
    order = np.lexsort((ties, -scores, rows))
    return order[_places_in_rows(rows[order]) < n]


def _places_in_rows(rows: Ints) -> Ints:
    """0, 1, 2, ... within each row; rows ascend."""
    starts = np.searchsorted(rows, rows)
    return np.arange(rows.size) - starts


def _depths(trie: TitleTrie) -> Ints:
    """Tokens from the root to each node, the end of a title included; nodes are numbered level by level."""
    depths = np.zeros(trie.n_nodes, dtype=np.int64)
    begin, end = 0, 1
    while end < trie.n_nodes:
        children = np.searchsorted(trie.parents[1:], np.arange(begin, end + 1)) + 1
        depths[children[0] : children[-1]] = depths[begin] + 1
        begin, end = int(children[0]), int(children[-1])
    return depths


def _leaves(trie: TitleTrie) -> Ints:
    """The leaf of each item, ``[n_items]``."""
    leaves = np.flatnonzero(trie.is_leaf(np.arange(trie.n_nodes)))
    leaves = leaves[np.argsort(trie._begins[leaves])]
    of_items = np.empty(trie.n_items, dtype=np.int64)
    of_items[trie.items] = np.repeat(leaves, trie.n_below(leaves))
    return of_items


def _check_prompts(prompts: Sequence[Sequence[int]]) -> None:
    empty = [row for row, prompt in enumerate(prompts) if not len(prompt)]
    if empty or not prompts:
        what = f"an empty one in row {empty[0]}" if empty else "no prompt"
        raise ValueError(
            f"prompts must hold a token or more each; got {what}.\n  Begin with the model's start."
        )
