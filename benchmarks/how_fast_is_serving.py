"""How many lists a second does the service answer, and how late, beside the same model called naively?

::

    python benchmarks/how_fast_is_serving.py --output benchmarks/results   # again: goes on where it stopped
    python benchmarks/how_fast_is_serving.py --setting tiny --generator python   # seconds, offline

**Settings.** SmolLM2-135M as item-token LRS (untrained, LoRA of rank 8, made-up titles), all its 30 layers
and cut to 8, over catalogues of 10,000 and 1,000,000 items (the latter once more with candidates
chosen in int8); and the title LRS (all layers, films of MovieLens 100K, a beam of 20).
``tiny``: a small model.

**Users.** Every request holds a history. ``new``: 20 items that nobody has sent before. ``returning``: one of
200 users, with one item more than the last time. ``unchanged``: one of 200 users, with the history of
the last time. Lists of 10. Histories are shorter than the model's window of 50; a longer one is read
anew with every item (``engine.window_hop`` = 1).

**What is compared.** ``service``: ``POST /v1/recommendations``, with everything it does, each list in the log
(SQLite, flushed) before it is answered. ``naive``: in the same process, one call of
``recommend(model, [history], k)`` per request, without log, checks of keys or limits. The model works in
as many threads as there are cores, which the load generator shares. A closed loop keeps
``--connections`` requests under way. The two take turns, ``--repeats`` times; rates are medians over
repeats, the ratio is the median of the ratios of neighbours, with the smallest and the largest. Latencies are
those of the median repeat under that load; ``alone`` is the median with one connection.

The last line of the output is one JSON object. With ``--output``, table, JSON and settings are kept in a
folder named after date and question, anew with every row: a run that was stopped, or one of other ``--only``
rows, measures what the folder lacks. Every row says when, by which code, with which settings and on which
machine it was measured; where these are not those of the run, the folder is refused, unless ``--keep-older``
says to keep such rows as they are.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np

from _load import Load, drive
from _record import aligned, check_measured, code_version, keep, rounded, surroundings

QUESTION = (
    "How many lists a second does the service answer, and how late, beside the same model called naively?"
)
SLUG = "how-fast-is-serving"
MEASURED_CODE = (
    *(f"src/tailwise/{stage}" for stage in ("interactions", "recommenders", "serving", "events")),
    *(f"benchmarks/{name}.py" for name in ("how_fast_is_serving", "_serving_server", "_load")),
)
USERS = ("new", "returning", "unchanged")
N_USERS, LENGTH, N_ROUNDS = 200, 20, 28  # users that return; items at first; times that they come

Rows = dict[tuple[str, str], dict[str, Any]]  # by names of setting and users


@dataclass(frozen=True)
class Setting:
    """What is served.

    Attributes:
        name: Of the row.
        kind: See ``_serving_server.build``.
        items: Of the catalogue.
        depth: Layers; 0: all.
        item_dtype: Of item vectors.
        users: Kinds of users that ask.
    """

    name: str
    kind: str
    items: int
    depth: int
    item_dtype: str = "float32"
    users: tuple[str, ...] = USERS


SETTINGS = {
    "full": (
        Setting("30 layers, 10k items", "item-token", 10_000, 0),
        Setting("8 layers, 10k items", "item-token", 10_000, 8),
        Setting("30 layers, 1M items", "item-token", 1_000_000, 0),
        Setting("30 layers, 1M items, int8+float32", "item-token", 1_000_000, 0, "int8+float32"),
        Setting("8 layers, 1M items", "item-token", 1_000_000, 8),
        Setting("8 layers, 1M items, int8+float32", "item-token", 1_000_000, 8, "int8+float32"),
        Setting("30 layers, titles", "title", 1682, 0, users=("new",)),
    ),
    "tiny": (Setting("tiny", "tiny", 100, 0, users=("new", "returning")),),
}


def bodies_of(users: str, n_items: int) -> list[str]:
    """Requests in the order in which they are sent; those of returning users grow round by round."""
    rng = np.random.default_rng(USERS.index(users))
    if users == "new":
        histories = [(None, rng.choice(n_items, LENGTH, replace=False)) for _ in range(5000)]
    else:
        rounds = N_ROUNDS if users == "returning" else 1
        whole = [rng.choice(n_items, LENGTH + rounds, replace=False) for _ in range(N_USERS)]
        histories = [(f"u{u}", whole[u][: LENGTH + r]) for r in range(rounds) for u in range(N_USERS)]
    return [
        json.dumps(
            {"surface": "home", "history": [f"i{item}" for item in history]}
            | ({} if user is None else {"user_id": user})
        )
        for user, history in histories
    ]


@contextmanager
def server_of(setting: Setting, cache_mb: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Start a server; yield its address and what it said of itself."""
    script = Path(__file__).with_name("_serving_server.py")
    arguments = ("--kind", setting.kind, "--items", setting.items, "--depth", setting.depth)
    arguments += ("--item-dtype", setting.item_dtype, "--cache-mb", cache_mb)
    process = subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server of {setting.name!r} must start; it ended, see above.")
        said = json.loads(line)
        yield f"http://127.0.0.1:{said['port']}", said
    finally:
        process.stdin.close()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def measure(setting: Setting, users: str, url: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one kind of users: service and naive call by turns."""
    bodies = bodies_of(users, setting.items)
    seconds = options.seconds if setting.kind != "title" else max(options.seconds, 30)
    routes = {"service": f"{url}/v1/recommendations", "naive": f"{url}/naive"}

    def load(who: str, connections: int) -> Load:
        _come_once(routes["service"], bodies[-1:])  # answered once what the last load left waiting is
        if who == "service":  # begin cold; then those who return come once, untimed
            httpx.post(f"{url}/forget", timeout=300, trust_env=False).raise_for_status()
        _come_once(routes[who], bodies[:N_USERS] if who == "service" and users != "new" else bodies[-1:])
        rest = bodies[N_USERS:] if users == "returning" else bodies
        found = drive(
            routes[who], rest, connections=connections, seconds=seconds, generator=options.generator
        )
        if found.n_not_by_model:
            raise RuntimeError(f"{who} must answer by the model; {found.n_not_by_model} answers did not.")
        if users == "returning" and who == "service" and found.n > len(rest):
            raise RuntimeError(
                f"users must not come more often than there are items; got {found.n} requests."
            )
        return found

    loads: dict[str, list[Load]] = {"service": [], "naive": []}
    for repeat in range(options.repeats):
        for who in ("service", "naive") if repeat % 2 == 0 else ("naive", "service"):
            loads[who].append(load(who, options.connections))
            print(f"  {setting.name}, {users}, {who}: {loads[who][-1].per_second:.1f}/s", file=sys.stderr)
    ratios = [a.per_second / b.per_second for a, b in zip(loads["service"], loads["naive"], strict=True)]
    middle = {
        who: sorted(found, key=lambda one: one.per_second)[len(found) // 2] for who, found in loads.items()
    }
    return {
        "setting": setting.name,
        "users": users,
        "per_second": median(one.per_second for one in loads["service"]),
        "naive_per_second": median(one.per_second for one in loads["naive"]),
        "ratio": median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        **{name: getattr(middle["service"], name) for name in ("p50_ms", "p95_ms", "p99_ms")},
        "naive_p50_ms": middle["naive"].p50_ms,
        "alone_p50_ms": load("service", 1).p50_ms,
        "naive_alone_p50_ms": load("naive", 1).p50_ms,
        "loads": {who: [asdict(one) for one in found] for who, found in loads.items()},
    }


def _come_once(url: str, bodies: Sequence[str]) -> None:
    """Let each user ask once, untimed."""
    with httpx.Client(timeout=300, trust_env=False) as client:
        for body in bodies:
            answer = client.post(url, content=body, headers={"content-type": "application/json"})
            answer.raise_for_status()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, print, and keep the record where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--setting", choices=SETTINGS, default="full")
    parser.add_argument("--only", nargs="*", default=[], help="names of rows to measure")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--cache-mb", type=float, default=1024.0)
    parser.add_argument("--generator", choices=["wrk", "python"], default="wrk")
    parser.add_argument("--output", type=Path, help="folder for <date>-<question>")
    parser.add_argument("--date", help="of a folder to go on with; default today")
    parser.add_argument("--keep-older", action="store_true", help="keep rows measured otherwise than now")
    options = parser.parse_args(arguments)
    grid = SETTINGS[options.setting]
    if unknown := set(options.only) - {setting.name for setting in grid}:
        parser.error(f"--only must name rows of --setting {options.setting}; got {min(unknown)!r}.")

    folder = None
    if options.output is not None:
        folder = options.output / f"{options.date or surroundings()['date']}-{SLUG}"
    rows = _kept(folder, grid, options)
    for setting in grid:
        missing = [users for users in setting.users if (setting.name, users) not in rows]
        if not missing or (options.only and setting.name not in options.only):
            continue
        measured = _conditions(options)
        with server_of(setting, options.cache_mb) as (url, said):
            for users in missing:
                row = measure(setting, users, url, options) | {"item_bytes": said["item_bytes"]}
                loads = {who: [rounded(one) for one in found] for who, found in row["loads"].items()}
                rows[setting.name, users] = rounded(row) | {"loads": loads, "measured": measured}
                if folder is not None:
                    keep(folder, *_record(grid, rows, options))
    record, _, table = _record(grid, rows, options)
    print(table)
    print(json.dumps(record, ensure_ascii=False))


def _config(options: argparse.Namespace) -> dict[str, Any]:
    """Settings that a rate depends on."""
    names = ("repeats", "seconds", "connections", "cache_mb", "generator")
    return {name: getattr(options, name) for name in names}


def _conditions(options: argparse.Namespace) -> dict[str, Any]:
    """When, of which code, how and where a row is measured."""
    around = surroundings()
    return {
        "date": around["date"],
        **code_version(*MEASURED_CODE),
        "config": _config(options),
        "machine": around["machine"],
    }


def _kept(folder: Path | None, grid: Sequence[Setting], options: argparse.Namespace) -> Rows:
    """Rows that the folder has already."""
    if folder is None or not (folder / "result.json").exists():
        return {}
    found = json.loads((folder / "result.json").read_text())["rows"]
    if strange := {row["setting"] for row in found} - {setting.name for setting in grid}:
        raise ValueError(
            f"{folder} must hold rows of --setting {options.setting}; got {min(strange)!r}.\n"
            "  Give another --output."
        )
    if not options.keep_older:
        check_measured(found, _conditions(options), name=("setting", "users"))
    return {(row["setting"], row["users"]): row for row in found}


def _record(
    grid: Sequence[Setting], rows: Rows, options: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Record, config and table of the rows there are, in the order of the grid."""
    ordered = [
        rows[setting.name, users]
        for setting in grid
        for users in setting.users
        if (setting.name, users) in rows
    ]
    config = {"setting": options.setting, **_config(options)}
    record = {"question": QUESTION, **surroundings(), "config": config, "rows": ordered}
    return record, config, _table(ordered)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    header = ("setting", "users", "lists/s", "naive", "×", "p50 ms", "p95", "p99", "alone", "naive alone")
    lines = [
        (
            row["setting"],
            row["users"],
            f"{row['per_second']:.1f}",
            f"{row['naive_per_second']:.1f}",
            f"{row['ratio']:.1f} ({row['ratio_low']:.1f}-{row['ratio_high']:.1f})",
            *(f"{row[name]:.0f}" for name in ("p50_ms", "p95_ms", "p99_ms")),
            f"{row['alone_p50_ms']:.0f}",
            f"{row['naive_alone_p50_ms']:.0f}",
            f"{row['item_bytes'] / 1e6:.0f}",
        )
        for row in rows
    ]
    return aligned((*header, "items MB"), lines, n_left=2)


if __name__ == "__main__":
    main()
