"""A model that is loaded to be served: what scores, for which items, and who is known to it."""

from dataclasses import dataclass

from tailwise.errors import DataError
from tailwise.recommenders import Recommender
from tailwise.serving._known_histories import KnownHistories
from tailwise.serving._served_catalogue import ServedCatalogue

__all__ = ["ServedModel"]


@dataclass(frozen=True, eq=False)
class ServedModel:
    """What an engine is made of; nothing in it changes.

    Attributes:
        name: Of the variant, such as ``control``.
        digest: Of the trained parameters; logged with every list.
        recommender: Scores the catalogue. An item-token one is asked for vectors, read item by item;
            any other for scores.
        catalogue: The items in the recommender's order.
        histories: Of the users it was made with.
        temperature: Of explored lists, in units of this model's scores, > 0. None: the engine's
            setting. Scores of two models may differ in size.

    Raises:
        DataError: recommender and catalogue differ in size.
        ValueError: ``temperature`` is not above 0.
    """

    name: str
    digest: str
    recommender: Recommender
    catalogue: ServedCatalogue
    histories: KnownHistories
    temperature: float | None = None

    def __post_init__(self) -> None:
        if self.recommender.n_items != self.catalogue.n_items:
            raise DataError(
                f"recommender must score the catalogue's {self.catalogue.n_items:,} items; got "
                f"{self.recommender.n_items:,}.\n"
                f"  Model {self.name!r} and its catalogue belong to different runs."
            )
        if self.temperature is not None and not self.temperature > 0:
            raise ValueError(f"temperature must be above 0; got {self.temperature}.")
