"""Data sets that Tailwise knows by name: fetched, read, checked, with a recommended split."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from tailwise import assets
from tailwise.errors import DataError
from tailwise.interactions._catalogue import Catalogue, check_catalogue
from tailwise.interactions._dataset import Dataset, Repeats, UnknownItems, build_dataset
from tailwise.interactions._files import read_table
from tailwise.interactions._log import InteractionLog, check_interactions, load_interactions
from tailwise.interactions._splits import Split, SplitMethod, split_by_time, split_leave_last_out
from tailwise.schema import CATEGORY, ITEM, PRICE, QUANTITY, RATING, REVENUE, TIMESTAMP, TITLE, USER

__all__ = ["NamedDataset", "RecommendedSplit", "list_datasets", "load_dataset", "named_dataset"]


@dataclass(frozen=True)
class RecommendedSplit:
    """How a named data set is best cut, and why."""

    method: SplitMethod
    reason: str

    def apply(self, dataset: Dataset, *, seed: int = 0) -> Split:
        """Cut ``dataset`` this way, with default shares."""
        if self.method == "global-time":
            return split_by_time(dataset, seed=seed)
        return split_leave_last_out(dataset, seed=seed)


@dataclass(frozen=True)
class NamedDataset:
    """A data set of the asset registry, with the code that reads its files."""

    name: str
    description: str
    recommended_split: RecommendedSplit
    unknown_items: UnknownItems
    read: Callable[[Path], tuple[InteractionLog, Catalogue]]
    """Reads the asset's folder."""
    kind: str = "product"
    """What a person calls an item of it."""
    separators: Mapping[str, str] = field(default_factory=dict)
    """Column of the catalogue -> what separates several values of one item."""


def list_datasets() -> list[str]:
    """Return the names that :func:`load_dataset` knows."""
    return sorted(_NAMED)


