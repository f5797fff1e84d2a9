"""The item-token recommender: each item is one token of a causal transformer."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tailwise._settings import WRITTEN_WHEN_SET
from tailwise.optim import whole
from tailwise.recommenders._negatives import Negatives, NegativeSampler
from tailwise.recommenders._protocol import History
from tailwise.recommenders._sequences import SequenceBatch, SequenceBatches, pad_right

__all__ = ["ItemTokenConfig", "ItemTokenRecommender", "standardise"]

_ENCODINGS_AT_ONCE = 65_536  # float16 encodings that are cast at once, where all items' vectors are made


@dataclass(frozen=True)
class ItemTokenConfig:
    """How items become tokens and hidden states become scores.

    Attributes:
        max_length: Most recent items of a history that are read, in 1..10,000. Time grows
            with it.
        dropout: Share of the entries of an input token that are dropped in training, in
            [0, 1). Against over-fitting of per-item rows.
        id_residual: Give every item a free vector beside its title's. Off, the titles alone
            tell items apart.
        encode_all: Make every item's vector for every evaluation of the loss, as was done in any case
            before there was this setting: to repeat older results to the last digit. None: not where the
            evaluation has few targets, which costs less and rounds otherwise.
    """

    max_length: int = 100
    dropout: float = 0.1
    id_residual: bool = True
    encode_all: bool | None = field(default=None, metadata=WRITTEN_WHEN_SET)

    def __post_init__(self) -> None:
        if not 1 <= self.max_length <= 10_000:
            raise ValueError(f"max_length must be in 1..10,000; got {self.max_length}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1); got {self.dropout}.")


class ItemVectors(nn.Module):
    """One vector per item: an adapter over its title's encoding, plus a free residual.

    Without title encodings the free vectors are all there is (as in SASRec); with them
    the residual starts at zero, so that an item never trained on keeps its title's vector.
    """

    def __init__(
        self, n_items: int, width: int, title_encodings: Tensor | None, config: ItemTokenConfig
    ) -> None:
        super().__init__()
        self.adapter: nn.Linear | None = None
        self.residual: nn.Embedding | None = None
        if title_encodings is not None:
            is_half = title_encodings.dtype == torch.float16
            encodings = title_encodings if is_half else title_encodings.float()
            self.register_buffer("encodings", encodings, persistent=False)
            self.adapter = nn.Linear(title_encodings.shape[1], width, bias=False)
            nn.init.normal_(self.adapter.weight, std=title_encodings.shape[1] ** -0.5)
        if config.id_residual or title_encodings is None:
            self.residual = nn.Embedding(n_items, width)
            if title_encodings is None:
                nn.init.normal_(self.residual.weight, std=1.0)
            else:
                nn.init.zeros_(self.residual.weight)

    def forward(self, items: Tensor | None = None) -> Tensor:
        """Return ``[n, width]`` float32, of ``items`` (int64 ``[n]``) or of all."""
        vectors: Tensor | None = None
        if self.adapter is not None:
            encodings = self.get_buffer("encodings")
            if items is not None:
                vectors = self.adapter(encodings[items].float())
            elif encodings.dtype == torch.float32:
                vectors = self.adapter(encodings)
            else:  # never all of them in float32
                vectors = torch.cat(
                    [self.adapter(e.float()) for e in torch.split(encodings, _ENCODINGS_AT_ONCE)]
                )
        if self.residual is None:
            assert vectors is not None  # one of the two exists by construction
            return vectors
        residual = self.residual.weight if items is None else self.residual(items)
        return residual if vectors is None else vectors + residual

    def is_cheaper_unmade(self, n_queries: int) -> bool:
        """Whether :meth:`products` of so many queries costs less than making all vectors, and multiplying.

        Making them takes ``items x d x width`` multiplications, doing without ``items x d`` for each query.
        """
        return self.adapter is not None and n_queries < self.adapter.weight.shape[0]

    def products(self, queries: Tensor) -> Tensor:
        """Return ``queries @ self().T``, ``[n, n_items]`` of ``[n, width]`` float32, making no vector."""
        products: list[Tensor] = []
        if self.adapter is not None:
            adapted = queries @ self.adapter.weight  # [n, d]
            encodings = torch.split(self.get_buffer("encodings"), _ENCODINGS_AT_ONCE)
            products.append(torch.cat([adapted @ e.float().T for e in encodings], dim=1))
        if self.residual is not None:
            products.append(queries @ self.residual.weight.T)
        return products[0] if len(products) == 1 else products[0] + products[1]


def standardise(encodings: Tensor) -> Tensor:
    """Centre every dimension and scale it to unit variance over the items.

    Hidden states of language models share a few huge dimensions, the same for every
    title; left in, they drown what tells titles apart. float16 stays float16, all else becomes float32.
    """
    dtype = torch.float16 if encodings.dtype == torch.float16 else torch.float32
    encodings = encodings.float()
    scaled = (encodings - encodings.mean(0)) / encodings.std(0, unbiased=False).clamp_min(1e-6)
    return scaled.to(dtype)


class ItemTokenRecommender(nn.Module):
    """Next-item prediction with items as tokens, every position of a history a target.

    An item's input token is its vector, scaled to the size of the backbone's own token
    embeddings; its score is the dot product of its vector with the projected hidden state
    of the last position, plus nothing else. The softmax runs over the whole catalogue.

    The backbone is any module that maps ``inputs_embeds`` ``[rows, positions, width]`` to
    an object with ``last_hidden_state`` of that shape, causally: a language model with
    adapters gives the item-token LRS, a small random one gives SASRec.

    Precision: the frozen part of the backbone may be bfloat16; everything trainable stays
    float32 and goes through its matmul in float32, so that EISAM's small perturbations
    survive. Do not wrap :meth:`losses` in autocast.

    Args:
        backbone: See above. Trainable parameters in it are trained.
        n_items: Size of the catalogue.
        width: Width of the backbone's input.
        title_encodings: ``[n_items, d]`` floating, standardised, or None for free vectors alone. Held in
            float32, or in float16 if they are: half the memory.
        token_scale: Root mean square of an entry of the backbone's token embeddings.
        config: See :class:`ItemTokenConfig`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        n_items: int,
        width: int,
        *,
        title_encodings: Tensor | None,
        token_scale: float,
        config: ItemTokenConfig,
    ) -> None:
        super().__init__()
        if title_encodings is not None and title_encodings.shape[0] != n_items:
            raise ValueError(
                f"title_encodings must have one row per item ({n_items}); got {title_encodings.shape[0]}."
            )
        self.config = config
        self._vectors: tuple[list[tuple[int, int, int]], Tensor] | None = None  # kept by scores()
        self.recipe: dict[str, Any] = {}  # how to build it again; filled in by whoever builds it
        self._n_items = n_items
        self.backbone = backbone
        self.item_vectors = ItemVectors(n_items, width, title_encodings, config)
        self.token_scale = nn.Parameter(
            torch.tensor([token_scale])
        )  # what has no dimension cannot be sharded
        self.projection = nn.Linear(width, width, bias=True)
        nn.init.normal_(self.projection.weight, std=width**-0.5)
        nn.init.zeros_(self.projection.bias)
        self.dropout = nn.Dropout(config.dropout)

    @property
    def n_items(self) -> int:
        """Number of items of the catalogue."""
        return self._n_items

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.projection.weight.device

    def _hidden(self, items: Tensor, vectors: Tensor) -> Tensor:
        """Project the hidden state of every position: ``[rows, positions]`` -> ``[..., width]`` float32."""
        tokens = self.tokens(functional.embedding(items, vectors))
        states: Tensor = self.backbone(inputs_embeds=tokens, use_cache=False).last_hidden_state
        return self.project(states)

    def tokens(self, vectors: Tensor) -> Tensor:
        """Turn item vectors, ``[..., width]`` float32, into input of the backbone, in its dtype."""
        dtype = next(p.dtype for p in self.backbone.parameters())
        tokens: Tensor = self.dropout(vectors) * self.token_scale
        return tokens.to(dtype)

    def project(self, states: Tensor) -> Tensor:
        """Turn states of the backbone, ``[..., width]``, into what item vectors are multiplied with."""
        hidden = functional.layer_norm(states.float(), states.shape[-1:])
        # Scaled so that scores start with unit variance for unit-variance item vectors.
        projected: Tensor = self.projection(hidden * hidden.shape[-1] ** -0.5)
        return projected

    def losses(self, batch: SequenceBatch, logit_offsets: Tensor | None = None) -> Tensor:
        """Return the negative log-likelihood of every target, in nats.

        Args:
            batch: Input and target items.
            logit_offsets: ``[n_items]``; added to the scores (see ``optim.logit_offsets``).

        Returns:
            ``[rows, positions]`` float32; 0 where the batch has no target. Where the batch has
            negatives, the sum over the catalogue is estimated from them: see
            :class:`NegativeSampler`.
        """
        has_target = batch.targets >= 0
        if batch.negatives is not None:
            losses = self._sampled_losses(batch, batch.negatives, has_target, logit_offsets)
            return torch.zeros(batch.targets.shape, device=losses.device).masked_scatter(has_target, losses)
        logits = self._logits(batch.inputs, has_target)
        if logit_offsets is not None:
            logits = logits + logit_offsets
        losses = functional.cross_entropy(logits, batch.targets[has_target], reduction="none")
        return torch.zeros(batch.targets.shape, device=losses.device).masked_scatter(has_target, losses)

    def _logits(self, inputs: Tensor, has_target: Tensor) -> Tensor:
        """Scores of the whole catalogue, ``[n_targets, n_items]``, at the positions that have a target."""
        n_targets = int(has_target.sum())
        if self.config.encode_all or not self.item_vectors.is_cheaper_unmade(n_targets):
            vectors: Tensor = self.item_vectors()
            return self._hidden(inputs, vectors)[has_target] @ vectors.T
        items, places = torch.unique(inputs, return_inverse=True)
        return self.item_vectors.products(self._hidden(places, self.item_vectors(items))[has_target])

    def _sampled_losses(
        self, batch: SequenceBatch, negatives: Negatives, has_target: Tensor, logit_offsets: Tensor | None
    ) -> Tensor:
        """Losses of the targets, ``[n_targets]``, from the vectors of the items that occur alone."""
        targets = batch.targets[has_target]
        occurring = torch.cat([batch.inputs.flatten(), targets, negatives.items])
        items, places = torch.unique(occurring, return_inverse=True)
        vectors = self.item_vectors(items)
        inputs, own, drawn = places.split([batch.inputs.numel(), len(targets), len(negatives.items)])
        hidden = self._hidden(inputs.view_as(batch.inputs), vectors)[has_target]  # [n_targets, width]
        positive = (hidden * vectors[own]).sum(-1)
        logits = hidden @ vectors[drawn].T - negatives.log_inclusion  # [n_targets, n]
        if logit_offsets is not None:
            positive = positive + logit_offsets[targets]
            logits = logits + logit_offsets[negatives.items]
        # The target's own part of the sum is known.
        logits = logits.masked_fill(negatives.items == targets[:, None], -torch.inf)
        losses: Tensor = torch.logsumexp(torch.cat([positive[:, None], logits], 1), 1) - positive
        return losses

    def batches(
        self,
        histories: Sequence[np.ndarray],
        *,
        positions_per_batch: int,
        seed: int,
        history_weights: np.ndarray | None = None,
        negatives: NegativeSampler | None = None,
    ) -> SequenceBatches:
        """Deal out training histories; see :class:`SequenceBatches`."""
        return SequenceBatches(
            histories,
            max_length=self.config.max_length,
            positions_per_batch=positions_per_batch,
            seed=seed,
            history_weights=history_weights,
            negatives=negatives,
        )

    @torch.no_grad()
    def scores(self, histories: Sequence[History]) -> Tensor:
        """Score every item for every history; see ``Recommender.scores``.

        An empty history is scored as if it held a single token of zeros: the model's
        answer to knowing nothing.
        """
        vectors, queries = self._queries(histories)
        scores = torch.empty(len(histories), self.n_items)
        for rows, hidden in queries:
            scores[rows] = (hidden @ vectors.T).cpu()
        return scores

    @torch.no_grad()
    def scores_by_span(
        self, histories: Sequence[History], items_at_once: int
    ) -> Iterator[tuple[int, Tensor]]:
        """Score the catalogue span by span; see ``SpanRecommender.scores_by_span``."""
        vectors, queries = self._queries(histories)
        for first in range(0, self.n_items, items_at_once):
            of_span = vectors[first : first + items_at_once]
            scores = torch.empty(len(histories), len(of_span), device=self.device)
            for rows, hidden in queries:
                scores[rows] = hidden @ of_span.T
            yield first, scores

    def _queries(self, histories: Sequence[History]) -> tuple[Tensor, list[tuple[list[int], Tensor]]]:
        """All items' vectors, and what they are multiplied with: rows and ``[len(rows) or 1, width]``."""
        was_training = self.training
        self.eval()
        try:
            vectors = self._kept_vectors()
            recent = [np.asarray(h, dtype=np.int64)[-self.config.max_length :] for h in histories]
            # Equal lengths together: no padding at all, and each row independent of its batch.
            by_length: dict[int, list[int]] = {}
            for row, history in enumerate(recent):
                by_length.setdefault(len(history), []).append(row)
            queries = []
            for length, rows in by_length.items():
                if length == 0:
                    blank = vectors.new_zeros(1, vectors.shape[1])
                    hidden = self._hidden(torch.zeros(1, 1, dtype=torch.int64, device=self.device), blank)
                else:
                    items = pad_right([recent[r] for r in rows], fill=0).to(self.device)
                    hidden = self._hidden(items, vectors)
                queries.append((rows, hidden[:, -1]))
            return vectors, queries
        finally:
            self.train(was_training)

    def _kept_vectors(self) -> Tensor:
        """All items' vectors, made once for as long as the parameters behind them are the same.

        Of a large catalogue they cost more than a batch of users.
        """
        parameters = list(self.item_vectors.parameters())
        made_of = [(id(p), p.data_ptr(), p._version) for p in parameters]
        if self._vectors is None or self._vectors[0] != made_of:
            self._vectors = (made_of, self.item_vectors())
        return self._vectors[1]

    def train(self, mode: bool = True) -> Self:
        """Set training mode, and let go of what is kept between calls of :meth:`scores`."""
        if mode:
            self._vectors = None
        return super().train(mode)

    def content(self) -> dict[str, str]:
        """Return digests of the title encodings: they stand for the language model's content too."""
        return {
            name: hashlib.sha256(buffer.cpu().numpy().tobytes()).hexdigest()
            for name, buffer in self.item_vectors.named_buffers()
        }

    def trainable_state(self) -> dict[str, Tensor]:
        """Return every trainable parameter by name, whole: what a checkpoint keeps.

        Where each process holds a shard, all of them call this.
        """
        return {name: whole(p.detach()) for name, p in self.named_parameters() if p.requires_grad}

    def parameter_groups(self, learning_rate: float, weight_decay: float = 0.0) -> list[dict[str, Any]]:
        """Return groups of named parameters for an optimizer.

        Shared parameters (adapters, projection) decay; scalars and biases do not; free per-item
        vectors are marked ``"per_item"``: trained, and perturbed only on request.
        """
        named = [(n, p) for n, p in self.named_parameters() if p.requires_grad]
        per_item = [(n, p) for n, p in named if n.startswith("item_vectors.residual")]
        matrices = [(n, p) for n, p in named if p.ndim >= 2 and not n.startswith("item_vectors.residual")]
        small = [(n, p) for n, p in named if p.ndim < 2]
        groups = [
            {"params": matrices, "weight_decay": weight_decay},
            {"params": small, "weight_decay": 0.0},
            {"params": per_item, "weight_decay": weight_decay, "per_item": True},
        ]
        return [{**g, "lr": learning_rate} for g in groups if g["params"]]
