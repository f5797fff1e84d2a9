"""A frozen language model that reads and judges text: token log-probabilities, with a cache of prompts."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailwise.errors import ConfigError
from tailwise.recommenders._cache_argument import cache_argument
from tailwise.recommenders._language_model import (
    choose_dtype,
    config_of_depth,
    fingerprint,
    quiet_transformers,
    use_float32_head,
)

__all__ = ["Decoding", "Prefix", "TextModel"]

_TOKENS_PER_PASS = 512  # bounds memory: logits are [tokens, vocabulary]


@dataclass(frozen=True, eq=False)
class Prefix:
    """A prompt that the model has read once.

    Attributes:
        ids: Its tokens.
        cache: Keys and values of one row. Never changed: whoever goes on copies it.
        log_probabilities: ``[vocabulary]`` float32 on the CPU, of the token that follows.
    """

    ids: tuple[int, ...]
    cache: Any
    log_probabilities: Tensor


class TextModel:
    """A causal language model with its head, frozen, from a local folder.

    The tokenizer is read at once; the weights at the first call that needs them, so that
    results from a cache cost no loading.

    Args:
        folder: From :func:`resolve_language_model`.
        device: Where to run; the CPU by default.
        dtype: Of the weights. None: bfloat16 where the processor is fast at it
            (:func:`choose_dtype`). The head and softmaxes are float32 always: bfloat16 rounds
            logits near 20 to steps of 0.1, which is more than many differences in question.
        depth: Keep the first ``depth`` layers; None keeps all.

    Raises:
        ConfigError: ``depth`` is not between 1 and the model's number of layers.

    Example (``smollm2`` is a folder)::

        model = TextModel(smollm2)
        prompt = model.prefix([model.start, *model.tokenize("A film:")])
        (star, wars), = model.log_probabilities(prompt, [model.tokenize(" Star Wars")])
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        depth: int | None = None,
    ) -> None:
        from transformers import AutoTokenizer

        self.folder = folder
        self.device = torch.device(device or "cpu")
        self.dtype = dtype or choose_dtype("auto", self.device)
        self.depth = depth
        self._config = config_of_depth(folder, depth)
        with quiet_transformers():
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
        starts = (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id, self._tokenizer.pad_token_id, 0)
        self.start: int = next(token for token in starts if token is not None)

    @cached_property
    def fingerprint(self) -> str:
        """Of the folder's content; 16 hex digits."""
        return fingerprint(self.folder)

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModelForCausalLM

        with quiet_transformers():
            model = AutoModelForCausalLM.from_pretrained(self.folder, config=self._config, dtype=self.dtype)
        use_float32_head(model)
        return model.requires_grad_(False).to(self.device).eval()

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of a text, without special ones."""
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)

    def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of tokens."""
        return str(self._tokenizer.decode(list(ids)))

    @cached_property
    def n_words(self) -> int:
        """The first number beyond the tokenizer's vocabulary, so no token has it."""
        return 1 + int(max(self._tokenizer.get_vocab().values()))

    @cached_property
    def _words(self) -> list[str]:
        """The text of every token."""
        return list(self._tokenizer.batch_decode([[token] for token in range(self.n_words)]))

    @property
    def end(self) -> int | None:
        """The token that ends all text; None where the tokenizer has none."""
        token: int | None = self._tokenizer.eos_token_id
        return token

    def closing(self, mark: str) -> list[int]:
        """Return the tokens that end what ``mark`` closes, such as a line or a quotation.

        Those that begin with the mark, or with spaces and commas or full stops and then it; and
        the one that ends all text, where there is one.

        Raises:
            ConfigError: the tokenizer has none of these.
        """
        tokens = {token for token, word in enumerate(self._words) if word.lstrip(" \t\r,.").startswith(mark)}
        tokens |= {self._tokenizer.eos_token_id} - {None}
        if not tokens:
            raise ConfigError(
                f"model must have a token that begins with {mark!r}, or one that ends texts; "
                f"{self.folder.name} has neither. Take another language model."
            )
        return sorted(tokens)

    @property
    def has_chat_template(self) -> bool:
        """Whether the model was tuned to answer messages."""
        return self._tokenizer.chat_template is not None

    def chat(self, message: str) -> list[int]:
        """Return the tokens of a user's message up to where the answer begins.

        Raises:
            ConfigError: the model has no chat template.
        """
        if not self.has_chat_template:
            raise ConfigError(
                f"model must have a chat template; {self.folder.name} has none. Prompt it with plain text."
            )
        messages = [{"role": "user", "content": message}]
        return self.tokenize(
            self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        )

    @torch.no_grad()
    def prefix(self, ids: Sequence[int]) -> Prefix:
        """Read a prompt once.

        Args:
            ids: One token or more; begin with :attr:`start`, which carries the huge activation
                that models dump on whatever comes first.

        Raises:
            ValueError: ``ids`` is empty.
        """
        if not ids:
            raise ValueError("ids must hold one token or more; got none.\n  Begin with model.start.")
        from transformers import DynamicCache

        cache = DynamicCache(config=self._model.config)
        logits = self._logits(torch.tensor([list(ids)]), cache, keep=1)
        return Prefix(tuple(ids), cache, torch.log_softmax(logits[0, -1].float(), dim=-1).cpu())

    def log_probabilities(
        self, prefix: Prefix, continuations: Sequence[Sequence[int]]
    ) -> list[NDArray[np.float32]]:
        """Give log p(token | prefix, earlier tokens) of every token of every continuation.

        Continuations of similar length go through the model together, padded on the right,
        where attention cannot see it.

        Returns:
            An array ``[n_tokens]`` per continuation, in the order given; empty for an empty one.
        """
        found: list[NDArray[np.float32]] = [np.zeros(0, dtype=np.float32) for _ in continuations]
        n_read = [max(len(ids) - 1, 0) for ids in continuations]  # the last token is only predicted
        first = prefix.log_probabilities
        for rows in _batches(n_read):
            longest = n_read[rows[-1]]
            begun = [first[continuations[row][:1]].numpy() for row in rows]
            rest = self._rest(prefix, [continuations[row] for row in rows], longest) if longest else None
            for i, row in enumerate(rows):
                later = rest[i, : n_read[row]] if rest is not None else np.zeros(0, dtype=np.float32)
                found[row] = np.concatenate([begun[i], later])
        return found

    @torch.no_grad()
    def _rest(self, prefix: Prefix, rows: list[Sequence[int]], longest: int) -> NDArray[np.float32]:
        """Log-probabilities of all tokens but the first: ``[rows, longest]``, padding included."""
        tokens = torch.full((len(rows), longest + 1), self.start)
        for i, ids in enumerate(rows):
            tokens[i, : len(ids)] = torch.tensor(list(ids), dtype=torch.long)
        logits = self._logits(tokens[:, :-1], _expanded(prefix.cache, len(rows)))  # [rows, longest, words]
        wanted = tokens[:, 1:].reshape(-1, 1).to(self.device)
        chosen = []
        # A few positions at a time in float32: small enough to stay in fast memory.
        for few, tokens_of_few in zip(
            torch.split(logits.flatten(0, 1), 32), torch.split(wanted, 32), strict=True
        ):
            exact = few.float()  # [32, words]
            chosen.append(exact.gather(1, tokens_of_few)[:, 0] - exact.logsumexp(dim=1))
        return np.asarray(torch.cat(chosen).view(len(rows), longest).cpu().numpy(), dtype=np.float32)

    @torch.no_grad()
    def next_log_probabilities(
        self, prompts: Sequence[Sequence[int]], *, prefix: Prefix | None = None
    ) -> Tensor:
        """Give the log-probabilities of the token after each prompt.

        Args:
            prompts: Tokens of each; one or more, of any lengths.
            prefix: Read before each of them; then the prompts go without :attr:`start`.

        Returns:
            ``[len(prompts), vocabulary]`` float32 on the CPU.

        Raises:
            ValueError: a prompt is empty.
        """
        lengths = [len(ids) for ids in prompts]
        if not prompts or min(lengths) < 1:
            raise ValueError(
                f"prompts must hold one token or more each; got lengths {lengths[:5]}.\n"
                "  Begin with model.start."
            )
        found = torch.empty(len(prompts), 0)
        for rows in _batches(lengths):
            tokens = torch.full((len(rows), lengths[rows[-1]]), self.start)
            for i, row in enumerate(rows):
                tokens[i, : lengths[row]] = torch.tensor(list(prompts[row]), dtype=torch.long)
            ends, which = np.unique([lengths[row] - 1 for row in rows], return_inverse=True)
            cache = None if prefix is None else _expanded(prefix.cache, len(rows))
            logits = self._logits(
                tokens, cache, keep=torch.from_numpy(ends).to(self.device)
            )  # [rows, ends, words]
            last = torch.log_softmax(logits[range(len(rows)), which.tolist()].float(), dim=-1).cpu()
            if not found.numel():
                found = torch.empty(len(prompts), last.shape[1])
            found[rows] = last
        return found

    def decoding(self, prefix: Prefix, n_rows: int) -> "Decoding":
        """Begin ``n_rows`` continuations of one prompt, to be fed a token at a time."""
        return Decoding(self, prefix, n_rows)

    def _logits(self, tokens: Tensor, cache: Any, *, keep: int | Tensor = 0, **inputs: Tensor) -> Tensor:
        """Run the model: ``[rows, kept positions, vocabulary]``. Grows the cache in place.

        ``inputs``: what else the model is to be given, such as ``position_ids``.
        """
        output = self._model(
            input_ids=tokens.to(self.device),
            use_cache=cache is not None,
            logits_to_keep=keep,
            **cache_argument(self._model, cache),
            **inputs,
        )
        logits: Tensor = output.logits
        return logits


