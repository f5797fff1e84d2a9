"""The card of an exported recommender: what it is, how it was trained and judged, how to load it.

Markdown with a YAML head, in the format of the Hugging Face hub. Every statement is taken from the
run's records; what they do not say is left out.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailwise.recommenders import BaseModel
from tailwise.reports._metrics_file import check_metrics
from tailwise.reports._model_card_kinds import CARD_KINDS, CardKind
from tailwise.reports._numbers import (
    LEVEL,
    NOTHING,
    count,
    duration,
    interval,
    number,
    percent,
    plain,
    signed,
    signed_percent,
)
from tailwise.reports._results import ACCURACY_LABELS, Results
from tailwise.reports._tables import escape_markdown

__all__ = ["ExportFacts", "model_card"]

_PAPER = "https://arxiv.org/abs/2603.12752"
_LICENCE_KEY = re.compile(r"[a-z0-9][a-z0-9.-]*")  # of the hub; a sentence about terms is none


@dataclass(frozen=True)
class ExportFacts:
    """What a card says beside the run's metrics.

    Attributes:
        variant: Name in the metrics.
        seed: Of the training that was exported.
        record: Of that training, as ``record.json`` holds it.
        base: The language model behind it.
        kind: Of the recommender: ``item-token`` or ``title``.
        settings: Of the recommender, by name.
        training_histories: Users whose histories were trained on, at most; None: all.
        data_licence: As the registry of assets says; None for one's own data.
        merged: There is a ``model/``.
        tailwise_version: That wrote the export.
    """

    variant: str
    seed: int
    record: Mapping[str, Any]
    base: BaseModel
    kind: str
    settings: Mapping[str, Any]
    training_histories: int | None
    data_licence: str | None
    merged: bool
    tailwise_version: str


def model_card(metrics: Mapping[str, Any], facts: ExportFacts) -> str:
    """Write the card of one exported training.

    Args:
        metrics: The content of the run's ``metrics.json``; holds the variant with the seed.
        facts: See :class:`ExportFacts`.

    Returns:
        Markdown; its Python blocks run in the export's folder.

    Raises:
        DataError: the metrics break the schema.
    """
    results = Results(check_metrics(metrics))
    parts = [
        _head(facts),
        f"# {_title(results, facts)}",
        *_what_it_is(results, facts),
        "## How to load it",
        *_how_to_load(facts),
        "## How it was trained",
        _table([["", ""], *_training_rows(results, facts)]),
        "## How good it is",
        *_how_good(results, facts),
        *_compared(results, facts),
        "## Limitations",
        "\n".join(f"* {sentence}" for sentence in _limitations(results, facts)),
        "## Citation",
        _citation(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _kind(facts: ExportFacts) -> CardKind:
    return CARD_KINDS[facts.kind]


def _is_eisam(facts: ExportFacts) -> bool:
    return bool(facts.record["variant"]["optimizer"] == "eisam")


def _head(facts: ExportFacts) -> str:
    """The YAML head; texts are written as JSON, which is YAML."""
    tags = ["recommendation", "sequential-recommendation", "long-tail", "lora", "peft", "tailwise"]
    if _is_eisam(facts):
        tags += ["eisam", "sharpness-aware-minimization"]
    lines = ["---", "library_name: transformers"]
    licence = (facts.base.licence or "").lower()
    if _LICENCE_KEY.fullmatch(licence):
        lines.append(f"license: {licence}")
    if facts.base.hub_id is not None:
        lines.append(f"base_model: {json.dumps(facts.base.hub_id, ensure_ascii=False)}")
    return "\n".join([*lines, "tags:", *(f"- {tag}" for tag in tags), "---"])


def _title(results: Results, facts: ExportFacts) -> str:
    label = results.labels[facts.variant]
    return escape_markdown(f"{facts.base.name} as a recommender for {_data_name(results)}: {label}")


def _data_name(results: Results) -> str:
    return str(results.metrics["data"]["name"])


def _layers(base: BaseModel) -> str:
    whole = f"all {base.n_layers} layers"
    return whole if base.depth == base.n_layers else f"the first {base.depth} of {base.n_layers} layers"


def _what_it_is(results: Results, facts: ExportFacts) -> list[str]:
    base, data = facts.base, results.metrics["data"]
    named = escape_markdown(base.name)
    named = f"[{named}](https://huggingface.co/{base.hub_id})" if base.hub_id else named
    label = escape_markdown(results.labels[facts.variant])
    data_name = escape_markdown(_data_name(results))
    kind = _kind(facts)
    about = (
        f"{kind.about.format(n_items=count(data['n_items']), data=data_name)} Behind it is the language "
        f"model {named}, {_layers(base)}, frozen, with LoRA adapters of rank "
        f"{base.lora_rank}{kind.made(facts.settings)}. It was trained with **{label}**."
    )
    if _is_eisam(facts):
        about += f" EISAM here is *our reconstruction of EISAM* ([arXiv 2603.12752]({_PAPER}))."
    where = "a de-quantised copy of the frozen backbone" if base.quantised_file else "the frozen backbone"
    rows = [
        ["file", "holds"],
        ["`adapter/`", "the LoRA adapters in peft's layout; they belong on `base/`, not on the whole model"],
        ["`base/`", f"{where} ({_layers(base)}, {base.dtype}) and the tokenizer"],
        *(
            [["`model/`", f"both merged (float32{_rounding(base)}), and the tokenizer{kind.merged_note}"]]
            if facts.merged
            else []
        ),
        list(kind.file),
        [
            "`catalogue.parquet`",
            f"`item_id`, `title`, `item_index` ({kind.catalogue}), `n_training_interactions`, `segment`",
        ],
        ["`export.json`", "what was exported, and the SHA-256 of every file"],
    ]
    return [about, _table(rows)]


def _rounding(base: BaseModel) -> str:
    """What is to be said of the merged backbone where the run computes in less than float32."""
    return "" if base.dtype == "float32" else f"; scores differ from the run's by {base.dtype}'s rounding"


def _how_to_load(facts: ExportFacts) -> list[str]:
    """Code that runs in the export's folder, without Tailwise."""
    kind = _kind(facts)
    first = kind.load_merged if facts.merged else kind.load_adapter
    parts = [
        "In this folder, without Tailwise:",
        f"```python\n{first}```",
        f"```python\n{kind.use}```",
    ]
    if facts.merged:
        parts += [
            "The same backbone from its two parts, by peft:",
            f"```python\n{kind.load_adapter}```",
        ]
    return parts


