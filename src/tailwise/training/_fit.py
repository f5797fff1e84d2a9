"""The training loop."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from tailwise.errors import CheckpointError
from tailwise.optim import PerTargetOptimizer, whole
from tailwise.recommenders import (
    BatchSource,
    NegativeSampler,
    TrainableRecommender,
    TrainingBatch,
    load_trainable_state,
)
from tailwise.training._checkpoint import load_newest_checkpoint, save_checkpoint, save_tensors_atomically
from tailwise.training._config import TrainingConfig, learning_rate_factor
from tailwise.training._interrupt import StopRequest, stop_between_steps
from tailwise.training._memory import PeakMemory
from tailwise.training._objective import Objective
from tailwise.training._precision import matmul_precision
from tailwise.training._processes import Processes
from tailwise.training._sharding import held_state, whole_state

__all__ = ["EpochRecord", "FitResult", "TrainingInterrupted", "TrainingProgress", "fit"]

_BEST = "best.safetensors"  # parameters of the best epoch so far; those of the last are in the checkpoint


class TrainingInterrupted(KeyboardInterrupt):
    """Training was asked to stop; its state is saved and can be resumed."""


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: ``loss`` in nats per target, ``value`` of the validation metric.

    The loss is what training lowers, as the optimizer saw it: in training mode, with logit offsets
    and target weights.
    """

    epoch: int
    loss: float
    value: float


@dataclass(frozen=True)
class FitResult:
    """What a training did and cost.

    Attributes:
        kept_epoch: 1-based; its parameters are the result. The best one, or with
            ``keep="last"`` the last.
        best_epoch: 1-based; the first one with the highest validation metric.
        best_value: Validation metric at the best epoch.
        n_epochs: Epochs run.
        n_steps: Optimizer steps taken.
        n_targets: Targets trained on, repeats over epochs counted.
        train_seconds: Time in steps, over all sittings; validation and saving excluded.
        peak_memory_mib: Highest memory of any sitting.
        epochs: One record per epoch.
    """

    kept_epoch: int
    best_epoch: int
    best_value: float
    n_epochs: int
    n_steps: int
    n_targets: int
    train_seconds: float
    peak_memory_mib: float
    epochs: tuple[EpochRecord, ...]

    @property
    def targets_per_second(self) -> float:
        """Training throughput."""
        return self.n_targets / self.train_seconds

    @property
    def kept_value(self) -> float:
        """Validation metric of the parameters that are the result."""
        return self.epochs[self.kept_epoch - 1].value


@dataclass(frozen=True)
class TrainingProgress:
    """Sent after every step: how far a training is."""

    epoch: int
    step: int
    n_steps: int
    loss: float
    targets_per_second: float
    best_value: float | None


@dataclass
class _State:
    """Where a training stands; with parameters and optimizer state, all that a resume needs."""

    epoch: int = 0  # epochs finished
    batch: int = 0  # batches of the current epoch finished
    step: int = 0
    n_targets: int = 0
    epoch_loss: float = 0.0  # sum over the batches of the current epoch
    train_seconds: float = 0.0
    peak_memory_mib: float = 0.0
    best_epoch: int = 0
    best_value: float = -1.0
    stopped: bool = False


