"""Histories as text: an instruction, then one title per line; every line a completion to learn from."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tailwise.errors import ConfigError, DataError
from tailwise.recommenders._protocol import History
from tailwise.recommenders._sequences import (
    checked_weights,
    deal,
    draw_histories,
    pad_right,
    with_targets,
)
from tailwise.recommenders._text_model import TextModel

__all__ = ["LAYOUTS", "TitleBatch", "TitleBatches", "TitlePrompts", "TitleWindow", "write_prompts"]

LAYOUTS = ("packed", "per-target")


@dataclass(frozen=True)
class TitleBatch:
    """Rows of text, padded on the right; causal models never look there.

    Attributes:
        tokens: ``[rows, positions]`` int64; 0 as padding.
        owners: ``[rows, positions]`` int64; column of ``targets`` whose title the token belongs to, -1
            for what is only read: instruction, earlier titles, padding.
        targets: ``[rows, columns]`` int64; items whose titles are learned, in their order in the text;
            -1 where a row has fewer.
    """

    tokens: Tensor
    owners: Tensor
    targets: Tensor

    def rows(self, rows: Tensor) -> "TitleBatch":
        """Return the part of the batch that holds ``rows`` (int64 positions)."""
        if len(rows) == len(self.tokens):
            return self
        return replace(self, tokens=self.tokens[rows], owners=self.owners[rows], targets=self.targets[rows])

    def part(self, rows: slice) -> "TitleBatch":
        """Return the part of the batch that holds consecutive rows."""
        return replace(self, tokens=self.tokens[rows], owners=self.owners[rows], targets=self.targets[rows])

    def to(self, device: torch.device) -> "TitleBatch":
        """Return the batch on ``device``."""
        return TitleBatch(self.tokens.to(device), self.owners.to(device), self.targets.to(device))

    @property
    def n_targets(self) -> int:
        """Number of titles that are learned."""
        return int((self.targets >= 0).sum())


@dataclass(frozen=True, eq=False)
class TitleWindow:
    """Neighbouring items of a history that make one row.

    Attributes:
        items: ``[n]`` int64, oldest first.
        n_context: The first so many are only read; the others are targets. In 0..n.
    """

    items: np.ndarray
    n_context: int

    @property
    def targets(self) -> np.ndarray:
        """Items whose titles are learned."""
        return self.items[self.n_context :]


class TitlePrompts:
    """A catalogue's titles as tokens, and how prompts and rows for training are put together of them.

    A prompt is the instruction and, line by line, the titles of a history; its completion is the
    next title and the end of its line. So a history's text holds, for each of its titles, that
    title's prompt word for word as the beginning of itself: a causal model that reads the text
    once gives the loss of every title in it, the same as if each came with a prompt of its own.

    A text begins late enough for its longest possible completion to fit, and always with a whole
    title.

    Args:
        prefix: Tokens before the first title, one or more.
        titles: One title per item, as tokens.
        end_token: Ends a title; in no title.
        max_tokens: Of a prompt with its completion, at most.

    Raises:
        DataError: a title has no token, or holds ``end_token``.
        ConfigError: ``max_tokens`` has no room for two of the longest titles.

    Example:
        >>> prompts = TitlePrompts([7], [[1], [2, 3], [4]], end_token=9, max_tokens=10)
        >>> prompts.prompt([0, 1])
        [7, 1, 9, 2, 3, 9]
        >>> prompts.prompt([0, 1, 2])  # a title of the longest size and its end must still fit
        [7, 2, 3, 9, 4, 9]
    """

    def __init__(
        self, prefix: Sequence[int], titles: Sequence[Sequence[int]], end_token: int, *, max_tokens: int
    ) -> None:
        _check_titles(titles, end_token)
        self.prefix = [int(token) for token in prefix]
        self.titles = [[int(token) for token in title] for title in titles]
        self.end_token = end_token
        self.max_tokens = max_tokens
        self._lines = [np.array([*title, end_token], dtype=np.int64) for title in self.titles]
        self._lengths = np.array([line.size for line in self._lines])  # [n_items], ends included
        self._room = max_tokens - len(self.prefix)  # for lines
        self._longest = int(self._lengths.max())
        if self._room < 2 * self._longest:
            raise ConfigError(
                f"title.max_tokens must have room for the instruction ({len(self.prefix)} tokens) and two of "
                f"the longest titles ({self._longest} tokens with their ends); got {max_tokens}.\n"
                f"  Take {len(self.prefix) + 2 * self._longest} or more, or a smaller title.max_title_tokens."
            )

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return len(self.titles)

    @property
    def history_tokens(self) -> int:
        """Tokens that the titles of a history may take, their ends included, in a prompt."""
        return self._room - self._longest

    def digest(self) -> str:
        """SHA-256 of all that texts are made of."""
        lines = np.concatenate([self.prefix, *self._lines, [self.end_token, self.max_tokens]])
        return hashlib.sha256(lines.astype("<i8").tobytes()).hexdigest()

    def recent(self, history: History) -> np.ndarray:
        """Return the most recent items of a history that a prompt has room for, oldest first."""
        items = np.asarray(history, dtype=np.int64)
        from_the_end = np.cumsum(self._lengths[items[::-1]])
        n = int(np.searchsorted(from_the_end, self.history_tokens, side="right"))
        return items[items.size - n :]

    def prompt(self, history: History) -> list[int]:
        """Return the tokens that the next title follows."""
        return [int(token) for token in self._text(self.recent(history))]

    def n_tokens(self, window: TitleWindow) -> int:
        """Count a row's tokens that are read: all but the last, which is only predicted."""
        return len(self.prefix) + int(self._lengths[window.items].sum()) - 1

    def packed(self, history: np.ndarray, rng: np.random.Generator) -> Iterator[TitleWindow]:
        """Cut a history into rows that learn all their titles but the first.

        A history that fits is one row. Of a longer one each target is in exactly one row, a row after the
        first begins with the last title of the one before, and where the first one ends is drawn.
        """
        ends = np.concatenate([[0], np.cumsum(self._lengths[history])])  # of the lines, in tokens
        start, last = 0, history.size - 1
        while start < last:
            stop = int(np.searchsorted(ends, ends[start] + self._room, side="right")) - 2  # last that fits
            if start == 0 and stop < last:
                stop = int(rng.integers(1, stop + 1))
            yield TitleWindow(history[start : stop + 1], n_context=1)
            start = stop

    def per_target(self, history: np.ndarray) -> Iterator[TitleWindow]:
        """Give every item but the first a row of its own, behind its prompt."""
        for place in range(1, history.size):
            context = self.recent(history[:place])
            yield TitleWindow(np.append(context, history[place]), n_context=context.size)

    def batch(self, windows: Sequence[TitleWindow]) -> TitleBatch:
        """Put rows side by side."""
        owners = []
        for window in windows:
            column = np.arange(window.items.size) - window.n_context  # of each line; below 0 for context
            of_lines = np.repeat(column.clip(-1), self._lengths[window.items])
            owners.append(np.concatenate([np.full(len(self.prefix), -1), of_lines]))
        return TitleBatch(
            pad_right([self._text(window.items) for window in windows], fill=0),
            pad_right(owners, fill=-1),
            pad_right([window.targets for window in windows], fill=-1),
        )

    def _text(self, items: np.ndarray) -> np.ndarray:
        return np.concatenate([np.array(self.prefix, dtype=np.int64), *(self._lines[i] for i in items)])


