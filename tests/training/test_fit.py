import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from tailwise.errors import ConfigError
from tailwise.recommenders import NegativeSampler, SequenceBatches
from tailwise.training import TrainingConfig, _memory, describe_surroundings, learning_rate_factor
from tailwise.training._memory import PeakMemory

from .builders import CONFIG, N_ITEMS, Training, counts, course, histories, same


def test_the_loss_falls_and_the_validation_metric_rises(tmp_path):
    result = Training(tmp_path, config=replace(CONFIG, max_epochs=8)).run()
    assert result.epochs[-1].loss < result.epochs[0].loss
    assert result.epochs[-1].value > result.epochs[0].value
    assert result.best_value > 1.5 / N_ITEMS  # chance is 1/12


def test_cost_counts_steps_targets_and_time(tmp_path):
    result = Training(tmp_path).run()
    n_targets = sum(len(h) - 1 for h in histories())
    assert result.n_targets == 2 * n_targets
    assert result.n_epochs == len(result.epochs) == 2
    batches = SequenceBatches(histories(), max_length=6, positions_per_batch=30, seed=0)
    assert result.n_steps == sum(len(batches.epoch(e)) for e in range(2))
    assert result.train_seconds > 0
    assert result.targets_per_second == result.n_targets / result.train_seconds
    assert result.peak_memory_mib > 10  # an interpreter with torch takes more


def test_the_best_epochs_parameters_are_left_in_place(tmp_path):
    """The metric is told: it rises once and then falls, so epoch 2 of 4 is best."""
    told = iter([0.1, 0.5, 0.4, 0.3])
    snapshots = []
    training = Training(tmp_path, config=replace(CONFIG, max_epochs=4))

    def validate() -> float:
        snapshots.append(training.parameters())
        return next(told)

    result = training.run(validate=validate)
    assert (result.best_epoch, result.best_value, result.n_epochs) == (2, 0.5, 4)
    assert (result.kept_epoch, result.kept_value) == (2, 0.5)
    assert same(training.parameters(), snapshots[1])
    assert not same(training.parameters(), snapshots[3])
    assert not training.recommender.training


@pytest.mark.parametrize(("patience", "n_epochs"), [(1, 3), (2, 4)])
def test_training_stops_when_patience_runs_out(tmp_path, patience, n_epochs):
    told = iter([0.1, 0.5, 0.5, 0.4, 0.3, 0.2])  # the same value again is no rise
    config = replace(CONFIG, max_epochs=6, patience=patience)
    result = Training(tmp_path, config=config).run(validate=lambda: next(told))
    assert (result.n_epochs, result.best_epoch) == (n_epochs, 2)


def test_products_have_the_precision_asked_for_while_training_and_their_own_after(tmp_path):
    assert torch.get_float32_matmul_precision() == "highest"
    seen = []

    def validate() -> float:
        seen.append(torch.get_float32_matmul_precision())
        return 0.1

    Training(tmp_path, config=replace(CONFIG, matmul_precision="medium")).run(validate=validate)
    assert set(seen) == {"medium"}
    assert torch.get_float32_matmul_precision() == "highest"


def test_keeping_the_last_trains_all_epochs_and_leaves_the_last_ones_parameters(tmp_path):
    told = iter([0.1, 0.5, 0.4, 0.3, 0.2])
    snapshots = []
    training = Training(tmp_path, config=replace(CONFIG, max_epochs=5, patience=1, keep="last"))

    def validate() -> float:
        snapshots.append(training.parameters())
        return next(told)

    result = training.run(validate=validate)
    assert (result.kept_epoch, result.kept_value, result.n_epochs) == (5, 0.2, 5)
    assert (result.best_epoch, result.best_value) == (2, 0.5)
    assert [epoch.value for epoch in result.epochs] == [0.1, 0.5, 0.4, 0.3, 0.2]
    assert same(training.parameters(), snapshots[4])
    assert not same(training.parameters(), snapshots[1])
    assert not training.recommender.training


def test_what_is_kept_decides_nothing_before_the_end(tmp_path):
    best, last = (Training(tmp_path / k, config=replace(CONFIG, keep=k)) for k in ("best", "last"))
    one, other = best.run(), last.run()
    assert one.epochs == other.epochs
    assert one.best_epoch == 2  # so that both keep the same
    assert same(best.parameters(), last.parameters())


def test_a_loss_that_is_not_finite_leaves_the_last_checkpoint_usable(tmp_path):
    whole = Training(tmp_path / "whole")
    expected = course(whole.run())

    broken = Training(tmp_path / "broken")

    def spoil(state: object) -> None:
        if getattr(state, "step", 0) == 4:
            broken.recommender.losses = lambda batch, offsets: torch.full(  # type: ignore[method-assign]
                batch.targets.shape, math.nan
            ).requires_grad_()

    with pytest.raises(FloatingPointError, match="losses must be finite; got"):
        broken.run(progress=spoil)
    mended = broken.again()
    assert course(mended.run()) == expected
    assert same(mended.parameters(), whole.parameters())


