"""An item-token recommender's training targets, their losses in float32, and how sharp they are."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from tailwise.diagnosis._curvature import Curvature, measure_curvature
from tailwise.diagnosis._group_targets import GroupTargets
from tailwise.diagnosis._measure_sharpness import check_sizes, measure_sharpness
from tailwise.diagnosis._moved_losses import moved_parameters
from tailwise.diagnosis._sharpness import Sharpness
from tailwise.errors import DataError
from tailwise.recommenders import ItemTokenRecommender, SequenceBatch
from tailwise.segments import Segments

__all__ = ["RecommenderTargets", "recommender_curvature", "recommender_sharpness"]

Ints = NDArray[np.int64]


def recommender_sharpness(
    recommender: ItemTokenRecommender,
    histories: Sequence[np.ndarray],
    segments: Segments,
    *,
    rho: float = 0.05,
    n_targets_per_group: int | None = 1000,
    n_repeats: int = 3,
    n_random: int = 2,
    seed: int = 0,
    perturb: str | Sequence[str] = "shared",
    logit_offsets: Tensor | None = None,
    positions_per_batch: int = 800,
    progress: Callable[[int, int], None] | None = None,
) -> Sharpness:
    """Measure the sharpness of a recommender per segment of its training targets.

    As :func:`measure_sharpness`, in evaluation mode and in float32 throughout: a backbone of lower
    precision is cast for the measurement and put back after it. Targets of cold items do not exist,
    or are left out.

    Args:
        recommender: On its device.
        histories: Training histories, one per user, item indices, oldest first.
        segments: Over the same catalogue.
        rho: See :func:`measure_sharpness`, as are the others up to ``perturb``.
        n_targets_per_group: Of each segment in each half at most.
        n_repeats: Splits.
        n_random: Random directions per split.
        seed: Of everything drawn, and of where long histories are cut.
        perturb: What moves, by the names and marks of ``recommender.parameter_groups``.
        logit_offsets: ``[n_items]``; added to the scores, for the loss of a training with margins.
        positions_per_batch: Evaluated at once, padding included; memory grows with it.
        progress: Told of passes over one half that are done and in all.

    Raises:
        ValueError: an argument is out of range, or what moves is in less than float32.
        DataError: a segment has too few targets.
    """
    parameters = recommender.parameter_groups(1.0)
    moved_parameters(parameters, perturb)  # judged as the model is, before anything is cast
    source = RecommenderTargets(
        recommender,
        histories,
        segments,
        seed=seed,
        logit_offsets=logit_offsets,
        positions_per_batch=positions_per_batch,
    )
    with source.measuring():
        return measure_sharpness(
            source.losses,
            parameters,
            source.targets,
            rho=rho,
            n_targets_per_group=n_targets_per_group,
            n_repeats=n_repeats,
            n_random=n_random,
            seed=seed,
            perturb=perturb,
            batches=source.batches,
            progress=progress,
        )


def recommender_curvature(
    recommender: ItemTokenRecommender,
    histories: Sequence[np.ndarray],
    segments: Segments,
    *,
    n_targets_per_group: int | None = 300,
    tolerance: float = 0.01,
    max_products: int = 200,
    seed: int = 0,
    perturb: str | Sequence[str] = "shared",
    logit_offsets: Tensor | None = None,
    positions_per_batch: int = 800,
    progress: Callable[[int], None] | None = None,
) -> Curvature:
    """Find the top Hessian eigenvalue of a recommender's loss per segment.

    As :func:`measure_curvature`, in evaluation mode and in float32. Fused attention cannot be
    differentiated twice, so ``torch.nn.attention.sdpa_kernel`` holds attention to plain matrix products
    meanwhile; a backbone with an attention of its own (``flash_attention_2``) has to be loaded with
    ``attn_implementation="sdpa"`` or ``"eager"``.

    Args and errors as for :func:`recommender_sharpness` and :func:`measure_curvature`.
    """
    parameters = recommender.parameter_groups(1.0)
    moved_parameters(parameters, perturb)
    source = RecommenderTargets(
        recommender,
        histories,
        segments,
        seed=seed,
        logit_offsets=logit_offsets,
        positions_per_batch=positions_per_batch,
    )
    with source.measuring(), sdpa_kernel(SDPBackend.MATH):
        return measure_curvature(
            source.losses,
            parameters,
            source.targets,
            n_targets_per_group=n_targets_per_group,
            tolerance=tolerance,
            max_products=max_products,
            seed=seed,
            perturb=perturb,
            batches=source.batches,
            progress=progress,
        )


class RecommenderTargets:
    """Every training target of a recommender once, with the loss it has at its place in its history.

    Histories longer than the recommender reads are cut into windows as in training: the first one is of
    random length, and one after the first begins with the last item of the one before.

    Args:
        recommender: Whose losses.
        histories: One per user.
        segments: Groups of the targets' items.
        seed: Of the cuts.
        logit_offsets: ``[n_items]``; added to the scores.
        positions_per_batch: Evaluated at once, padding included.

    Raises:
        ValueError: the segments are of another catalogue.
        DataError: no history holds a target.

    Attributes:
        targets: Groups, users and windows of the targets.
        items: ``[n_targets]`` int64.
    """

    def __init__(
        self,
        recommender: ItemTokenRecommender,
        histories: Sequence[np.ndarray],
        segments: Segments,
        *,
        seed: int = 0,
        logit_offsets: Tensor | None = None,
        positions_per_batch: int = 800,
    ) -> None:
        check_sizes(positions_per_batch=(positions_per_batch, recommender.config.max_length))
        if segments.n_items != recommender.n_items:
            raise ValueError(
                f"segments must be over the recommender's {recommender.n_items:,} items; got "
                f"{segments.n_items:,}.\n  Cut the segments on the catalogue that it was trained on."
            )
        self._recommender = recommender
        self._offsets = None if logit_offsets is None else logit_offsets.to(recommender.device)
        self._positions_per_batch = positions_per_batch
        rng = np.random.default_rng([seed, 2])
        self._windows: list[Ints] = []
        owners = []
        for user, history in enumerate(histories):
            found = _windows(np.asarray(history, dtype=np.int64), recommender.config.max_length, rng)
            self._windows += found
            owners += [user] * len(found)
        if not self._windows:
            raise DataError(
                f"histories must hold a target; got {len(histories):,} histories of fewer than two items."
            )
        lengths = np.array([w.size - 1 for w in self._windows])
        rows = np.repeat(np.arange(lengths.size), lengths)
        self._positions = np.concatenate([np.arange(n) for n in lengths])  # [n_targets]
        self.items: Ints = np.concatenate([w[1:] for w in self._windows])
        labels = segments.labels[self.items].astype(np.int64)
        names = segments.trained_names
        self.targets = GroupTargets(
            names, np.where(labels < len(names), labels, -1), np.array(owners)[rows], rows
        )

    def losses(self, targets: Ints) -> Tensor:
        """Return the loss of each of ``targets``: ``[n]`` float32, differentiable."""
        rows, row = np.unique(self.targets.rows[targets], return_inverse=True)
        positions = self._positions[targets]
        width = int(positions.max()) + 1  # what follows the last target does not matter to a causal model
        inputs = np.zeros((rows.size, width), dtype=np.int64)
        for place, window in enumerate(rows):
            items = self._windows[window][:-1][:width]
            inputs[place, : items.size] = items
        wanted = np.full(inputs.shape, -1, dtype=np.int64)
        wanted[row, positions] = self.items[targets]
        batch = SequenceBatch(torch.from_numpy(inputs), torch.from_numpy(wanted))
        losses = self._recommender.losses(batch.to(self._recommender.device), self._offsets)
        return losses[torch.from_numpy(row), torch.from_numpy(positions)]

    def batches(self, targets: Ints) -> Iterator[Ints]:
        """Cut ``targets`` into batches of whole windows of similar length."""
        rows, row = np.unique(self.targets.rows[targets], return_inverse=True)
        widths = np.zeros(rows.size, dtype=np.int64)
        np.maximum.at(widths, row, self._positions[targets] + 1)
        in_order = np.argsort(-widths, kind="stable")
        batch_of_row = np.empty(rows.size, dtype=np.int64)
        begin = n_batches = 0
        while begin < rows.size:
            n_rows = max(1, self._positions_per_batch // int(widths[in_order[begin]]))
            batch_of_row[in_order[begin : begin + n_rows]] = n_batches
            begin, n_batches = begin + n_rows, n_batches + 1
        for batch in range(n_batches):
            yield targets[batch_of_row[row] == batch]

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Inside: evaluation mode, all in float32, no autocast. Afterwards as it was, bit for bit."""
        modes = [(module, module.training) for module in self._recommender.modules()]
        tensors = [*self._recommender.parameters(), *self._recommender.buffers()]
        low = [(t, t.data) for t in tensors if t.dtype in (torch.bfloat16, torch.float16)]
        try:
            self._recommender.eval()
            for tensor, kept in low:
                tensor.data = kept.float()
            with torch.autocast(self._recommender.device.type, enabled=False):
                yield
        finally:
            for tensor, kept in low:
                tensor.data = kept
            for module, was_training in modes:
                module.training = was_training


def _windows(history: Ints, max_length: int, rng: np.random.Generator) -> list[Ints]:
    """Cut one history into windows of at most ``max_length`` targets; every target is in exactly one."""
    n_targets = history.size - 1
    if n_targets <= max_length:
        return [history] if n_targets > 0 else []
    cuts = [0, *range(int(rng.integers(1, max_length + 1)), n_targets, max_length), n_targets]
    return [history[start : stop + 1] for start, stop in pairwise(cuts)]
