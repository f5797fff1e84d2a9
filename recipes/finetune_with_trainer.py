"""Fine-tune a language model with adapters on titles, by `transformers.Trainer` with EISAM.

    python recipes/finetune_with_trainer.py --steps 4 --output runs/trainer

Fetches SmolLM2-135M and MovieLens 100K once. See docs/trainer.md.
"""

import argparse

from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, TrainingArguments

from film_prompts import film_prompts, tokenized
from tailwise.integrations import EISAMSettings, EISAMTrainer
from tailwise.optim import item_weights
from tailwise.recommenders import resolve_language_model

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default="smollm2-135m", help="name, folder or hub id")
parser.add_argument("--examples", type=int, default=256)
parser.add_argument("--steps", type=int, default=30)
parser.add_argument("--rho", type=float, default=0.05)
parser.add_argument("--output", default="runs/trainer")
options = parser.parse_args()

folder = resolve_language_model(options.model)
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
rows, counts = film_prompts(options.examples)

trainer = EISAMTrainer(
    model,
    TrainingArguments(
        options.output,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        max_steps=options.steps,
        learning_rate=1e-3,
        logging_steps=1,
        report_to="none",
    ),
    train_dataset=tokenized(rows, tokenizer),
    data_collator=DataCollatorForSeq2Seq(tokenizer),
    eisam=EISAMSettings(item_weights(counts), rho=options.rho),
)
trainer.train()
model.save_pretrained(options.output)
print(f"adapters saved in {options.output}")
