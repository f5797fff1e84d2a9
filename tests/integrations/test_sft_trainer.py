"""EISAM inside TRL's ``SFTTrainer``, on ordinary prompts and completions with an item column."""

import pytest
import torch

pytest.importorskip("trl", reason="TRL comes with the extra 'sft'")
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from tailwise.integrations import EISAMSFTTrainer

from .builders import N_ITEMS, settings, tiny_model

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*gradient_checkpointing.*:FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)

WORDS = ["<pad>", "<s>", "</s>", *(f"w{n}" for n in range(29))]


def tokenizer():
    """One token per word."""
    plain = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<pad>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<pad>"
    )


def data(n=16, **columns):
    generator = torch.Generator().manual_seed(0)

    def words(low, high):
        length = int(torch.randint(low, high, (), generator=generator))
        return " ".join(f"w{int(w)}" for w in torch.randint(0, 29, (length,), generator=generator))

    rows = [{"prompt": words(2, 6), "completion": " " + words(1, 4), "item": n % N_ITEMS} for n in range(n)]
    return Dataset.from_list([row | columns for row in rows])


def build(folder, kind=EISAMSFTTrainer, *, eisam=None, **given):
    arguments = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_steps": 4,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "max_length": None,
    }
    more = {} if eisam is None else {"eisam": eisam}
    return kind(
        tiny_model(),
        SFTConfig(**arguments | given),
        train_dataset=data(),
        processing_class=tokenizer(),
        **more,
    )


def trained(folder, kind=EISAMSFTTrainer, *, resume=None, **given):
    trainer = build(folder, kind, **given)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def test_without_a_radius_it_trains_as_sft_trainer(tmp_path):
    plain = trained(tmp_path, SFTTrainer)
    ours = trained(tmp_path, eisam=settings(rho=0.0))
    for p, q in zip(ours.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("estimator", ["exact", "single-pass"])
def test_epsilon_is_that_of_the_joint_batch(tmp_path, estimator):
    halves = trained(tmp_path, eisam=settings(estimator=estimator))
    whole = trained(
        tmp_path,
        eisam=settings(estimator=estimator),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=1,
    )
    plain = trained(tmp_path, SFTTrainer)
    for p, q in zip(halves.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=2e-5)
    assert any(
        not torch.allclose(p, q, atol=1e-4)
        for p, q in zip(halves.model.parameters(), plain.model.parameters(), strict=True)
    )


@pytest.mark.parametrize("estimator", ["exact", "single-pass"])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, estimator):
    given = {"eisam": settings(estimator=estimator), "save_strategy": "steps", "save_steps": 2}
    whole = trained(tmp_path / "whole", **given)
    again = trained(tmp_path / "again", **given, resume=str(tmp_path / "whole" / "checkpoint-2"))
    assert all(
        torch.equal(p, q) for p, q in zip(again.model.parameters(), whole.model.parameters(), strict=True)
    )


@pytest.mark.parametrize("name", ["packing", "padding_free"])
def test_rows_of_several_items_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"(packing|padding_free) must be left at its default"):
        trained(tmp_path, eisam=settings(), **{name: True, "max_length": 16 if name == "packing" else None})
