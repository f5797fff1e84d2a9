"""Lists for every user of a run, from the best parameters of a finished variant."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import tailwise
from tailwise.errors import ConfigError, DataError
from tailwise.jobs._language_recommender import choose_device
from tailwise.jobs._list_maker import ListMaker
from tailwise.jobs._list_parts import ListParts, read_lists_metadata
from tailwise.jobs._load_recommender import load_finished
from tailwise.jobs._progress import Narrator
from tailwise.jobs._run_folder import RunFolder
from tailwise.jobs._stored_histories import HISTORIES, StoredData
from tailwise.training import Processes, joined_processes

__all__ = ["ListsFile", "recommend"]

PART_USERS = 256  # users of one part: what a kill costs at most, and what a process takes at a time

History = Literal["all", "before-test", "train"]


@dataclass(frozen=True)
class ListsFile:
    """Lists that were written, or were there already.

    Attributes:
        path: Parquet with ``user_id``, ``item_id`` (text), ``rank`` (int32, 1 = first) and ``score``
            (float32), by user and rank; its metadata say how it was made.
        made_with: Those metadata: variant, seed, history, k, counts, key.
        is_new: False where nothing had to be done.
    """

    path: Path
    made_with: Mapping[str, Any]
    is_new: bool


def recommend(
    run: Path,
    variant: str,
    out: Path,
    *,
    seed: int | None = None,
    k: int = 20,
    users: Path | None = None,
    history: History = "all",
    include_seen: bool | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> ListsFile:
    """Write the lists of every user of a run, or of some, into a Parquet file.

    May be stopped at any moment, by any means: the same call goes on where it was. Memory does not
    grow with the number of users; of ``item-knn`` alone the training part is held as a matrix.

    Called in each of several processes, as ``torchrun`` starts them, it splits the users between
    them, 256 at a time; the lists are the same. ``run`` and ``out`` lie where all can read them.

    Equal scores are ordered as in the run's own measurement, by a hash of user and item, so lists
    made with ``history="before-test"`` show what its ``metrics.json`` measured.

    Args:
        run: The run's folder.
        variant: A finished variant or reference of the run.
        out: File to write, ending in ``.parquet``.
        seed: Of the training. None: the first of the run's seeds.
        k: Items per user, 1..n_items; fewer where a user has seen the others.
        users: A CSV, TSV or Parquet file with a column ``user_id``. None: all users of the run.
        history: What the model is given of each user: ``"all"`` interactions of the run's data, as a
            service would; those ``"before-test"``, as an audit with held-out test targets needs; or
            those of ``"train"`` alone. Users without any get no list and are counted.
        include_seen: Recommend items of the history too. None: as the run's measurement does, only
            where its data keep repeats.
        batch_size: Users scored at once. None: the run's ``evaluation.batch_size``.
        device: ``auto``, ``cpu`` or ``cuda``. None: the run's.
        overwrite: Replace a file in ``out`` that holds something else.
        quiet: Say nothing on standard error.

    Raises:
        ConfigError: an argument does not fit the run, ``out`` holds something else, or another
            process is at work at it.
        DataError: there is no run, the variant is not finished, or a user is unknown.
        CheckpointError: the saved recommender is damaged.
        KeyboardInterrupt: on Ctrl-C, with a message that says what is kept.
        StoppedElsewhereError: the first of several processes raised one of these.
    """
    narrator = Narrator(quiet=quiet)
    folder = RunFolder(run)
    config = folder.read_config()
    result, seed = folder.finished(config, variant, seed)
    data = StoredData.of(folder, history)
    if not 1 <= k <= len(data.item_ids):
        raise ConfigError(f"--k must be in 1..{len(data.item_ids):,}, the size of the catalogue; got {k}.")
    batch_size = config.evaluation.batch_size if batch_size is None else batch_size
    if batch_size < 1:
        raise ConfigError(f"--batch-size must be >= 1; got {batch_size}.")
    target = choose_device(device or config.device)
    exclude_seen = config.data.repeats == "first" if include_seen is None else not include_seen
    selected = range(data.n_users) if users is None else data.find_users(users)
    settings = {
        "format": 1,
        "tailwise_version": tailwise.__version__,
        "variant": variant,
        "seed": seed,
        "model": result.model_digest(),
        "data": data.summary["name"],
        "data_checksum": data.summary["checksum"],
        "split": data.summary["split"],
        "history": history,
        "k": k,
        "exclude_seen": exclude_seen,
        "users": "all" if users is None else hashlib.sha256(np.asarray(selected).tobytes()).hexdigest(),
        "users_per_part": PART_USERS,
        "device": target.type,
    }
    parts = ListParts(_checked_out(out), settings)
    if out.exists() and not parts.is_written() and not overwrite:
        raise ConfigError(
            f"--out must be a new file or hold these very lists; got {str(out)!r}, which holds "
            f"{_description(out, settings)}. Pass --overwrite to replace it, or choose another file."
        )
    with joined_processes(target) as processes, processes.first_holds(parts.claimed(overwrite=overwrite)):
        narrator = Narrator(quiet=quiet or not processes.is_first)
        is_new = processes.first_does(lambda: not parts.is_written())
        if is_new:
            recommender = load_finished(variant, result, folder, data, target)
            maker = ListMaker(recommender, k=k, exclude_seen=exclude_seen, batch_size=batch_size)
            name = f"lists of {variant}" if seed is None else f"lists of {variant}, seed {seed}"
            run_name = folder.path.resolve().name
            _write_parts(
                parts,
                selected,
                data,
                maker,
                run=run_name,
                name=name,
                narrator=narrator,
                processes=processes,
            )
        else:
            narrator.say(f"{out} holds these lists already")
            processes.first_does(parts.remove)
    made_with = read_lists_metadata(out)
    assert made_with is not None  # just written, or just compared
    narrator.say(_told(made_with))
    return ListsFile(out, made_with, is_new)


def _write_parts(
    parts: ListParts,
    selected: Sequence[int] | NDArray[np.int64],
    data: StoredData,
    maker: ListMaker,
    *,
    run: str,
    name: str,
    narrator: Narrator,
    processes: Processes,
) -> None:
    """Make the parts that are not there, each process its share of them, and join them."""
    chunks = [selected[start : start + PART_USERS] for start in range(0, len(selected), PART_USERS)]
    own = range(processes.rank, len(chunks), processes.size)
    total, done = sum(len(chunks[number]) for number in own), 0
    try:
        with narrator.task(name) as progress:
            for number in own:
                if parts.counts(number) is None:
                    users = data.read_users(chunks[number])
                    table = maker.lists(
                        users,
                        data.item_ids,
                        lambda n, before=done: progress.ranking(before + n, total),  # type: ignore[misc]
                    )
                    counts = {
                        "n_users": len(users.histories),
                        "n_users_without_history": len(chunks[number]) - len(users.histories),
                        "n_rows": table.height,
                    }
                    parts.write(number, table, counts)
                done += len(chunks[number])
                progress.ranking(done, total)
            processes.wait()
            processes.first_does(lambda: _join(parts, len(chunks), data=data, run=run))
    except KeyboardInterrupt:
        kept = sum(len(chunk) for number, chunk in enumerate(chunks) if parts.counts(number) is not None)
        raise KeyboardInterrupt(
            f"stopped; the lists of {kept:,} of {len(selected):,} users are kept in {parts.folder}"
        ) from None


def _join(parts: ListParts, n_parts: int, *, data: StoredData, run: str) -> None:
    """Join all parts, if anybody among their users has a history."""
    totals = {"n_users": 0, "n_users_without_history": 0, "n_rows": 0}
    for number in range(n_parts):
        counts = parts.counts(number)
        assert counts is not None  # all have been written
        totals = {key: totals[key] + counts[key] for key in totals}
    if not totals["n_users"]:
        raise DataError(
            f"a user must have a history to be given a list; got none among "
            f"{totals['n_users_without_history']:,} in {' + '.join(data.parts)}.\n"
            "  Choose other users, or --history all."
        )
    parts.finish(n_parts, {"run": run, **totals})


def _told(made_with: Mapping[str, Any]) -> str:
    histories = " + ".join(HISTORIES[made_with["history"]])
    seen = "left out" if made_with["exclude_seen"] else "included"
    text = (
        f"{made_with['n_rows']:,} rows, {made_with['n_users']:,} users; histories: {histories}; "
        f"their items: {seen}"
    )
    without = made_with["n_users_without_history"]
    return text + (f"; {without:,} users without a history get no list" if without else "")


def _checked_out(out: Path) -> Path:
    if out.suffix.lower() != ".parquet":
        raise ConfigError(f"--out must end in .parquet; got {str(out)!r}.")
    if out.is_dir():
        raise ConfigError(f"--out must be a file; got {str(out)!r}, which is a folder.")
    return out


def _description(out: Path, settings: Mapping[str, Any]) -> str:
    """What an existing file holds, by what differs from the settings of now."""
    earlier = read_lists_metadata(out)
    if earlier is None:
        return "something else"
    return f"lists of other {', '.join(sorted(n for n in settings if earlier.get(n) != settings[n]))}"
