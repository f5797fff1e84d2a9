"""The items that a service can list: their titles, their segments, and which of them a filter allows."""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from tailwise.errors import DataError
from tailwise.schema import BRAND, CATEGORY, ITEM, PRICE
from tailwise.serving._records import Filters

__all__ = ["IN_STOCK", "ServedCatalogue"]

IN_STOCK = "in_stock"  # bool; column of a table of properties
_MASKS_KEPT = 64  # a mask takes a byte per item; pages of a shop ask for a few dozen combinations


class ServedCatalogue:
    """Every item a model scores, in the order of ``item_index``; read-only.

    Args:
        item_ids: ``[n_items]`` distinct.
        titles: ``[n_items]``.
        counts: ``[n_items]`` training interactions, each >= 0.
        segments: ``[n_items]`` name of each item's segment.
        categories: ``[n_items]``, None where an item has none. None: nothing is known of categories.
        brands: As ``categories``.
        prices: ``[n_items]`` in the catalogue's currency, None or NaN where unknown. None: of no item.
        in_stock: ``[n_items]`` bool, None where unknown, which counts as in stock. None: of no item.

    Raises:
        DataError: a column has another length, an item occurs twice, a count is negative.

    Example:
        >>> catalogue = ServedCatalogue(["a", "b"], ["A", "B"], [3, 0], ["head", "cold"], prices=[9.5, None])
        >>> catalogue.mask(Filters(max_price=10.0)).tolist()
        [True, False]
    """

    def __init__(
        self,
        item_ids: Sequence[str],
        titles: Sequence[str],
        counts: ArrayLike,
        segments: Sequence[str],
        *,
        categories: Sequence[str | None] | None = None,
        brands: Sequence[str | None] | None = None,
        prices: Sequence[float | None] | ArrayLike | None = None,
        in_stock: Sequence[bool | None] | ArrayLike | None = None,
    ) -> None:
        self.item_ids = tuple(item_ids)
        self.titles = tuple(titles)
        self.counts: NDArray[np.int64] = np.asarray(counts, dtype=np.int64)
        names = {name: name for name in segments}  # one object per name, however many items
        self.segments = tuple(names[name] for name in segments)
        self._index = {item_id: index for index, item_id in enumerate(self.item_ids)}
        if len(self._index) != len(self.item_ids):
            raise DataError(
                f"item_ids must be distinct; got {len(self.item_ids) - len(self._index):,} repeats among "
                f"{len(self.item_ids):,}.\n  Keep one row per item of the catalogue."
            )
        self._columns: dict[str, pl.Series] = {}
        given = {CATEGORY: categories, BRAND: brands, PRICE: prices, IN_STOCK: in_stock}
        for name, values in given.items():
            if values is not None:
                self._columns[name] = _as_property(name, values)
        lengths = {"titles": len(self.titles), "counts": len(self.counts), "segments": len(self.segments)}
        for name, length in (lengths | {n: len(c) for n, c in self._columns.items()}).items():
            if length != self.n_items:
                raise DataError(
                    f"{name} must have one value per item ({self.n_items:,}); got {length:,}.\n"
                    "  Give every column in the order of item_index."
                )
        if self.n_items and int(self.counts.min()) < 0:
            raise DataError(
                f"counts must be >= 0; got {int(self.counts.min())}.\n  They are training interactions."
            )
        self._masks: OrderedDict[Filters, NDArray[np.bool_]] = OrderedDict()

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.item_ids)

    def index_of(self, item_id: str) -> int | None:
        """Return the ``item_index`` of an item, None where the catalogue does not know it."""
        return self._index.get(item_id)

    def property_of(self, item_index: int, name: str) -> str | float | bool | None:
        """Return an item's ``category``, ``brand``, ``price`` or ``in_stock``; None where unknown."""
        column = self._columns.get(name)
        return None if column is None else column[item_index]

    def mask(self, filters: Filters) -> NDArray[np.bool_]:
        """Say of each item whether it may be listed: ``[n_items]`` bool, not to be written into.

        Kept for the 64 combinations that were asked for last.
        """
        kept = self._masks.get(filters)
        if kept is None:
            kept = self._made(filters)
            kept.flags.writeable = False
            self._masks[filters] = kept
            if len(self._masks) > _MASKS_KEPT:
                self._masks.popitem(last=False)
        else:
            self._masks.move_to_end(filters)
        return kept

    def _made(self, filters: Filters) -> NDArray[np.bool_]:
        allowed = np.ones(self.n_items, dtype=np.bool_)
        for name, values in ((CATEGORY, filters.categories), (BRAND, filters.brands)):
            if values:
                column = self._columns.get(name)
                allowed &= False if column is None else _true(column.is_in(list(values)))
        prices = self._columns.get(PRICE)
        for bound, side in ((filters.min_price, "ge"), (filters.max_price, "le")):
            if bound is not None:
                allowed &= False if prices is None else _true(getattr(prices, side)(bound))
        if filters.in_stock and IN_STOCK in self._columns:
            allowed &= self._columns[IN_STOCK].fill_null(value=True).to_numpy()
        return allowed

    def with_properties(self, table: pl.DataFrame) -> "ServedCatalogue":
        """Return a catalogue whose items have new properties; items, titles and counts are shared.

        Args:
            table: ``item_id`` and any of ``category``, ``brand``, ``price``, ``in_stock``. A row replaces
                its item's values in these columns, by nothing where it holds null; other items and
                other columns stay.

        Raises:
            DataError: a column or an item is unknown, an item occurs twice, or a value is of the wrong
                kind. What a model was not trained to score cannot be listed by it, so drop unknown items
                first.
        """
        known = {CATEGORY, BRAND, PRICE, IN_STOCK}
        odd = sorted(set(table.columns) - known - {ITEM})
        if odd or ITEM not in table.columns:
            got = odd[0] if odd else f"no {ITEM}"
            raise DataError(
                f"columns of a table of properties must be {ITEM} and any of "
                f"{', '.join(sorted(known))}; got {got}.\n  Drop or rename the column."
            )
        rows = [self._index.get(item_id, -1) for item_id in table[ITEM].cast(pl.String).to_list()]
        if -1 in rows:
            raise DataError(
                f"{rows.count(-1):,} of {len(rows):,} rows name items absent from the served catalogue "
                f"(first: {table[ITEM][rows.index(-1)]!r}).\n  Drop them, or serve a model that knows them."
            )
        if len(set(rows)) != len(rows):
            raise DataError(
                f"{ITEM} must be distinct; got {len(rows) - len(set(rows)):,} repeats.\n  Keep one row each."
            )
        new = object.__new__(ServedCatalogue)
        new.__dict__.update(self.__dict__)
        new._columns, new._masks = dict(self._columns), OrderedDict()
        places = pl.Series(rows, dtype=pl.Int64)
        for name in known & set(table.columns):
            values = _as_property(name, table[name])
            old = self._columns.get(name)
            old = (
                pl.Series(name, [None], dtype=values.dtype).new_from_index(0, self.n_items)
                if old is None
                else old
            )
            new._columns[name] = old.clone().scatter(places, values)
        return new


def _as_property(name: str, values: object) -> pl.Series:
    """A column of the kind that ``name`` has."""
    kind = {PRICE: pl.Float64(), IN_STOCK: pl.Boolean()}.get(name, pl.String())
    try:
        column = pl.Series(name, values, strict=True)  # type: ignore[arg-type]
        if column.dtype == pl.Object or (kind == pl.Boolean() and column.dtype not in (pl.Boolean, pl.Null)):
            raise TypeError(f"values of kind {column.dtype}")
        if kind == pl.Float64() and column.dtype == pl.String:
            raise TypeError("text")
        column = column.cast(kind, strict=True)
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"{name} must hold {kind} or null; got {type(error).__name__}: {error}.\n  Convert the column."
        ) from error
    return column.fill_nan(None) if name == PRICE else column


def _true(condition: pl.Series) -> NDArray[np.bool_]:
    return condition.fill_null(value=False).to_numpy()
