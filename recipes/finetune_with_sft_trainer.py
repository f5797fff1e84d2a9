"""Fine-tune a language model with adapters on prompts and completions, by TRL's `SFTTrainer` with EISAM.

    python recipes/finetune_with_sft_trainer.py --steps 4 --output runs/sft

Fetches SmolLM2-135M and MovieLens 100K once. See docs/trainer.md.
"""

import argparse

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig

from film_prompts import film_prompts
from tailwise.integrations import EISAMSettings, EISAMSFTTrainer
from tailwise.optim import item_weights
from tailwise.recommenders import resolve_language_model

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default="smollm2-135m", help="name, folder or hub id")
parser.add_argument("--examples", type=int, default=256)
parser.add_argument("--steps", type=int, default=30)
parser.add_argument("--rho", type=float, default=0.05)
parser.add_argument("--output", default="runs/sft")
options = parser.parse_args()

folder = resolve_language_model(options.model)
rows, counts = film_prompts(options.examples)

trainer = EISAMSFTTrainer(
    AutoModelForCausalLM.from_pretrained(folder, dtype="float32"),
    SFTConfig(
        options.output,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        max_steps=options.steps,
        learning_rate=1e-3,
        logging_steps=1,
        report_to="none",
        bf16=False,
    ),
    train_dataset=Dataset.from_list(rows),
    processing_class=AutoTokenizer.from_pretrained(folder),
    peft_config=LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"),
    eisam=EISAMSettings(item_weights(counts), rho=options.rho),
)
trainer.train()
trainer.save_model()
print(f"adapters saved in {options.output}")
