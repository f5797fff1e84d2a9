"""Makes realistic results of a run: the shape of a real file, the numbers settable."""

import random
from collections.abc import Callable
from typing import Any

import pytest

Metrics = dict[str, Any]
CUTOFFS = (5, 10, 20, 50)
BASE = {"overall": 0.0828, "head": 0.1040, "mid": 0.055, "tail": 0.0285, "cold": 0.004}
N_TARGETS = {"overall": 1880, "head": 1205, "mid": 300, "tail": 640, "cold": 35}
SKILL = {"most-popular": 0.46, "item-knn": 0.9, "adamw": 1.0}


def make_metrics(
    *,
    tail_effect: tuple[float, float] = (0.0043, 0.0030),  # difference, half width of the interval
    overall_effect: tuple[float, float] = (0.0006, 0.0022),
    head_effect: tuple[float, float] = (-0.0004, 0.0027),
    n_seeds: int = 1,
    n_treatments: int = 1,
    references: bool = True,
    baseline: bool = True,
    segments: tuple[str, ...] = ("head", "tail", "cold"),
    data_name: str = "ml-100k",
    cold_targets: bool = True,
) -> Metrics:
    """Results of one run; ``segments`` are listed from the most to the least popular."""
    effects = {"overall": overall_effect, "head": head_effect, "tail": tail_effect}
    seeds = list(range(n_seeds))
    rng = random.Random(7)
    specs: list[tuple[str, str, str, list[int]]] = []
    if references:
        specs += [
            ("most-popular", "reference", "Most popular", []),
            ("item-knn", "reference", "Item-kNN", []),
        ]
    if baseline:
        specs.append(("adamw", "baseline", "AdamW", seeds))
    for index in range(n_treatments):
        name = "eisam" if index == 0 else f"eisam-{index + 1}"
        label = "EISAM (exact, ρ=0.05)" if index == 0 else f"EISAM (exact, ρ={0.05 * (index + 1):.2f})"
        specs.append((name, "treatment", label, seeds))

    def measured(segment: str) -> bool:
        return segment != "cold" or cold_targets

    def shift(role: str, segment: str, metric: str) -> float:
        return _scaled(effects.get(segment, (0.0, 0.001)), metric)[0] if role == "treatment" else 0.0

    def base(name: str, segment: str, metric: str, k: int) -> float:
        scale = {"ndcg": 1.0, "recall": 2.0, "mrr": 0.8}[metric] * (k / 10) ** 0.4
        rank = list(segments).index(segment) / len(segments) if segment in segments else 0.0
        return BASE.get(segment, 0.1 - 0.08 * rank) * SKILL.get(name, 1.0) * scale

    variants = [
        {
            "name": name,
            "role": role,
            "label": label,
            "seeds": own_seeds,
            "settings": _settings(name, role),
            "accuracy": [
                _accuracy(
                    segment,
                    metric,
                    k,
                    base(name, segment, metric, k) + shift(role, segment, metric),
                    measured(segment),
                )
                for segment in ("overall", *segments)
                for metric in ("ndcg", "recall", "mrr")
                for k in CUTOFFS
            ],
            "exposure": _exposure(role, segments),
            "exposure_deciles": _deciles(role, rng, cold="cold" in segments),
            "cost": None if role == "reference" else _cost(role),
        }
        for name, role, label, own_seeds in specs
    ]
    comparisons = [
        {
            "variant": name,
            "baseline": "adamw",
            "metric": metric,
            "k": k,
            "segment": segment,
            "baseline_value": base("adamw", segment, metric, k),
            "value": base("adamw", segment, metric, k) + difference,
            "difference": difference,
            "low": difference - half,
            "high": difference + half,
            "relative_difference": difference / base("adamw", segment, metric, k),
            "n_seeds": n_seeds,
            "n_users": 880,
            "variance": "users" if n_seeds == 1 else "users+seeds",
        }
        for name, role, _, _ in specs
        if role == "treatment" and baseline
        for segment in ("overall", *segments)
        if measured(segment)
        for metric in ("ndcg", "recall", "mrr")
        for k in CUTOFFS
        for difference, half in [_scaled(effects.get(segment, (0.0, 0.001)), metric)]
    ]
    comparisons += [
        row
        | {"metric": "slot_share", "baseline_value": 0.06, "value": 0.078, "difference": 0.018}
        | {"low": 0.015, "high": 0.021, "relative_difference": 0.3}
        for row in comparisons
        if (row["metric"], row["segment"]) == ("ndcg", "tail")
    ]
    return {
        "schema_version": 1,
        "tailwise_version": "0.1.0",
        "created_at": "2026-01-31T12:00:00+00:00",
        "data": _data(data_name),
        "segments": _segment_block(segments, cold_targets),
        "variants": variants,
        "comparisons": comparisons,
    }


def _scaled(effect: tuple[float, float], metric: str) -> tuple[float, float]:
    scale = {"ndcg": 1.0, "recall": 1.8, "mrr": 0.8}[metric]
    return effect[0] * scale, effect[1] * scale


