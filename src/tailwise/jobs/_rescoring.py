"""The same trained weights, scored another way: what a variant's lists become, at no training."""

import math
from dataclasses import dataclass

import torch

from tailwise.errors import ConfigError
from tailwise.recommenders import (
    ItemTokenRecommender,
    PopularityPenalised,
    Recommender,
    RescoredTitles,
    TitleRecommender,
)

__all__ = ["RescoringConfig", "rescored"]


@dataclass(frozen=True)
class RescoringConfig:
    """Another way to score with what was trained; every variant of a run is measured with it as well.

    Attributes:
        name: Added to a variant's name with a plus: ``adamw+debiased``.
        popularity_penalty: Taken from an item's score for each unit of log(1 + training interactions), in
            the units of scores (nats for titles), >= 0; 0 is off.
        per_token: Titles only: the mean log-likelihood of a title's tokens in place of the sum, so that
            a long title is not behind a short one for its length.
    """

    name: str
    popularity_penalty: float = 0.0
    per_token: bool = False

    def __post_init__(self) -> None:
        if not self.name or not self.name.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"rescorings.name must consist of letters, digits, - and _; got {self.name!r}.")
        if not 0 <= self.popularity_penalty < math.inf:
            raise ConfigError(
                "rescorings.popularity_penalty must be a finite number >= 0; got "
                f"{self.popularity_penalty} in {self.name!r}."
            )
        if not self.popularity_penalty and not self.per_token:
            raise ConfigError(
                f"rescorings must change something; got popularity_penalty=0 and per_token=false in "
                f"{self.name!r}. Leave it out: the variants themselves are measured."
            )

    def of(self, variant: str) -> str:
        """Return the name of a variant that is scored this way."""
        return f"{variant}+{self.name}"

    @property
    def words(self) -> str:
        """What labels add."""
        told = ["per token"] if self.per_token else []
        if self.popularity_penalty:
            told.append(f"− {self.popularity_penalty:g}·log(1+n)")
        return "scored " + " ".join(told)


def rescored(
    recommender: ItemTokenRecommender | TitleRecommender, how: RescoringConfig, counts: torch.Tensor
) -> Recommender:
    """Score with a trained recommender another way; it stays as it is.

    Args:
        recommender: Any; one that says titles where ``how.per_token``.
        how: The way.
        counts: ``[n_items]``; training interactions.
    """
    if isinstance(recommender, TitleRecommender):
        penalties = how.popularity_penalty * torch.log1p(counts.double())
        return RescoredTitles(recommender, per_token=how.per_token, penalties=penalties.numpy())
    return PopularityPenalised(recommender, counts, how.popularity_penalty)
