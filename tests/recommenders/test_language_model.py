import shutil
from pathlib import Path

import pytest
import torch

from tailwise.errors import AssetError, ConfigError
from tailwise.recommenders import BackboneConfig, choose_dtype, resolve_language_model
from tailwise.recommenders._language_model import (
    add_adapters,
    fingerprint,
    load_causal_model,
    load_language_model,
    token_scale,
)

CPU = torch.device("cpu")


def test_a_folder_with_a_config_is_taken_as_it_is(tiny_model):
    assert resolve_language_model(str(tiny_model)) == tiny_model


def test_a_folder_without_a_config_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=f"model must be a folder with a config.json; got '{tmp_path}'"):
        resolve_language_model(str(tmp_path))


@pytest.mark.parametrize("name", ["smollm2", "a/b/c", "../elsewhere"])
def test_a_name_that_is_no_model_is_refused_with_what_would_be_one(name):
    with pytest.raises(ConfigError, match=r"model must be a registered model \(.*smollm2-135m.*; got "):
        resolve_language_model(name)


def test_a_hub_id_that_cannot_be_fetched_is_an_asset_error_with_its_name(monkeypatch):
    import huggingface_hub

    def refuse(name: str, **settings: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(AssetError, match=r"model 'owner/name' could not .*OSError: no route to host"):
        resolve_language_model("owner/name")


def test_a_hub_model_is_fetched_without_pickled_weights(monkeypatch, tmp_path):
    import huggingface_hub

    asked: dict[str, object] = {}

    def download(name: str, **settings: object) -> str:
        asked.update(settings, name=name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve_language_model("owner/name") == tmp_path
    assert asked["name"] == "owner/name"
    assert not [pattern for pattern in asked["allow_patterns"] if "bin" in pattern or "pt" in pattern]


def test_depth_keeps_the_first_layers_and_nothing_of_them_changes(tiny_model):
    whole = load_language_model(tiny_model, depth=None, dtype=torch.float32)
    cut = load_language_model(tiny_model, depth=2, dtype=torch.float32)
    assert (len(whole.layers), len(cut.layers)) == (3, 2)
    for name, parameter in cut.named_parameters():
        assert torch.equal(parameter, whole.get_parameter(name)), name


@pytest.mark.parametrize("depth", [0, 4])
def test_a_depth_that_the_model_does_not_have_is_refused(tiny_model, depth):
    with pytest.raises(ConfigError, match=rf"depth must be in 1\.\.3, the layers of tiny-llama; got {depth}"):
        load_language_model(tiny_model, depth=depth, dtype=torch.float32)


def test_a_loaded_model_is_frozen_and_of_the_wanted_precision(tiny_model):
    model = load_language_model(tiny_model, depth=1, dtype=torch.bfloat16)
    assert {(p.dtype, p.requires_grad) for p in model.parameters()} == {(torch.bfloat16, False)}


def test_loading_leaves_the_verbosity_of_transformers_as_it_was(tiny_model):
    from transformers.utils import logging

    before = logging.get_verbosity()
    load_language_model(tiny_model, depth=1, dtype=torch.float32)
    assert logging.get_verbosity() == before


def test_fresh_adapters_change_nothing_and_trained_ones_do(tiny_model):
    tokens = torch.randn(1, 4, 32, generator=torch.Generator().manual_seed(0))
    plain = load_language_model(tiny_model, depth=2, dtype=torch.float32)
    expected = plain(inputs_embeds=tokens).last_hidden_state
    adapted = add_adapters(plain, rank=4)
    assert torch.equal(adapted(inputs_embeds=tokens).last_hidden_state, expected)  # B starts at zero
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    assert not torch.allclose(adapted(inputs_embeds=tokens).last_hidden_state, expected)


def test_adapters_have_the_wanted_rank_and_twice_its_scale(tiny_model):
    adapted = add_adapters(load_language_model(tiny_model, depth=1, dtype=torch.float32), rank=4)
    for name, parameter in adapted.named_parameters():
        if "lora_A" in name:
            assert parameter.shape[0] == 4
    assert {m.scaling["default"] for m in adapted.modules() if hasattr(m, "lora_A")} == {2.0}


@pytest.mark.parametrize(("attention", "used"), [(None, "sdpa"), ("sdpa", "sdpa"), ("eager", "eager")])
@pytest.mark.parametrize("load", [load_language_model, load_causal_model])
def test_attention_is_computed_as_asked_or_as_the_library_chooses(tiny_model, load, attention, used):
    model = load(tiny_model, depth=1, dtype=torch.float32, attention=attention)
    assert model.config._attn_implementation == used


def test_adapters_of_rank_zero_are_refused(tiny_model):
    with pytest.raises(ConfigError, match="lora_rank must be >= 1; got 0"):
        add_adapters(load_language_model(tiny_model, depth=1, dtype=torch.float32), rank=0)


def test_token_scale_is_the_root_mean_square_of_the_embeddings(tiny_model):
    model = load_language_model(tiny_model, depth=1, dtype=torch.float32)
    with torch.no_grad():
        model.embed_tokens.weight.zero_()
        model.embed_tokens.weight[0, 0] = 4.0
    n_entries = model.embed_tokens.weight.numel()
    assert token_scale(model) == pytest.approx(4.0 / n_entries**0.5, rel=1e-6)  # float32 mean


def test_precision_is_as_asked_or_by_the_processor():
    assert choose_dtype("float32", CPU) == torch.float32
    assert choose_dtype("bfloat16", CPU) == torch.bfloat16
    features = torch.cpu.get_capabilities()
    fast = features.get("avx512_bf16") or features.get("amx_bf16")
    assert choose_dtype("auto", CPU) == (torch.bfloat16 if fast else torch.float32)
    with pytest.raises(ConfigError, match="dtype must be auto, float32 or bfloat16; got 'float16'"):
        choose_dtype("float16", CPU)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 0}, "model.depth must be >= 1; got 0"),
        ({"lora_rank": 0}, "model.lora_rank must be >= 1; got 0"),
        ({"dtype": "fp16"}, "model.dtype must be auto, float32 or bfloat16; got 'fp16'"),
        ({"attention": "flash"}, "model.attention must be eager or sdpa; got 'flash'"),
    ],
)
def test_backbone_settings_out_of_range_are_refused_before_anything_is_loaded(settings, message):
    with pytest.raises(ConfigError, match=message):
        BackboneConfig(**settings)


def test_the_fingerprint_follows_content_and_not_place(tiny_model, tmp_path):
    copy = Path(shutil.copytree(tiny_model, tmp_path / "copy"))
    assert fingerprint(copy) == fingerprint(tiny_model)
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    assert fingerprint(copy) != fingerprint(tiny_model)
