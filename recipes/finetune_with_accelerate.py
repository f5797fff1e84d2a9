"""Fine-tune a language model with adapters in a loop of one's own, by Accelerate with EISAM.

    python recipes/finetune_with_accelerate.py --steps 4 --output runs/accelerate

Fetches SmolLM2-135M and MovieLens 100K once. See docs/trainer.md.
"""

import argparse
from itertools import cycle, islice

import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq

from film_prompts import film_prompts, tokenized
from tailwise.integrations import ItemCollator, MicroBatches, causal_row_losses, keep_precision, ranks_of
from tailwise.optim import EISAM, item_weights
from tailwise.recommenders import resolve_language_model

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default="smollm2-135m", help="name, folder or hub id")
parser.add_argument("--examples", type=int, default=256)
parser.add_argument("--steps", type=int, default=30)
parser.add_argument("--rho", type=float, default=0.05)
parser.add_argument("--output", default="runs/accelerate")
options = parser.parse_args()

folder = resolve_language_model(options.model)
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
rows, counts = film_prompts(options.examples)
weights = item_weights(counts)

accelerator = Accelerator()
optimizer = EISAM(
    (p for p in model.parameters() if p.requires_grad),
    torch.optim.AdamW,
    item_weights=weights,
    rho=options.rho,
    estimator="single-pass",
    seed=0,
    ranks=ranks_of(accelerator),
    lr=1e-3,
)
keep_precision(model, optimizer.perturbed_parameters())  # matters under mixed precision only
collate = ItemCollator(DataCollatorForSeq2Seq(tokenizer), "item", len(weights))
loader = DataLoader(tokenized(rows, tokenizer), batch_size=4, collate_fn=collate, shuffle=True)
model, prepared, loader = accelerator.prepare(model, optimizer, loader)


def row_losses(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean over the tokens of each row's title."""
    labels = inputs.pop("labels")
    return causal_row_losses(model(**inputs).logits, labels) / (labels[:, 1:] != -100).sum(dim=1)


micro_batches = cycle(loader)
for step in range(options.steps):
    batch = MicroBatches(list(islice(micro_batches, 2)), "item")  # two micro-batches per update
    with accelerator.no_sync(model):  # EISAM adds gradients over processes itself
        loss = optimizer.compute_gradient(batch.loss_fn(row_losses), batch.items, rows_at_once=batch.sizes)
    accelerator.clip_grad_norm_(model.parameters(), 1.0)
    prepared.step()
    prepared.zero_grad()
    accelerator.print(f"step {step + 1}: loss {float(loss):.3f}")
accelerator.unwrap_model(model).save_pretrained(options.output)
accelerator.print(f"adapters saved in {options.output}")
accelerator.end_training()
