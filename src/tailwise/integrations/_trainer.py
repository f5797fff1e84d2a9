"""EISAM's gradient inside ``transformers.Trainer``."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer

from tailwise.integrations._item_collator import ItemCollator
from tailwise.integrations._micro_batches import MicroBatches, causal_row_losses, n_target_tokens
from tailwise.integrations._precision import keep_precision
from tailwise.integrations._ranks_of import ranks_of
from tailwise.integrations._settings import EISAMSettings
from tailwise.optim import PerTargetOptimizer, ReplicatedRanks

__all__ = ["EISAMMixin", "EISAMTrainer"]


class EISAMMixin:
    """Goes in front of a trainer of causal language models, and replaces its gradient by EISAM's.

    The trainer gathers the micro-batches of an update before the first of them; all of the
    work is done at the last, so that ε is that of the joint batch of all micro-batches and
    processes. All else stays the trainer's: schedule, clipping, scaler, logs, checkpoints.

    The objective is the trainer's own: the negative log-likelihood of the target tokens,
    divided by their number over all micro-batches and processes. A row's loss is the sum
    over its tokens, its weight that of the one item it is about.

    Args:
        *args: The trainer's own arguments.
        eisam: See :class:`EISAMSettings`.
        **kwargs: The trainer's own arguments.

    Raises:
        ValueError: the trainer is set up in a way in which rows have no loss of their own:
            label smoothing, a loss function, packing, ``DataParallel``, DeepSpeed.
    """

    def __init__(self, *args: Any, eisam: EISAMSettings, **kwargs: Any) -> None:
        self.eisam = eisam
        self._joint: list[dict[str, Any]] = []  # micro-batches of the update under way
        self._n_done = 0  # of them, those that were asked for
        self._diagnostics: dict[str, float] = {}  # the newest
        super().__init__(*args, **kwargs)
        trainer: Any = self
        _refuse_what_has_no_row_losses(trainer)
        self._ranks = ranks_of(trainer.accelerator)
        if trainer.args.torch_compile:
            _keep_buffers_of_compiled_graphs()
        trainer.data_collator = ItemCollator(
            trainer.data_collator, eisam.item_column, eisam.item_weights.numel()
        )

    # What the trainer calls

    def create_optimizer(self, *args: Any, **kwargs: Any) -> PerTargetOptimizer:
        """Make the trainer's optimizer, and EISAM around it."""
        trainer: Any = self
        super().create_optimizer(*args, **kwargs)  # type: ignore[misc]
        if not isinstance(trainer.optimizer, PerTargetOptimizer):
            if self.eisam.perturb != "all":
                _name_parameters(trainer.optimizer, trainer.model)
            trainer.optimizer = self.eisam.around(
                trainer.optimizer, ranks=self._ranks, seed=trainer.args.seed
            )
        optimizer: PerTargetOptimizer = trainer.optimizer
        return optimizer

    def get_batch_samples(self, epoch_iterator: Iterator[Any], *args: Any, **kwargs: Any) -> Any:
        """Keep the micro-batches of the coming update."""
        batches, n_items = super().get_batch_samples(epoch_iterator, *args, **kwargs)  # type: ignore[misc]
        self._joint, self._n_done = batches, 0
        return batches, n_items

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Leave the gradient of the whole update in ``.grad`` at its last micro-batch; before, do nothing.

        Returns:
            The update's loss at the last micro-batch, 0 before: the trainer adds them up.
        """
        trainer: Any = self
        self._n_done += 1
        if self._n_done < len(self._joint):
            return torch.zeros((), device=trainer.args.device)
        model.train()
        batch = MicroBatches([trainer._prepare_inputs(b) for b in self._joint], self.eisam.item_column)
        labels = [b["labels"] for b in self._joint]
        self._joint = []
        optimizer = self._own_optimizer()
        if self.eisam.keep_precision and trainer.accelerator.mixed_precision != "no":
            keep_precision(model, optimizer.perturbed_parameters())  # type: ignore[attr-defined]
        n_tokens = sum(n_target_tokens(of_batch) for of_batch in labels)
        normalizer = float(self._ranks.total(torch.as_tensor(n_tokens).to(trainer.args.device)))
        scaler = trainer.accelerator.scaler
        # Gradients are added over processes by EISAM itself, all at once.
        quiet = (
            trainer.accelerator.no_sync(model) if isinstance(self._ranks, ReplicatedRanks) else nullcontext()
        )
        with quiet:
            loss_fn = batch.loss_fn(lambda inputs: self.row_losses(model, inputs))
            if self._is_to_be_diagnosed():
                self._diagnose(optimizer, loss_fn, batch)
            try:
                loss = optimizer.compute_gradient(
                    loss_fn,
                    batch.items,
                    rows_at_once=batch.sizes,
                    normalizer=normalizer,
                    loss_scale=_scale_of(scaler, trainer.args.device),
                )
            except FloatingPointError:
                if scaler is None:
                    raise
                return _overflow(optimizer, trainer.args.device)
        return loss.to(trainer.args.device, torch.float32)

    def row_losses(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        """Losses of the rows of ``inputs``, ``[rows]``; override for a model that is no causal LM.

        They are divided by the number of the update's target tokens: sum, do not average.
        """
        trainer: Any = self
        labels = inputs.pop("labels")
        with trainer.compute_loss_context_manager():
            return causal_row_losses(model(**inputs, use_cache=False).logits, labels)

    def compute_loss(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The trainer's loss, for evaluation: models do not know the item column."""
        return super().compute_loss(model, self._without_items(inputs), *args, **kwargs)  # type: ignore[misc]

    def prediction_step(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The trainer's prediction: models do not know the item column."""
        return super().prediction_step(model, self._without_items(inputs), *args, **kwargs)  # type: ignore[misc]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log the trainer's numbers, during training with ρ and what was last diagnosed."""
        if "loss" in logs:
            optimizer = self._own_optimizer()
            logs = {**logs, "eisam_rho": optimizer.current_rho, **self._diagnostics}  # type: ignore[attr-defined]
        super().log(logs, *args, **kwargs)  # type: ignore[misc]

    def _set_signature_columns_if_needed(self) -> None:
        trainer: Any = self
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        if self.eisam.item_column not in trainer._signature_columns:
            trainer._signature_columns = [*trainer._signature_columns, self.eisam.item_column]

    # Its own

    def _own_optimizer(self) -> PerTargetOptimizer:
        trainer: Any = self
        optimizer: PerTargetOptimizer = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
        return optimizer

    def _without_items(self, inputs: Any) -> dict[str, Any]:
        return {name: value for name, value in inputs.items() if name != self.eisam.item_column}

    def _is_to_be_diagnosed(self) -> bool:
        trainer: Any = self
        every = self.eisam.diagnose_steps
        return every > 0 and trainer.state.global_step % every == 0

    def _diagnose(self, optimizer: Any, loss_fn: Any, batch: MicroBatches) -> None:
        found = optimizer.diagnose(loss_fn, batch.items[: batch.sizes[0]])
        self._diagnostics = {
            f"eisam_{name}": float(value)
            for name, value in (
                ("cosine", found.cosine_shared),
                ("radius", found.radius),
                ("realised_norm", found.realised_norm),
                ("share_of_rows_perturbed", found.share_of_rows_perturbed),
                ("smallest_factor", found.smallest_factor),
                ("largest_factor", found.largest_factor),
            )
            if value is not None
        }


class EISAMTrainer(EISAMMixin, Trainer):  # type: ignore[misc]
    """``transformers.Trainer`` with EISAM's gradient; see :class:`EISAMMixin`.

    Example:
        Beside the trainer's own arguments, ``eisam`` is all there is to add::

            trainer = EISAMTrainer(
                model, args, train_dataset=examples,  # with a column "item"
                eisam=EISAMSettings(item_weights(counts), rho=0.05),
            )
    """


def _keep_buffers_of_compiled_graphs() -> None:
    """Let a compiled forward be differentiated twice: by the weighted losses, then by what remains."""
    import torch._functorch.config

    torch._functorch.config.donated_buffer = False  # its own error message says so


def _refuse_what_has_no_row_losses(trainer: Any) -> None:
    args = trainer.args
    refused = (
        ("label_smoothing_factor", args.label_smoothing_factor, args.label_smoothing_factor != 0),
        ("compute_loss_func", trainer.compute_loss_func, trainer.compute_loss_func is not None),
        ("n_gpu", args.n_gpu, args.n_gpu > 1),
        ("packing", True, bool(getattr(args, "packing", False))),
        ("padding_free", True, bool(getattr(args, "padding_free", False))),
    )
    for name, value, is_refused in refused:
        if is_refused:
            raise ValueError(
                f"{name} must be left at its default with EISAM; got {value!r}. Each row needs a loss of "
                "its own, by the model's logits: override row_losses for another loss, and start one "
                "process per GPU with torchrun."
            )


def _name_parameters(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """Write the names of its parameters into each group, for patterns."""
    names = {id(p): name for name, p in model.named_parameters()}
    for group in optimizer.param_groups:
        group["param_names"] = [names[id(p)] for p in group["params"]]


def _scale_of(scaler: Any, device: torch.device) -> float:
    """What the scaler multiplies losses by; it takes no step before it was asked to scale one."""
    return 1.0 if scaler is None else float(scaler.scale(torch.ones((), device=device)))


def _overflow(optimizer: PerTargetOptimizer, device: torch.device) -> Tensor:
    """Leave a gradient that makes the scaler skip this step and lower its scale."""
    for p in optimizer.parameters():
        p.grad = torch.full_like(p, torch.inf)
    return torch.full((), torch.nan, device=device)
