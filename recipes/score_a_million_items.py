"""A million items known by vectors: train on drawn negatives by EISAM, then write every user's list.

    torchrun --standalone --nproc-per-node=8 recipes/score_a_million_items.py --interactions log.parquet \
      --items catalogue.parquet --vectors vectors.npy --out runs/million
    python recipes/score_a_million_items.py --synthetic 20000 --users 2000 --epochs 1 --out runs/try

Without a language model: ``vectors.npy`` holds ``[items, d]`` numbers of whatever encoder, a row per row of
the catalogue file (Parquet). Items are an adapter over them, so nothing that is trained grows
with the catalogue. ``--synthetic ITEMS`` makes up log, catalogue and vectors; nothing measured
on them says anything about real shops. The same command goes on where it was stopped, with any number of
processes. Lists lie in OUT/lists/part-*.parquet, 2,048 users each. See docs/large-catalogues.md.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import torch

from tailwise.interactions import (
    build_dataset,
    histories,
    load_catalogue,
    load_interactions,
    split_leave_last_out,
    training_histories,
)
from tailwise.optim import EISAM, item_weights
from tailwise.recommenders import (
    ItemTokenConfig,
    NegativeSampler,
    SASRecConfig,
    build_sasrec,
    save_recommender,
    top_items,
)
from tailwise.segments import popularity
from tailwise.training import TrainingConfig, TrainingProgress, fit, joined_processes

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--interactions", type=Path, help="Parquet: user_id, item_id, timestamp")
parser.add_argument("--items", type=Path, help="Parquet: item_id, title")
parser.add_argument("--vectors", type=Path, help="[items, d] as numpy saves it; float16 is enough")
parser.add_argument("--synthetic", type=int, metavar="ITEMS", help="make up data of that many items")
parser.add_argument("--users", type=int, default=20_000, help="of made-up data")
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--negatives", type=int, default=4096)
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--positions", type=int, default=6400, help="of a batch, of all processes together")
parser.add_argument("--rho", type=float, default=0.1)
parser.add_argument("--width", type=int, default=64)
parser.add_argument("--k", type=int, default=20)
parser.add_argument("--users-per-part", type=int, default=2048)
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
options = parser.parse_args()
files = (options.interactions, options.items, options.vectors)
if (options.synthetic is None) != all(files) or (options.synthetic is not None and any(files)):
    parser.error("give --interactions, --items and --vectors, or --synthetic ITEMS alone.")
MAX_LENGTH, USERS_AT_ONCE, N_VALIDATION_USERS, SEED = 50, 256, 1000, 0


def make_up(folder: Path) -> None:
    """Write a synthetic log, catalogue and vectors, near each other within a kind (number modulo 100)."""
    make_log = Path(__file__).with_name("make_large_log.py")
    sizes = ["--items", str(options.synthetic), "--users", str(options.users)]
    subprocess.run([sys.executable, str(make_log), *sizes, "--out", str(folder)], check=True)
    rng = np.random.default_rng(SEED)
    kinds = rng.standard_normal((100, 64), dtype=np.float32)
    noise = rng.standard_normal((options.synthetic, 64), dtype=np.float32)
    vectors = kinds[np.arange(options.synthetic) % 100] + noise
    with (folder / ".vectors.tmp").open("wb") as file:
        np.save(file, vectors.astype(np.float16))
    (folder / ".vectors.tmp").replace(folder / "vectors.npy")  # last: what is there is whole


def lists_of(ids: list[str], items: torch.Tensor, scores: torch.Tensor) -> pl.DataFrame:
    """Rows user_id, item_index, rank, score of some users' lists."""
    row, place = (items >= 0).nonzero(as_tuple=True)
    columns = {"row": row, "item_index": items[row, place], "rank": place + 1, "score": scores[row, place]}
    table = pl.DataFrame({name: column.cpu().numpy() for name, column in columns.items()})
    users = pl.Series("user_id", ids, dtype=pl.String).gather(table["row"])
    return table.select(users, "item_index", pl.col("rank").cast(pl.Int32), "score")


