"""A tiny causal language model and data for the tests of this folder."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments

from tailwise.integrations import EISAMSettings
from tailwise.optim import item_weights

N_ITEMS = 5
COUNTS = torch.tensor([40, 20, 8, 3, 0])


def tiny_model(seed=0, **settings):
    """A Llama of two layers and 32 tokens."""
    torch.manual_seed(seed)
    config = {
        "vocab_size": 32,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return LlamaForCausalLM(LlamaConfig(**config | settings))


def with_adapters(model, **settings):
    """LoRA on all projections, its second factor away from zero."""
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", **settings))
    generator = torch.Generator().manual_seed(1)
    for name, p in adapted.named_parameters():
        if "lora_B" in name:
            p.data.normal_(0, 0.1, generator=generator)
    return adapted


def examples(n=24, seed=0):
    """Prompts of 2 to 5 tokens, completions of 1 to 3, each of one item."""
    generator = torch.Generator().manual_seed(seed)

    def number(low, high):
        return int(torch.randint(low, high, (), generator=generator))

    made = []
    for _ in range(n):
        n_prompt, n_completion = number(2, 6), number(1, 4)
        ids = torch.randint(3, 32, (n_prompt + n_completion,), generator=generator).tolist()
        made.append(
            {
                "input_ids": ids,
                "labels": [-100] * n_prompt + ids[n_prompt:],
                "item": number(0, N_ITEMS),
            }
        )
    return made


def pad(batch):
    """A data collator."""
    longest = max(len(example["input_ids"]) for example in batch)

    def padded(name, value):
        return torch.tensor([e[name] + [value] * (longest - len(e[name])) for e in batch])

    mask = [[1] * len(e["input_ids"]) + [0] * (longest - len(e["input_ids"])) for e in batch]
    return {
        "input_ids": padded("input_ids", 0),
        "attention_mask": torch.tensor(mask),
        "labels": padded("labels", -100),
    }


def arguments(folder, **settings):
    """Six updates of two micro-batches of two rows, on the CPU."""
    given = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_steps": 6,
        "learning_rate": 1e-2,
        "max_grad_norm": 0.5,
        "warmup_steps": 2,
        "lr_scheduler_type": "cosine",
        "weight_decay": 0.1,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return TrainingArguments(**given | settings)


def settings(**changes):
    """EISAM, with settings of which none is a special case."""
    given = {"item_weights": item_weights(COUNTS), "rho": 0.3, "strength": 0.8, "estimator": "exact"}
    return EISAMSettings(**given | changes)