def test_a_gradient_that_is_not_finite_is_refused_before_it_spoils_the_parameters(tmp_path):
    training = Training(tmp_path)
    original = training.recommender.losses

    def explode(batch, offsets=None):
        # sqrt at zero: the loss is finite, its slope is not.
        bias = training.recommender.projection.bias
        return original(batch, offsets) + (bias - bias.detach()).pow(2).sum().sqrt()

    training.recommender.losses = explode  # type: ignore[method-assign]
    before = training.parameters()
    with pytest.raises(FloatingPointError, match="gradient's norm must be finite; got nan at step 1"):
        training.run()
    assert same(training.parameters(), before)


def test_a_validation_metric_that_is_not_finite_is_refused(tmp_path):
    with pytest.raises(FloatingPointError, match="validation metric must be finite; got nan"):
        Training(tmp_path).run(validate=lambda: math.nan)


def test_progress_tells_epoch_step_and_best_value(tmp_path):
    states = []
    result = Training(tmp_path).run(progress=states.append)
    assert [state.step for state in states] == list(range(1, result.n_steps + 1))
    assert states[0].epoch == 1
    assert states[0].best_value is None
    assert states[-1].epoch == 2
    assert states[-1].best_value == result.epochs[0].value
    assert states[-1].step == states[-1].n_steps


def test_logit_offsets_reach_the_losses(tmp_path):
    plain, adjusted = Training(tmp_path / "plain"), Training(tmp_path / "adjusted")
    plain.run()
    adjusted.run(logit_offsets=torch.linspace(0, 3, N_ITEMS))
    assert not same(plain.parameters(), adjusted.parameters())


def first_loss(folder, **settings) -> float:
    """The loss of the first step: at parameters and with dropout masks that no setting has moved yet."""
    states = []
    Training(folder, config=replace(CONFIG, max_epochs=1)).run(progress=states.append, **settings)
    return states[0].loss


def test_target_weights_multiply_every_targets_loss_by_its_items(tmp_path):
    even = torch.arange(N_ITEMS) % 2 == 0
    of_even = first_loss(tmp_path / "even", target_weights=even.double())
    of_odd = first_loss(tmp_path / "odd", target_weights=(~even).float())
    weighted = first_loss(tmp_path / "both", target_weights=torch.where(even, 3.0, 0.5))
    plain = first_loss(tmp_path / "plain")
    assert 0 < of_even < plain
    # Sums of some thirty float32 losses, in another grouping.
    assert of_even + of_odd == pytest.approx(plain, rel=1e-6)
    assert 3 * of_even + 0.5 * of_odd == pytest.approx(weighted, rel=1e-6)


def test_target_weights_of_one_change_nothing_bitwise(tmp_path):
    plain, weighted = Training(tmp_path / "plain"), Training(tmp_path / "weighted")
    plain.run()
    weighted.run(target_weights=torch.ones(N_ITEMS))
    assert same(plain.parameters(), weighted.parameters())


def test_history_weights_decide_what_an_epoch_holds(tmp_path):
    weights = np.zeros(len(histories()))
    weights[[0, 3]] = len(weights) / 2  # a whole number: each of the two comes six times
    result = Training(tmp_path).run(history_weights=weights)
    n_targets = sum(len(histories()[i]) - 1 for i in (0, 3))
    assert result.n_targets == 2 * 6 * n_targets


def test_drawn_items_stand_for_the_catalogue_in_the_loss(tmp_path):
    """With all of them drawn, training is that on the whole softmax; with some, another, that learns too."""
    whole = Training(tmp_path / "whole")
    whole.run()
    everything = Training(tmp_path / "all")
    everything.run(negatives=NegativeSampler(counts(), n=N_ITEMS, power=0.5, seed=0))
    for p, q in zip(everything.parameters().values(), whole.parameters().values(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4)
    some = Training(tmp_path / "some", config=replace(CONFIG, max_epochs=30, patience=30))
    before = some.validate()
    some.run(negatives=NegativeSampler(counts(), n=4, power=0.5, seed=0))
    assert some.validate() > 3 * before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"target_weights": torch.ones(5)},
            r"target_weights must be a floating vector of 12 items; .* of shape \(5,\)",
        ),
        (
            {"target_weights": torch.ones(N_ITEMS, dtype=torch.int64)},
            "target_weights must be a floating vector of 12 items; got torch.int64",
        ),
        (
            {"target_weights": torch.linspace(-1, 1, N_ITEMS)},
            r"target_weights must be finite and >= 0; got -1.0 for item 0 \(6 in all\)",
        ),
        ({"target_weights": torch.full((N_ITEMS,), math.inf)}, "target_weights .*; got inf for item 0"),
        ({"history_weights": np.ones(3)}, r"history_weights must have one entry .* \(12,\); got \(3,\)"),
        ({"history_weights": np.full(12, 2.0)}, "history_weights must have mean 1 .*; got 2. Divide"),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_any_step(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        Training(tmp_path / "training").run(**settings)
    assert not (tmp_path / "training").exists()


def test_gradients_are_scaled_down_to_the_limit(tmp_path):
    norms = []
    training = Training(tmp_path, config=replace(CONFIG, max_epochs=1, max_grad_norm=0.01))
    step = training.optimizer.step

    def watch():
        grads = [p.grad for p in training.optimizer.parameters() if p.grad is not None]
        norms.append(float(torch.stack([g.norm() for g in grads]).norm()))
        return step()

    training.optimizer.step = watch  # type: ignore[method-assign]
    training.run()
    assert max(norms) <= 0.01 * (1 + 1e-4)  # clip_grad_norm_ divides by the norm plus 1e-6, in float32
    assert max(norms) > 0.0099


# Ten steps, two of them warm-up: 1/2, 1, then eight steps down from 1 to 1/8.
@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        ("constant", [0.5] + [1] * 9),
        ("cosine", [0.5, 1, *[(1 + math.cos(math.pi * i / 8)) / 2 for i in range(8)]]),
    ],
)
def test_learning_rate_factors_worked_by_hand(schedule, expected):
    config = TrainingConfig(warmup_share=0.2, schedule=schedule)
    factors = [learning_rate_factor(step, 10, config) for step in range(10)]
    assert factors == pytest.approx(expected, rel=1e-12)  # float64 cosines