with joined_processes(torch.device(options.device)) as processes:

    def say(text: str) -> None:
        """Speak for all processes."""
        if processes.is_first:
            print(text, flush=True)

    if options.synthetic is not None:
        made = options.out / "synthetic"
        files = (made / "log.parquet", made / "catalogue.parquet", made / "vectors.npy")
        processes.first_does(lambda: None if files[2].is_file() else make_up(made))
        say("SYNTHETIC data: Zipf's law, random histories")
    log, catalogue = load_interactions(files[0]), load_catalogue(files[1])
    dataset = build_dataset(log, catalogue)
    split = split_leave_last_out(dataset)
    counts = popularity(split.train, dataset.n_items)
    # The catalogue is in the order of item_id; vectors are in that of the file.
    rows = pl.read_parquet(files[1], columns=["item_id"]).select(pl.col("item_id").cast(pl.String))
    given = np.load(files[2], mmap_mode="r")
    if given.ndim != 2 or len(given) != rows.height:
        parser.error(f"--vectors must be [{rows.height}, d], a row per item; got shape {given.shape}.")
    rows = catalogue.items.select("item_id").join(
        rows.with_row_index("row"), on="item_id", maintain_order="left"
    )
    vectors = torch.from_numpy(
        given[rows.unique("item_id", keep="first", maintain_order=True)["row"].to_numpy()]
    )
    say(f"{dataset.n_users:,} users, {dataset.n_items:,} items, {dataset.n_interactions:,} interactions")

    # Training

    config = ItemTokenConfig(max_length=MAX_LENGTH, id_residual=False)
    architecture = SASRecConfig(width=options.width)
    recommender = build_sasrec(
        dataset.n_items, architecture, config, seed=SEED, device=processes.device, title_encodings=vectors
    )
    training = TrainingConfig(
        max_epochs=options.epochs, positions_per_batch=options.positions, schedule="cosine"
    )
    optimizer = EISAM(
        recommender.parameter_groups(training.learning_rate, training.weight_decay),
        torch.optim.AdamW,
        item_weights=item_weights(torch.from_numpy(counts)).to(processes.device),
        rho=options.rho,
        estimator="single-pass",
        seed=SEED,
        ranks=processes.ranks(),
    )
    held_out = histories(split, "validation")
    judged = np.random.default_rng(SEED).permutation(held_out.n_users)[:N_VALIDATION_USERS]

    def ndcg() -> float:
        """NDCG@10 over the whole catalogue; each process ranks its share of the users."""
        own = judged[processes.part(len(judged))]
        gains = 0.0
        for start in range(0, len(own), USERS_AT_ONCE):
            batch = own[start : start + USERS_AT_ONCE]
            best, _ = top_items(recommender, [held_out.histories[u] for u in batch], 10)
            wanted = torch.tensor([int(held_out.targets(u)[0]) for u in batch], device=best.device)
            place = (best == wanted[:, None]).nonzero()[:, 1]
            gains += float((1 / torch.log2(place + 2.0)).sum())
        return sum(processes.gathered(gains)) / len(judged)

    def tell(at: TrainingProgress) -> None:
        """Say now and then how far it is."""
        if at.step % 20 == 0:
            say(f"step {at.step}/{at.n_steps}, loss {at.loss:.3f}, {at.targets_per_second:,.0f} targets/s")

    settings = {name: value for name, value in vars(options).items() if name in ("negatives", "epochs")}
    settings |= {"positions": options.positions, "rho": options.rho, "width": options.width}
    settings |= {"data": dataset.checksum(), "vectors": list(given.shape)}
    result = fit(
        recommender,
        optimizer,
        training_histories(split)[1],
        training,
        validate=ndcg,
        folder=options.out / "training",
        seed=SEED,
        identity=json.dumps(settings),
        negatives=NegativeSampler(counts, n=options.negatives, power=0.5, seed=SEED),
        progress=tell,
        processes=processes,
    )
    say(
        f"trained {result.n_steps} steps, {result.train_seconds / result.n_steps:.3f} s each, "
        f"{result.targets_per_second:,.0f} targets/s; validation NDCG@10 {result.kept_value:.4f}"
    )
    if processes.is_first:
        save_recommender(recommender, options.out / "model")

    # Lists of all users, from all that is known of them

    folder = options.out / "lists"
    wanted = json.dumps(settings | {"k": options.k, "users_per_part": options.users_per_part})

    def claim() -> None:
        """Keep the parts of this training and these settings together, and others out."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "settings.json"
        if file.is_file() and file.read_text() != wanted:
            raise SystemExit(f"{folder} must hold parts of these settings; got others: choose another --out.")
        file.write_text(wanted)

    processes.first_does(claim)
    everything = pl.concat([split.train, split.validation, split.test]).sort(
        "user_index", maintain_order=True
    )
    users = everything.group_by("user_index", maintain_order=True).agg(pl.first("user_id"), "item_index")
    item_ids = catalogue.items["item_id"]
    starts = range(0, users.height, options.users_per_part)
    started, n_done = time.perf_counter(), 0
    for number in range(processes.rank, len(starts), processes.size):
        part = folder / f"part-{number:05d}.parquet"
        if part.is_file():
            continue
        of_part = users.slice(starts[number], options.users_per_part)
        tables = []
        for batch in of_part.iter_slices(USERS_AT_ONCE):
            seen = [np.array(items) for items in batch["item_index"].to_list()]
            tables.append(lists_of(batch["user_id"].to_list(), *top_items(recommender, seen, options.k)))
        table = pl.concat(tables)
        table = table.select(
            "user_id", item_ids.gather(table["item_index"]).alias("item_id"), "rank", "score"
        )
        temporary = folder / f".part-{number:05d}.tmp"
        table.write_parquet(temporary)
        temporary.replace(part)  # there as a whole, or not at all
        n_done += of_part.height
    seconds = time.perf_counter() - started
    n_done = sum(processes.gathered(n_done))
    peak = max(processes.gathered(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)) / 2**20
    say(
        f"lists of {n_done:,} users written ({users.height - n_done:,} were there), "
        f"{n_done / seconds:,.0f} users/s; {len(starts)} parts in {folder}; "
        f"peak memory {peak:.1f} GiB a process"
    )
