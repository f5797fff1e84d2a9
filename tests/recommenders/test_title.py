import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from tailwise.errors import CheckpointError, ConfigError, DataError
from tailwise.optim import EISAM, ERM, item_weights
from tailwise.recommenders import (
    BackboneConfig,
    TitleBatch,
    TitleBatches,
    TitleConfig,
    TitlePrompts,
    TitleRecommender,
    TrainableRecommender,
    build_title,
    load_recommender,
    recommend,
    save_recommender,
)
from tailwise.recommenders._head_loss import frozen_head_losses

TITLES = ["red car", "red cart", "blue sea", "b", "blue sea", "old map", "a 1", "zebra"]
# Sums in another order (other shapes choose other kernels) differ by a few units in the last place of
# float32; losses of a title are of size ten.
ROUNDING = {"rtol": 1e-4, "atol": 1e-4}
SHORT = {"instruction": "list", "max_tokens": 60, "max_title_tokens": 8}


@pytest.fixture(scope="module")
def folder(tiny_model: Path) -> str:
    return str(tiny_model)


def build(folder: str, *, depth: int = 2, dtype: str = "float32", **settings: Any) -> TitleRecommender:
    recommender = build_title(
        TITLES, BackboneConfig(folder, depth=depth, dtype=dtype), TitleConfig(**SHORT | settings), seed=0
    )
    with torch.no_grad():  # at the start LoRA's second factor is zero: the adapters would not matter
        generator = torch.Generator().manual_seed(4)
        for name, parameter in recommender.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return recommender.eval()


@pytest.fixture(scope="module")
def recommender(folder: str) -> TitleRecommender:
    return build(folder)


def dealt(recommender: TitleRecommender, *histories: list[int], **settings: Any) -> list[TitleBatch]:
    settings = {"positions_per_batch": 200, "seed": 0} | settings
    return recommender.batches([np.array(h) for h in histories], **settings).epoch(0)


def losses_by_target(recommender: TitleRecommender, *histories: list[int]) -> dict[int, float]:
    """Loss of each item that is a target; items are distinct."""
    found = {}
    for batch in dealt(recommender, *histories):
        losses = recommender.losses(batch)
        there = batch.targets >= 0
        assert (losses[~there] == 0).all()
        found |= dict(zip(batch.targets[there].tolist(), losses[there].tolist(), strict=True))
    return found


# Prompts and rows


def toy(max_tokens: int = 40) -> TitlePrompts:
    """Item i's title is i % 3 + 1 tokens of 100 + i."""
    return TitlePrompts([1, 2], [[100 + i] * (i % 3 + 1) for i in range(20)], 9, max_tokens=max_tokens)


@given(
    lengths=st.lists(st.integers(0, 20), min_size=1, max_size=8).filter(lambda found: max(found) >= 2),
    max_tokens=st.integers(10, 60),
    layout=st.sampled_from(["packed", "per-target"]),
)
def test_every_target_comes_once_per_epoch_and_its_tokens_spell_its_title(lengths, max_tokens, layout):
    prompts = toy(max_tokens)
    rng = np.random.default_rng(0)
    histories = [rng.permutation(20)[:length] for length in lengths]
    batches = TitleBatches(histories, prompts, layout=layout, positions_per_batch=100, seed=0)
    found: Counter[int] = Counter()
    for batch in batches.epoch(0):
        assert batch.tokens.shape[1] <= max_tokens
        assert batch.tokens.shape == batch.owners.shape
        for tokens, owners, targets in zip(batch.tokens, batch.owners, batch.targets, strict=True):
            assert tokens[:2].tolist() == [1, 2]
            for column, item in enumerate(targets.tolist()):
                spelled = tokens[owners == column].tolist()
                assert spelled == ([*prompts.titles[item], 9] if item >= 0 else [])
            found.update(targets[targets >= 0].tolist())
    assert found == Counter(int(i) for h in histories for i in h[1:])
    assert batches.n_targets == found.total()


