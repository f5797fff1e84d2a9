"""Losses and item weights in, parameter updates out. Needs torch and nothing else.

One line: ``EISAM(model.parameters(), torch.optim.AdamW, item_weights=item_weights(counts),
rho=0.05, lr=1e-3).step(loss_fn, items)``.
"""

from tailwise.optim._asam import ASAM
from tailwise.optim._eisam import EISAM
from tailwise.optim._erm import ERM
from tailwise.optim._focal_sam import FocalSAM
from tailwise.optim._group_sam import GroupSAM
from tailwise.optim._imbsam import ImbSAM
from tailwise.optim._item_weights import WEIGHT_SCHEMES, item_weights
from tailwise.optim._joint_batch import LossFunction
from tailwise.optim._logit_adjustment import logit_offsets
from tailwise.optim._look_sam import LookSAM
from tailwise.optim._loss_weights import LOSS_WEIGHT_SCHEMES, loss_weights, row_sampling_weights
from tailwise.optim._momentum_sam import MomentumSAM
from tailwise.optim._ranks import OneProcess, Ranks, ReplicatedRanks, ShardedRanks
from tailwise.optim._sam import SAM
from tailwise.optim._shards import held_like, whole
from tailwise.optim._wrapper import PerTargetOptimizer

__all__ = [
    "ASAM",
    "EISAM",
    "ERM",
    "LOSS_WEIGHT_SCHEMES",
    "SAM",
    "WEIGHT_SCHEMES",
    "FocalSAM",
    "GroupSAM",
    "ImbSAM",
    "LookSAM",
    "LossFunction",
    "MomentumSAM",
    "OneProcess",
    "PerTargetOptimizer",
    "Ranks",
    "ReplicatedRanks",
    "ShardedRanks",
    "held_like",
    "item_weights",
    "logit_offsets",
    "loss_weights",
    "row_sampling_weights",
    "whole",
]