def _accuracy(segment: str, metric: str, k: int, value: float, measured: bool) -> Metrics:
    half = 0.004 + 0.05 * value
    return {
        "segment": segment,
        "metric": metric,
        "k": k,
        "value": value if measured else None,
        "low": max(0.0, value - half) if measured else None,
        "high": value + half if measured else None,
        "n_targets": N_TARGETS.get(segment, 200) if measured else 0,
        "n_users": N_TARGETS.get(segment, 200) // 2 if measured else 0,
    }


def _exposure(role: str, segments: tuple[str, ...]) -> list[Metrics]:
    lift = {"reference": -0.4, "baseline": 0.0, "treatment": 0.3}[role]
    tail = 0.12 * (1 + lift)
    rows = [("coverage", None, 0.38 * (1 + lift)), ("gini", None, 0.91 - 0.1 * lift), ("aplt", None, tail)]
    rows += [
        ("arp", None, 142.0 * (1 - lift / 4)),
        ("novelty", None, 8.4 + lift),
        ("pop_rsp", None, 0.7 - lift),
    ]
    rows += [
        ("slot_share", s, (1 - tail if i == 0 else tail / (len(segments) - 1)))
        for i, s in enumerate(segments)
    ]
    return [
        {"metric": m, "k": k, "segment": s, "value": v}
        | ({"low": None, "high": None} if m in {"coverage", "gini"} else {"low": v * 0.96, "high": v * 1.04})
        for m, s, v in rows
        for k in CUTOFFS
    ]


def _deciles(role: str, rng: random.Random, *, cold: bool) -> list[Metrics]:
    power = {"reference": 2.6, "baseline": 1.9, "treatment": 1.7}[role]
    n_groups = 11 if cold else 10
    raw = [(d + 1) ** -power * rng.uniform(0.95, 1.05) for d in range(n_groups)]
    held = [0.41, 0.21, 0.13, 0.09, 0.06, 0.04, 0.03, 0.015, 0.01, 0.005, 0.0]
    return [
        {"decile": d + 1, "n_items": 150, "slot_share": raw[d] / sum(raw), "interaction_share": held[d]}
        for d in range(n_groups)
    ]


def _cost(role: str) -> Metrics:
    factor = 1.0 if role == "baseline" else 1.93
    return {
        "train_seconds": 104.2 * factor,
        "n_steps": 620,
        "n_epochs": 8,
        "best_epoch": 6,
        "targets_per_second": 5300.0 / factor,
        "peak_memory_mib": 1810.0 if role == "baseline" else 1934.0,
        "seconds_per_step": 0.168 * factor,
    }


def _settings(name: str, role: str) -> Metrics:
    if role == "reference":
        return {"recommender": {"kind": name, "neighbours": 100}}
    optimizer: Metrics = {"name": "adamw", "learning_rate": 0.001, "weight_decay": 0.01}
    if role == "treatment":
        optimizer |= {"name": "eisam", "rho": 0.05, "strength": 1.0, "weights": "rank", "estimator": "exact"}
    return {
        "recommender": {"kind": "item-token", "model": "smollm2-135m", "n_layers": 8, "lora_rank": 8},
        "optimizer": optimizer,
        "training": {"batch_size": 64, "max_epochs": 12, "patience": 2, "clip_norm": 1.0, "bf16": True},
    }


def _data(name: str) -> Metrics:
    curve = [[x / 20, (x / 20) ** 0.33] for x in range(21)]
    return {
        "name": name,
        "checksum": "9f2c" * 16,
        "n_users": 943,
        "n_items": 1682,
        "n_interactions": 100_000,
        "n_training_interactions": 81_377,
        "split": {
            "method": "global-time",
            "parameters": {
                "validation_from": 889_237_269,
                "test_from": 891_382_267,
                "tie_seed": 0,
                "repeats": "first",
            },
            "n_validation_targets": 1742,
            "n_test_targets": 1880,
            "n_tied_validation_targets": 611,
            "n_tied_test_targets": 702,
            "n_excluded_test_targets": 8123,
        },
        "concentration": {
            "gini": 0.629,
            "curve": curve,
            "top_shares": [
                {"item_share": x, "interaction_share": x**0.33} for x in (0.01, 0.05, 0.1, 0.2, 0.5)
            ],
        },
    }


def _segment_block(names: tuple[str, ...], cold_targets: bool) -> Metrics:
    n = len(names)
    return {
        "rule": "top-item-share",
        "parameters": {"head_share": 0.2},
        "popularity_window": None,
        "segments": [
            {
                "name": name,
                "n_items": 1682 // n,
                "n_training_interactions": 0 if name == "cold" else 60_000 // 3**i,
                "item_share": 1 / n,
                "interaction_share": 0.0 if name == "cold" else 2 / 3 / 3**i,
                "n_test_targets": N_TARGETS.get(name, 200) if name != "cold" or cold_targets else 0,
            }
            for i, name in enumerate(names)
        ],
    }


@pytest.fixture
def make() -> Callable[..., Metrics]:
    return make_metrics


@pytest.fixture
def metrics() -> Metrics:
    return make_metrics()