def _training_rows(results: Results, facts: ExportFacts) -> list[list[str]]:
    record, data = facts.record, results.metrics["data"]
    variant, training, cost = record["variant"], record["training"], record["cost"]
    split, surroundings = data["split"], record["surroundings"]
    own = {key: value for key, value in variant.items() if key not in ("name", "optimizer")}
    versions = {"tailwise": surroundings["tailwise_version"], **surroundings["packages"]}
    used = [f"{name} {version}" for name, version in versions.items() if version is not None]
    seeds = ", ".join(map(str, results.metrics["variants"][_place(results, facts)]["seeds"]))
    rows = [
        ["optimizer", f"{variant['optimizer']}: {_settings(own)}"],
        ["training", _settings(training)],
        ["recommender", _settings(facts.settings)],
        [
            "data",
            f"{_data_name(results)}: {count(data['n_users'])} users, {count(data['n_items'])} items, "
            f"{count(data['n_interactions'])} interactions, {count(data['n_training_interactions'])} of them "
            f"for training; checksum {data['checksum']}",
        ],
        ["split", f"{split['method']}: {_settings(split['parameters'])}"],
        ["seed", f"{facts.seed}, of {seeds}"],
        [
            "course",
            f"steps: {count(cost['n_steps'])}; epochs: {plain(cost['n_epochs'])}; parameters of epoch "
            f"{plain(cost.get('kept_epoch', cost['best_epoch']))}",
        ],
        [
            "cost",
            f"{duration(cost['train_seconds'])}, {number(cost['peak_memory_mib'], 0)} MiB at the peak; "
            f"{surroundings['machine']['cuda_device'] or surroundings['machine']['processor']}",
        ],
        ["validation NDCG@10", number(record["validation_ndcg@10"])],
        ["language model", f"content {facts.base.fingerprint}{_quantised(facts.base)}"],
        ["versions", ", ".join(used)],
    ]
    if surroundings["commit"] is not None:
        rows.append(["commit", surroundings["commit"]])
    if facts.training_histories is not None:
        rows.insert(
            4, ["histories", f"of {count(facts.training_histories)} users at most, drawn by the seed"]
        )
    return rows


def _quantised(base: BaseModel) -> str:
    return f", de-quantised from {base.quantised_file}" if base.quantised_file else ""


def _place(results: Results, facts: ExportFacts) -> int:
    return [v["name"] for v in results.variants].index(facts.variant)


def _settings(settings: Mapping[str, Any]) -> str:
    shown = [f"{name} = {plain(value)}" for name, value in settings.items()]
    return ", ".join(shown) or "no settings of its own"


