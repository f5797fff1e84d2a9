"""A recommender, an optimizer and histories in; the best (or last) parameters and a record of the cost out.

One line: ``fit(recommender, optimizer, histories, TrainingConfig(), validate=ndcg_of_validation_users,
folder=Path("runs/first/eisam/seed-0/training"), seed=0)``.
"""

from tailwise.training._checkpoint import load_newest_checkpoint, save_checkpoint
from tailwise.training._config import TrainingConfig, learning_rate_factor
from tailwise.training._fit import EpochRecord, FitResult, TrainingInterrupted, TrainingProgress, fit
from tailwise.training._precision import matmul_precision
from tailwise.training._processes import Processes, joined_processes
from tailwise.training._run_record import describe_surroundings, differing_surroundings
from tailwise.training._sharding import shard

__all__ = [
    "EpochRecord",
    "FitResult",
    "Processes",
    "TrainingConfig",
    "TrainingInterrupted",
    "TrainingProgress",
    "describe_surroundings",
    "differing_surroundings",
    "fit",
    "joined_processes",
    "learning_rate_factor",
    "load_newest_checkpoint",
    "matmul_precision",
    "save_checkpoint",
    "shard",
]
