import numpy as np
import pytest
import torch

from tailwise.diagnosis._group_targets import draw_halves
from tailwise.diagnosis._recommender_targets import (
    RecommenderTargets,
    recommender_curvature,
    recommender_sharpness,
)
from tailwise.errors import DataError
from tailwise.recommenders import (
    BackboneConfig,
    ItemTokenConfig,
    SASRecConfig,
    SequenceBatches,
    build_item_token,
    build_sasrec,
)
from tailwise.segments import segment_items

N_ITEMS = 12
SETTINGS = {"n_targets_per_group": 12, "n_repeats": 1}


@pytest.fixture
def sasrec():
    return build_sasrec(
        N_ITEMS,
        SASRecConfig(width=8, depth=1, attention_dropout=0.5),
        ItemTokenConfig(max_length=5, dropout=0.5),
        seed=0,
    )


@pytest.fixture
def segments(pattern_histories):
    counts = np.bincount(np.concatenate(pattern_histories), minlength=N_ITEMS)
    return segment_items(counts, "head-share", head_share=0.4)


@pytest.fixture
def item_token(tiny_model):
    def build(dtype):
        encodings = torch.randn(N_ITEMS, 16, generator=torch.Generator().manual_seed(0))
        backbone = BackboneConfig(model=str(tiny_model), depth=2, lora_rank=2, dtype=dtype)
        recommender = build_item_token(encodings, backbone, ItemTokenConfig(max_length=5), seed=0)
        with torch.no_grad():
            for name, parameter in recommender.named_parameters():
                if "lora_B" in name:  # zero at the start: then nothing but B had a gradient
                    parameter.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
        return recommender

    return build


def test_every_target_is_there_once_with_its_user_item_and_group(sasrec, pattern_histories, segments):
    source = RecommenderTargets(sasrec, pattern_histories, segments, positions_per_batch=20)
    expected = [(user, item) for user, h in enumerate(pattern_histories) for item in h[1:]]
    assert list(zip(source.targets.users.tolist(), source.items.tolist(), strict=True)) == expected
    assert source.targets.names == ("head", "tail")
    in_head = segments.mask("head")[source.items]
    assert np.array_equal(source.targets.groups, np.where(in_head, 0, 1))


def test_losses_are_the_recommenders_own(sasrec, pattern_histories, segments):
    source = RecommenderTargets(sasrec, pattern_histories, segments, positions_per_batch=20)
    sasrec.eval()
    short = [h for h in pattern_histories if len(h) <= 6]  # in one window whatever the cuts are
    batches = SequenceBatches(short, max_length=5, positions_per_batch=1000, seed=0).epoch(0)
    expected = sorted(
        loss for b in batches for loss in sasrec.losses(b)[b.targets >= 0].detach().double().tolist()
    )
    users = [user for user, h in enumerate(pattern_histories) if len(h) <= 6]
    chosen = np.flatnonzero(np.isin(source.targets.users, users))
    found = np.empty(source.targets.n_targets)
    for batch in source.batches(chosen):
        found[batch] = source.losses(batch).detach().double().numpy()
    assert sorted(found[chosen]) == pytest.approx(expected, rel=1e-5)  # float32, other batches


def test_a_targets_loss_does_not_depend_on_which_others_are_asked_for(sasrec, pattern_histories, segments):
    source = RecommenderTargets(sasrec, pattern_histories, segments, positions_per_batch=20)
    sasrec.eval()
    everything = np.arange(source.targets.n_targets)
    with torch.no_grad():
        whole = source.losses(everything)
        some = everything[::3][::-1].copy()
        torch.testing.assert_close(source.losses(some), whole[some])


