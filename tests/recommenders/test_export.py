"""Weights written in the layouts of transformers, peft and safetensors, read back by these alone."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from tailwise import assets
from tailwise.recommenders import (
    BackboneConfig,
    ItemTokenConfig,
    ItemTokenRecommender,
    SASRecConfig,
    build_item_token,
    build_sasrec,
    describe_base_model,
    export_recommender,
    scoring_tensors,
)

INPUTS = torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(5))


def trained(model: Path, *, dtype: str = "float32", depth: int | None = 2) -> ItemTokenRecommender:
    """A recommender whose every trainable parameter is far from where it began."""
    generator = torch.Generator().manual_seed(4)
    backbone = BackboneConfig(str(model), depth=depth, dtype=dtype, lora_rank=2)
    encodings = torch.randn(6, 32, generator=generator)
    recommender = build_item_token(encodings, backbone, ItemTokenConfig(max_length=4), seed=0)
    with torch.no_grad():
        for parameter in recommender.trainable_state().values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return recommender.eval()


def states(backbone: torch.nn.Module) -> torch.Tensor:
    inputs = INPUTS.to(next(backbone.parameters()).dtype)
    with torch.no_grad():
        return backbone(inputs_embeds=inputs, use_cache=False).last_hidden_state.float()


def with_peft(folder: Path) -> torch.nn.Module:
    from peft import PeftModel

    base = AutoModel.from_pretrained(folder / "base", dtype="auto")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # between peft and transformers; not ours to mend
        return PeftModel.from_pretrained(base, folder / "adapter").eval()


@pytest.mark.parametrize("depth", [1, 2, None])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_base_and_adapter_give_the_same_states_bitwise(tiny_model, tmp_path, dtype, depth):
    recommender = trained(tiny_model, dtype=dtype, depth=depth)
    export_recommender(recommender, tmp_path)
    loaded = with_peft(tmp_path)
    assert torch.equal(states(loaded), states(recommender.backbone))
    assert not torch.equal(states(AutoModel.from_pretrained(tmp_path / "base")), states(loaded))
    assert loaded.config.num_hidden_layers == (depth or 3)


def test_the_merged_backbone_gives_the_same_states(tiny_model, tmp_path):
    recommender = trained(tiny_model)
    export_recommender(recommender, tmp_path)
    merged = AutoModel.from_pretrained(tmp_path / "model")
    # Both sides sum a few hundred products of float32 in another order.
    torch.testing.assert_close(states(merged), states(recommender.backbone), rtol=1e-4, atol=1e-4)
    assert not [name for name, _ in merged.named_parameters() if "lora" in name]


def test_the_merged_backbone_of_a_bfloat16_run_holds_the_adapters_to_float32_digits(tiny_model, tmp_path):
    recommender = trained(tiny_model, dtype="bfloat16")
    export_recommender(recommender, tmp_path)
    layer = recommender.backbone.base_model.model.layers[0].mlp.up_proj
    added = layer.lora_B["default"].weight @ layer.lora_A["default"].weight * 2  # the scale, 2 rank / rank
    expected = layer.base_layer.weight.float() + added
    merged = load_file(tmp_path / "model" / "model.safetensors")["layers.0.mlp.up_proj.weight"]
    assert merged.dtype == torch.float32
    torch.testing.assert_close(merged, expected.detach(), rtol=1e-6, atol=1e-6)  # one sum of two products
    assert AutoModel.from_pretrained(tmp_path / "base", dtype="auto").dtype == torch.bfloat16


def test_the_recommender_itself_stays_as_it_is(tiny_model, tmp_path):
    recommender = trained(tiny_model)
    before = recommender.scores([[0, 3, 2], [5]])
    names = list(recommender.trainable_state())
    settings = recommender.backbone.peft_config["default"]
    base_of_settings = settings.base_model_name_or_path
    export_recommender(recommender, tmp_path)
    assert torch.equal(recommender.scores([[0, 3, 2], [5]]), before)
    assert list(recommender.trainable_state()) == names
    assert settings.base_model_name_or_path == base_of_settings


def test_without_merging_there_is_no_merged_backbone(tiny_model, tmp_path):
    export_recommender(trained(tiny_model), tmp_path, merged=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter", "base", "items.safetensors"]


@pytest.mark.parametrize("part", ["base", "model"])
def test_the_tokenizer_reads_titles_as_the_language_models_own(tiny_model, tmp_path, part):
    export_recommender(trained(tiny_model), tmp_path)
    own, loaded = AutoTokenizer.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tmp_path / part)
    text = "red thing 17"
    assert loaded(text).input_ids == own(text).input_ids
    assert loaded.bos_token_id == own.bos_token_id


def test_adapters_are_those_of_the_layers_kept_and_name_their_base_beside_them(tiny_model, tmp_path):
    export_recommender(trained(tiny_model, depth=1), tmp_path)
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "./base"
    assert settings["target_modules"] == sorted(settings["target_modules"])
    assert (settings["peft_type"], settings["r"], settings["lora_alpha"]) == ("LORA", 2, 4)
    assert all(name.startswith("layers.0.") for name in settings["target_modules"])
    with safe_open(tmp_path / "adapter" / "adapter_model.safetensors", "pt") as file:
        assert len(list(file.keys())) == 2 * 7  # two factors beside each of a layer's seven matrices
    assert sorted(p.name for p in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_no_file_says_where_the_language_model_lies(tiny_model, tmp_path):
    export_recommender(trained(tiny_model), tmp_path / "out")
    for file in (tmp_path / "out").rglob("*"):
        assert file.is_dir() or str(tiny_model.parent).encode() not in file.read_bytes(), file


def test_scoring_tensors_are_float32_and_of_the_catalogues_size(tiny_model):
    recommender = trained(tiny_model)
    tensors = scoring_tensors(recommender)
    assert {name: (list(t.shape), t.dtype) for name, t in tensors.items()} == {
        "item_vectors": ([6, 32], torch.float32),
        "token_scale": ([], torch.float32),
        "query.weight": ([32, 32], torch.float32),
        "query.bias": ([32], torch.float32),
        "max_length": ([], torch.int64),
    }
    assert torch.equal(tensors["item_vectors"], recommender.item_vectors())
    assert int(tensors["max_length"]) == 4


def test_a_sasrec_has_nothing_to_export_and_is_refused_by_kind(tmp_path):
    sasrec = build_sasrec(6, SASRecConfig(width=8, depth=1), ItemTokenConfig(), seed=0)
    with pytest.raises(ValueError, match="must have a language model and adapters; got one of kind 'sasrec'"):
        export_recommender(sasrec, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_is_described_by_its_name_alone(tiny_model):
    base = describe_base_model(trained(tiny_model, depth=2))
    assert (base.name, base.hub_id, base.licence, base.quantised_file) == ("tiny-llama", None, None, None)
    assert (base.n_layers, base.depth, base.lora_rank, base.dtype) == (3, 2, 2, "float32")
    assert len(base.fingerprint) == 16


def test_a_registered_model_is_described_by_hub_id_licence_and_the_file_it_came_from(
    tiny_model, tmp_path, monkeypatch
):
    from tailwise.recommenders import _export

    recommender = trained(tiny_model)
    recommender.recipe["backbone"]["model"] = "smollm2-135m"
    monkeypatch.setattr(_export, "resolve_language_model", lambda name: tiny_model)
    monkeypatch.setattr(assets, "fetch", lambda name: tmp_path)
    base = describe_base_model(recommender)
    assert (base.name, base.hub_id) == ("smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct")
    assert (base.licence, base.quantised_file) == ("Apache-2.0", None)
    (tmp_path / "small.Q4_1.gguf").touch()
    assert describe_base_model(recommender).quantised_file == "small.Q4_1.gguf"


def test_a_hub_id_is_described_by_itself_and_no_licence_is_guessed(tiny_model, monkeypatch):
    from tailwise.recommenders import _export

    recommender = trained(tiny_model)
    recommender.recipe["backbone"]["model"] = "owner/name"
    monkeypatch.setattr(_export, "resolve_language_model", lambda name: tiny_model)
    base = describe_base_model(recommender)
    assert (base.name, base.hub_id, base.licence) == ("owner/name", "owner/name", None)
