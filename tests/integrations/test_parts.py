"""What the integrations are made of, one by one."""

import pytest
import torch
from torch import nn

from tailwise.integrations import ItemCollator, MicroBatches, causal_row_losses, keep_precision

from .builders import examples, pad, tiny_model


def batches():
    collate = ItemCollator(pad, "item", 5)
    rows = examples(7)
    return [collate(rows[:3]), collate(rows[3:5]), collate(rows[5:])]


def test_row_losses_add_up_to_the_models_own_loss():
    model = tiny_model()
    (batch, *_) = batches()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    expected = model(**inputs, labels=batch["labels"]).loss  # mean over target tokens
    losses = causal_row_losses(model(**inputs).logits, batch["labels"])
    assert losses.shape == (3,)
    assert losses.dtype == torch.float32
    n_tokens = (batch["labels"][:, 1:] != -100).sum()
    torch.testing.assert_close(losses.sum() / n_tokens, expected)


def test_each_row_gets_the_loss_of_its_own_tokens():
    logits = torch.zeros(2, 4, 8)
    labels = torch.tensor([[-100, -100, 3, 4], [1, -100, -100, -100]])  # the first token is never a target
    losses = causal_row_losses(logits, labels)
    torch.testing.assert_close(losses, torch.tensor([2 * torch.log(torch.tensor(8.0)), 0.0]))


def test_rows_of_a_micro_batch_are_those_it_was_made_of():
    made = batches()
    joint = MicroBatches(made, "item")
    assert joint.sizes == [3, 2, 2]
    assert joint.items.tolist() == [example["item"] for example in examples(7)]
    whole = joint.inputs_of(torch.tensor([3, 4]))
    assert all(torch.equal(whole[name], made[1][name]) for name in ("input_ids", "labels"))
    assert "item" not in whole
    one = joint.inputs_of(torch.tensor([6]))
    assert torch.equal(one["input_ids"], made[2]["input_ids"][[1]])
    assert torch.equal(one["attention_mask"], made[2]["attention_mask"][[1]])


def test_what_is_not_of_rows_is_handed_on_as_it_is():
    batch = batches()[0] | {"scale": torch.tensor(2.0), "names": ["a", "b"]}
    inputs = MicroBatches([batch], "item").inputs_of(torch.tensor([1]))
    assert inputs["scale"] == 2.0
    assert inputs["names"] == ["a", "b"]


def test_a_collator_that_joins_rows_is_refused():
    joined = ItemCollator(lambda rows: {"input_ids": torch.zeros(1, 9)}, "item", 5)
    with pytest.raises(ValueError, match=r"a row per example; got 1 rows of 3 examples.*packing"):
        joined(examples(3))


@pytest.mark.parametrize("item", [-1, 5])
def test_items_out_of_range_are_refused(item):
    with pytest.raises(ValueError, match=rf"column 'item' must be in \[0, 5\).*got {item}"):
        ItemCollator(pad, "item", 5)([examples(1)[0] | {"item": item}])


def test_modules_of_perturbed_parameters_compute_in_their_precision():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    assert keep_precision(model, [model[1].weight]) == 1
    assert keep_precision(model, [model[1].weight]) == 1  # again: nothing more to do
    seen = []
    for layer in model:
        layer.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(torch.ones(2, 4))
    assert seen == [torch.bfloat16, torch.float32]


def test_without_autocast_nothing_is_cast():
    model = nn.Linear(4, 4)
    keep_precision(model, model.parameters())
    assert model.double()(torch.ones(2, 4, dtype=torch.float64)).dtype == torch.float64
