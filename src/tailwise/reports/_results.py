"""Look things up in the results of a run: one place that knows how the lists are keyed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["ACCURACY_LABELS", "Difference", "Estimate", "Results", "ends"]

ACCURACY_LABELS = {"ndcg": "NDCG", "recall": "Recall", "mrr": "MRR"}
_MAIN_K = 10
_SLOT_SHARE = ("slot_share", "segment_slot_share", "exposure_share")
_COVERAGE = ("coverage", "catalogue_coverage", "item_coverage")

Direction = Literal["up", "down", "unclear"]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; any of the three may be absent."""

    value: float | None
    low: float | None
    high: float | None
    n_targets: int | None = None
    n_users: int | None = None


@dataclass(frozen=True)
class Difference:
    """A paired difference, variant minus baseline."""

    variant: str
    metric: str
    segment: str
    baseline_value: float | None
    value: float | None
    difference: float | None
    low: float | None
    high: float | None
    relative: float | None
    n_seeds: int
    n_users: int
    variance: str

    @property
    def direction(self) -> Direction:
        """``up`` or ``down`` when the interval lies on one side of zero, else ``unclear``."""
        if self.low is not None and self.low > 0:
            return "up"
        if self.high is not None and self.high < 0:
            return "down"
        return "unclear"


class Results:
    """Read access to checked metrics.

    Attributes:
        k: Cutoff that the page speaks of: 10, or the nearest one that was measured.
        segments: Segment names, most popular first, as the file lists them.
        tail, head: The segments that the words speak of: those of that name; under custom rules
            the trained segments with the fewest and the most interactions per item; else ``None``.
        baseline: The first variant of that role, or ``None``.
        headline: The treatment that the words speak of: the first whose name starts with
            ``eisam``, else the first. By position, never by result: picking the best of
            several on the test data would flatter it.
    """

    def __init__(self, metrics: Mapping[str, Any]) -> None:
        self.metrics = metrics
        self.variants: list[dict[str, Any]] = list(metrics["variants"])
        self.references = [v for v in self.variants if v["role"] == "reference"]
        self.treatments = [v for v in self.variants if v["role"] == "treatment"]
        baselines = [v for v in self.variants if v["role"] == "baseline"]
        self.baseline: dict[str, Any] | None = baselines[0] if baselines else None
        self.trained = baselines + self.treatments
        named = [v for v in self.treatments if v["name"].lower().startswith("eisam")]
        self.headline: dict[str, Any] | None = next(iter(named or self.treatments), None)
        self.labels: dict[str, str] = {v["name"]: v["label"] or v["name"] for v in self.variants}

        rows: list[dict[str, Any]] = list(metrics["segments"]["segments"])
        self.segments: list[str] = [row["name"] for row in rows]
        self.tail, self.head = ends(rows)
        cutoffs = sorted({row["k"] for v in self.variants for row in v["accuracy"]})
        self.k: int = min(cutoffs, key=lambda k: (abs(k - _MAIN_K), k)) if cutoffs else _MAIN_K
        self.cutoffs = cutoffs
        measured = {row["segment"] for v in self.variants for row in v["accuracy"]}
        extra = sorted(measured - {"overall", *self.segments})
        self.accuracy_segments = ["overall", *(s for s in self.segments if s in measured), *extra]

        self._accuracy = {
            (v["name"], row["metric"], row["k"], row["segment"]): row
            for v in self.variants
            for row in v["accuracy"]
        }
        self._differences = {
            (row["variant"], row["baseline"], row["metric"], row["k"], row["segment"] or "overall"): row
            for row in metrics["comparisons"]
        }

    def accuracy(self, variant: str, metric: str, segment: str, k: int | None = None) -> Estimate | None:
        """The accuracy of a variant on a segment (or ``overall``); ``None`` if not measured."""
        row = self._accuracy.get((variant, metric, k or self.k, segment))
        if row is None:
            return None
        return Estimate(row["value"], row["low"], row["high"], row["n_targets"], row["n_users"])

    def difference(
        self, variant: str, metric: str, segment: str, k: int | None = None, *, against: str | None = None
    ) -> Difference | None:
        """The paired difference against the baseline, or another variant; ``None`` if absent or null."""
        other = against or (self.baseline["name"] if self.baseline else "")
        row = self._differences.get((variant, other, metric, k or self.k, segment))
        if row is None or row["difference"] is None:
            return None
        return Difference(
            variant=variant,
            metric=metric,
            segment=segment,
            relative=row["relative_difference"],
            **{
                name: row[name]
                for name in (
                    "baseline_value",
                    "value",
                    "difference",
                    "low",
                    "high",
                    "n_seeds",
                    "n_users",
                    "variance",
                )
            },
        )

    def slot_share(self, variant: str, segment: str | None) -> Estimate | None:
        """Share of recommended slots that a segment gets, at the main cutoff."""
        return self._exposure(variant, _SLOT_SHARE, segment) if segment is not None else None

    def coverage(self, variant: str) -> Estimate | None:
        """Share of the catalogue that is recommended to anybody, at the main cutoff."""
        return self._exposure(variant, _COVERAGE, None)

    def compared_slot_share(self, variant: str) -> Difference | None:
        """The paired difference of the tail's slot share, where the file has one."""
        return self._any_difference(variant, _SLOT_SHARE, self.tail or "overall")

    def compared_coverage(self, variant: str) -> Difference | None:
        """The paired difference of coverage, where the file has one."""
        return self._any_difference(variant, _COVERAGE, "overall")

    def cost(self, variant: Mapping[str, Any] | None, field: str) -> float | None:
        """One figure of a variant's training cost."""
        value = ((variant or {}).get("cost") or {}).get(field)
        return None if value is None else float(value)

    def cost_ratio(self, variant: Mapping[str, Any], field: str = "train_seconds") -> float | None:
        """A cost relative to the baseline's."""
        mine, base = self.cost(variant, field), self.cost(self.baseline, field)
        return mine / base if mine is not None and base else None

    def n_seeds(self, variant: Mapping[str, Any]) -> int:
        """Training seeds of a variant; 0 for one that has no seed."""
        return len(variant["seeds"])

    def _any_difference(self, variant: str, names: Sequence[str], segment: str) -> Difference | None:
        return next((d for name in names if (d := self.difference(variant, name, segment))), None)

    def _exposure(self, variant: str, names: Sequence[str], segment: str | None) -> Estimate | None:
        wanted = {None, "overall"} if segment is None else {segment}
        rows = [
            row
            for v in self.variants
            if v["name"] == variant
            for row in v["exposure"]
            if row["metric"] in names and row["k"] in (self.k, None) and row["segment"] in wanted
        ]
        return Estimate(rows[0]["value"], rows[0]["low"], rows[0]["high"]) if rows else None


def ends(rows: Sequence[Mapping[str, Any]]) -> tuple[str | None, str | None]:
    names = [row["name"] for row in rows]
    trained = [row for row in rows if row["n_items"] > 0 and row["n_training_interactions"] > 0]
    trained.sort(key=lambda row: row["n_training_interactions"] / row["n_items"])
    apart = len(trained) > 1
    tail = "tail" if "tail" in names else trained[0]["name"] if apart else None
    head = "head" if "head" in names else trained[-1]["name"] if apart else None
    return tail, head if head != tail else None
