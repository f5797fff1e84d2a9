"""QLoRA: adapters beside weights of four bits, which cannot be moved and need not be."""

import pytest
import torch
from transformers import BitsAndBytesConfig, LlamaForCausalLM, Trainer

from tailwise.integrations import EISAMTrainer

from .builders import arguments, examples, pad, settings, tiny_model, with_adapters

pytest.importorskip("bitsandbytes", reason="bitsandbytes comes with the extra 'qlora'")
# Of bitsandbytes and its use of torch, on the CPU.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ESTIMATORS = ("exact", "sampled", "single-pass", "every-k")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("models") / "tiny"
    tiny_model(hidden_size=64, intermediate_size=64).save_pretrained(made)
    return made


def build(folder):
    from peft import prepare_model_for_kbit_training

    quantisation = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    model = LlamaForCausalLM.from_pretrained(folder, quantization_config=quantisation)
    weight = model.model.layers[0].self_attn.q_proj.weight
    assert (weight.dtype, type(weight).__name__) == (torch.uint8, "Params4bit")
    torch.manual_seed(1)
    return with_adapters(prepare_model_for_kbit_training(model, use_gradient_checkpointing=False))


def trained(model_folder, out, *, eisam=None, resume=None, **given):
    args = arguments(out, max_steps=4, seed=7, **given)
    if eisam is None:
        bare = lambda b: pad([{k: v for k, v in e.items() if k != "item"} for e in b])  # noqa: E731
        trainer = Trainer(build(model_folder), args, train_dataset=examples(), data_collator=bare)
    else:
        trainer = EISAMTrainer(
            build(model_folder), args, train_dataset=examples(), data_collator=pad, eisam=eisam
        )
    frozen = [p.detach().clone() for p in trainer.model.parameters() if not p.requires_grad]
    trainer.train(resume_from_checkpoint=resume)
    after = [p for p in trainer.model.parameters() if not p.requires_grad]
    assert all(torch.equal(p, q) for p, q in zip(after, frozen, strict=True))
    return [p.detach().clone() for p in trainer.model.parameters() if p.requires_grad]


def test_without_a_radius_it_is_the_trainers_own_training(folder, tmp_path):
    plain = trained(folder, tmp_path / "plain")
    for p, q in zip(trained(folder, tmp_path / "off", eisam=settings(rho=0.0)), plain, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_it_trains_and_resumes_to_the_bit(folder, tmp_path, estimator):
    eisam = settings(estimator=estimator, every=2, row_share=0.5)
    saving = {"save_strategy": "steps", "save_steps": 2}
    whole = trained(folder, tmp_path / "whole", eisam=eisam, **saving)
    last = str(tmp_path / "whole" / "checkpoint-2")
    again = trained(folder, tmp_path / "again", eisam=eisam, resume=last, **saving)
    assert all(torch.equal(p, q) for p, q in zip(again, whole, strict=True))
    plain = trained(folder, tmp_path / "plain")
    assert any(not torch.equal(p, q) for p, q in zip(whole, plain, strict=True))