def named_dataset(name: str) -> NamedDataset:
    """Return what is known about the data set called ``name``.

    Raises:
        DataError: no such name.

    Example:
        >>> named_dataset("ml-100k").recommended_split.method
        'leave-last-out'
    """
    if name in _NAMED:
        return _NAMED[name]
    near = difflib.get_close_matches(name.lower(), _NAMED, n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise DataError(
        f"data set name must be one of {', '.join(list_datasets())}; got {name!r}.\n"
        f"  {hint}Files of your own: --interactions and --items on the command line, in Python "
        "load_interactions, load_catalogue and build_dataset."
    )


def load_dataset(name: str, *, repeats: Repeats = "first", progress: bool = True) -> Dataset:
    """Fetch (once) and load a data set by name.

    Args:
        name: One of :func:`list_datasets`.
        repeats: See :func:`build_dataset`.
        progress: Whether a download shows a bar.

    Raises:
        DataError: no such name.
        AssetError: it is not in the cache and no source answers.

    Example:
        >>> load_dataset("ml-100k").n_items  # doctest: +SKIP
        1682
    """
    named = named_dataset(name)
    log, catalogue = named.read(assets.fetch(name, progress=progress))
    return build_dataset(log, catalogue, name=name, repeats=repeats, unknown_items=named.unknown_items)


_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
# One entry has no title in the source ("unknown", or "unkonwn" in the RecBole copy).
_UNTITLED_FILM = "Unknown film"


def _read_ml_100k(folder: Path) -> tuple[InteractionLog, Catalogue]:
    """Read whichever file set is there; both give the same data set, to the checksum."""
    if (folder / "ml-100k.inter").is_file():
        log = load_interactions(folder / "ml-100k.inter")
        table, file = read_table(folder / "ml-100k.item", role="items")
        year = pl.col("release_year")
        films = table.select(
            ITEM,
            # One year is "V" (for video); its title carries the year already.
            pl.when(year.str.contains(r"^\d{4}$"))
            .then(pl.format("{} ({})", "movie_title", year))
            .otherwise("movie_title")
            .alias(TITLE),
            pl.col("class").alias(CATEGORY),
        )
    else:
        names = [USER, ITEM, RATING, TIMESTAMP]
        table = pl.read_csv(
            folder / "u.data", separator="\t", has_header=False, new_columns=names, infer_schema=False
        )
        log = check_interactions(table, source=str(folder / "u.data"))
        file = folder / "u.item"
        lines = [line.split("|") for line in file.read_text("latin-1").splitlines()]
        films = pl.DataFrame(
            {
                ITEM: [fields[0] for fields in lines],
                TITLE: [fields[1].removesuffix(" (V)") for fields in lines],
                CATEGORY: [
                    " ".join(genre for genre, flag in zip(_GENRES, fields[5:], strict=True) if flag == "1")
                    for fields in lines
                ],
            }
        )
    title = pl.col(TITLE)
    films = films.with_columns(
        pl.when(title.is_in(["unknown", "unkonwn"]))
        .then(pl.lit(_UNTITLED_FILM))
        # "Usual Suspects, The (1995)" -> "The Usual Suspects (1995)", as people and models write it
        .otherwise(title.str.replace(r"^([^(]+), (The|A|An)( \(.*)?$", "${2} ${1}${3}"))
        .alias(TITLE)
    )
    return log, check_catalogue(films, source=str(file))


def _read_complete_journey(folder: Path) -> tuple[InteractionLog, Catalogue]:
    sales, sales_file = read_table(folder / "transactions.parquet", role="interactions")
    products, products_file = read_table(folder / "products.parquet", role="items")
    bought = sales.filter(pl.col("quantity") > 0)
    rows = bought.select(
        pl.col("household_id").alias(USER),
        pl.col("product_id").alias(ITEM),
        pl.col("transaction_timestamp").alias(TIMESTAMP),
        pl.col("quantity").alias(QUANTITY),
        (pl.col("sales_value") / pl.col("quantity")).alias(PRICE),
        pl.col("sales_value").alias(REVENUE),
        "basket_id",  # ignored, but tells two equal purchases from one row written twice
    )
    notes = (f"{sales.height - bought.height:,} rows of quantity 0 left out: nothing was bought",)
    log = check_interactions(rows, source=str(sales_file), notes=notes)
    kind = pl.coalesce("product_type", "product_category", "department").str.to_titlecase()
    items = products.select(
        pl.col("product_id").alias(ITEM),
        pl.concat_str(
            pl.format("{} brand {}", "brand", kind), "package_size", separator=", ", ignore_nulls=True
        ).alias(TITLE),
        pl.coalesce("product_category", "department").alias(CATEGORY),
        pl.col("brand"),
    )
    catalogue = check_catalogue(items, source=str(products_file))
    return replace(log, n_rows_read=sales.height), catalogue


_NAMED = {
    named.name: named
    for named in (
        NamedDataset(
            name="ml-100k",
            description=(
                "MovieLens 100K: every rating counts as an interaction, whatever its value. "
                "Title: film with year; category: genres."
            ),
            recommended_split=RecommendedSplit(
                "leave-last-out",
                "Most users rated all their films within one sitting: a cut in global time leaves about 90 "
                "users with both a history and a target, too few to measure rare items.",
            ),
            unknown_items="error",
            read=_read_ml_100k,
            kind="movie",
            separators={CATEGORY: " "},
        ),
        NamedDataset(
            name="completejourney",
            description=(
                "Complete Journey: grocery purchases with quantity, price and revenue in US dollars. The "
                "source has no product names. Title: brand class, product type, size; category as given."
            ),
            recommended_split=RecommendedSplit(
                "global-time",
                "Households buy all year long, so nearly all have a history and a target on either side of a "
                "cut in time, and the cut is what a deployed model faces.",
            ),
            unknown_items="drop",
            read=_read_complete_journey,
            kind="grocery product",
        ),
    )
}
