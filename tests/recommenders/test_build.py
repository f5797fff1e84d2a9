import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tailwise.errors import CheckpointError
from tailwise.recommenders import (
    BackboneConfig,
    ItemTokenConfig,
    ItemTokenRecommender,
    SASRecConfig,
    build_item_token,
    build_sasrec,
    load_recommender,
    load_trainable_state,
    save_recommender,
)

HISTORIES = [[0, 3, 2], [], [5]]


def lrs(
    tiny_model: Path,
    *,
    dtype: str = "float32",
    depth: int = 2,
    seed: int = 0,
    attention: str | None = None,
) -> ItemTokenRecommender:
    encodings = torch.randn(6, 32, generator=torch.Generator().manual_seed(3))
    backbone = BackboneConfig(str(tiny_model), depth=depth, dtype=dtype, lora_rank=2, attention=attention)
    recommender = build_item_token(encodings, backbone, ItemTokenConfig(max_length=4), seed=seed)
    with torch.no_grad():
        for parameter in recommender.trainable_state().values():
            parameter.add_(0.01)  # as if trained
    return recommender.eval()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_saved_recommender_loads_with_bitwise_equal_scores(tiny_model, tmp_path, dtype):
    recommender = lrs(tiny_model, dtype=dtype)
    save_recommender(recommender, tmp_path)
    loaded = load_recommender(tmp_path)
    assert torch.equal(loaded.scores(HISTORIES), recommender.scores(HISTORIES))
    assert loaded.config == recommender.config
    assert loaded.recipe == recommender.recipe
    assert not loaded.training


def test_plain_attention_scores_as_fused_attention_does_and_stays_with_what_is_saved(tiny_model, tmp_path):
    plain = lrs(tiny_model, attention="eager")
    torch.testing.assert_close(plain.scores(HISTORIES), lrs(tiny_model).scores(HISTORIES))
    save_recommender(plain, tmp_path)
    loaded = load_recommender(tmp_path)
    assert loaded.recipe["backbone"]["attention"] == "eager"
    assert loaded.backbone.config._attn_implementation == "eager"
    assert "attention" not in lrs(tiny_model).recipe["backbone"]  # what was saved before there was a choice


def test_a_saved_sasrec_loads_with_bitwise_equal_scores(tmp_path):
    sasrec = build_sasrec(6, SASRecConfig(width=8, depth=1), ItemTokenConfig(), seed=7)
    save_recommender(sasrec, tmp_path)
    assert torch.equal(load_recommender(tmp_path).scores(HISTORIES), sasrec.scores(HISTORIES))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("id_residual", [False, True])
def test_a_sasrec_over_encodings_loads_with_bitwise_equal_scores(tmp_path, dtype, id_residual):
    encodings = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    config = ItemTokenConfig(id_residual=id_residual)
    sasrec = build_sasrec(6, SASRecConfig(width=8, depth=1), config, seed=7, title_encodings=encodings)
    save_recommender(sasrec, tmp_path)
    loaded = load_recommender(tmp_path)
    assert torch.equal(loaded.scores(HISTORIES), sasrec.scores(HISTORIES))
    assert loaded.item_vectors.encodings.dtype == dtype
    assert loaded.recipe == sasrec.recipe
    trained = sum(p.numel() for name, p in loaded.named_parameters() if "item_vectors" in name)
    assert trained == 5 * 8 + (6 * 8 if id_residual else 0)


def test_half_encodings_cost_three_digits_and_no_more():
    encodings = 3 + 5 * torch.randn(6, 5, generator=torch.Generator().manual_seed(0))

    def scores(dtype):
        given = encodings.to(dtype)
        config = SASRecConfig(width=8, depth=1)
        return build_sasrec(6, config, ItemTokenConfig(), seed=7, title_encodings=given).scores(HISTORIES)

    # float16 keeps 11 bits: 5e-4 of an entry; scores are sums of eight such products of size one.
    assert (scores(torch.float16) - scores(torch.float32)).abs().max() < 2e-2


def test_the_language_model_itself_is_not_copied(tiny_model, tmp_path):
    save_recommender(lrs(tiny_model), tmp_path)
    saved = load_file(tmp_path / "weights.safetensors")
    assert not [name for name in saved if "base_layer" in name or "embed_tokens" in name]
    assert json.loads((tmp_path / "recommender.json").read_text())["backbone"]["model"] == str(tiny_model)


def test_a_folder_without_a_recommender_is_refused_by_name(tmp_path):
    with pytest.raises(CheckpointError, match=f"must hold a saved recommender; got '{tmp_path}'"):
        load_recommender(tmp_path)


def test_another_format_version_is_refused_by_value(tiny_model, tmp_path):
    save_recommender(lrs(tiny_model), tmp_path)
    description = json.loads((tmp_path / "recommender.json").read_text())
    (tmp_path / "recommender.json").write_text(json.dumps(description | {"format": 99}))
    with pytest.raises(CheckpointError, match="recommender format must be 1; got 99"):
        load_recommender(tmp_path)


@pytest.mark.parametrize("file", ["weights.safetensors", "title_encodings.safetensors"])
def test_missing_or_damaged_weights_are_refused_by_file(tiny_model, tmp_path, file):
    save_recommender(lrs(tiny_model), tmp_path)
    for damage in (lambda path: path.write_bytes(path.read_bytes()[:100]), Path.unlink):
        damage(tmp_path / file)
        with pytest.raises(CheckpointError, match=f"must hold a readable {file}; got .*{tmp_path}"):
            load_recommender(tmp_path)


def test_a_weight_of_another_shape_is_refused_by_name_and_shape(tiny_model, tmp_path):
    save_recommender(lrs(tiny_model), tmp_path)
    weights = load_file(tmp_path / "weights.safetensors")
    weights["item_vectors.residual.weight"] = torch.zeros(7, 32)
    save_file(weights, tmp_path / "weights.safetensors")
    with pytest.raises(
        CheckpointError, match=r"'item_vectors.residual.weight' must have shape \(6, 32\); got \(7, 32\)"
    ):
        load_recommender(tmp_path)


def test_weights_of_another_depth_are_refused_and_nothing_changes(tiny_model):
    recommender = lrs(tiny_model)
    before = recommender.scores(HISTORIES)
    with pytest.raises(CheckpointError, match=r"got 14 names that differ \(first: 'backbone.*layers\.2"):
        load_trainable_state(recommender, lrs(tiny_model, depth=3).trainable_state())
    assert torch.equal(recommender.scores(HISTORIES), before)


def test_a_recommender_loads_from_a_copied_folder(tiny_model, tmp_path):
    recommender = lrs(tiny_model)
    save_recommender(recommender, tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    shutil.rmtree(tmp_path / "one")
    assert torch.equal(load_recommender(tmp_path / "two").scores(HISTORIES), recommender.scores(HISTORIES))