@given(history=st.lists(st.integers(0, 19), max_size=30), max_tokens=st.integers(10, 60))
def test_a_prompt_is_the_newest_titles_that_leave_room_for_any_completion(history, max_tokens):
    prompts = toy(max_tokens)
    prompt = prompts.prompt(history)
    assert len(prompt) + 4 <= max_tokens  # the longest title has three tokens and an end
    n = len(prompts.recent(history))
    assert prompt == [1, 2, *(t for i in history[len(history) - n :] for t in [*prompts.titles[i], 9])]
    if n < len(history):
        assert len(prompt) + len(prompts.titles[history[-n - 1]]) + 1 + 4 > max_tokens


def test_a_packed_row_begins_with_the_prompt_of_every_title_in_it():
    prompts = toy()
    history = np.array([3, 7, 5, 11])
    (row,) = prompts.packed(history, np.random.default_rng(0))
    tokens = prompts.batch([row]).tokens[0].tolist()
    for place in range(1, 4):
        prompt = prompts.prompt(history[:place])
        assert tokens[: len(prompt)] == prompt


def test_an_epoch_is_a_function_of_its_seed_and_cuts_fall_elsewhere_in_the_next():
    histories = [np.arange(20)] * 3

    def epoch(seed: int, number: int) -> list[list[int]]:
        source = TitleBatches(histories, toy(30), layout="packed", positions_per_batch=60, seed=seed)
        return [batch.tokens.flatten().tolist() for batch in source.epoch(number)]

    assert epoch(0, 1) == epoch(0, 1)
    assert epoch(0, 1) != epoch(0, 2)
    assert epoch(0, 1) != epoch(1, 1)


def test_history_weights_repeat_and_leave_out_histories():
    histories = [np.array([1, 2]), np.array([3, 4])]
    source = TitleBatches(
        histories,
        toy(),
        layout="packed",
        positions_per_batch=40,
        seed=0,
        history_weights=np.array([2.0, 0.0]),
    )
    targets = [t for batch in source.epoch(0) for t in batch.targets.flatten().tolist()]
    assert targets == [2, 2]


@pytest.mark.parametrize(
    ("titles", "end", "max_tokens", "error", "match"),
    [
        ([[1], []], 9, 40, DataError, r"1 without one among 2 \(first: items \[1\]\)"),
        ([], 9, 40, DataError, "0 without one among 0"),
        ([[1], [2, 9]], 9, 40, DataError, r"\(9\); got 1 that do \(first: item 1\)"),
        ([[1], [2] * 9], 9, 20, ConfigError, r"two of the longest titles \(10 tokens .* got 20"),
    ],
)
def test_titles_that_cannot_be_said_are_refused(titles, end, max_tokens, error, match):
    with pytest.raises(error, match=match):
        TitlePrompts([1], titles, end, max_tokens=max_tokens)


def test_a_batch_smaller_than_a_row_is_refused():
    with pytest.raises(ValueError, match=r"max_tokens \(40\); got 39"):
        TitleBatches([np.arange(3)], toy(), layout="packed", positions_per_batch=39, seed=0)


# Losses


def test_frozen_head_losses_and_their_gradient_are_those_of_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(150, 8, generator=generator, requires_grad=True)
    weight, bias = torch.randn(30, 8, generator=generator), torch.randn(30, generator=generator)
    labels = torch.randint(30, (150,), generator=generator)
    upstream = torch.rand(150, generator=generator)
    for offset in (None, bias):
        logits = hidden @ weight.T if offset is None else hidden @ weight.T + offset
        expected = functional.cross_entropy(logits, labels, reduction="none")
        losses = frozen_head_losses(hidden, weight, offset, labels)
        assert_close(losses, expected)
        (gradient,) = torch.autograd.grad(losses, hidden, upstream)
        (expected_gradient,) = torch.autograd.grad(expected, hidden, upstream)
        assert_close(gradient, expected_gradient)
    asked_for_losses_alone = frozen_head_losses(hidden.detach(), weight, bias, labels)
    assert torch.equal(asked_for_losses_alone, losses)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_packed_title_has_the_loss_that_it_has_alone_behind_its_prompt(folder, reduction):
    histories = [0, 2, 5, 6], [3, 1]
    packed = losses_by_target(build(folder, reduction=reduction), *histories)
    alone = losses_by_target(build(folder, reduction=reduction, layout="per-target"), *histories)
    assert packed.keys() == alone.keys() == {1, 2, 5, 6}
    for item, loss in packed.items():
        assert loss == pytest.approx(alone[item], rel=1e-5)


