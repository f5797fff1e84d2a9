"""The card of an exported training: its head is YAML, its numbers are the run's, it claims nothing else."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from tailwise.errors import DataError
from tailwise.recommenders import BaseModel
from tailwise.reports import ExportFacts, model_card
from tailwise.reports._model_card_kinds import CARD_KINDS

CODE = CARD_KINDS["item-token"]

BASE = BaseModel(
    name="smollm2-135m",
    hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    licence="Apache-2.0",
    quantised_file=None,
    fingerprint="0123456789abcdef",
    n_layers=30,
    depth=4,
    lora_rank=8,
    dtype="bfloat16",
)
RECORD = {
    "variant": {"name": "eisam", "optimizer": "eisam", "rho": 0.05, "logit_adjustment": 0.0},
    "training": {"max_epochs": 12, "learning_rate": 0.001},
    "seed": 0,
    "cost": {
        "train_seconds": 201.1,
        "n_steps": 1620,
        "n_epochs": 8,
        "best_epoch": 6,
        "kept_epoch": 7,
        "peak_memory_mib": 1934.2,
    },
    "validation_ndcg@10": 0.08765,
    "surroundings": {
        "tailwise_version": "0.0.9",
        "commit": "abc123def456",
        "packages": {"torch": "2.13.0+cpu", "implicit": None},
        "machine": {"processor": "Some Processor", "cuda_device": None},
        "command": ["tailwise", "run", "--out", "/home/somebody/secret"],
    },
}
FACTS = ExportFacts(
    variant="eisam",
    seed=0,
    record=RECORD,
    base=BASE,
    kind="item-token",
    settings={"max_length": 100, "dropout": 0.1, "id_residual": True},
    training_histories=None,
    data_licence=None,
    merged=True,
    tailwise_version="0.1.0",
)


def head_of(card):
    """The card's YAML, as the hub's own reader and as a plain one see it."""
    assert card.startswith("---\n")
    head = yaml.safe_load(card.split("---\n")[1])
    assert ModelCard(card).data.to_dict() == head
    return head


def section(card, title):
    return card.split(f"## {title}\n")[1].split("\n## ")[0]


def adamw():
    record = RECORD | {"variant": {"name": "adamw", "optimizer": "adamw", "logit_adjustment": 0.0}}
    return replace(FACTS, variant="adamw", record=record)


def test_the_head_names_base_licence_library_and_tags(metrics):
    head = head_of(model_card(metrics, FACTS))
    assert head["library_name"] == "transformers"
    assert head["license"] == "apache-2.0"
    assert head["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert {"eisam", "peft", "lora", "recommendation", "long-tail"} <= set(head["tags"])
    assert head.keys() == {"library_name", "license", "base_model", "tags"}


def test_what_is_not_known_of_the_language_model_is_not_said(metrics):
    base = replace(BASE, name="our-own", hub_id=None, licence=None)
    card = model_card(metrics, replace(FACTS, base=base))
    assert head_of(card).keys() == {"library_name", "tags"}
    assert "licence is not recorded here" in section(card, "Limitations")
    assert "huggingface.co" not in card


def test_terms_that_are_no_licence_key_stay_out_of_the_head(metrics):
    base = replace(BASE, licence="Research use; ask first: x@y.z")
    card = model_card(metrics, replace(FACTS, base=base))
    assert "license" not in head_of(card)
    assert "Research use; ask first: x@y.z" in section(card, "Limitations")


def test_eisam_is_called_a_reconstruction_and_another_method_is_not_called_eisam(metrics):
    card = model_card(metrics, FACTS)
    for part in (card.split("## How to load it")[0], section(card, "Citation")):
        assert re.search(
            r"our reconstruction of EISAM\*? \(\[arXiv 2603.12752\]\(https://arxiv.org/abs/", part
        )
    plain = model_card(metrics, adamw())
    assert "eisam" not in head_of(plain)["tags"]
    assert "EISAM" not in plain.split("## How to load it")[0]
    assert "which this variant does not use" in section(plain, "Citation")


def test_numbers_are_those_of_the_variant_with_their_intervals(make):
    metrics = make()
    rows = {
        line.split(" | ")[0]: line
        for line in section(model_card(metrics, FACTS), "How good it is").splitlines()
    }
    (variant,) = [v for v in metrics["variants"] if v["name"] == "eisam"]
    for segment in ("overall", "head", "tail", "cold"):
        found = {
            row["metric"]: row for row in variant["accuracy"] if (row["segment"], row["k"]) == (segment, 10)
        }
        shown = [f"{r['value']:.4f} ({r['low']:.4f} to {r['high']:.4f})" for r in found.values()]
        assert rows[f"| {segment}"].split(" | ")[1:4] == shown
        assert rows[f"| {segment}"].endswith(f"| {found['ndcg']['n_targets']:,} |")
    (slots,) = [
        row
        for row in variant["exposure"]
        if (row["metric"], row["segment"], row["k"]) == ("slot_share", "tail", 10)
    ]
    assert f"{100 * slots['value']:.1f}\u202f% ({100 * slots['low']:.1f}" in rows["| tail"]


def test_a_segment_without_targets_shows_dashes(make):
    rows = section(model_card(make(cold_targets=False), FACTS), "How good it is").splitlines()
    (cold,) = [line for line in rows if line.startswith("| cold")]
    assert cold.split(" | ")[1:4] == ["–", "–", "–"]


def test_differences_from_the_baseline_are_shown_with_signs_and_seeds(make):
    compared = section(model_card(make(tail_effect=(-0.0043, 0.003), n_seeds=3), FACTS), "Compared")
    assert "| AdamW | NDCG@10 | tail | −0.0043 (−0.0073 to −0.0013) |" in compared
    assert "| 3 |" in compared
    assert "luck of training" not in compared
    assert "They do not cover the luck of training" in section(model_card(make(n_seeds=1), FACTS), "Compared")


def test_a_variant_that_was_compared_with_nothing_has_no_such_section(make):
    metrics = make()
    assert "## Compared" in model_card(metrics, FACTS)
    assert "## Compared" not in model_card(metrics, adamw())


def test_the_baseline_is_shown_against_references(make):
    metrics = make()
    (row, *_) = [
        r for r in metrics["comparisons"] if (r["metric"], r["segment"], r["k"]) == ("ndcg", "tail", 10)
    ]
    metrics["comparisons"].append(row | {"variant": "adamw", "baseline": "item-knn"})
    assert "| Item-kNN | NDCG@10 | tail |" in section(model_card(metrics, adamw()), "Compared")


def test_the_training_record_is_complete(metrics):
    table = section(model_card(metrics, FACTS), "How it was trained")
    for row in (
        "| optimizer | eisam: rho = 0.05, logit_adjustment = 0 |",
        "| training | max_epochs = 12, learning_rate = 0.001 |",
        "| recommender | max_length = 100, dropout = 0.1, id_residual = yes |",
        "| data | ml-100k: 943 users, 1,682 items, 100,000 interactions, 81,377 of them for training; "
        f"checksum {'9f2c' * 16} |",
        "| split | global-time: validation_from = 889237269, ",
        "| seed | 0, of 0 |",
        "| course | steps: 1,620; epochs: 8; parameters of epoch 7 |",
        "1,934 MiB at the peak; Some Processor |",
        "| cost | 3\u202fmin 21\u202fs, ",
        "| validation NDCG@10 | 0.0877 |",
        "| language model | content 0123456789abcdef |",
        "| versions | tailwise 0.0.9, torch 2.13.0+cpu |",
        "| commit | abc123def456 |",
    ):
        assert row in table, row
    assert "| histories |" not in table


def test_what_limits_the_training_histories_is_told(metrics):
    table = section(model_card(metrics, replace(FACTS, training_histories=1024)), "How it was trained")
    assert "| histories | of 1,024 users at most, drawn by the seed |" in table


def test_the_command_line_of_the_run_is_not_told(metrics):
    assert "secret" not in model_card(metrics, FACTS)


def test_a_quantised_base_is_told_wherever_it_matters(metrics):
    card = model_card(metrics, replace(FACTS, base=replace(BASE, quantised_file="Small.Q4_1.gguf")))
    assert "a de-quantised copy of the frozen backbone" in card
    assert "de-quantised from Small.Q4_1.gguf |" in section(card, "How it was trained")
    assert "quantised file Small.Q4_1.gguf" in section(card, "Limitations")
    assert "quantised" not in model_card(metrics, FACTS)


def test_depth_and_dtype_of_the_base_are_told(metrics):
    card = model_card(metrics, FACTS)
    assert "(the first 4 of 30 layers, bfloat16)" in card
    assert "scores differ from the run's by bfloat16's rounding" in card
    whole = model_card(metrics, replace(FACTS, base=replace(BASE, depth=30, dtype="float32")))
    assert "(all 30 layers, float32)" in whole
    assert "rounding" not in whole


def test_cold_items_one_seed_and_terms_of_the_data_are_limitations(make):
    limits = section(model_card(make(), replace(FACTS, data_licence="No redistribution.")), "Limitations")
    assert "560 items had no training interaction" in limits
    assert "One training seed" in limits
    assert "under terms of their own: No redistribution." in limits
    several = section(model_card(make(n_seeds=5, segments=("head", "tail")), FACTS), "Limitations")
    assert "no training interaction" not in several
    assert "One training seed" not in several
    assert "their terms are not recorded here" in several


def test_names_cannot_break_head_tables_or_page(make):
    metrics = make(data_name="shop | <b>: 'x'\n# y")
    base = replace(BASE, hub_id=None, name='llama: "9" | <i>')
    card = model_card(metrics, replace(FACTS, base=base))
    head_of(card)
    assert "\n# y" not in card
    assert "<b>" not in card
    assert "<i>" not in card
    for line in section(card, "How it was trained").strip().splitlines():
        assert len(re.findall(r"(?<!\\)\|", line)) == 3, line


def test_code_is_for_what_is_there(metrics):
    blocks = re.compile(r"^```python\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
    assert blocks.findall(model_card(metrics, FACTS)) == [CODE.load_merged, CODE.use, CODE.load_adapter]
    unmerged = model_card(metrics, replace(FACTS, merged=False))
    assert blocks.findall(unmerged) == [CODE.load_adapter, CODE.use]
    assert "`model/`" not in unmerged


def test_the_page_shows_the_lines_of_the_card():
    page = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text()
    found = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert found == [CODE.load_merged, CODE.use, CODE.load_adapter]


def test_metrics_that_break_the_schema_are_refused(metrics):
    del metrics["variants"][0]["seeds"]
    with pytest.raises(DataError, match=r"variants\[0\]\.seeds is missing"):
        model_card(json.loads(json.dumps(metrics)), FACTS)


def test_the_page_on_titles_shows_the_code_of_their_cards():
    page = (Path(__file__).resolve().parents[2] / "docs" / "title.md").read_text()
    found = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert found == [CARD_KINDS["title"].load_merged, CARD_KINDS["title"].use]
