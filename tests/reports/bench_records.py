"""Writes the records of a small benchmark, as `tailwise bench` lays them out, with settable effects."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl

METHODS = [
    ("adamw", "AdamW", "baseline"),
    ("sam", "SAM", "rival"),
    ("logit-adjustment", "Logit adjustment", "rival"),
    ("eisam", "EISAM (rank, ρ)", "eisam"),
    ("random-rows", "Random rows", "control"),
    ("most-popular", "Most popular", "scale"),
]
# Multiplies the chance of a hit within ten: (head, tail)
EFFECTS = {
    "adamw": (1.0, 1.0),
    "sam": (1.0, 0.7),
    "logit-adjustment": (0.95, 1.2),
    "eisam": (1.0, 1.6),
    "random-rows": (1.0, 1.0),
    "most-popular": (0.6, 0.05),
}
CURVE = {0.1: (0.98, 1.1), 0.3: (0.94, 1.25), 0.6: (0.85, 1.4)}  # of logit adjustment


def write_records(
    folder: Path,
    *,
    settings=("steam-1024", "shop-all"),
    seeds=(0, 1, 2),
    n_users=400,
    effects=EFFECTS,
    curve=CURVE,
    methods=METHODS,
    shuffle=False,
) -> Path:
    """Write a whole folder; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    write_json(
        folder / "bench.json",
        {
            "schema_version": 1,
            "question": "Does EISAM lift the tail?",
            "baseline": "adamw",
            "methods": [{"name": n, "label": label, "role": role} for n, label, role in methods],
            "seeds": list(seeds),
            "margin": 0.02,
            "rule": "highest tail NDCG@10 among trials that keep 98 % of overall",
            "n_trials": 4,
            "settings": list(settings),
        },
    )
    for setting in settings:
        write_setting(
            folder / setting,
            rng=rng,
            seeds=seeds,
            n_users=n_users,
            effects=effects,
            curve=curve,
            methods=[m[0] for m in methods],
            shuffle=shuffle,
        )
    return folder


def write_setting(folder, *, rng, seeds, n_users, effects, curve, methods, shuffle):
    data, _, histories = folder.name.partition("-")
    n_items = 50
    counts = np.sort(rng.zipf(1.6, n_items).clip(1, 500))[::-1].copy()
    segment = np.array(["head"] * 10 + ["tail"] * 37 + ["cold"] * 3)
    items = np.where(rng.random(n_users) < 0.55, rng.integers(0, 10, n_users), rng.integers(10, 48, n_users))
    users = np.arange(n_users)
    if shuffle:
        users = rng.permutation(users)
    money = rng.gamma(2.0, 10.0, n_users) if data == "shop" else np.full(n_users, None)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "setting.json",
        {
            "data": data,
            "histories": None if histories == "all" else int(histories),
            "n_users": n_users,
            "n_items": n_items,
            "n_interactions": int(counts.sum()),
            "split": {"method": "leave-last-out"},
            "test": {"n_users": n_users, "n_targets": n_users, "n_tied": 0},
            "segments": {"rule": "head-share", "parameters": {"head_share": 0.2}},
            "backbone": "a random model of two layers",
        },
    )
    pl.DataFrame(
        {"user_index": users, "item_index": items, "segment": segment[items], "revenue": list(money)},
        schema_overrides={"revenue": pl.Float64, "user_index": pl.Int64, "item_index": pl.Int64},
    ).write_parquet(folder / "targets.parquet")
    pl.DataFrame({"item_index": np.arange(n_items), "count": counts, "segment": segment}).write_parquet(
        folder / "items.parquet"
    )
    luck = rng.random(n_users)  # of the user, the same for all methods: that is what pairing is for
    base = np.where(segment[items] == "head", 0.4, 0.15)
    for method in methods:
        points = [(None, effects[method])]
        if method == "logit-adjustment":
            points += list(curve.items())
        if method not in ("adamw", "most-popular"):
            write_tuning(folder, method)
        for value, (head, tail) in points:
            for seed in seeds if method != "most-popular" else seeds[:1]:
                chance = base * np.where(segment[items] == "head", head, tail)
                noise = 0.04 * rng.standard_normal(n_users)
                own = np.clip(luck + noise, 1e-6, 1)
                better = np.where(own < chance, own / chance * 10, 10 + 30 * own).astype(int)
                write_cell(folder, method, seed, better, value=value)


def write_cell(folder, method, seed, better, *, value=None, tied=None):
    name = method if value is None else f"{method}@{value:g}"
    cell = folder / "cells" / name / f"seed-{seed}"
    cell.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(
        {"n_better": better, "n_tied": np.zeros(len(better), int) if tied is None else tied},
        schema={"n_better": pl.UInt16, "n_tied": pl.UInt16},
    ).write_parquet(cell / "ranks.parquet")
    seconds = {"adamw": 100.0, "eisam": 190.0}.get(method, 110.0) + seed
    cost = {
        "train_seconds": seconds,
        "n_steps": 200,
        "n_epochs": 4,
        "best_epoch": 3,
        "kept_epoch": 3,
        "peak_memory_mib": 512.0,
        "seconds_per_step": seconds / 200,
    }
    write_json(
        cell / "record.json",
        {
            "schema_version": 1,
            "cell": {
                "setting": folder.name,
                "method": method,
                "seed": seed,
                "curve": None if value is None else {"knob": "tau", "value": value},
            },
            "settings": {"rho": 0.05},
            "cost": None if method == "most-popular" else cost,
            "validation": {"overall": 0.06, "head": 0.1, "tail": 0.02},
            "exposure": {"tail_slot_share": 0.3, "coverage": 0.8},
            "surroundings": {"commit": "0" * 40},
        },
    )


def copy_as_point(folder, name, method, *, setting, knob, value):
    """Make the cells of ``name`` those of a point of a curve as well."""
    cells = folder / setting / "cells"
    point = cells / f"{method}@{value:g}"
    shutil.copytree(cells / name, point)
    for file in point.glob("*/record.json"):
        record = json.loads(file.read_text())
        record["cell"] |= {"method": method, "curve": {"knob": knob, "value": value}}
        write_json(file, record)


def write_tuning(folder, method):
    trials = [
        {
            "settings": {"rho": rho},
            "validation": {"overall": 0.06, "head": 0.1, "tail": 0.02 + rho / 10},
            "value": 0.02 + rho / 10,
            "seconds": 30.0,
        }
        for rho in (0.01, 0.02, 0.05, 0.1)
    ]
    (folder / "tuning").mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "tuning" / f"{method}.json",
        {"method": method, "rule": "highest tail", "trials": trials, "chosen": 3},
    )


def write_json(path, content):
    path.write_text(json.dumps(content))