def test_gradients_of_packed_and_single_targets_agree(folder):
    gradients = []
    for layout in ("packed", "per-target"):
        made = build(folder, layout=layout)
        for batch in dealt(made, [0, 2, 5, 6], [3, 1]):
            made.losses(batch).sum().backward()
        gradients.append({name: p.grad for name, p in made.named_parameters() if p.requires_grad})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert_close(gradient, gradients[1][name], **ROUNDING)


@torch.no_grad()
def test_a_loss_is_the_models_own_over_the_titles_tokens_and_its_end(folder, recommender):
    prompts = recommender.prompts
    for reduction, of_tokens in (("sum", torch.sum), ("mean", torch.mean)):
        found = losses_by_target(build(folder, reduction=reduction), [0, 5])[5]
        title = [*prompts.titles[5], prompts.end_token]
        text = torch.tensor([prompts.prompt([0]) + title])
        logits = recommender.backbone(input_ids=text, use_cache=False).logits[0]
        said = logits[-len(title) - 1 : -1]
        each = functional.cross_entropy(said, text[0, -len(title) :], reduction="none")
        assert found == pytest.approx(float(of_tokens(each)), rel=1e-5)


def test_rows_and_parts_of_a_batch_have_the_losses_of_their_rows(recommender):
    (batch,) = dealt(recommender, [0, 2, 5], [3, 1, 7, 2], [6, 0])
    whole = recommender.losses(batch)
    assert_close(recommender.losses(batch.rows(torch.tensor([2, 0]))), whole[[2, 0]], **ROUNDING)
    assert_close(recommender.losses(batch.part(slice(1, 3))), whole[1:3], **ROUNDING)
    assert batch.n_targets == 6


def test_only_adapters_are_trained_and_all_are_shared(recommender):
    assert isinstance(recommender, TrainableRecommender)
    (group,) = recommender.parameter_groups(0.1, weight_decay=0.2)
    assert group["lr"] == 0.1
    assert not group.get("per_item")
    names = {name for name, _ in group["params"]}
    assert names == recommender.trainable_state().keys()
    assert all("lora_" in name for name in names)
    assert not any("lm_head" in name for name in names)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_adapters_and_losses_are_float32_whatever_the_frozen_part_is(folder, dtype):
    made = build(folder, dtype=dtype)
    assert {p.dtype for p in made.parameters() if p.requires_grad} == {torch.float32}
    (batch,) = dealt(made, [0, 2, 5, 6], [3, 1])
    losses = made.losses(batch)
    assert losses.dtype == torch.float32
    losses.sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in made.parameters() if p.requires_grad)


@pytest.mark.parametrize("estimator", [None, "exact", "single-pass", "sampled"])
def test_every_kind_of_optimizer_lowers_the_loss_of_what_it_trains_on(folder, estimator):
    made = build(folder)
    (batch,) = dealt(made, [0, 2, 5, 6], [3, 1], [7, 6, 2])
    groups = made.parameter_groups(0.02)
    counts = torch.tensor([9, 8, 7, 6, 5, 4, 3, 2])
    adamw = torch.optim.AdamW
    if estimator is None:
        optimizer = ERM(groups, adamw)
    else:
        weights = item_weights(counts)
        optimizer = EISAM(groups, adamw, item_weights=weights, rho=0.05, estimator=estimator, seed=0)
    before = made.losses(batch).sum()
    for _ in range(15):
        optimizer.compute_gradient(lambda rows: made.losses(batch.rows(rows)), batch.targets)
        optimizer.step()
    assert made.losses(batch).sum() < 0.7 * before


