"""Reading on after what was read is reading the whole."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from tailwise.recommenders import (
    BackboneConfig,
    IncrementalReader,
    ItemTokenConfig,
    ItemTokenRecommender,
    ReadItems,
    SASRecConfig,
    build_item_token,
    build_sasrec,
)
from tailwise.recommenders._incremental import _passes

N_ITEMS, MAX_LENGTH = 20, 12
# Other shapes choose other kernels, which add in another order: some units in the last place of float32,
# carried through three layers. Scores here are of size one.
ROUNDING = {"rtol": 1e-4, "atol": 2e-5}


def with_adapters(recommender: ItemTokenRecommender) -> ItemTokenRecommender:
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():  # at the start LoRA's second factor is zero: the adapters would not matter
        for name, parameter in recommender.named_parameters():
            if "lora_B" in name or "residual" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return recommender


def build(folder: Path, dtype: str = "float32") -> ItemTokenRecommender:
    encodings = torch.randn(N_ITEMS, 32, generator=torch.Generator().manual_seed(3))
    backbone = BackboneConfig(str(folder), depth=3, dtype=dtype)
    config = ItemTokenConfig(max_length=MAX_LENGTH)
    return with_adapters(build_item_token(encodings, backbone, config, seed=0))


def build_small() -> ItemTokenRecommender:
    config = ItemTokenConfig(max_length=MAX_LENGTH)
    return build_sasrec(N_ITEMS, SASRecConfig(width=16, n_heads=2), config, seed=0)


@pytest.fixture(scope="module")
def recommender(tiny_model: Path) -> ItemTokenRecommender:
    return build(tiny_model)


@pytest.fixture(scope="module")
def sasrec() -> ItemTokenRecommender:
    return build_small()


def ints(*items: int) -> np.ndarray:
    return np.array(items, dtype=np.int64)


def scores_of(recommender: ItemTokenRecommender, queries: torch.Tensor) -> torch.Tensor:
    return (queries @ recommender.item_vectors().T).detach()


# Of each user: an item sequence and the places where a visit ends.
visits = st.lists(
    st.tuples(
        st.lists(st.integers(0, N_ITEMS - 1), min_size=1, max_size=MAX_LENGTH),
        st.sets(st.integers(1, MAX_LENGTH - 1), max_size=4),
    ),
    min_size=1,
    max_size=5,
)


def check_growth(recommender: ItemTokenRecommender, users, rounding) -> None:
    """Users return at random, several at a time, each with what is new; every answer is checked."""
    reader = IncrementalReader(recommender)
    pasts: list[ReadItems | None] = [None] * len(users)
    plans = [[*sorted(e for e in ends if e < len(items)), len(items)] for items, ends in users]
    while any(plans):
        turn = [u for u in range(len(users)) if plans[u]]
        ends = {u: plans[u].pop(0) for u in turn}
        begins = {u: 0 if pasts[u] is None else len(pasts[u].items) for u in turn}
        queries, read = reader.read(
            [pasts[u] for u in turn], [ints(*users[u][0][begins[u] : ends[u]]) for u in turn]
        )
        for u, now in zip(turn, read, strict=True):
            pasts[u] = now
        expected = recommender.scores([users[u][0][: ends[u]] for u in turn])
        assert_close(scores_of(recommender, queries), expected, **rounding)


@settings(max_examples=25)
@given(users=visits)
def test_histories_that_grow_in_any_steps_score_as_if_read_at_once(recommender, users):
    check_growth(recommender, users, ROUNDING)


@settings(max_examples=15)
@given(users=visits)
def test_a_small_backbone_reads_on_as_well(sasrec, users):
    check_growth(sasrec, users, ROUNDING)


@settings(max_examples=8)
@given(users=visits)
def test_a_bfloat16_backbone_reads_on_to_its_own_rounding(bfloat_recommender, users):
    # Keys, values and states have 8 bits of mantissa: a relative 2^-8 for each of three layers' sums,
    # on scores of size one to three.
    check_growth(bfloat_recommender, users, {"rtol": 0.05, "atol": 0.15})


@pytest.fixture(scope="module")
def bfloat_recommender(tiny_model: Path) -> ItemTokenRecommender:
    return build(tiny_model, "bfloat16")


def test_many_parts_are_joined_and_read_the_same(sasrec):
    reader, past = IncrementalReader(sasrec), None
    for item in range(MAX_LENGTH):
        query, [past] = reader.read([past], [ints(item)])
    assert len(past.parts) <= 8
    assert past.items.tolist() == list(range(MAX_LENGTH))
    assert_close(scores_of(sasrec, query), sasrec.scores([list(range(MAX_LENGTH))]), **ROUNDING)


def test_two_futures_of_one_past_do_not_disturb_each_other(sasrec):
    reader = IncrementalReader(sasrec)
    _, [past] = reader.read([None], [ints(3, 1, 4)])
    both, _ = reader.read([past, past], [ints(1, 5), ints(9)])
    assert_close(scores_of(sasrec, both), sasrec.scores([[3, 1, 4, 1, 5], [3, 1, 4, 9]]), **ROUNDING)


def test_the_beginning_of_what_was_read_serves_another_ending(sasrec):
    reader = IncrementalReader(sasrec)
    _, [past] = reader.read([None], [ints(3, 1)])
    _, [past] = reader.read([past], [ints(4, 1, 5)])
    query, _ = reader.read([past.first(3)], [ints(9, 2)])
    assert past.first(3).items.tolist() == [3, 1, 4]
    assert past.first(3).nbytes < past.nbytes
    assert_close(scores_of(sasrec, query), sasrec.scores([[3, 1, 4, 9, 2]]), **ROUNDING)


def test_what_was_read_of_one_user_does_not_hold_on_to_the_batch(sasrec):
    _, read = IncrementalReader(sasrec).read([None] * 8, [ints(1, 2, 3)] * 8)
    part = read[0].parts[0]
    assert part.untyped_storage().nbytes() == part.numel() * part.element_size()


@pytest.mark.parametrize("new", [ints(), ints(*range(MAX_LENGTH - 1))])
def test_nothing_new_and_too_much_are_refused(sasrec, new):
    reader = IncrementalReader(sasrec)
    _, [past] = reader.read([None], [ints(3, 1)])
    with pytest.raises(ValueError, match=rf"news must hold 1\.\.10 items after 2 read ones; got {len(new)}"):
        reader.read([past], [new])


class Averages(nn.Module):
    """A causal backbone that keeps nothing: each state is the mean of the inputs so far."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, inputs_embeds: torch.Tensor, use_cache: bool = False) -> SimpleNamespace:
        counts = torch.arange(1, inputs_embeds.shape[1] + 1)[None, :, None]
        return SimpleNamespace(last_hidden_state=self.scale * inputs_embeds.cumsum(1) / counts)


