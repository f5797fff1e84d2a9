"""What a language model would say next, among the titles of a catalogue and nothing else."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailwise.recommenders._prompt_reader import PromptReader
from tailwise.recommenders._title_trie import AllowedItems, TitleTrie

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
        self._leaf_of = trie.leaves()

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
        likely unfinished titles go on, and finished ones are kept, until no title could join the ``k`` most
        likely finished ones (the ``width`` most likely, where lists are ordered by anything but the sum). As
        wide as there are titles, the search is exact. ``per_token`` and ``penalties`` order what was
        found; they do not steer the search.

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
        excluded = _checked_excluded(excluded, len(prompts))
        # By the sum alone, what is behind k finished titles is in no list of k.
        n_wanted = width if per_token or penalties is not None else k
        lists = TitleLists(
            np.empty((len(prompts), k), dtype=np.int64), np.empty((len(prompts), k), dtype=np.float64)
        )
        for rows in self._parts(len(prompts), width):
            allowed = self.trie.without(excluded[rows])
            _check_enough(allowed, len(prompts[rows]), k)
            found, _ = self._search(prompts[rows], allowed, width, n_wanted=n_wanted)
            which, items, scores = self._scored(found, allowed, per_token, penalty)
            best = _best_of_each_row(which, scores, items, k)
            lists.items[rows] = items[best].reshape(-1, k)
            lists.scores[rows] = scores[best].reshape(-1, k)
        return lists

    def beam_scores(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        excluded: Sequence[ArrayLike] | None = None,
        width: int,
        per_token: bool = False,
        penalties: ArrayLike | None = None,
    ) -> NDArray[np.float32]:
        """Score every item, exactly what :meth:`beam_search` finds, and the others behind.

        A title that was not found is judged by as much of it as was read, in the same manner, and then
        moved behind all that were found. So the order from the first of them on is a guess.

        Args:
            prompts: Tokens, one or more each.
            excluded: Items of each row that make room for others; a row may exclude all. None: none.
            width: Beginnings that are kept, >= 1.
            per_token: The mean over a title's tokens in place of the sum.
            penalties: ``[n_items]`` finite; subtracted from each item's score.

        Returns:
            ``[rows, n_items]`` float32; -inf for excluded items.

        Raises:
            ValueError: a prompt is empty, ``width`` < 1, or an item does not exist.
        """
        _check_prompts(prompts)
        penalty = self._checked_penalties(penalties)
        if width < 1:
            raise ValueError(f"width must be >= 1; got {width}.")
        excluded = _checked_excluded(excluded, len(prompts))
        scores = np.full((len(prompts), self.trie.n_items), -np.inf, dtype=np.float32)
        # A row that excludes everything has nothing to say.
        searched = [r for r, items in enumerate(excluded) if np.unique(items).size < self.trie.n_items]
        for part in self._parts(len(searched), width):
            rows = searched[part]
            allowed = self.trie.without([excluded[row] for row in rows])
            found, missed = self._search([prompts[row] for row in rows], allowed, width, n_wanted=width)
            which, items, guesses = self._scored(missed, allowed, per_token, penalty)
            behind = np.full((len(rows), self.trie.n_items), -np.inf)
            behind[which, items] = guesses
            which, items, measured = self._scored(found, allowed, per_token, penalty)
            worst = np.full(len(rows), np.inf)
            np.minimum.at(worst, which, measured)
            behind -= np.maximum(behind.max(axis=1) - worst, 0)[:, None] + 1
            behind[which, items] = measured
            scores[rows] = behind
        return scores

    def _parts(self, n_rows: int, width: int) -> Iterator[slice]:
        """Neighbouring rows that are searched side by side."""
        at_once = max(1, self._tokens_at_once // width)
        return (slice(begin, begin + at_once) for begin in range(0, n_rows, at_once))

    # Every title

    def _read_titles(self, prompts: Sequence[Sequence[int]], items: Ints, per_token: bool) -> Floats:
        """Scores ``[rows, len(items)]`` without penalties."""
        reader = PromptReader(self._model, prompts)
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

    def _read_leaves(self, reader: PromptReader, leaves: Ints) -> Floats:
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
        self, prompts: Sequence[Sequence[int]], allowed: AllowedItems, width: int, *, n_wanted: int
    ) -> tuple["_Beginnings", "_Beginnings"]:
        """Titles that were found, and beginnings of all others as far as they were read.

        A beginning goes on as long as it could become one of the ``n_wanted`` best.
        """
        reader = PromptReader(self._model, prompts)
        n_rows = len(prompts)
        found, missed = [], []
        best_found = np.full((n_rows, n_wanted), -np.inf)  # of each row, descending
        # Beginnings that are open, the slot of each one's last token and its place among its row's.
        now = _Beginnings(np.arange(n_rows), np.zeros(n_rows, dtype=np.int64), np.zeros(n_rows))
        slots, places = np.full(n_rows, -1), np.zeros(n_rows, dtype=np.int64)
        logits: Any = None
        while now.rows.size:
            out = allowed.children(now.rows, now.nodes)
            of = out.parents
            said = reader.log_probabilities_of(logits, now.rows[of], places[of], self._spoken[out.nodes])
            grown = _Beginnings(now.rows[of], out.nodes, now.totals[of] + said)
            is_end = out.tokens == self.trie.end_token
            ended = grown.at(np.flatnonzero(is_end))
            found.append(ended)
            for row, total in zip(ended.rows, ended.totals, strict=True):
                best_found[row, -1] = max(best_found[row, -1], total)
                best_found[row] = -np.sort(-best_found[row])
            # A title only loses by going on: behind ``n_wanted`` finished ones it stays.
            is_open = np.flatnonzero(~is_end & (grown.totals > best_found[grown.rows, -1]))
            going = grown.at(is_open)
            kept = is_open[_best_of_each_row(going.rows, going.totals, going.nodes, width)]
            missed.append(grown.at(np.setdiff1d(np.flatnonzero(~is_end), kept)))
            now, slots = grown.at(kept), slots[of][kept]
            if not kept.size:
                break
            # One token after each beginning, those of a row side by side.
            places = _places_in_rows(now.rows)
            tokens = np.full((n_rows, int(places.max()) + 1), -1, dtype=np.int64)
            after = np.full(tokens.shape, -1, dtype=np.int64)
            tokens[now.rows, places], after[now.rows, places] = self._spoken[now.nodes], slots
            slots = reader.n_slots + places
            logits = reader.read(tokens, after)
        return _joined(found), _joined(missed)

    def _scored(
        self, of: "_Beginnings", allowed: AllowedItems, per_token: bool, penalty: Floats
    ) -> tuple[Ints, Ints, Floats]:
        """Row, item and score of every allowed item below some beginnings, rows ascending."""
        which, items = allowed.items_below(of.rows, of.nodes)
        lengths = self._depths[of.nodes][which] if per_token else 1
        scores = of.totals[which] / lengths - penalty[items]
        order = np.argsort(of.rows[which], kind="stable")
        return of.rows[which][order], items[order], scores[order]

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


@dataclass(frozen=True, eq=False)
class _Beginnings:
    """Beginnings of titles, whole ones among them: row, node and log-likelihood of each."""

    rows: Ints
    nodes: Ints
    totals: Floats

    def at(self, places: Ints) -> "_Beginnings":
        return _Beginnings(self.rows[places], self.nodes[places], self.totals[places])


def _joined(parts: Sequence[_Beginnings]) -> _Beginnings:
    return _Beginnings(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.nodes for part in parts]),
        np.concatenate([part.totals for part in parts]),
    )


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


def _checked_excluded(excluded: Sequence[ArrayLike] | None, n_rows: int) -> Sequence[ArrayLike]:
    given = [()] * n_rows if excluded is None else excluded
    if len(given) != n_rows:
        raise ValueError(f"excluded must have {n_rows} rows; got {len(given)}.")
    return given


def _check_enough(allowed: AllowedItems, n_rows: int, k: int) -> None:
    n_allowed = allowed.n_below(np.arange(n_rows), np.zeros(n_rows, dtype=np.int64))
    if bool((n_allowed < k).any()):
        row = int(np.argmax(n_allowed < k))
        raise ValueError(
            f"k must be at most the number of items that a row allows; got {k} with {n_allowed[row]} in "
            f"row {row}.\n  Exclude fewer items, or ask for a shorter list."
        )


def _check_prompts(prompts: Sequence[Sequence[int]]) -> None:
    empty = [row for row, prompt in enumerate(prompts) if not len(prompt)]
    if empty or not prompts:
        what = f"an empty one in row {empty[0]}" if empty else "no prompt"
        raise ValueError(
            f"prompts must hold a token or more each; got {what}.\n  Begin with the model's start."
        )