def fit(
    recommender: TrainableRecommender,
    optimizer: PerTargetOptimizer,
    histories: Sequence[np.ndarray],
    config: TrainingConfig,
    *,
    validate: Callable[[], float],
    folder: Path,
    seed: int,
    identity: str = "",
    logit_offsets: Tensor | None = None,
    target_weights: Tensor | None = None,
    history_weights: np.ndarray | None = None,
    negatives: NegativeSampler | None = None,
    progress: Callable[[TrainingProgress], None] | None = None,
    processes: Processes | None = None,
) -> FitResult:
    """Train until the validation metric stops rising; leave the best epoch's parameters in place.

    With ``config.keep="last"``, train all epochs and leave the last one's.

    The state of training is saved in ``folder`` now and then; called again with the same
    arguments, training goes on from there and ends with the same parameters as if it had
    never stopped (on the CPU, with the same number of threads). Everything random is a
    function of ``seed`` and the step.

    With several processes each evaluates its share of every batch, so the batches, and but for
    rounding and for what is dropped out the parameters too, are those of one process. The first
    one's folder counts; a training may go on with another number of processes.

    Args:
        recommender: To be trained, on its device.
        optimizer: Over ``recommender.parameter_groups(...)``; its rates are the peaks of
            the schedule.
        histories: Training histories, item indices, oldest first.
        config: See :class:`TrainingConfig`.
        validate: Returns the metric to maximise, for the recommender as it is now.
        folder: For checkpoints; one folder per training.
        seed: Of batches, dropout, sampling and re-sampling.
        identity: Says what is being trained (settings, data checksum); a checkpoint with
            another identity is refused.
        logit_offsets: ``[n_items]``; added to the training scores.
        target_weights: ``[n_items]`` floating, each >= 0; every target's loss is multiplied by
            its item's (re-weighting), see ``optim.loss_weights``.
        history_weights: ``[len(histories)]``, mean 1; how often each appears in an epoch on
            average (re-sampling), see ``recommender.batches``.
        negatives: Draws the items that stand for the catalogue in the softmax; None for all of it.
        progress: Called after every step.
        processes: That train together, each calling this with the same arguments and with an optimizer
            of ``ranks=processes.ranks()``. None: this one alone.

    Returns:
        Cost and course of the training, all sittings together.

    Raises:
        ValueError: the weights do not fit items or histories, or are out of range.
        CheckpointError: ``folder`` holds the checkpoint of another training.
        TrainingInterrupted: SIGINT or SIGTERM came; the state is saved.
        FloatingPointError: a loss, a gradient or the validation metric is not finite; the
            last checkpoint is intact.
    """
    batches = recommender.batches(
        histories,
        positions_per_batch=config.positions_per_batch,
        seed=seed,
        history_weights=history_weights,
        negatives=negatives,
    )
    objective = Objective(recommender, logit_offsets, target_weights)
    processes = processes or Processes()
    sitting = _Sitting(recommender, optimizer, config, folder, identity=identity, processes=processes)
    sitting.resume()
    with (
        torch.random.fork_rng(),
        matmul_precision(config.matmul_precision),
        stop_between_steps() as stop,
    ):
        sitting.run(batches, objective, validate, seed=seed, progress=progress, stop=stop)
    if config.keep == "best":  # else what is in place, or came from the last checkpoint, is the last epoch's
        load_trainable_state(recommender, processes.first_does(lambda: load_file(folder / _BEST)))
    recommender.eval()
    state = sitting.state
    return FitResult(
        kept_epoch=state.best_epoch if config.keep == "best" else state.epoch,
        best_epoch=state.best_epoch,
        best_value=state.best_value,
        n_epochs=state.epoch,
        n_steps=state.step,
        n_targets=state.n_targets,
        train_seconds=state.train_seconds,
        peak_memory_mib=state.peak_memory_mib,
        epochs=tuple(sitting.epochs),
    )