class Decoding:
    """Continuations of one prompt, growing a token at a time.

    Attributes:
        log_probabilities: ``[n_rows, vocabulary]`` float32 on the CPU, of the token that follows
            each row.
    """

    def __init__(self, model: TextModel, prefix: Prefix, n_rows: int) -> None:
        self._model = model
        self._cache = _expanded(prefix.cache, n_rows)
        self.log_probabilities = prefix.log_probabilities.expand(n_rows, -1)

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order; a row may be named twice."""
        index = torch.tensor(list(rows))
        self._cache.batch_select_indices(index.to(self._model.device))
        self.log_probabilities = self.log_probabilities[index]

    @torch.no_grad()
    def step(self, tokens: Sequence[int]) -> Tensor:
        """Add one token to each row; return :attr:`log_probabilities` of what follows."""
        if len(tokens) != len(self.log_probabilities):
            raise ValueError(
                f"tokens must be one per row, {len(self.log_probabilities)}; got {len(tokens)}.\n"
                "  Call select() first where rows have ended."
            )
        logits = self._model._logits(torch.tensor(tokens)[:, None], self._cache, keep=1)
        self.log_probabilities = torch.log_softmax(logits[:, -1].float(), dim=-1).cpu()
        return self.log_probabilities


def _expanded(cache: Any, n_rows: int) -> Any:
    """Copy a cache of one row into one of ``n_rows``."""
    grown = copy.deepcopy(cache)
    grown.batch_repeat_interleave(n_rows)
    return grown


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield positions, shortest first, in groups whose padded tokens stay within one pass."""
    group: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if group and (len(group) + 1) * lengths[row] > _TOKENS_PER_PASS:
            yield group
            group = []
        group.append(row)
    if group:
        yield group
