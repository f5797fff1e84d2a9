"""EISAM inside ``transformers.Trainer``: the trainer's own training, with another gradient."""

import pytest
import torch
from torch.nn import functional as F
from transformers import Trainer

from tailwise.integrations import EISAMTrainer
from tailwise.optim import EISAM

from .builders import arguments, examples, pad, settings, tiny_model, with_adapters

# peft and these tests speak the older of two names.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")

ESTIMATORS = ("exact", "single-pass", "sampled", "every-k")


def trained(folder, *, model=None, eisam=None, **given):
    """A trainer after its training."""
    trainer = EISAMTrainer(
        tiny_model() if model is None else model,
        arguments(folder, **given),
        train_dataset=examples(),
        data_collator=pad,
        eisam=settings() if eisam is None else eisam,
    )
    trainer.train()
    return trainer


def assert_same(left, right, **tolerance):
    for (name, p), q in zip(left.named_parameters(), right.parameters(), strict=True):
        torch.testing.assert_close(p, q, msg=lambda text, name=name: f"{name}: {text}", **tolerance)


def losses_of(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("accumulation", [1, 2, 5])  # 24 rows in twos: five leaves two micro-batches over
@pytest.mark.parametrize("adapted", [False, True])
def test_without_a_radius_it_trains_as_trainer(tmp_path, accumulation, adapted):
    def build():
        return with_adapters(tiny_model()) if adapted else tiny_model()

    given = {"gradient_accumulation_steps": accumulation, "max_steps": 8}
    plain = Trainer(
        build(), arguments(tmp_path, **given), train_dataset=examples(), data_collator=lambda b: pad(_bare(b))
    )
    plain.train()
    ours = trained(tmp_path, model=build(), eisam=settings(rho=0.0), **given)
    assert_same(ours.model, plain.model, rtol=1e-4, atol=1e-6)
    assert losses_of(ours) == pytest.approx(losses_of(plain), rel=1e-4)


def _bare(batch):
    return [{k: v for k, v in example.items() if k != "item"} for example in batch]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_epsilon_is_that_of_the_joint_batch(tmp_path, estimator):
    """Two micro-batches of two rows train as one of four."""
    eisam = settings(estimator=estimator, every=2, row_share=0.5)
    halves = trained(tmp_path, eisam=eisam)
    whole = trained(tmp_path, eisam=eisam, per_device_train_batch_size=4, gradient_accumulation_steps=1)
    assert_same(halves.model, whole.model, rtol=1e-3, atol=2e-5)


def test_it_follows_a_loop_written_by_hand(tmp_path):
    model, twin = tiny_model(), tiny_model()
    trainer = EISAMTrainer(
        model,
        arguments(tmp_path, lr_scheduler_type="constant", warmup_steps=0, weight_decay=0.0),
        train_dataset=examples(),
        data_collator=pad,
        eisam=settings(),
    )
    batches = list(trainer.get_train_dataloader())
    seen = []
    original = trainer.get_batch_samples
    trainer.get_batch_samples = lambda *a, **k: seen.append(original(*a, **k)) or seen[-1]
    trainer.train()
    assert len(batches) == 12

    optimizer = EISAM(
        twin.parameters(),
        torch.optim.AdamW,
        item_weights=settings().item_weights,
        rho=0.3,
        strength=0.8,
        lr=1e-2,
        weight_decay=0.0,
    )
    for micro_batches, _ in seen:
        rows = [(b, r) for b in micro_batches for r in range(len(b["item"]))]
        n_tokens = sum(int((b["labels"][:, 1:] != -100).sum()) for b in micro_batches)

        def losses(wanted, rows=rows, n_tokens=n_tokens):
            made = []
            for b, r in (rows[i] for i in wanted.tolist()):
                logits = twin(b["input_ids"][[r]], attention_mask=b["attention_mask"][[r]]).logits
                total = F.cross_entropy(
                    logits[0, :-1], b["labels"][r, 1:], ignore_index=-100, reduction="sum"
                )
                made.append(total * len(rows) / n_tokens)
            return torch.stack(made)

        optimizer.compute_gradient(losses, torch.cat([b["item"] for b in micro_batches]))
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
        optimizer.step()
    assert_same(model, twin, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, estimator, dropout):
    given = {"save_strategy": "steps", "save_steps": 3}
    eisam = settings(estimator=estimator, every=2, row_share=0.5)

    def build():
        return with_adapters(tiny_model(), lora_dropout=dropout)

    whole = trained(tmp_path / "whole", model=build(), eisam=eisam, **given)
    again = EISAMTrainer(
        build(),
        arguments(tmp_path / "again", **given),
        train_dataset=examples(),
        data_collator=pad,
        eisam=eisam,
    )
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert all(
        torch.equal(p, q) for p, q in zip(again.model.parameters(), whole.model.parameters(), strict=True)
    )


def test_both_evaluations_of_a_row_see_the_same_dropout(tmp_path):
    seen = {}

    class Watching(EISAMTrainer):
        def row_losses(self, model, inputs):
            key = (self.state.global_step, tuple(inputs["input_ids"].flatten().tolist()))
            seen.setdefault(key, []).append(torch.get_rng_state())
            return super().row_losses(model, inputs)

    trainer = Watching(
        with_adapters(tiny_model(), lora_dropout=0.3),
        arguments(tmp_path),
        train_dataset=examples(),
        data_collator=pad,
        eisam=settings(),
    )
    trainer.train()
    assert len(seen) == 12
    assert all(len(states) == 2 and torch.equal(*states) for states in seen.values())
    assert len({tuple(states[0].tolist()) for states in seen.values()}) == 12


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradient_checkpointing_changes_nothing(tmp_path, estimator):
    eisam = settings(estimator=estimator, every=2, row_share=0.5)
    plain = trained(tmp_path, eisam=eisam)
    checkpointed = trained(
        tmp_path,
        eisam=eisam,
        gradient_checkpointing=True,
        gradient_checkpointing_kwargs={"use_reentrant": False},
    )
    assert_same(checkpointed.model, plain.model, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_small_perturbation_survives_bfloat16(tmp_path, estimator):
    trainer = trained(
        tmp_path,
        model=with_adapters(tiny_model()),
        eisam=settings(estimator=estimator, rho=0.01, every=2, row_share=0.5, diagnose_steps=1),
        bf16=True,
    )
    logged = [e for e in trainer.state.log_history if "eisam_realised_norm" in e]
    assert logged
    for entry in logged[-3:]:
        assert entry["eisam_realised_norm"] == pytest.approx(entry["eisam_radius"], rel=0.01)
    assert any(getattr(m.forward, "_tailwise_keeps_precision", False) for m in trainer.model.modules())


def test_adapters_compute_in_float32_under_bfloat16(tmp_path):
    model = with_adapters(tiny_model())
    dtypes = set()
    adapter = next(m for name, m in model.named_modules() if name.endswith("lora_A.default"))
    adapter.register_forward_hook(lambda module, inputs, output: dtypes.add(output.dtype))
    trained(tmp_path, model=model, bf16=True)
    assert dtypes == {torch.float32}


def test_epsilon_reaches_the_losses_under_bfloat16(tmp_path):
    """The change of a loss along a small step is that of full precision, not rounding."""
    model = with_adapters(tiny_model())
    trainer = trained(tmp_path, model=model, bf16=True, max_steps=1)
    adapter = next(m for name, m in model.named_modules() if name.endswith("q_proj.lora_B.default"))
    x = torch.randn(4, 2)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        before = adapter(x)
        adapter.weight += 1e-5
        moved = adapter(x) - before
    torch.testing.assert_close(moved, (x.sum(1, keepdim=True) * 1e-5).expand_as(moved), rtol=0.1, atol=1e-7)
    assert trainer.accelerator.mixed_precision == "bf16"


def trained_with_scaler(folder, estimator, initial_scale):
    """float16's scaler without float16, which the CPU lacks."""
    trainer = EISAMTrainer(
        tiny_model(),
        arguments(folder, max_grad_norm=0.0),
        train_dataset=examples(),
        data_collator=pad,
        eisam=settings(estimator=estimator, every=2, row_share=0.5),
    )
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=initial_scale, backoff_factor=2**-20)
    trainer.train()
    return trainer


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_scale_of_a_scaler_changes_nothing(tmp_path, estimator):
    scaled = trained_with_scaler(tmp_path, estimator, 2.0**10)
    plain = trained(tmp_path, eisam=settings(estimator=estimator, every=2, row_share=0.5), max_grad_norm=0.0)
    assert_same(scaled.model, plain.model, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_an_overflow_skips_the_step_and_lowers_the_scale(tmp_path, estimator):
    trainer = trained_with_scaler(tmp_path, estimator, 2.0**127)
    optimizer = trainer._own_optimizer()
    assert trainer.accelerator.scaler.get_scale() in {
        2.0 ** (127 - 20 * n_skipped) for n_skipped in range(1, 6)
    }
    assert optimizer.n_steps < 6  # the direction overflowed at first, the gradient alone later
    assert all(bool(torch.isfinite(p).all()) for p in trainer.model.parameters())
    assert all(bool(torch.isfinite(d).all()) for d in optimizer._kept_direction or [])


def test_evaluation_knows_nothing_of_items(tmp_path):
    ours = trained(tmp_path)
    found = ours.evaluate(examples(8, seed=3))["eval_loss"]
    plain = Trainer(ours.model, arguments(tmp_path), data_collator=lambda b: pad(_bare(b)))
    assert found == pytest.approx(plain.evaluate(examples(8, seed=3))["eval_loss"], rel=1e-5)
    assert found == pytest.approx(ours.evaluate(_bare(examples(8, seed=3)))["eval_loss"])


def test_examples_of_which_some_lack_an_item_are_refused(tmp_path):
    mixed = [e if n % 2 else _bare([e])[0] for n, e in enumerate(examples())]
    trainer = EISAMTrainer(
        tiny_model(), arguments(tmp_path), train_dataset=mixed, data_collator=pad, eisam=settings()
    )
    with pytest.raises(KeyError, match=r"all examples or none must have a column 'item'"):
        trainer.train()


def test_logs_tell_the_radius_and_what_was_diagnosed(tmp_path):
    trainer = trained(tmp_path, eisam=settings(start_step=2, diagnose_steps=2))
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["eisam_rho"] for entry in logged] == [0.0, 0.3, 0.3, 0.3, 0.3, 0.3]
    assert logged[-1]["eisam_cosine"] == pytest.approx(1.0)
    assert logged[-1]["eisam_share_of_rows_perturbed"] > 0


def test_tensorboard_gets_the_radius_and_the_diagnostics(tmp_path, monkeypatch):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    trained(tmp_path, eisam=settings(diagnose_steps=1), report_to="tensorboard")
    (written,) = (tmp_path / "board").rglob("events.out.tfevents.*")
    board = events.EventAccumulator(str(written))
    board.Reload()
    tags = {tag.removeprefix("train/") for tag in board.Tags()["scalars"] + board.Tags()["tensors"]}
    assert {"loss", "eisam_rho", "eisam_cosine", "eisam_realised_norm"} <= tags


@pytest.mark.filterwarnings("ignore")  # MLflow's own, of its dependencies
def test_mlflow_gets_the_radius_and_the_diagnostics(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "eisam")
    trained(tmp_path, eisam=settings(diagnose_steps=1), report_to="mlflow")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("eisam").experiment_id])
    assert {"loss", "eisam_rho", "eisam_cosine", "eisam_realised_norm"} <= run.data.metrics.keys()
    assert run.data.metrics["eisam_rho"] == pytest.approx(0.3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own, of what it compiles with
@pytest.mark.parametrize("estimator", ["exact", "sampled", "single-pass", "every-k"])
def test_a_compiled_model_trains_as_it_does_uncompiled(tmp_path, estimator):
    eisam = settings(estimator=estimator, every=2, row_share=0.5)
    # Through all of torch.compile but its last stage, which needs a compiler of C++.
    compiled = {"torch_compile": True, "torch_compile_backend": "aot_eager"}
    expected = trained(tmp_path / "eager", model=with_adapters(tiny_model()), eisam=eisam)
    trainer = trained(tmp_path / "compiled", model=with_adapters(tiny_model()), eisam=eisam, **compiled)
    for p, q in zip(trainer.model.parameters(), expected.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


def test_patterns_of_names_choose_what_moves(tmp_path):
    model = with_adapters(tiny_model())
    trainer = trained(tmp_path, model=model, eisam=settings(perturb="*q_proj.lora_B*"))
    moved = trainer._own_optimizer().perturbed_parameters()
    wanted = [p for name, p in model.named_parameters() if "q_proj.lora_B" in name]
    assert {id(p) for p in moved} == {id(p) for p in wanted}
    assert len(moved) == 2


# What is refused


def test_an_item_beyond_the_weights_is_refused(tmp_path):
    trainer = EISAMTrainer(
        tiny_model(),
        arguments(tmp_path),
        train_dataset=[example | {"item": 9} for example in examples()],
        data_collator=pad,
        eisam=settings(),
    )
    with pytest.raises(ValueError, match=r"column 'item' must be in \[0, 5\).*got 9"):
        trainer.train()


def test_a_missing_column_is_named(tmp_path):
    trainer = EISAMTrainer(
        tiny_model(),
        arguments(tmp_path),
        train_dataset=examples(),
        data_collator=pad,
        eisam=settings(item_column="product"),
    )
    with pytest.raises(KeyError, match=r"examples must have a column 'product'.*item_column"):
        trainer.train()


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor must be left at its default"),
    ],
)
def test_set_ups_without_losses_of_rows_are_refused(tmp_path, given, match):
    with pytest.raises(ValueError, match=match):
        EISAMTrainer(tiny_model(), arguments(tmp_path, **given), train_dataset=examples(), eisam=settings())


def test_a_loss_function_of_ones_own_is_refused(tmp_path):
    with pytest.raises(ValueError, match="compute_loss_func must be left at its default"):
        EISAMTrainer(
            tiny_model(),
            arguments(tmp_path),
            train_dataset=examples(),
            compute_loss_func=lambda *_, **__: None,
            eisam=settings(),
        )


def test_a_loss_that_is_not_finite_stops_training_and_leaves_the_model(tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight[5] = float("nan")
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(FloatingPointError, match="losses must be finite"):
        trained(tmp_path, model=model)
    assert all(
        torch.equal(p.nan_to_num(7), b.nan_to_num(7)) for p, b in zip(model.parameters(), before, strict=True)
    )
