"""What the page shows beside its charts: key figures, exposure, cost and settings as rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailwise.reports._numbers import (
    LEVEL,
    NOTHING,
    count,
    duration,
    interval,
    number,
    percent,
    plain,
    ratio,
    signed,
)
from tailwise.reports._results import ACCURACY_LABELS, Difference, Estimate, Results

__all__ = ["SettingRows", "Tile", "cost_rows", "exposure_rows", "metric_name", "setting_rows", "tiles"]

_EXPOSURE_NAMES = {
    "slot_share": "Slot share",
    "coverage": "Coverage",
    "gini": "Gini of the slots",
    "aplt": "APLT",
    "aclt": "ACLT",
    "arp": "ARP",
    "pop_reo": "PopREO",
    "pop_rsp": "PopRSP",
    "novelty": "Novelty (bits)",
}
_SHARES = {
    "slot_share",
    "segment_slot_share",
    "exposure_share",
    "coverage",
    "catalogue_coverage",
    "item_coverage",
    "aplt",
}
_VERDICTS = {"up": "higher", "down": "lower", "unclear": "not distinguishable"}


@dataclass(frozen=True)
class Tile:
    """One key figure: what it was, what it is, and whether the two can be told apart."""

    label: str
    value: str
    before: str  # what it is held against; empty where there is nothing
    detail: str
    verdict: str = ""  # empty where no interval decides
    direction: str = "none"


@dataclass(frozen=True)
class SettingRows:
    """Settings, dotted: those that differ between variants, and those that all share."""

    names: tuple[str, ...]
    different: tuple[tuple[str, tuple[str, ...]], ...]
    shared: tuple[tuple[str, str], ...]


def metric_name(metric: str) -> str:
    """Name a metric as people do; an unknown one keeps its own name."""
    return ACCURACY_LABELS.get(metric) or _EXPOSURE_NAMES.get(metric) or metric.replace("_", " ")


def tiles(results: Results) -> list[Tile]:
    """Key figures of the headline treatment, or of the only model there is."""
    chosen = results.headline or results.baseline or results.variants[0]
    compare = chosen is results.headline and results.baseline is not None
    name = chosen["name"]
    base = results.baseline["name"] if compare and results.baseline else None
    found: list[Tile] = []
    for segment in dict.fromkeys((results.tail, "overall", results.head)):
        after = results.accuracy(name, "ndcg", segment) if segment else None
        if segment is not None and after is not None:
            before = results.accuracy(base, "ndcg", segment) if base else None
            difference = results.difference(name, "ndcg", segment) if base else None
            found.append(_tile(f"{segment} NDCG@{results.k}", after, before, difference, number))
    slots = results.slot_share(name, results.tail)
    if slots is not None:
        before = results.slot_share(base, results.tail) if base else None
        label = f"{results.tail} share of slots"
        found.append(_tile(label, slots, before, results.compared_slot_share(name), percent))
    coverage = results.coverage(name)
    if coverage is not None:
        before = results.coverage(base) if base else None
        found.append(_tile("catalogue coverage", coverage, before, results.compared_coverage(name), percent))
    seconds = results.cost(chosen, "train_seconds")
    if seconds is not None:
        times = results.cost_ratio(chosen) if base else None
        if times is None:
            found.append(Tile("Training time", duration(seconds), "", ""))
        else:
            before_seconds = duration(results.cost(results.baseline, "train_seconds"))
            detail = f"{before_seconds} → {duration(seconds)}"
            found.append(Tile("Training time", ratio(times), "", detail))
    return found


def exposure_rows(
    makers: Sequence[Mapping[str, Any]], segments: Sequence[str], k: int
) -> list[tuple[str, str | None, list[str], list[str]]]:
    """Exposure at one cut-off: (metric, segment, value per maker of lists, interval per maker)."""
    by_variant = [
        {(row["metric"], row["segment"]): row for row in v["exposure"] if row["k"] in (k, None)}
        for v in makers
    ]
    keys = dict.fromkeys(key for rows in by_variant for key in rows)
    order = {segment: position for position, segment in enumerate([None, "overall", *segments])}
    metrics = list(dict.fromkeys(metric for metric, _ in keys))
    found = []
    for metric, segment in sorted(keys, key=lambda k: (metrics.index(k[0]), order.get(k[1], len(order)))):
        cells = [rows.get((metric, segment)) for rows in by_variant]
        show = percent if metric in _SHARES else _same_digits([c["value"] for c in cells if c is not None])
        values = [NOTHING if cell is None else show(cell["value"]) for cell in cells]
        intervals = [
            ""
            if cell is None or cell["low"] is None or cell["high"] is None
            else f"{show(cell['low'])} to {show(cell['high'])}"
            for cell in cells
        ]
        found.append((metric_name(metric), segment, values, intervals))
    return found


def cost_rows(results: Results) -> list[dict[str, Any]]:
    """Training cost of each trained variant; ``share`` is its time relative to the longest."""
    rows = [v for v in results.variants if v["cost"] is not None]
    longest = max((results.cost(v, "train_seconds") or 0.0 for v in rows), default=0.0)
    return [
        {
            "variant": v,
            "time": duration(results.cost(v, "train_seconds")),
            "share": (results.cost(v, "train_seconds") or 0.0) / longest if longest else 0.0,
            "ratio": ratio(results.cost_ratio(v)),
            "step_ratio": ratio(results.cost_ratio(v, "seconds_per_step")),
            "memory_ratio": ratio(results.cost_ratio(v, "peak_memory_mib")),
            "n_steps": count(results.cost(v, "n_steps")),
            "epochs": f"{_free(results.cost(v, 'n_epochs'))} ({_free(_kept_epoch(results, v))})",
            "memory": count(results.cost(v, "peak_memory_mib")),
            "speed": count(results.cost(v, "targets_per_second")),
        }
        for v in rows
    ]


def _kept_epoch(results: Results, variant: Mapping[str, Any]) -> float | None:
    """The epoch whose parameters were measured; files of earlier versions know the best one alone."""
    kept = results.cost(variant, "kept_epoch")
    return results.cost(variant, "best_epoch") if kept is None else kept


def setting_rows(variants: Sequence[Mapping[str, Any]]) -> SettingRows:
    """Flatten settings to dotted names and part what differs from what all share."""
    flat = [dict(_flatten(v["settings"], "")) for v in variants]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    different, shared = [], []
    for key in keys:
        values = tuple(settings.get(key, NOTHING) for settings in flat)
        if len(set(values)) == 1:
            shared.append((key, values[0]))
        else:
            different.append((key, values))
    names = tuple(v["name"] for v in variants)
    return SettingRows(names, tuple(different), tuple(shared))


def _flatten(value: Any, path: str) -> list[tuple[str, str]]:
    if isinstance(value, dict) and value:
        return [
            row
            for key, item in value.items()
            for row in _flatten(item, f"{path}.{key}" if path else str(key))
        ]
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return [row for index, item in enumerate(value) for row in _flatten(item, f"{path}[{index}]")]
    return [(path, "none" if value == {} else plain(value))] if path else []


def _tile(
    label: str,
    after: Estimate,
    before: Estimate | None,
    difference: Difference | None,
    show: Callable[[float | None], str],
) -> Tile:
    label = label[:1].upper() + label[1:]
    value = show(after.value)
    earlier = f"baseline {show(before.value)}" if before is not None else ""
    if difference is None:
        low_high = (
            "" if after.low is None or after.high is None else f"{show(after.low)} to {show(after.high)}"
        )
        return Tile(label, value, earlier, f"{LEVEL} interval {low_high}" if low_high else "")
    if show is percent:
        points = signed(None if difference.difference is None else 100 * difference.difference, 1)
        low = None if difference.low is None else 100 * difference.low
        high = None if difference.high is None else 100 * difference.high
        detail = f"{points} points ({interval(low, high, with_sign=True, digits=1)})"
    else:
        detail = (
            f"{signed(difference.difference)} ({interval(difference.low, difference.high, with_sign=True)})"
        )
    return Tile(label, value, earlier, detail, _VERDICTS[difference.direction], difference.direction)


def _same_digits(values: Sequence[float | None]) -> Callable[[float | None], str]:
    """Show a row's figures with as many digits as its largest one needs."""
    largest = max((abs(v) for v in values if v is not None), default=0.0)
    digits = 4 if largest <= 1 else 2 if largest < 1000 else 0
    return lambda value: number(value, digits)


def _free(value: float | None) -> str:
    """A figure of unknown size, to about four digits."""
    if value is None:
        return NOTHING
    if float(value).is_integer() and abs(value) >= 1:
        return count(value).replace("-", "−")
    return number(value, 4 if abs(value) < 1 else 2 if abs(value) < 1000 else 0)