def test_batches_hold_whole_windows_and_no_more_positions_than_allowed(sasrec, pattern_histories, segments):
    source = RecommenderTargets(sasrec, pattern_histories, segments, positions_per_batch=11)
    everything = np.arange(source.targets.n_targets)
    batches = list(source.batches(everything))
    assert np.array_equal(np.sort(np.concatenate(batches)), everything)
    rows = [set(source.targets.rows[batch]) for batch in batches]
    assert sum(map(len, rows)) == len(set.union(*rows))
    longest = [np.unique(source.targets.rows[b], return_counts=True)[1].max() for b in batches]
    assert all(len(r) * n <= 11 for r, n in zip(rows, longest, strict=True))


def test_targets_of_items_that_are_cold_to_the_segments_are_left_out(sasrec, pattern_histories):
    counts = np.bincount(np.concatenate(pattern_histories), minlength=N_ITEMS)
    counts[7] = 0  # not in the window that the segments look at
    segments = segment_items(counts, "head-share")
    source = RecommenderTargets(sasrec, pattern_histories, segments)
    assert (source.targets.groups[source.items == 7] == -1).all()
    assert (source.targets.groups[source.items != 7] >= 0).all()


def test_no_evaluation_holds_more_positions_than_allowed(sasrec, pattern_histories, segments, monkeypatch):
    sizes = []
    own = sasrec.losses
    monkeypatch.setattr(sasrec, "losses", lambda b, *rest: (sizes.append(b.inputs.numel()), own(b, *rest))[1])
    recommender_sharpness(sasrec, pattern_histories, segments, positions_per_batch=9, **SETTINGS)
    assert 5 < max(sizes) <= 9
    sizes.clear()
    recommender_curvature(
        sasrec, pattern_histories, segments, positions_per_batch=9, n_targets_per_group=8, tolerance=0.2
    )
    assert 5 < max(sizes) <= 9


def test_windows_of_a_long_history_overlap_by_their_first_input_and_share_the_user(sasrec, segments):
    source = RecommenderTargets(sasrec, [np.arange(12), np.arange(3)], segments, positions_per_batch=20)
    assert source.items.tolist() == [*range(1, 12), 1, 2]
    sizes = np.unique(source.targets.rows[:11], return_counts=True)[1]
    assert sizes.max() <= 5
    assert set(source.targets.users[:11]) == {0}


def test_sharpness_leaves_the_recommender_as_it_was(sasrec, pattern_histories, segments):
    sasrec.train()
    sasrec.dropout.eval()  # as it was means module by module
    before = {name: p.clone() for name, p in sasrec.state_dict().items()}
    found = recommender_sharpness(sasrec, pattern_histories, segments, **SETTINGS)
    assert all(torch.equal(value, before[name]) for name, value in sasrec.state_dict().items())
    assert sasrec.training
    assert not sasrec.dropout.training
    assert all(p.grad is None for p in sasrec.parameters())
    assert found.names == ("head", "tail")
    shared = sum(p.numel() for n, p in sasrec.named_parameters() if "residual" not in n and p.requires_grad)
    assert found.n_parameters == shared


def test_dropout_is_off_whatever_the_mode(sasrec, pattern_histories, segments):
    found = []
    for mode in (True, False):
        sasrec.train(mode)
        found.append(recommender_sharpness(sasrec, pattern_histories, segments, **SETTINGS).groups)
    assert found[0] == found[1]


def test_a_bfloat16_backbone_is_measured_in_float32_and_put_back(item_token, pattern_histories, segments):
    low, full = item_token("bfloat16"), item_token("bfloat16").float()
    before = {name: p.clone() for name, p in low.state_dict().items()}
    found = [recommender_sharpness(r, pattern_histories, segments, **SETTINGS).groups for r in (low, full)]
    assert found[0] == found[1]  # the same numbers to the last bit: all of it ran in float32
    after = low.state_dict()
    assert any(p.dtype == torch.bfloat16 for p in after.values())
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(after[name].dtype == value.dtype for name, value in before.items())


