import pytest
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from tailwise.recommenders._cache_argument import cache_argument


class Knows(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.forward = forward


class Wraps(nn.Module):
    def __init__(self, inside):
        super().__init__()
        self.inside = inside

    def get_base_model(self):
        return self.inside

    def forward(self, *args, **kwargs):
        return self.inside(*args, **kwargs)


@pytest.mark.parametrize("wrap", [lambda model: model, Wraps])
def test_each_model_is_given_its_cache_under_its_own_name(wrap):
    renamed = wrap(Knows(lambda input_ids, cache=None: None))
    earlier = wrap(Knows(lambda input_ids, past_key_values=None: None))
    assert cache_argument(renamed, "states") == {"cache": "states"}
    assert cache_argument(earlier, "states") == {"past_key_values": "states"}


def test_the_installed_llama_takes_the_name_without_a_warning():
    from transformers import DynamicCache

    config = LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    model = LlamaForCausalLM(config)
    cache = DynamicCache()
    model(input_ids=model.dummy_inputs["input_ids"] % 8, use_cache=True, **cache_argument(model, cache))
    assert cache.get_seq_length() == model.dummy_inputs["input_ids"].shape[1]
