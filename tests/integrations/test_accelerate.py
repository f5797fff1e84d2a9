"""EISAM in a loop written by hand with Accelerate."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.utils.data import DataLoader

from tailwise.integrations import ItemCollator, MicroBatches, causal_row_losses, keep_precision, ranks_of
from tailwise.optim import EISAM, OneProcess

from .builders import N_ITEMS, examples, pad, settings, tiny_model, with_adapters


@pytest.fixture(autouse=True)
def _own_accelerator():
    """Accelerate keeps the precision of a process's first Accelerator."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def train(model, *, n_epochs=1, estimator="single-pass", states=None, after_step=None, mixed_precision="no"):
    """The loop of docs/trainer.md, with a state kept every second step."""
    accelerator = Accelerator(cpu=True, mixed_precision=mixed_precision)
    optimizer = EISAM(
        model.parameters(),
        torch.optim.AdamW,
        item_weights=settings().item_weights,
        rho=0.3,
        estimator=estimator,
        seed=0,
        ranks=ranks_of(accelerator),
        lr=1e-2,
    )
    if mixed_precision != "no":
        keep_precision(model, optimizer.perturbed_parameters())
    loader = DataLoader(examples(), batch_size=4, collate_fn=ItemCollator(pad, "item", N_ITEMS))
    model, prepared, loader = accelerator.prepare(model, optimizer, loader)
    kept = sorted(states.glob("step-*")) if states else []
    if kept:
        accelerator.load_state(str(kept[-1]))
    n_done = int(kept[-1].name.removeprefix("step-")) if kept else 0
    losses = []
    for step, batch in enumerate([batch for _ in range(n_epochs) for batch in loader]):
        if step < n_done:
            continue
        rows = MicroBatches([batch], "item")

        def row_losses(inputs):
            logits = model(inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
            return causal_row_losses(logits, inputs["labels"])

        with accelerator.no_sync(model):
            loss = optimizer.compute_gradient(rows.loss_fn(row_losses), rows.items)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        prepared.step()
        prepared.zero_grad()
        losses.append(float(loss))
        if states and (step + 1) % 2 == 0:
            accelerator.save_state(str(states / f"step-{step + 1}"))
        if after_step:
            after_step(step + 1)
    return losses


def test_the_loop_learns():
    model = tiny_model()
    losses = train(model, n_epochs=15)
    assert sum(losses[-6:]) < 0.7 * sum(losses[:6])


@pytest.mark.parametrize("estimator", ["exact", "single-pass"])
def test_state_saved_by_accelerate_goes_on_where_it_was(tmp_path, estimator):
    class StoppedError(Exception):
        pass

    def stop(n_steps):
        if n_steps == 3:
            raise StoppedError

    whole, first, again = tiny_model(), tiny_model(), tiny_model(seed=9)
    train(whole, estimator=estimator)
    with pytest.raises(StoppedError):
        train(first, estimator=estimator, states=tmp_path, after_step=stop)
    losses = train(again, estimator=estimator, states=tmp_path)
    assert len(losses) == 4
    assert all(torch.equal(p, q) for p, q in zip(again.parameters(), whole.parameters(), strict=True))


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")
def test_mixed_precision_of_an_accelerator_keeps_the_perturbation():
    model = with_adapters(tiny_model())
    adapter = next(m for name, m in model.named_modules() if name.endswith("lora_B.default"))
    dtypes = set()
    adapter.register_forward_hook(lambda module, inputs, output: dtypes.add(output.dtype))
    train(model, mixed_precision="bf16")
    assert dtypes == {torch.float32}


def test_one_process_has_no_ranks():
    assert isinstance(ranks_of(Accelerator(cpu=True)), OneProcess)


def test_other_ways_of_sharing_a_model_are_refused():
    class Elsewhere:
        distributed_type = "DEEPSPEED"

    with pytest.raises(ValueError, match=r"DistributedDataParallel or FSDP version 2; got DEEPSPEED"):
        ranks_of(Elsewhere())
