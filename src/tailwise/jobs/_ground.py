"""Titles that any language model wrote as it liked, brought back to items: lists that an audit can read."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from tailwise.errors import ConfigError, DataError
from tailwise.evaluation._given_lists import RANK
from tailwise.interactions import load_catalogue, load_dataset
from tailwise.interactions._columns import require_values, select_columns
from tailwise.interactions._files import read_table
from tailwise.jobs._progress import Narrator
from tailwise.recommenders import GROUNDINGS, TitleGrounding, encode_titles, resolve_language_model
from tailwise.schema import ITEM, TITLE, USER

__all__ = ["GroundedLists", "ground"]


@dataclass(frozen=True)
class GroundedLists:
    """What became of free-text lists.

    Attributes:
        path: The Parquet file of lists.
        n_texts: Rows that were read.
        n_users: Users that they belong to.
        shares: Share of the texts by how they found an item; see ``GROUNDINGS``.
        n_repeated: Texts left out because they mean an item that stands higher in the same list.
        unmatched: The most frequent texts that mean no item, and how often each came; at most ten.
    """

    path: Path
    n_texts: int
    n_users: int
    shares: dict[str, float]
    n_repeated: int
    unmatched: tuple[tuple[str, int], ...]


def ground(
    texts: Path,
    out: Path,
    *,
    data: str | None = None,
    items: Path | None = None,
    model: str | None = None,
    min_similarity: float = 0.9,
    quiet: bool = False,
) -> GroundedLists:
    """Map free-text titles to catalogue items and write them as recommendation lists.

    Args:
        texts: CSV, TSV or Parquet: ``user_id``, ``title`` and ``rank`` (whole numbers, 1 = first); without
            ``rank`` the rows of a user are in order.
        out: Parquet file to write: ``user_id``, ``item_id``, ``rank`` (1, 2, 3, ... over what was matched),
            ``title`` as it was said, and ``grounding``. A user none of whose texts means an item has no list.
        data: A named data set, whose catalogue it is; or
        items: a catalogue of one's own.
        model: Language model whose title encodings decide where text alone does not; None: text alone.
        min_similarity: See :class:`TitleGrounding`.
        quiet: Say nothing on standard error.

    Raises:
        ConfigError: an argument is out of range.
        DataError: a file breaks a rule, or no text means an item.
    """
    narrator = Narrator(quiet=quiet)
    if (data is None) == (items is None):
        raise ConfigError(
            f"a catalogue must be given as --data or as --items, one of them; got {data!r} and "
            f"{None if items is None else str(items)!r}."
        )
    if out.suffix.lower() != ".parquet":
        raise ConfigError(f"--out must end in .parquet; got {str(out)!r}.")
    if not 0 < min_similarity <= 1:
        raise ConfigError(f"--min-similarity must be in (0, 1]; got {min_similarity}.")
    said = _read(texts)
    catalogue = load_dataset(data).catalogue if items is None else load_catalogue(items)  # type: ignore[arg-type]
    titles = catalogue.titles()
    encoder = None
    if model is not None:
        folder = resolve_language_model(model)
        encoder = lambda some: encode_titles(some, folder)  # noqa: E731
    distinct = said[TITLE].unique(maintain_order=True).to_list()
    narrator.say(f"{said.height:,} texts, {len(distinct):,} of them different; {len(titles):,} titles")
    grounded = TitleGrounding(titles, encoder=encoder, min_similarity=min_similarity).ground(distinct)
    ids = catalogue.items[ITEM].to_list()
    found = said.join(
        pl.DataFrame(
            {
                TITLE: distinct,
                ITEM: [None if item < 0 else ids[item] for item in grounded.items.tolist()],
                "grounding": grounded.how,
            },
            schema_overrides={TITLE: pl.String, ITEM: catalogue.items[ITEM].dtype},
        ),
        on=TITLE,
        maintain_order="left",
    )
    matched = found.filter(pl.col(ITEM).is_not_null()).sort(USER, RANK, maintain_order=True)
    if not matched.height:
        raise DataError(
            f"{texts} must hold a text that means an item of the catalogue; got none among {said.height:,} "
            f"(first: {distinct[0]!r}).\n  Is it the catalogue that these titles are of?"
        )
    lists = matched.unique([USER, ITEM], keep="first", maintain_order=True)
    lists = lists.with_columns(pl.int_range(1, pl.len() + 1).over(USER).alias(RANK))
    partial = out.with_name(f".{out.name}.partial")
    lists.select(USER, ITEM, RANK, TITLE, "grounding").write_parquet(partial)
    partial.replace(out)
    how = found["grounding"].to_list()
    missed = found.filter(pl.col(ITEM).is_null())[TITLE].value_counts(sort=True)
    return GroundedLists(
        path=out,
        n_texts=said.height,
        n_users=said[USER].n_unique(),
        shares={name: how.count(name) / len(how) for name in GROUNDINGS},
        n_repeated=matched.height - lists.height,
        unmatched=tuple(missed.head(10).iter_rows()),
    )


def _read(texts: Path) -> pl.DataFrame:
    """The texts in order of their ranks: ``user_id``, ``title``, ``rank``."""
    table, file = read_table(texts, role="interactions")
    source = str(file)
    rows, _ = select_columns(table, required=(USER, TITLE), optional=(RANK,), columns=None, source=source)
    if not rows.height:
        raise DataError(f"{source} must hold at least one text; got 0 rows.\n  Check the export.")
    require_values(rows, (USER,), source)
    if RANK not in rows.columns:
        return rows.with_columns(
            pl.col(TITLE).fill_null(""), pl.int_range(1, pl.len() + 1).over(USER).alias(RANK)
        )
    ranks = rows[RANK].cast(pl.Int64, strict=False)
    if ranks.null_count() or (ranks < 1).any():
        bad = rows.filter(ranks.is_null() | (ranks < 1))
        raise DataError(
            f"rank must be a whole number >= 1; got {bad[RANK][0]!r} and {bad.height - 1:,} more in "
            f"{source}.\n"
            "  Leave the column out if the rows of each user are in order."
        )
    return rows.with_columns(pl.col(TITLE).fill_null(""), ranks.alias(RANK))
