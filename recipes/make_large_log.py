"""Make a synthetic log and catalogue of any size, to try recipes/large_catalogue.toml on.

    python recipes/make_large_log.py --items 1000000 --users 200000 --out large

Popularity follows Zipf's law; four of five interactions of a user are with items of one kind (of a
hundred). Titles are random words. Nothing that is measured on it says anything about real shops.
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--items", type=int, default=1_000_000)
parser.add_argument("--users", type=int, default=200_000)
parser.add_argument("--length", type=int, default=12, help="interactions of a user, on average, >= 3")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=Path("large"))
options = parser.parse_args()
if options.items < 200 or options.users < 1 or options.length < 3:
    parser.error(
        "--items must be >= 200, --users >= 1 and --length >= 3; got "
        f"{options.items}, {options.users}, {options.length}."
    )

N_KINDS = 100
SYLLABLES = ["ka", "lo", "mi", "ru", "ta", "ven", "sor", "del", "pin", "gra", "hu", "osk"]
rng = np.random.default_rng(options.seed)

words = ["".join(rng.choice(SYLLABLES, 2 + n % 2)) for n in range(4000)]
kinds = [f"{word} no." for word in words[:N_KINDS]]
first, second = rng.integers(0, len(words), (2, options.items))
titles = [
    f"{words[a]} {words[b]} {kinds[n % N_KINDS]} {n // N_KINDS}"
    for n, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True))
]

popularity = 1 / np.arange(1, options.items + 1)
ends = np.cumsum(popularity) / popularity.sum()
lengths = rng.poisson(options.length - 3, options.users) + 3
users = np.repeat(np.arange(options.users), lengths)
n_rows = len(users)
items = np.minimum(np.searchsorted(ends, rng.random(n_rows)), options.items - 1)
# Of the kind of the user's first item, four times of five.
kind = (items[np.cumsum(lengths) - lengths] % N_KINDS)[users]
stays = rng.random(n_rows) < 0.8
items = np.where(stays, np.minimum(items // N_KINDS * N_KINDS + kind, options.items - 1), items)
moments = 1_600_000_000 + rng.integers(0, 86_400 * 365, n_rows)

options.out.mkdir(parents=True, exist_ok=True)
log = pl.DataFrame({"user_id": users, "item_id": items, "timestamp": moments}).sort("timestamp")
log.with_columns(pl.col("user_id", "item_id").cast(pl.String)).write_parquet(options.out / "log.parquet")
catalogue = pl.DataFrame({"item_id": [str(n) for n in range(options.items)], "title": titles})
catalogue.write_parquet(options.out / "catalogue.parquet")
print(f"{n_rows:,} interactions of {options.users:,} users with {options.items:,} items in {options.out}")
