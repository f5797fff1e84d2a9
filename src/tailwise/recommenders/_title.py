"""The title recommender: a language model reads titles and says the next one."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailwise.errors import ConfigError
from tailwise.optim import whole
from tailwise.recommenders._head_loss import frozen_head_losses
from tailwise.recommenders._negatives import NegativeSampler
from tailwise.recommenders._protocol import History
from tailwise.recommenders._title_decoding import TitleDecoder
from tailwise.recommenders._title_prompts import LAYOUTS, TitleBatch, TitleBatches, TitlePrompts
from tailwise.recommenders._title_trie import TitleTrie

__all__ = ["REFUSED_NEGATIVES", "REFUSED_OFFSETS", "RescoredTitles", "TitleConfig", "TitleRecommender"]

_TEMPLATES = ("plain", "chat")
_REDUCTIONS = ("sum", "mean")
_SCORINGS = ("exact", "beam")

REFUSED_OFFSETS = (
    "logit_adjustment must be 0 for the title recommender, whose softmaxes are over the words of a "
    "vocabulary: there is no score of an item to add to; got {}. Re-weight targets (reweighting) or "
    "re-sample histories (resampling) instead."
)
REFUSED_NEGATIVES = (
    "training.negatives must be left out for the title recommender, whose softmaxes are over the words of a "
    "vocabulary, not over items; got {}."
)


@dataclass(frozen=True)
class TitleConfig:
    """How titles become prompts, losses and scores.

    Attributes:
        instruction: What the list of titles is; the first line of every prompt.
        template: ``plain``: the instruction is a line of text. ``chat``: it is a user's message in the
            model's chat template, and the titles are the answer. The same tokens in training
            and in scoring.
        max_tokens: Of a prompt with its completion, >= 16; older titles are left out, whole. Time grows
            with it.
        max_title_tokens: Of a title, >= 1; the rest is cut off. Items that then read alike get equal
            scores.
        layout: ``packed``: one row of text trains every title in it but the first. ``per-target``:
            each target has a row with its own prompt: the same losses, at many times the price; but in
            each update a target comes with as much history as ``max_tokens`` holds.
        reduction: A target's loss is the ``sum`` of its title's tokens' losses, the negative
            log-likelihood that items are ranked by; or their ``mean``, in which long titles weigh
            no more than short ones.
        scoring: ``exact``: every item gets its title's log-likelihood; for catalogues of some thousands of
            items, and seconds per user. ``beam``: items that a beam search finds do, the user's own left
            out; the others come after them, by the likelihood of as much of their titles as was read.
        beam_width: Unfinished titles that the search keeps, >= 1; with ``beam``. It finds about as many
            items: a list that is longer, and metrics beyond, rest on guesses.
    """

    instruction: str = "Titles that one person chose, oldest first:"
    template: str = "plain"
    max_tokens: int = 256
    max_title_tokens: int = 32
    layout: str = "packed"
    reduction: str = "sum"
    scoring: str = "exact"
    beam_width: int = 50

    def __post_init__(self) -> None:
        for name, allowed in (
            ("template", _TEMPLATES),
            ("layout", LAYOUTS),
            ("reduction", _REDUCTIONS),
            ("scoring", _SCORINGS),
        ):
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"title.{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}."
                )
        if not self.instruction.strip():
            raise ConfigError(f"title.instruction must say something; got {self.instruction!r}.")
        for name, least in (("max_tokens", 16), ("max_title_tokens", 1), ("beam_width", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"title.{name} must be >= {least}; got {getattr(self, name)}.")


class TitleRecommender(nn.Module):
    """Next-title prediction: a target's loss is that of its title's tokens, given the titles before it.

    The language model is frozen but for its adapters, and keeps its head, over the whole
    vocabulary. An item's score is the log-likelihood of its title, its end included, after the
    prompt that the history makes (:class:`TitlePrompts`).

    Precision: as :class:`ItemTokenRecommender`: the frozen part may be bfloat16, adapters and the head
    are float32. Do not wrap :meth:`losses` in autocast.

    Args:
        language_model: A causal language model of transformers, frozen, its head in float32, with
            adapters (:func:`add_adapters`).
        prompts: Of the catalogue.
        folder: Of the language model and its tokenizer.
        config: See :class:`TitleConfig`.
    """

    def __init__(
        self, language_model: nn.Module, prompts: TitlePrompts, folder: Path, config: TitleConfig
    ) -> None:
        super().__init__()
        self.config = config
        self.recipe: dict[str, Any] = {}  # how to build it again; filled in by whoever builds it
        self.titles: tuple[str, ...] = ()  # likewise
        self.backbone = language_model
        self.prompts = prompts
        self._folder = folder

    @property
    def n_items(self) -> int:
        """Number of items of the catalogue."""
        return self.prompts.n_items

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.backbone.parameters()).device

    @property
    def _causal(self) -> Any:
        """The language model of transformers, in which the adapters sit."""
        return self.backbone.get_base_model()  # type: ignore[operator]

    def batches(
        self,
        histories: Sequence[np.ndarray],
        *,
        positions_per_batch: int,
        seed: int,
        history_weights: np.ndarray | None = None,
        negatives: NegativeSampler | None = None,
    ) -> TitleBatches:
        """Deal out training histories; see :class:`TitleBatches`.

        Raises:
            ConfigError: negatives are given: the softmaxes are over words, and whole.
        """
        if negatives is not None:
            raise ConfigError(REFUSED_NEGATIVES.format("a sampler"))
        return TitleBatches(
            histories,
            self.prompts,
            layout=self.config.layout,
            positions_per_batch=positions_per_batch,
            seed=seed,
            history_weights=history_weights,
        )

    def losses(self, batch: TitleBatch, logit_offsets: Tensor | None = None) -> Tensor:
        """Return the loss of every target, in nats: the sum or the mean over its title's tokens and end.

        Args:
            batch: Text, and whose titles are in it.
            logit_offsets: Must be None; see Raises.

        Returns:
            ``[rows, columns]`` float32; 0 where the batch has no target.

        Raises:
            ConfigError: offsets are given: there is no score of an item to add them to.
        """
        if logit_offsets is not None:
            raise ConfigError(REFUSED_OFFSETS.format("offsets"))
        owners = batch.owners[:, 1:]
        is_label = owners >= 0  # logits are computed for these alone
        states = self._causal.get_decoder()(input_ids=batch.tokens[:, :-1], use_cache=False)
        head = self._causal.get_output_embeddings()
        of_tokens = frozen_head_losses(
            states.last_hidden_state[is_label], head.weight, head.bias, batch.tokens[:, 1:][is_label]
        )
        rows, columns = batch.targets.shape
        flat = torch.arange(rows, device=owners.device)[:, None] * columns + owners  # [rows, positions - 1]
        target = flat[is_label]
        losses = torch.zeros(rows * columns, device=of_tokens.device).index_add(0, target, of_tokens)
        if self.config.reduction == "mean":
            losses = losses / torch.bincount(target, minlength=rows * columns).clamp_min(1)
        return losses.view(rows, columns)

    def scores(self, histories: Sequence[History]) -> Tensor:
        """Score every item for every history by its title's log-likelihood; see ``Recommender.scores``.

        With ``scoring="beam"`` those of the history get -inf; see :meth:`TitleDecoder.beam_scores` for
        the others.
        """
        return self.scores_by(histories)

    @torch.no_grad()
    def scores_by(
        self,
        histories: Sequence[History],
        *,
        per_token: bool = False,
        penalties: NDArray[np.float64] | None = None,
    ) -> Tensor:
        """Score as :meth:`scores`, but by the mean over a title's tokens, or less a penalty per item.

        Args:
            histories: As there.
            per_token: The mean in place of the sum.
            penalties: ``[n_items]``, in nats; taken from each item's score.
        """
        how: dict[str, Any] = {"per_token": per_token, "penalties": penalties}
        was_training = self.training
        self.eval()
        try:
            prompts = [self.prompts.prompt(history) for history in histories]
            if self.config.scoring == "beam":
                seen = [np.asarray(history, dtype=np.int64) for history in histories]
                found = self.decoder.beam_scores(prompts, excluded=seen, width=self.config.beam_width, **how)
            else:
                found = self.decoder.scores(prompts, **how)
            return torch.from_numpy(found)
        finally:
            self.train(was_training)

    @cached_property
    def trie(self) -> TitleTrie:
        """The catalogue's titles as a tree of tokens."""
        return TitleTrie(self.prompts.titles, self.prompts.end_token)

    @cached_property
    def decoder(self) -> TitleDecoder:
        """Searches and scores titles by the model as it is at the time; put it in evaluation mode first."""
        return TitleDecoder(self._causal, self.trie, terminator=self.prompts.end_token)

    def content(self) -> dict[str, str]:
        """Return digests of what the recipe names but does not hold: the titles' and prompts' tokens."""
        return {"prompts": self.prompts.digest()}

    def trainable_state(self) -> dict[str, Tensor]:
        """Return every trainable parameter by name, whole: what a checkpoint keeps.

        Where each process holds a shard, all of them call this.
        """
        return {name: whole(p.detach()) for name, p in self.named_parameters() if p.requires_grad}

    def parameter_groups(self, learning_rate: float, weight_decay: float = 0.0) -> list[dict[str, Any]]:
        """Return groups of named parameters for an optimizer: adapters, all of them shared by all items."""
        named = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        return [{"params": named, "weight_decay": weight_decay, "lr": learning_rate}]


class RescoredTitles:
    """A title recommender whose titles are scored another way: see :meth:`TitleRecommender.scores_by`.

    Args:
        recommender: Whose titles; it stays as it is.
        per_token: The mean over a title's tokens in place of the sum.
        penalties: ``[n_items]``, in nats; taken from each item's score.
    """

    def __init__(
        self, recommender: TitleRecommender, *, per_token: bool, penalties: NDArray[np.float64]
    ) -> None:
        self._recommender = recommender
        self._per_token = per_token
        self._penalties = penalties

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return self._recommender.n_items

    def scores(self, histories: Sequence[History]) -> Tensor:
        """Score every item for every history; see ``Recommender.scores``."""
        return self._recommender.scores_by(histories, per_token=self._per_token, penalties=self._penalties)
