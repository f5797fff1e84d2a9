"""The log's tables, as the newest migration leaves them."""

import sqlalchemy as sa

__all__ = ["DELETIONS", "EVENTS", "LISTS", "METADATA", "PERMITS", "SETTINGS"]

METADATA = sa.MetaData()

BigKey = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite counts up whole INTEGER keys alone

EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column(
        "seq", BigKey, sa.Identity(), primary_key=True
    ),  # order of storing: clocks may jump, this does not
    sa.Column("event_id", sa.Text, nullable=False, unique=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("item_id", sa.Text, nullable=False),
    sa.Column("occurred_at", sa.Double, nullable=False),  # unix seconds
    sa.Column("received_at", sa.Double, nullable=False),
    sa.Column("recommendation_id", sa.Text),
    sa.Column("position", sa.Integer),
    sa.Column("session_id", sa.Text),
    sa.Column("quantity", sa.Integer, nullable=False),
    sa.Column("revenue_e4", sa.BigInteger),  # ten-thousandths of the currency's unit
    sa.Column("currency", sa.Text),
    sqlite_autoincrement=True,
)
sa.Index("events_by_time", EVENTS.c.occurred_at, EVENTS.c.seq)
# Every event stands in one of these two: impressions are looked up by item, the others are a user's history.
SHOWN = sa.text("type = 'impression'")
CHOSEN = sa.text("type <> 'impression'")
sa.Index(
    "events_shown",
    EVENTS.c.user_id,
    EVENTS.c.item_id,
    EVENTS.c.occurred_at,
    sqlite_where=SHOWN,
    postgresql_where=SHOWN,
)
sa.Index(
    "events_chosen",
    EVENTS.c.user_id,
    EVENTS.c.type,
    EVENTS.c.occurred_at,
    sqlite_where=CHOSEN,
    postgresql_where=CHOSEN,
)

LISTS = sa.Table(
    "lists",
    METADATA,
    sa.Column("seq", BigKey, sa.Identity(), primary_key=True),
    sa.Column("recommendation_id", sa.Text, nullable=False, unique=True),
    sa.Column("served_at", sa.Double, nullable=False),
    sa.Column("surface", sa.Text, nullable=False),
    sa.Column("user_id", sa.Text),
    sa.Column("variant", sa.Text, nullable=False),
    sa.Column("experiment", sa.Text),
    sa.Column("stage", sa.Integer),
    sa.Column("in_experiment", sa.Boolean, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("method", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("is_explored", sa.Boolean, nullable=False),
    sa.Column("temperature", sa.Double),
    sa.Column("n_candidates", sa.Integer),
    sa.Column("history_length", sa.Integer, nullable=False),
    sa.Column("unknown_items", sa.Text, nullable=False),  # JSON
    sa.Column("latency_ms", sa.Double, nullable=False),
    sa.Column("context", sa.Text, nullable=False),  # JSON
    sa.Column("slots", sa.Text, nullable=False),  # JSON: [[position, item_id, score, segment, propensity]]
    sqlite_autoincrement=True,
)
sa.Index("lists_by_time", LISTS.c.served_at, LISTS.c.seq)
sa.Index("lists_by_user", LISTS.c.user_id)

# A row with a permit is the only key to deleting events and lists, and only within its transaction: `permits`
# is always empty, and the foreign key is looked at on commit.
PERMITS = sa.Table(
    "permits",
    METADATA,
    sa.Column("permit_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.CheckConstraint("1 = 0", name="permits_stays_empty"),
)
DELETIONS = sa.Table(
    "deletions",
    METADATA,
    sa.Column("deletion_id", BigKey, sa.Identity(), primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),  # user, retention
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("user_hash", sa.Text),
    sa.Column("before", sa.Double),
    sa.Column("n_events", sa.BigInteger, nullable=False),
    sa.Column("n_lists", sa.BigInteger, nullable=False),
    sa.Column(
        "permit_id",
        sa.Integer,
        sa.ForeignKey("permits.permit_id", deferrable=True, initially="DEFERRED"),
    ),
    sqlite_autoincrement=True,
)
sa.Index("deletions_by_user", DELETIONS.c.user_hash)
sa.Index("deletions_by_permit", DELETIONS.c.permit_id)

SETTINGS = sa.Table(
    "settings",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
