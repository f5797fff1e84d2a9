from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from tailwise.errors import AssetError
from tailwise.recommenders import _title_encodings as module
from tailwise.recommenders import encode_titles
from tailwise.recommenders._language_model import fingerprint

TITLES = ["red thing 1", "blue thing 2", "a", "something with a far longer title than the others 77"]
# bfloat16 keeps 8 bits: where the processor has instructions for it, encodings of size one
# that were summed in another order differ by about 1/256 per operation.
BF16_ROUNDING = {"rtol": 0.05, "atol": 0.05}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAILWISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "choose_dtype", lambda requested, device: torch.float32)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Titles that went through the model, batch by batch."""
    batches: list[list[str]] = []
    call = module._Encoder.__call__

    def remember(self: module._Encoder, titles: list[str]) -> torch.Tensor:
        batches.append(list(titles))
        return call(self, titles)

    monkeypatch.setattr(module._Encoder, "__call__", remember)
    return batches


def test_an_encoding_is_the_mean_of_the_title_tokens_last_states_without_the_start_token(tiny_model, float32):
    from transformers import AutoModel, AutoTokenizer

    (encoding,) = encode_titles(["red thing 1"], tiny_model)
    ids = AutoTokenizer.from_pretrained(tiny_model)("red thing 1", add_special_tokens=False).input_ids
    states = AutoModel.from_pretrained(tiny_model)(torch.tensor([[0, *ids]])).last_hidden_state[0]
    assert len(ids) == len("red thing 1")
    # The same operations in float32, other batch shape: a few units in the last place.
    assert_close(encoding, states[1:].mean(0).detach(), rtol=1e-4, atol=1e-5)


def test_titles_of_other_lengths_in_the_batch_do_not_matter(tiny_model, float32):
    together = encode_titles(TITLES, tiny_model)
    alone = torch.cat([encode_titles([title], tiny_model) for title in TITLES])
    assert_close(together, alone, rtol=1e-4, atol=1e-5)  # as above


def test_padding_changes_no_more_than_rounding_in_the_processors_own_precision(tiny_model):
    together = encode_titles(TITLES, tiny_model)
    alone = torch.cat([encode_titles([title], tiny_model) for title in TITLES])
    assert_close(together, alone, **BF16_ROUNDING)


def test_encodings_are_float32_rows_in_the_order_of_the_titles(tiny_model, float32):
    encodings = encode_titles(TITLES, tiny_model)
    assert (encodings.shape, encodings.dtype) == ((4, 32), torch.float32)
    assert_close(encode_titles(TITLES[::-1], tiny_model), encodings.flip(0), rtol=1e-4, atol=1e-5)
    assert torch.cdist(encodings, encodings)[0, 1] > 0.1  # they tell titles apart


def test_empty_and_unknown_titles_have_finite_encodings(tiny_model):
    encodings = encode_titles(["", "   ", "寿司", "red"], tiny_model)
    assert torch.isfinite(encodings).all()
    assert (encodings.abs().sum(1) > 0).all()


def test_a_very_long_title_is_cut_off(tiny_model, float32):
    assert_close(*encode_titles(["ab" * 32, "ab" * 32 + "tail that nobody reads"], tiny_model))


def test_a_second_call_loads_no_model(tiny_model, monkeypatch):
    first = encode_titles(TITLES, tiny_model)

    def never(*arguments: object, **settings: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(module, "load_language_model", never)
    assert torch.equal(encode_titles(TITLES, tiny_model), first)
    with pytest.raises(AssertionError, match="the model was loaded"):
        encode_titles([*TITLES, "new"], tiny_model)


def test_a_changed_title_encodes_its_chunk_alone_again(tiny_model, monkeypatch, encoded):
    monkeypatch.setattr(module, "_CHUNK", 2)
    before = encode_titles(TITLES, tiny_model)
    encoded.clear()
    after = encode_titles([*TITLES[:3], "changed"], tiny_model)
    assert encoded == [["a", "changed"]]
    assert torch.equal(after[:2], before[:2])
    assert not torch.equal(after[3], before[3])


def test_encoding_goes_on_where_it_was_interrupted(tiny_model, monkeypatch, encoded):
    monkeypatch.setattr(module, "_CHUNK", 2)

    def stop(done: int, total: int) -> None:
        if done > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_titles(TITLES, tiny_model, progress=stop)
    encoded.clear()
    resumed = encode_titles(TITLES, tiny_model)
    assert encoded == [TITLES[2:]]
    monkeypatch.setenv("TAILWISE_CACHE", str(tiny_model.parent / "another-cache"))
    assert torch.equal(encode_titles(TITLES, tiny_model), resumed)


def test_other_weights_mean_other_encodings(tiny_model, tmp_path, encoded):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    other = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        other.model.norm.weight.mul_(2)
    other.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "other")
    assert fingerprint(tmp_path / "other") != fingerprint(tiny_model)
    one, twice = (encode_titles(["red"], folder) for folder in (tiny_model, tmp_path / "other"))
    assert_close(twice, 2 * one, **BF16_ROUNDING)


def test_titles_of_which_half_repeat_others_are_encoded_once_each(tiny_model, encoded):
    repeated = encode_titles(["red", "green", "red", "red", "green"], tiny_model)
    assert encoded == [["red", "green"]]
    assert torch.equal(repeated, encode_titles(["red", "green"], tiny_model)[[0, 1, 0, 0, 1]])
    assert not torch.equal(repeated[0], repeated[1])


def test_progress_ends_at_the_number_of_titles(tiny_model):
    told: list[tuple[int, int]] = []
    encode_titles(TITLES, tiny_model, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (4, 4)
    told.clear()
    encode_titles(TITLES, tiny_model, progress=lambda done, total: told.append((done, total)))
    assert told == [(4, 4)]


@pytest.mark.llm
@pytest.mark.realdata
def test_the_real_model_tells_a_film_from_another_kind_of_film(fetched, tmp_path, monkeypatch):
    monkeypatch.delenv("TAILWISE_CACHE")
    folder = fetched("smollm2-135m")
    monkeypatch.setenv("TAILWISE_CACHE", str(tmp_path / "cache"))
    titles = ["Star Wars", "Star Trek: The Motion Picture", "Star Trek: Generations", "Pride and Prejudice"]
    vectors = torch.nn.functional.normalize(encode_titles(titles, folder), dim=1)
    similarity = vectors @ vectors.T
    assert similarity[1, 2] > similarity[1, 3]


def test_an_asset_error_is_not_swallowed(tiny_model, monkeypatch):
    def fail(*arguments: object, **settings: object) -> None:
        raise AssetError("no source answers")

    monkeypatch.setattr(module, "load_language_model", fail)
    with pytest.raises(AssetError, match="no source answers"):
        encode_titles(["never seen before"], tiny_model)