def test_offsets_on_scores_are_refused_with_the_way_out(recommender):
    (batch,) = dealt(recommender, [0, 2])
    with pytest.raises(ConfigError, match=r"logit_adjustment must be 0 .*resampling"):
        recommender.losses(batch, torch.zeros(8))


# Scores


@torch.no_grad()
def likelihood(recommender: TitleRecommender, history: list[int], item: int) -> Tensor:
    prompts = recommender.prompts
    title = [*prompts.titles[item], prompts.end_token]
    text = torch.tensor([prompts.prompt(history) + title])
    logits = recommender.backbone(input_ids=text, use_cache=False).logits[0]
    steps = torch.log_softmax(logits[-len(title) - 1 : -1].float(), dim=1)
    return steps.gather(1, text[0, -len(title) :, None]).sum()


def test_a_score_is_the_titles_log_likelihood_after_the_prompt(recommender):
    histories = [[0, 5, 7], [], [3], list(range(8)) * 3]
    scores = recommender.scores(histories)
    assert scores.shape == (4, 8)
    assert scores.dtype == torch.float32
    for row, history in zip(scores, histories, strict=True):
        expected = torch.stack([likelihood(recommender, history, item) for item in range(8)])
        assert_close(row, expected, **ROUNDING)
        assert row[2] == row[4]  # equal titles


def test_a_score_is_minus_the_loss_that_training_lowers(recommender):
    loss = losses_by_target(recommender, [0, 5])[5]
    assert float(recommender.scores([[0]])[0, 5]) == pytest.approx(-loss, rel=1e-4)


def test_a_beam_wide_enough_finds_every_item_but_the_users_own_with_its_exact_score(folder, recommender):
    wide = build(folder, scoring="beam", beam_width=20)
    histories = [[0, 5, 7], [], list(range(8))]
    found, exact = wide.scores(histories), recommender.scores(histories)
    for row, history in enumerate(histories):
        exact[row, history] = -torch.inf
    assert_close(found, exact, **ROUNDING)


def test_a_narrow_beam_scores_what_it_finds_exactly_and_lines_the_others_up_behind(folder, recommender):
    scores = build(folder, scoring="beam", beam_width=1).scores([[0, 5], [1]])
    exact = recommender.scores([[0, 5], [1]])
    for row, seen in enumerate(([0, 5], [1])):
        assert (scores[row] == -torch.inf).nonzero().flatten().tolist() == seen
        is_found = torch.isclose(scores[row], exact[row], **ROUNDING)
        assert 0 < is_found.sum() < 8 - len(seen)
        is_missed = ~is_found & (scores[row] > -torch.inf)
        assert scores[row][is_missed].max() < scores[row][is_found].min()


def test_prompts_searched_side_by_side_score_as_each_alone(folder):
    made = build(folder, scoring="beam", beam_width=3)
    histories = [[0, 5, 7], list(range(8)), [], [3], [2, 6]]
    together = made.scores(histories)
    for row, history in zip(together, histories, strict=True):
        assert_close(row, made.scores([history])[0], **ROUNDING)


def test_scoring_leaves_training_mode_and_follows_the_parameters(folder):
    made = build(folder).train()
    before = made.scores([[0]])
    assert made.training
    with torch.no_grad():
        for p in made.parameters():
            if p.requires_grad:
                p.mul_(1.5)
    assert not torch.equal(made.scores([[0]]), before)


def test_a_learned_pattern_is_recommended(folder):
    made = build(folder, depth=2)
    histories = [[0, 3], [2, 5], [7, 6]]
    batches = dealt(made, *histories)
    optimizer = ERM(made.parameter_groups(0.02), torch.optim.AdamW)
    for _ in range(60):
        for batch in batches:
            optimizer.compute_gradient(lambda rows, b=batch: made.losses(b.rows(rows)), batch.targets)
            optimizer.step()
    assert recommend(made, [[0], [2], [7]], k=1) == [[3], [5], [6]]