def test_a_backbone_that_keeps_nothing_is_read_whole():
    config = ItemTokenConfig(max_length=MAX_LENGTH)
    recommender = ItemTokenRecommender(
        Averages(16), N_ITEMS, 16, title_encodings=None, token_scale=1.0, config=config
    )
    reader = IncrementalReader(recommender)
    assert not reader.can_continue
    queries, read = reader.read([None, None], [ints(3, 1, 4), ints(5)])
    assert read == [None, None]
    assert_close(scores_of(recommender, queries), recommender.scores([[3, 1, 4], [5]]), **ROUNDING)
    with pytest.raises(ValueError, match="pasts must be None"):
        reader.read([ReadItems(ints(1), (torch.zeros(1, 2, 1, 1, 8),))], [ints(2)])


def test_a_backbone_that_forgets_early_positions_is_not_read_on():
    from transformers import MistralConfig, MistralModel

    sliding = MistralModel(
        MistralConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            vocab_size=4,
            sliding_window=4,
        )
    )
    recommender = ItemTokenRecommender(
        sliding, N_ITEMS, 16, title_encodings=None, token_scale=1.0, config=ItemTokenConfig()
    )
    assert not IncrementalReader(recommender).can_continue


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 100)), min_size=1, max_size=40),
)
def test_every_user_goes_through_in_exactly_one_pass(lengths):
    passes = _passes([past for past, _ in lengths], [new for _, new in lengths])
    assert sorted(row for rows in passes for row in rows) == list(range(len(lengths)))


def test_one_long_newcomer_does_not_make_many_returning_users_wait_for_padding():
    assert sorted(map(len, _passes([50] * 20 + [0], [1] * 20 + [100]))) == [1, 20]
    assert len(_passes([50, 0], [1, 3])) == 1
