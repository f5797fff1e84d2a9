"""EISAM's gradient inside TRL's ``SFTTrainer``."""

from trl import SFTTrainer

from tailwise.integrations._trainer import EISAMMixin

__all__ = ["EISAMSFTTrainer"]


class EISAMSFTTrainer(EISAMMixin, SFTTrainer):  # type: ignore[misc]
    """``trl.SFTTrainer`` with EISAM's gradient, on prompt and completion or conversations.

    The data keeps a column with the item of each example; completions are the targets, as
    TRL has it (``completion_only_loss``). Packing is refused: rows would hold several items.
    """