def _how_good(results: Results, facts: ExportFacts) -> list[str]:
    """Accuracy and exposure per segment, each with its interval."""
    variant, segments = results.variants[_place(results, facts)], results.metrics["segments"]
    overall = results.accuracy(facts.variant, "ndcg", "overall")
    rows = [
        ["segment", *(f"{label}@{results.k}" for label in ACCURACY_LABELS.values()), "slot share", "targets"]
    ]
    for segment in results.accuracy_segments:
        found = [results.accuracy(facts.variant, metric, segment) for metric in ACCURACY_LABELS]
        slots = None if segment == "overall" else results.slot_share(facts.variant, segment)
        cells = [NOTHING if e is None else _with_interval(number, e.value, e.low, e.high) for e in found]
        shown = NOTHING if slots is None else _with_interval(percent, slots.value, slots.low, slots.high)
        rows.append([segment, *cells, shown, count(found[0].n_targets if found[0] else None)])
    coverage = results.coverage(facts.variant)
    seeds = len(variant["seeds"])
    trained = "one training" if seeds == 1 else f"means over {seeds} trainings, of which this is one"
    text = (
        f"On {count(overall.n_targets if overall else None)} held-out interactions of "
        f"{count(overall.n_users if overall else None)} users of the test part, ranked among the whole "
        f"catalogue; {LEVEL} intervals over users; {trained}. Segments by training count: "
        f"{segments['rule']} ({_settings(segments['parameters'])}); cold items were never trained on. A slot "
        f"is a place in a list of {results.k}."
    )
    if coverage is not None and coverage.value is not None:
        text += f" The lists hold {percent(coverage.value)} of the catalogue."
    return [text, _table(rows)]


def _with_interval(show: Any, value: float | None, low: float | None, high: float | None) -> str:
    if value is None or low is None or high is None:
        return str(show(value))
    return f"{show(value)} ({show(low)} to {show(high)})"


def _compared(results: Results, facts: ExportFacts) -> list[str]:
    """Paired differences from what this variant was compared with; nothing where there are none."""
    rows = [["minus", "metric", "segment", "difference", "relative", "seeds"]]
    against = dict.fromkeys(
        row["baseline"] for row in results.metrics["comparisons"] if row["variant"] == facts.variant
    )
    variances = set()
    for other in against:
        for metric, label in ACCURACY_LABELS.items():
            for segment in results.accuracy_segments:
                found = results.difference(facts.variant, metric, segment, against=other)
                if found is None:
                    continue
                variances.add(found.variance)
                shown = f"{signed(found.difference)} ({interval(found.low, found.high, with_sign=True)})"
                what = [results.labels[other], f"{label}@{results.k}", segment]
                rows.append([*what, shown, signed_percent(found.relative), str(found.n_seeds)])
    if len(rows) == 1:
        return []
    text = f"This minus the other, paired by user, with {LEVEL} intervals."
    if variances == {"users"}:
        text += " They do not cover the luck of training."
    return ["## Compared", text, _table(rows)]


def _limitations(results: Results, facts: ExportFacts) -> list[str]:
    metrics, name = results.metrics, escape_markdown(_data_name(results))
    cold = [row for row in metrics["segments"]["segments"] if row["name"] == "cold"]
    n_cold = cold[0]["n_items"] if cold else 0
    sentences = [
        f"It knows the {count(metrics['data']['n_items'])} items of its catalogue and no others; "
        f"{_kind(facts).new_items}",
        "It was judged on logged choices, which depend on what was shown to people; no live test is part of "
        "this record.",
        f"The numbers are of {name} and of this split. They say nothing about other catalogues or times.",
    ]
    if n_cold:
        sentences.append(
            f"{count(n_cold)} items had no training interaction: no training target ever was one of them."
        )
    if len(results.variants[_place(results, facts)]["seeds"]) == 1:
        sentences.append("One training seed: another would give other numbers.")
    if facts.base.quantised_file:
        sentences.append(
            f"The weights in `base/` come from the quantised file {facts.base.quantised_file}; the language "
            "model's own weights differ, and the adapters do not belong on them."
        )
    if facts.base.licence is None:
        sentences.append("The language model's licence is not recorded here; look at the place it came from.")
    else:
        sentences.append(
            f"The licence named above is the language model's ({escape_markdown(facts.base.licence)})."
        )
    if facts.data_licence is not None:
        terms = escape_markdown(facts.data_licence)
        sentences.append(f"Titles and interactions are those of {name}, under terms of their own: {terms}")
    else:
        sentences.append(f"Titles and interactions are those of {name}; their terms are not recorded here.")
    return sentences


def _citation(facts: ExportFacts) -> str:
    paper = f"[arXiv 2603.12752]({_PAPER})"
    if _is_eisam(facts):
        return (
            f"Trained with Tailwise's optimizer, our reconstruction of EISAM ({paper}): the paper's formulas "
            "and code were not public, so numbers here are not the paper's. Cite the paper for the idea."
        )
    return (
        f"Trained with Tailwise by {facts.record['variant']['optimizer']}. Its method for rare items is our "
        f"reconstruction of EISAM ({paper}), which this variant does not use."
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *rest = [[escape_markdown(cell) for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *rest]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