class TitleBatches:
    """Deals a log's histories out as text, in batches of rows of similar length.

    As :class:`SequenceBatches` otherwise: everything drawn is a function of ``(seed, epoch)``, and
    ``history_weights`` re-sample histories.

    Args:
        histories: One per user; item indices, oldest first. Histories of fewer than two items
            hold no target and are left out.
        prompts: Of the catalogue.
        layout: ``packed``: a row learns every title in it but the first; ``per-target``: every target
            has a row of its own, with the whole prompt before it.
        positions_per_batch: Tokens of a batch at most, padding included; >= the prompts' ``max_tokens``.
        seed: Of cuts, order and re-sampling.
        history_weights: ``[len(histories)]``, of mean 1 over those that hold a target. None takes each
            history once.

    Raises:
        ValueError: an argument is out of range, or no history holds a target.
    """

    def __init__(
        self,
        histories: Sequence[np.ndarray],
        prompts: TitlePrompts,
        *,
        layout: str,
        positions_per_batch: int,
        seed: int,
        history_weights: np.ndarray | None = None,
    ) -> None:
        if layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}; got {layout!r}.")
        if positions_per_batch < prompts.max_tokens:
            raise ValueError(
                f"positions_per_batch must be at least the prompts' max_tokens ({prompts.max_tokens}); got "
                f"{positions_per_batch}."
            )
        self._histories = with_targets(histories)
        self._weights = None if history_weights is None else checked_weights(history_weights, histories)
        self._prompts = prompts
        self._layout = layout
        self._positions_per_batch = positions_per_batch
        self._seed = seed

    @property
    def n_targets(self) -> int:
        """Number of targets of an epoch that takes each history once."""
        return sum(len(h) - 1 for h in self._histories)

    def epoch(self, epoch: int) -> list[TitleBatch]:
        """Return the batches of one epoch, in their order."""
        rng = np.random.default_rng([self._seed, epoch])
        drawn = draw_histories(self._histories, self._weights, rng)
        windows = [window for history in drawn for window in self._windows(history, rng)]
        lengths = np.array([self._prompts.n_tokens(window) for window in windows])
        return deal(
            windows, lengths, self._prompts.batch, positions_per_batch=self._positions_per_batch, rng=rng
        )

    def _windows(self, history: np.ndarray, rng: np.random.Generator) -> Iterator[TitleWindow]:
        if self._layout == "packed":
            return self._prompts.packed(history, rng)
        return self._prompts.per_target(history)


