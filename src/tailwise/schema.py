"""Column names of the tables that stages hand on, in one place.

Every table is a ``polars.DataFrame``. Raw tables carry the user's own identifiers
(``user_id``, ``item_id``, text). *Encoded* tables add ``user_index`` and
``item_index``: positions 0..n-1, where ``item_index`` is the row of the catalogue
and therefore the column of every score matrix.
"""

__all__ = [
    "BRAND",
    "CATEGORY",
    "EVENT_TYPE",
    "ITEM",
    "ITEM_INDEX",
    "OPTIONAL_INTERACTION_COLUMNS",
    "OPTIONAL_ITEM_COLUMNS",
    "PRICE",
    "QUANTITY",
    "RATING",
    "REVENUE",
    "TIMESTAMP",
    "TITLE",
    "USER",
    "USER_INDEX",
]

USER = "user_id"  # text
ITEM = "item_id"  # text
TIMESTAMP = "timestamp"  # int64, unix seconds
RATING = "rating"  # float64, the source's own scale
QUANTITY = "quantity"  # float64, units bought
PRICE = "price"  # float64, per unit, the source's currency
REVENUE = "revenue"  # float64, of the whole row, the source's currency
EVENT_TYPE = "event_type"  # text: view, click, purchase, ...

TITLE = "title"  # text, what the language model reads
CATEGORY = "category"  # text
BRAND = "brand"  # text

USER_INDEX = "user_index"  # int64, 0..n_users-1
ITEM_INDEX = "item_index"  # int64, row of the catalogue, 0..n_items-1

OPTIONAL_INTERACTION_COLUMNS = (RATING, QUANTITY, PRICE, REVENUE, EVENT_TYPE)
OPTIONAL_ITEM_COLUMNS = (CATEGORY, BRAND, PRICE)
