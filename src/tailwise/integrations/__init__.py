"""EISAM inside training loops that exist: `transformers.Trainer`, TRL's `SFTTrainer`, Accelerate.

In come a model, examples with the number of the item each is about, and item weights; out
comes the same training with EISAM's gradient. One line:
``EISAMTrainer(model, args, train_dataset=data, eisam=EISAMSettings(item_weights(counts), rho=0.05))``.
"""

from typing import TYPE_CHECKING, Any

from tailwise.integrations._item_collator import ItemCollator
from tailwise.integrations._micro_batches import MicroBatches, causal_row_losses
from tailwise.integrations._precision import keep_precision
from tailwise.integrations._ranks_of import ranks_of
from tailwise.integrations._settings import EISAMSettings

if TYPE_CHECKING:
    from tailwise.integrations._sft_trainer import EISAMSFTTrainer
    from tailwise.integrations._trainer import EISAMMixin, EISAMTrainer

__all__ = [
    "EISAMMixin",
    "EISAMSFTTrainer",
    "EISAMSettings",
    "EISAMTrainer",
    "ItemCollator",
    "MicroBatches",
    "causal_row_losses",
    "keep_precision",
    "ranks_of",
]


def __getattr__(name: str) -> Any:
    """Import a trainer when it is asked for: transformers takes seconds, and TRL need not be there."""
    if name in ("EISAMMixin", "EISAMTrainer"):
        from tailwise.integrations import _trainer

        return getattr(_trainer, name)
    if name == "EISAMSFTTrainer":
        from tailwise.integrations._sft_trainer import EISAMSFTTrainer

        return EISAMSFTTrainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