# Templates, saving, refusals


def test_the_chat_template_puts_the_instruction_before_the_same_lines(folder, tmp_path):
    from transformers import AutoTokenizer

    with pytest.raises(ConfigError, match="must have a chat template"):
        build(folder, template="chat")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} ok{% endfor %}"
    chatty = tmp_path / "chatty"
    shutil.copytree(folder, chatty)
    tokenizer.save_pretrained(chatty)
    made, plain = build(str(chatty), template="chat"), build(folder)
    assert len(made.prompts.prefix) == len("list ok")
    own = made.prompts.prompt([0, 5])[len(made.prompts.prefix) :]
    assert own == plain.prompts.prompt([0, 5])[len(plain.prompts.prefix) :]
    packed = losses_by_target(made, [0, 5, 7])
    assert packed[7] == pytest.approx(-float(likelihood(made, [0, 5], 7)), rel=1e-4)


def test_saving_and_loading_keeps_every_score(folder, recommender, tmp_path):
    save_recommender(recommender, tmp_path)
    loaded = load_recommender(tmp_path)
    assert isinstance(loaded, TitleRecommender)
    assert torch.equal(loaded.scores([[0, 5], [3]]), recommender.scores([[0, 5], [3]]))
    assert loaded.content() == recommender.content()


def test_titles_that_do_not_belong_to_the_weights_are_refused(recommender, tmp_path):
    save_recommender(recommender, tmp_path)
    (tmp_path / "titles.json").write_text('["red car"]')
    with pytest.raises(CheckpointError, match=r"got 1 titles .* for 8"):
        load_recommender(tmp_path)
    (tmp_path / "titles.json").unlink()
    with pytest.raises(CheckpointError, match=r"titles\.json; got FileNotFoundError"):
        load_recommender(tmp_path)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"layout": "both"}, r"title\.layout must be one of packed, per-target; got 'both'"),
        ({"reduction": "max"}, r"title\.reduction must be one of sum, mean; got 'max'"),
        ({"template": "poem"}, r"title\.template must be one of plain, chat; got 'poem'"),
        ({"instruction": " "}, r"title\.instruction must say something; got ' '"),
        ({"max_tokens": 15}, r"title\.max_tokens must be >= 16; got 15"),
        ({"scoring": "guess"}, r"title\.scoring must be one of exact, beam; got 'guess'"),
        ({"beam_width": 0}, r"title\.beam_width must be >= 1; got 0"),
        ({"max_title_tokens": 0}, r"title\.max_title_tokens must be >= 1; got 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, match):
    with pytest.raises(ConfigError, match=match):
        TitleConfig(**settings)


@pytest.mark.llm
@pytest.mark.slow
def test_a_real_model_has_equal_losses_packed_and_alone_and_knows_films(fetched):
    fetched("smollm2-135m")
    titles = ["Toy Story (1995)", "GoldenEye (1995)", "Star Wars (1977)", "qzx vvk jjw"]
    backbone = BackboneConfig("smollm2-135m", depth=None, dtype="float32")
    packed = build_title(titles, backbone, TitleConfig(instruction="Films:", max_tokens=150), seed=0).eval()
    losses = losses_by_target(packed, [0, 1, 2, 3])
    assert losses[2] < losses[3]  # it has heard of one of the two
    with torch.no_grad():
        for place, item in enumerate([1, 2, 3], start=1):
            expected = -float(likelihood(packed, list(range(place)), item))
            assert losses[item] == pytest.approx(expected, rel=1e-3)
    assert float(packed.scores([[0, 1]])[0, 2]) == pytest.approx(-losses[2], rel=1e-3)
    chat = build_title(
        titles, backbone, TitleConfig(instruction="Films:", template="chat", max_tokens=150), seed=0
    ).eval()
    assert chat.prompts.prefix != packed.prompts.prefix
    assert losses_by_target(chat, [0, 1, 2, 3])[2] < losses_by_target(chat, [0, 1, 2, 3])[3]