def test_the_rate_starts_at_its_peak_without_warm_up_and_is_never_zero():
    for schedule in ("linear", "cosine", "constant"):
        config = TrainingConfig(warmup_share=0, schedule=schedule)
        assert learning_rate_factor(0, 7, config) == 1
        assert learning_rate_factor(6, 7, config) > 0
        assert learning_rate_factor(0, 1, config) == 1


def test_the_optimizer_is_stepped_at_the_scheduled_rates(tmp_path):
    rates = []
    training = Training(tmp_path, config=replace(CONFIG, warmup_share=0.5))
    n_steps = training.run(
        progress=lambda state: rates.append(training.optimizer.param_groups[0]["lr"])
    ).n_steps
    assert rates[0] == pytest.approx(CONFIG.learning_rate / round(0.5 * n_steps))
    assert max(rates) == CONFIG.learning_rate
    assert rates[-1] < CONFIG.learning_rate / 2


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("max_epochs", 0, "be >= 1"),
        ("learning_rate", 0.0, "be > 0"),
        ("learning_rate", math.inf, "be > 0"),
        ("learning_rate", math.nan, "be > 0"),
        ("weight_decay", -0.1, "be >= 0"),
        ("warmup_share", 1.0, r"be a fraction in \[0, 1\)"),
        ("schedule", "step", "be one of linear, cosine, constant"),
        ("max_grad_norm", 0.0, "be > 0"),
        ("positions_per_batch", 0, "be >= 1"),
        ("patience", 0, "be >= 1"),
        ("keep", "first", "be one of best, last"),
        ("matmul_precision", "low", "be one of highest, high, medium"),
        ("checkpoint_seconds", -1.0, "be >= 0"),
    ],
)
def test_settings_out_of_range_are_refused_by_name_and_value(name, value, rule):
    with pytest.raises(ConfigError, match=f"training.{name} must {rule}; got {value!r}"):
        TrainingConfig(**{name: value})


_LET_GO = """
import torch
from tailwise.training._memory import PeakMemory
memory = PeakMemory(torch.device("cpu"))
before = memory.mib()
block = torch.ones(32 * 2**20)  # 128 MiB
del block
print(before, memory.mib())
"""


def test_peak_memory_sees_what_was_let_go_again():
    # In a process of its own: one that holds freed memory, as after other tests, may give the block of that.
    told = subprocess.run([sys.executable, "-c", _LET_GO], capture_output=True, text=True, check=True).stdout
    before, after = map(float, told.split())
    assert before > 0
    # A part of the block may reuse pages that the process held already.
    assert after > before + 64


def test_peak_memory_never_falls_where_the_kernels_own_does(tmp_path, monkeypatch):
    status = tmp_path / "status"
    monkeypatch.setattr(_memory, "_STATUS", status)
    memory = PeakMemory(torch.device("cpu"))
    read = []
    for kib in (416_676, 416_344, 420_000):
        status.write_text(f"VmPeak:\t  500000 kB\nVmHWM:\t  {kib} kB\n")
        read.append(memory.mib())
    assert read == [416_676 / 1024, 416_676 / 1024, 420_000 / 1024]


def test_surroundings_are_plain_json_values_that_name_versions_and_machine():
    import json

    surroundings = describe_surroundings()
    assert json.loads(json.dumps(surroundings)) == surroundings
    assert surroundings["packages"]["torch"] == torch.__version__
    assert surroundings["machine"]["n_threads"] == torch.get_num_threads()
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        assert {"avx2", "avx512_f"} <= set(surroundings["machine"]["instructions"])
    assert {"created_at", "tailwise_version", "commit", "python", "command"} <= surroundings.keys()