def write_prompts(
    model: TextModel,
    titles: Sequence[str],
    *,
    instruction: str,
    template: str,
    max_title_tokens: int,
    max_tokens: int,
) -> TitlePrompts:
    """Turn an instruction and a catalogue's titles into tokens.

    A line ends by the tokenizer's line break where that is a single token of its own, else by
    the token that ends texts. Line breaks and runs of blanks within a title become one blank.

    Args:
        model: Its tokenizer is used, not its weights.
        titles: One per item.
        instruction: What the list of titles is.
        template: ``plain``: the instruction is the first line. ``chat``: it is a user's message, and the
            titles are the answer, in the model's chat template.
        max_title_tokens: A title's further tokens are cut off; items that then read alike are scored
            alike.
        max_tokens: Of a prompt with its completion, at most.

    Raises:
        ConfigError: the model has no chat template, or nothing that ends a line; ``max_tokens`` is too
            small; ``template`` is unknown.
        DataError: a title has no token.
    """
    end = _end_token(model)
    if template == "chat":
        prefix = model.chat(instruction)
    elif template == "plain":
        prefix = [model.start, *model.tokenize(instruction), end]
    else:
        raise ConfigError(f"title.template must be plain or chat; got {template!r}.")
    tokens = [model.tokenize(" ".join(title.split()))[:max_title_tokens] for title in titles]
    return TitlePrompts(prefix, tokens, end, max_tokens=max_tokens)


def _end_token(model: TextModel) -> int:
    line_break = model.tokenize("\n")
    if len(line_break) == 1 and model.detokenize(line_break) == "\n":
        return line_break[0]
    if model.end is None:
        raise ConfigError(
            f"model must have a token for a line break or one that ends texts; {model.folder.name} has "
            "neither. Take another language model."
        )
    return model.end


def _check_titles(titles: Sequence[Sequence[int]], end_token: int) -> None:
    empty = [item for item, title in enumerate(titles) if not len(title)]
    if empty or not titles:
        raise DataError(
            f"titles must hold a token or more each; got {len(empty):,} without one among {len(titles):,} "
            f"(first: items {empty[:5]}).\n  Give these items a title, or leave them out of the catalogue."
        )
    wrong = [item for item, title in enumerate(titles) if end_token in title]
    if wrong:
        raise DataError(
            f"titles must not hold the token that ends them ({end_token}); got {len(wrong):,} that do "
            f"(first: item {wrong[0]}).\n  Take such marks out of the titles."
        )
