"""Losses and item weights in, parameter updates out. Needs torch and nothing else.

One line: ``EISAM(model.parameters(), torch.optim.AdamW, item_weights=item_weights(counts),
rho=0.05, lr=1e-3).step(loss_fn, items)``.
"""

from tailwise.optim._eisam import EISAM
from tailwise.optim._erm import ERM
from tailwise.optim._item_weights import WEIGHT_SCHEMES, item_weights
from tailwise.optim._logit_adjustment import logit_offsets
from tailwise.optim._sam import SAM
from tailwise.optim._wrapper import LossFunction, PerTargetOptimizer

__all__ = [
    "EISAM",
    "ERM",
    "SAM",
    "WEIGHT_SCHEMES",
    "LossFunction",
    "PerTargetOptimizer",
    "item_weights",
    "logit_offsets",
]