def test_the_recommender_is_put_back_after_an_error(item_token, pattern_histories, segments):
    recommender = item_token("bfloat16").train()
    before = {name: p.clone() for name, p in recommender.state_dict().items()}

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recommender_sharpness(recommender, pattern_histories, segments, progress=stop, **SETTINGS)
    after = recommender.state_dict()
    assert all(torch.equal(after[n], v) and after[n].dtype == v.dtype for n, v in before.items())
    assert recommender.training


def test_trainable_parameters_in_bfloat16_are_refused(item_token, pattern_histories, segments):
    recommender = item_token("float32").bfloat16()
    for measure in (recommender_sharpness, recommender_curvature):
        with pytest.raises(ValueError, match=r"must be float32 or float64; got torch.bfloat16"):
            measure(recommender, pattern_histories, segments)


def test_autocast_around_the_measurement_does_not_reach_it(item_token, pattern_histories, segments):
    recommender = item_token("float32")
    plain = recommender_sharpness(recommender, pattern_histories, segments, **SETTINGS).groups
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = recommender_sharpness(recommender, pattern_histories, segments, **SETTINGS).groups
    assert plain == inside


def test_the_rise_is_that_of_a_step_taken_by_hand(sasrec, pattern_histories, segments):
    found = recommender_sharpness(sasrec, pattern_histories, segments, rho=0.2, **SETTINGS)
    source = RecommenderTargets(sasrec, pattern_histories, segments)
    halves = draw_halves(source.targets, at_most=12, n_splits=1, seed=0).targets[0]
    moved = [p for n, p in sasrec.named_parameters() if "residual" not in n and p.requires_grad]
    sasrec.eval()
    rises = []
    for here, there in ((0, 1), (1, 0)):
        own, other = halves[here][1], halves[there][1]  # the tail
        slopes = torch.autograd.grad(source.losses(own).mean(), moved)
        norm = torch.cat([s.flatten() for s in slopes]).norm()
        with torch.no_grad():
            before = source.losses(other).mean()
            kept = [p.clone() for p in moved]
            for p, s in zip(moved, slopes, strict=True):
                p.add_(s, alpha=0.2 / float(norm))
            rises.append(float(source.losses(other).mean() - before))
            for p, k in zip(moved, kept, strict=True):
                p.copy_(k)
    # Sums of float32 losses in other batches.
    assert found.group("tail").held_out.value == pytest.approx(np.mean(rises), rel=1e-3)


def test_margins_of_the_training_can_be_part_of_the_loss(sasrec, pattern_histories, segments):
    plain = recommender_sharpness(sasrec, pattern_histories, segments, **SETTINGS)
    offsets = torch.linspace(0, 3, N_ITEMS)
    shifted = recommender_sharpness(sasrec, pattern_histories, segments, logit_offsets=offsets, **SETTINGS)
    assert plain.group("tail").loss.value != shifted.group("tail").loss.value
    assert plain.fingerprint == shifted.fingerprint


def test_curvature_of_a_language_model_needs_no_change_of_its_attention(
    item_token, pattern_histories, segments
):
    recommender = item_token("bfloat16")  # the fused kernel for the CPU has no second derivative
    found = recommender_curvature(recommender, pattern_histories, segments, n_targets_per_group=8)
    for group in found.groups:
        assert group.is_converged
        assert group.eigenvalue > 0
    assert any(p.dtype == torch.bfloat16 for p in recommender.parameters())


def test_segments_of_another_catalogue_and_empty_histories_are_refused(sasrec, pattern_histories, segments):
    other = segment_items(np.ones(N_ITEMS + 1, dtype=np.int64), "head-share")
    with pytest.raises(ValueError, match=r"segments must be over the recommender's 12 items; got 13"):
        recommender_sharpness(sasrec, pattern_histories, other)
    with pytest.raises(DataError, match="histories must hold a target; got 1 histories"):
        recommender_sharpness(sasrec, [np.array([3])], segments)
    with pytest.raises(ValueError, match="positions_per_batch must be >= 5; got 4"):
        recommender_sharpness(sasrec, pattern_histories, segments, positions_per_batch=4)
