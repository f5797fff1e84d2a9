"""The verdict: results put into words that claim no more than the intervals allow.

Three outcomes per question, never two: above zero, below zero, *not distinguishable*. The last
is not "no effect", so the words always give the range that remains possible.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tailwise.reports._metrics_file import check_metrics
from tailwise.reports._numbers import (
    LEVEL,
    count,
    duration,
    interval,
    number,
    percent,
    ratio,
    signed,
    signed_percent,
)
from tailwise.reports._results import Difference, Results

__all__ = ["Summary", "segment_name", "summarize", "tied_caveats", "words_for"]

_Variant = Mapping[str, Any]
Tone = Literal["better", "mixed", "open", "worse", "plain"]

_TAIL_HEADLINES = {
    ("up", "up"): "Rare items are found more often, and overall accuracy rose with them",
    ("up", "unclear"): "Rare items are found more often; no change of overall accuracy was detected",
    ("up", "down"): "Rare items are found more often, at the expense of overall accuracy",
    ("unclear", "up"): "Overall accuracy rose; the effect on rare items is not settled",
    ("unclear", "unclear"): "No difference from the baseline could be shown",
    ("unclear", "down"): "Overall accuracy fell, and no gain for rare items could be shown",
    ("down", "up"): "Overall accuracy rose, but rare items are found less often",
    ("down", "unclear"): "Rare items are found less often",
    ("down", "down"): "Rare items are found less often, and overall accuracy fell too",
}
_OVERALL_HEADLINES = {
    "up": "Overall accuracy rose; rare items could not be measured",
    "unclear": "No difference in overall accuracy could be shown; rare items could not be measured",
    "down": "Overall accuracy fell; rare items could not be measured",
}


@dataclass(frozen=True)
class Summary:
    """The results in words.

    Attributes:
        headline: One line.
        tone: ``better`` (tail up, overall not down), ``mixed``, ``open`` (nothing shown),
            ``worse``, or ``plain`` (nothing to compare).
        sentences: One paragraph for a product manager.
        caveats: What a reader must know before relying on it, e.g. a single seed.
    """

    headline: str
    tone: Tone
    sentences: tuple[str, ...]
    caveats: tuple[str, ...]

    @property
    def paragraph(self) -> str:
        """The sentences as one text."""
        return " ".join(self.sentences)


def summarize(metrics: Mapping[str, Any]) -> Summary:
    """Say in plain words what the results show.

    Raises:
        DataError: the results break the schema.
    """
    return words_for(Results(check_metrics(metrics)))


def words_for(results: Results) -> Summary:
    """As :func:`summarize`, of results that are checked already."""
    treatment = results.headline
    if treatment is None or results.baseline is None:
        return _without_comparison(results)
    name = treatment["name"]
    tail = results.difference(name, "ndcg", results.tail) if results.tail else None
    overall = results.difference(name, "ndcg", "overall")
    if tail is None and overall is None:
        return _without_comparison(results)
    sentences = [
        _what(results, treatment, results.baseline),
        *_tail_sentences(results, name, tail),
        *_overall_sentences(results, overall),
        *_head_sentences(results, name),
        *_slot_sentences(results, name, results.baseline["name"]),
        *_cost_sentences(results, treatment),
        *_scale_sentences(results, results.baseline),
    ]
    headline, tone = _verdict(tail, overall)
    return Summary(headline, tone, tuple(sentences), tuple(_caveats(results, tail or overall)))


def _verdict(tail: Difference | None, overall: Difference | None) -> tuple[str, Tone]:
    if tail is None:
        direction = overall.direction if overall else "unclear"
        tones: dict[str, Tone] = {"up": "better", "unclear": "open", "down": "worse"}
        return _OVERALL_HEADLINES[direction], tones[direction]
    both = tail.direction, overall.direction if overall else "unclear"
    tone: Tone = "mixed"
    if both in {("up", "up"), ("up", "unclear")}:
        tone = "better"
    elif both == ("unclear", "unclear"):
        tone = "open"
    elif "up" not in both:
        tone = "worse"
    return _TAIL_HEADLINES[both], tone


def _what(results: Results, treatment: _Variant, baseline: _Variant) -> str:
    data = results.metrics["data"]
    n_targets = data["split"]["n_test_targets"]
    return (
        f"On {data['name']}, {_label(results, treatment)} was compared with"
        f" {_label(results, baseline)} on {count(n_targets)} held-out interactions:"
        " accuracy is how high a model places the item that the user really chose next."
    )


def _tail_sentences(results: Results, treatment: str, tail: Difference | None) -> list[str]:
    if tail is None:
        return [
            "Accuracy on rare items could not be compared: no held-out interaction of theirs was measured."
        ]
    name, change = segment_name(results.tail), _change(results, tail)
    if tail.direction == "up":
        first = (
            f"On {name}, accuracy rose: {change}, and the {LEVEL} interval of the difference lies above zero."
        )
    elif tail.direction == "down":
        first = (
            f"On {name}, accuracy fell: {change}, and the {LEVEL} interval of the difference lies below zero."
        )
    else:
        first = (
            f"On {name}, the two are not distinguishable: {change}, and {_interval_spans_zero(tail)}"
            f"{_range_left_open(tail)}."
        )
    return [first, *_counted(results, treatment)]


def _counted(results: Results, treatment: str) -> list[str]:
    recall = results.difference(treatment, "recall", results.tail) if results.tail else None
    if recall is None or recall.value is None or recall.baseline_value is None:
        return []
    before, after = _per_thousand(recall.baseline_value), _per_thousand(recall.value)
    hedge = {
        "up": "",
        "down": "",
        "unclear": ", a difference that chance alone could make",
    }[recall.direction]
    if before == after:
        hedge = ""
    return [
        f"As counts: of 1,000 held-out interactions with {segment_name(results.tail)}, lists of"
        f" {results.k} contain {after}, against {before} before{hedge}."
    ]


def _overall_sentences(results: Results, overall: Difference | None) -> list[str]:
    if overall is None:
        return ["Overall accuracy was not compared."]
    change = _change(results, overall)
    if overall.direction == "up":
        return [f"Over all items, accuracy rose: {change}."]
    if overall.direction == "down":
        return [f"Over all items, accuracy was lost: {change}."]
    return [f"Over all items, no change was detected: {change}{_range_left_open(overall)}."]


def _head_sentences(results: Results, treatment: str) -> list[str]:
    head = results.difference(treatment, "ndcg", results.head) if results.head else None
    if head is None or head.direction == "unclear":
        return []
    verb = "gained" if head.direction == "up" else "lost"
    return [f"{segment_name(results.head).capitalize()} {verb}: {_change(results, head)}."]


def _scale_sentences(results: Results, baseline: _Variant) -> list[str]:
    """How the baseline itself stands beside the simplest reference: is any of this worth having?"""
    for reference in results.references:
        scale = results.difference(baseline["name"], "ndcg", "overall", against=reference["name"])
        if scale is None:
            continue
        verdict = {"up": "is ahead of", "down": "is behind", "unclear": "is not distinguishable from"}
        return [
            f"For scale: {_label(results, baseline)} itself {verdict[scale.direction]}"
            f" {_label(results, reference)}, by {signed(scale.difference)} in NDCG@{results.k}"
            f" ({interval(scale.low, scale.high, with_sign=True)})."
        ]
    return []


def _slot_sentences(results: Results, treatment: str, baseline: str) -> list[str]:
    after = results.slot_share(treatment, results.tail)
    before = results.slot_share(baseline, results.tail)
    if after is None or before is None or after.value is None or before.value is None:
        return []
    held = next(
        row["interaction_share"]
        for row in results.metrics["segments"]["segments"]
        if row["name"] == results.tail
    )
    return [
        f"In lists of {results.k}, {segment_name(results.tail)} now take {percent(after.value)} of"
        f" the slots, against {percent(before.value)} before; they hold {percent(held)} of the"
        " training interactions."
    ]


def _cost_sentences(results: Results, treatment: _Variant) -> list[str]:
    times = results.cost_ratio(treatment)
    if times is None:
        return ["The cost of training was not recorded."]
    after = duration(results.cost(treatment, "train_seconds"))
    before = duration(results.cost(results.baseline, "train_seconds"))
    text = f"Training took {ratio(times)} the baseline's time ({after} against {before})"
    per_step = results.cost_ratio(treatment, "seconds_per_step")
    if per_step is not None and abs(per_step - times) > 0.1 * times:
        text += f"; one step costs {ratio(per_step)}, the rest is the number of steps until early stopping"
    return [text + "."]


def _caveats(results: Results, difference: Difference | None) -> list[str]:
    found: list[str] = []
    if difference is not None and difference.n_seeds <= 1:
        found.append(
            "One training seed. The intervals cover the choice of users, not the luck of one training"
            " run, which can be as large as the effect; repeat with five seeds before relying on it."
        )
    elif difference is not None and difference.variance == "users+seeds":
        found.append(
            f"{difference.n_seeds} training seeds. The intervals of the differences cover both the choice"
            " of users and the luck of training."
        )
    elif difference is not None:
        found.append(
            f"{difference.n_seeds} training seeds were averaged, but the intervals cover the choice of"
            " users only."
        )
    if len(results.treatments) > 1 and results.headline is not None:
        found.append(
            f"{len(results.treatments)} treatments were compared. The words above speak of"
            f" {_label(results, results.headline)}, chosen by its place in the run, not by its result."
            f" With many {LEVEL} intervals, about one in twenty misses the truth by chance."
        )
    return [*found, *tied_caveats(results.metrics["data"]["split"])]


def tied_caveats(split: Mapping[str, Any]) -> list[str]:
    """Say how many held-out interactions have no order of their own."""
    if not split["n_tied_test_targets"]:
        return []
    share = split["n_tied_test_targets"] / max(split["n_test_targets"], 1)
    return [
        f"{count(split['n_tied_test_targets'])} of {count(split['n_test_targets'])} held-out interactions"
        f" ({percent(share)}) share their timestamp with another of the same user, so which of them"
        " came last is partly arbitrary."
    ]


def _without_comparison(results: Results) -> Summary:
    chosen = results.headline or results.baseline or results.variants[0]
    data = results.metrics["data"]
    sentences = [
        f"On {data['name']}, {_label(results, chosen)} was measured on"
        f" {count(data['split']['n_test_targets'])} held-out interactions. There is no paired comparison"
        " with a baseline, so nothing here says whether one model is better than another."
    ]
    for segment in dict.fromkeys(["overall", results.head, results.tail]):
        found = results.accuracy(chosen["name"], "ndcg", segment) if segment else None
        if segment is not None and found is not None and found.value is not None:
            where = "Over all items" if segment == "overall" else f"On {segment_name(segment)}"
            sentences.append(
                f"{where}, NDCG@{results.k} is {number(found.value)}"
                + (
                    f" ({LEVEL} interval {interval(found.low, found.high)})."
                    if found.low is not None
                    else "."
                )
            )
    return Summary(
        f"{_label(results, chosen)}: measured, with nothing to compare it to",
        "plain",
        tuple(sentences),
        tuple(_caveats(results, None)),
    )


def _label(results: Results, variant: Mapping[str, Any]) -> str:
    return results.labels[variant["name"]]


def segment_name(segment: str | None) -> str:
    """What people call the items of a segment."""
    names = {"tail": "rare items", "head": "popular items", "cold": "never-trained items"}
    return names.get(segment or "", f"items of segment “{segment}”")


def _change(results: Results, difference: Difference) -> str:
    relative = "" if difference.relative is None else f" ({signed_percent(difference.relative)})"
    return (
        f"NDCG@{results.k} is {number(difference.value)} against"
        f" {number(difference.baseline_value)} before{relative}"
    )


def _interval_spans_zero(difference: Difference) -> str:
    if difference.low is None or difference.high is None:
        return "the difference has no interval"
    between = interval(difference.low, difference.high, with_sign=True)
    return f"the {LEVEL} interval of the difference ({between}) spans zero"


def _range_left_open(difference: Difference) -> str:
    base = difference.baseline_value
    if not base or difference.low is None or difference.high is None:
        return ""
    low, high = signed_percent(difference.low / base, 0), signed_percent(difference.high / base, 0)
    return f", so anything from {low} to {high} remains possible"


def _per_thousand(value: float) -> str:
    scaled = 1000 * value
    return number(scaled, 0 if scaled >= 9.5 else 1)
