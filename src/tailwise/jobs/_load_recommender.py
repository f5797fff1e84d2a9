"""A finished variant or reference of a run, loaded to score."""

import torch

from tailwise.errors import DataError
from tailwise.jobs._rescoring import RescoringConfig, rescored
from tailwise.jobs._run_data import load_run_data
from tailwise.jobs._run_folder import ResultFolder, RunFolder
from tailwise.jobs._stored_histories import StoredData
from tailwise.recommenders import (
    ItemKNN,
    ItemTokenRecommender,
    MostPopular,
    Recommender,
    TitleRecommender,
    load_recommender,
)

__all__ = ["load_finished", "rescoring_of"]


def rescoring_of(variant: str, folder: RunFolder) -> tuple[str, RescoringConfig] | None:
    """Return the trained variant and the way of scoring that ``adamw+debiased`` and the like say, or None."""
    trained, plus, name = variant.rpartition("+")
    if not plus:
        return None
    return next(((trained, how) for how in folder.read_config().rescorings if how.name == name), None)


def load_finished(
    variant: str, result: ResultFolder, folder: RunFolder, data: StoredData, device: torch.device
) -> Recommender:
    """Load what a finished folder holds, or build the reference that its name says.

    Args:
        variant: Its name in the run.
        result: Its folder.
        folder: The run's.
        data: The run's, opened.
        device: Where it will compute.

    Raises:
        DataError: it scores another number of items than the run has.
        CheckpointError: the saved recommender is damaged.
    """
    if variant == "most-popular":
        recommender: Recommender = MostPopular(data.training_counts())
    elif variant == "item-knn":
        recommender = ItemKNN(load_run_data(folder.data).training_histories(), len(data.item_ids))
    elif base := rescoring_of(variant, folder):
        trained, how = base
        recommender = load_recommender(result.rescored(trained).model, device=device)
        counts = torch.from_numpy(data.training_counts())
        if not isinstance(recommender, ItemTokenRecommender | TitleRecommender):
            raise DataError(f"{trained!r} must be trained to be scored another way; got {type(recommender)}.")
        recommender = rescored(recommender, how, counts)
    else:
        recommender = load_recommender(result.model, device=device)
    if recommender.n_items != len(data.item_ids):
        raise DataError(
            f"recommender must score the run's {len(data.item_ids):,} items; got {recommender.n_items:,}.\n"
            f"  {str(result.path)!r} and {str(folder.data)!r} belong to different runs."
        )
    return recommender