class _Sitting:
    """One process's share of a training, from a checkpoint (or the start) to the end or a stop."""

    def __init__(
        self,
        recommender: TrainableRecommender,
        optimizer: PerTargetOptimizer,
        config: TrainingConfig,
        folder: Path,
        *,
        identity: str,
        processes: Processes,
    ) -> None:
        self.processes = processes
        self.recommender = recommender
        self.optimizer = optimizer
        self.config = config
        self.folder = folder
        self.identity = identity
        self.state = _State()
        self.epochs: list[EpochRecord] = []
        self.memory = PeakMemory(recommender.device)
        self.last_save = time.monotonic()
        self.peak_rates = [float(group["lr"]) for group in optimizer.param_groups]

    def resume(self) -> None:
        """Take over the newest checkpoint, if there is one."""
        saved = self.processes.first_does(lambda: load_newest_checkpoint(self.folder))
        if saved is None:
            return
        if saved["identity"] != self.identity:
            raise CheckpointError(
                f"checkpoint in {str(self.folder)!r} must be of this training ({self.identity}); got one of "
                f"{saved['identity']}. Settings, data or the version of Tailwise have changed: choose "
                "another output folder, or delete this one."
            )
        load_trainable_state(self.recommender, saved["parameters"])
        self.optimizer.load_state_dict(held_state(saved["optimizer"], self.optimizer))
        self.state = _State(**saved["state"])
        self.epochs = [EpochRecord(**record) for record in saved["epochs"]]

    def save(self) -> None:
        """Write a checkpoint of the present state."""
        self.state.peak_memory_mib = max(self.state.peak_memory_mib, self.memory.mib())
        content: dict[str, Any] = {
            "identity": self.identity,
            "parameters": self.recommender.trainable_state(),
            "optimizer": whole_state(self.optimizer.state_dict()),
            "state": asdict(self.state),
            "epochs": [asdict(record) for record in self.epochs],
        }
        if self.processes.is_first:
            save_checkpoint(self.folder, self.state.step, content)
        self.last_save = time.monotonic()

    def run(
        self,
        batches: BatchSource,
        objective: Objective,
        validate: Callable[[], float],
        *,
        seed: int,
        progress: Callable[[TrainingProgress], None] | None,
        stop: StopRequest,
    ) -> None:
        """Train until patience or epochs run out."""
        state = self.state
        device = self.recommender.device
        while state.epoch < self.config.max_epochs and not state.stopped:
            of_this_epoch = batches.epoch(state.epoch)
            # An epoch's number of batches varies by a few with where the windows were cut, and with
            # which histories were drawn.
            n_steps = state.step - state.batch + len(of_this_epoch) * (self.config.max_epochs - state.epoch)
            self._save_if_due(stop)
            while state.batch < len(of_this_epoch):
                batch = of_this_epoch[state.batch].to(device)
                self._step(batch, objective, seed, n_steps)
                if progress:
                    progress(self._progress(n_steps))
                self._save_if_due(stop)
            self._finish_epoch(validate(), len(of_this_epoch))
        if self.processes.any(
            stop.was_made
        ):  # during the last validation: what follows this training must not start
            raise TrainingInterrupted(f"stopped at step {state.step}; the state is saved")

    def _save_if_due(self, stop: StopRequest) -> None:
        """Save now and then, and when asked to stop; processes do either together."""
        is_time = time.monotonic() - self.last_save >= self.config.checkpoint_seconds
        if not self.processes.any(is_time or stop.was_made):
            return
        self.save()
        if self.processes.any(stop.was_made):
            raise TrainingInterrupted(f"stopped at step {self.state.step}; the state is saved")

    def _step(self, batch: TrainingBatch, objective: Objective, seed: int, n_steps: int) -> None:
        started = time.perf_counter()
        state = self.state
        # Every process drops out other entries; the first one those of a training on its own.
        entropy = [seed, state.step, *([] if self.processes.is_first else [self.processes.rank])]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
        self.recommender.train()
        factor = learning_rate_factor(state.step, n_steps, self.config)
        for group, peak in zip(self.optimizer.param_groups, self.peak_rates, strict=True):
            group["lr"] = peak * factor
        own = batch.part(self.processes.part(len(batch.targets)))
        loss = self.optimizer.compute_gradient(lambda rows: objective.losses(own.rows(rows)), own.targets)
        norm = whole(torch.nn.utils.clip_grad_norm_(self.optimizer.parameters(), self.config.max_grad_norm))
        if not bool(torch.isfinite(norm)):  # a step would spoil the parameters, and then the checkpoint
            raise FloatingPointError(
                f"the gradient's norm must be finite; got {float(norm)} at step {state.step + 1}. "
                "The last checkpoint is intact; lower the learning rate."
            )
        self.optimizer.step()
        state.epoch_loss += float(loss)
        state.batch += 1
        state.step += 1
        state.n_targets += batch.n_targets
        state.train_seconds += time.perf_counter() - started

    def _finish_epoch(self, value: float, n_batches: int) -> None:
        state = self.state
        if not math.isfinite(value):
            raise FloatingPointError(f"the validation metric must be finite; got {value}.")
        state.epoch += 1
        self.epochs.append(EpochRecord(state.epoch, state.epoch_loss / n_batches, value))
        keeps_best = self.config.keep == "best"
        if value > state.best_value:
            state.best_epoch, state.best_value = state.epoch, value
            if keeps_best:
                best = self.recommender.trainable_state()
                if self.processes.is_first:
                    save_tensors_atomically(best, self.folder / _BEST)
        state.batch, state.epoch_loss = 0, 0.0
        state.stopped = keeps_best and state.epoch - state.best_epoch >= self.config.patience
        self.save()

    def _progress(self, n_steps: int) -> TrainingProgress:
        state = self.state
        return TrainingProgress(
            epoch=state.epoch + 1,
            step=state.step,
            n_steps=n_steps,
            loss=state.epoch_loss / state.batch,
            targets_per_second=state.n_targets / state.train_seconds,
            best_value=state.best_value if state.best_epoch else None,
        )
