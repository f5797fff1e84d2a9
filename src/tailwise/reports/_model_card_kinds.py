"""What a model card says differently of the two kinds of recommenders: files, sentences, code."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["CARD_KINDS", "CardKind"]


@dataclass(frozen=True)
class CardKind:
    """The words of a card that depend on what an item is to the recommender.

    Attributes:
        about: One sentence: what goes in and what comes out; holds ``{n_items}`` and ``{data}``.
        behind: What else there is to its making; holds ``{residual}``; may be empty.
        file: Of the tensors beside the language model, and what it holds.
        catalogue: What ``item_index`` counts.
        load_merged: Code that loads ``model/``.
        load_adapter: Code that loads ``base/`` with ``adapter/``.
        use: Code that makes a list of items with what was loaded.
        new_items: What it takes to recommend an item that is not in the catalogue.
        merged_note: What else can read ``model/``; may be empty.
    """

    about: str
    behind: str
    file: tuple[str, str]
    catalogue: str
    load_merged: str
    load_adapter: str
    use: str
    new_items: str
    merged_note: str = ""

    def made(self, settings: Mapping[str, Any]) -> str:
        """Finish the sentence about the language model by what else the recommender is made of."""
        return self.behind.format(
            residual=", plus a vector of its own" if settings.get("id_residual") else ""
        )


_TOKENS = CardKind(
    about=(
        "It reads a user's history, one token per item, and scores every one of the {n_items} items of "
        "{data}."
    ),
    behind="; an item's vector is made from the language model's encoding of its title{residual}",
    file=("`items.safetensors`", "item vectors, and what turns a hidden state into scores"),
    catalogue="row of the item vectors",
    load_merged="""\
from transformers import AutoModel

backbone = AutoModel.from_pretrained("model", dtype="auto").eval()
""",
    load_adapter="""\
from peft import PeftModel
from transformers import AutoModel

base = AutoModel.from_pretrained("base", dtype="auto")
backbone = PeftModel.from_pretrained(base, "adapter").eval()
""",
    use="""\
import polars as pl
import torch
from safetensors.torch import load_file
from torch.nn.functional import layer_norm, linear

items = load_file("items.safetensors")
catalogue = pl.read_parquet("catalogue.parquet")  # row = item_index

@torch.no_grad()
def score(history):  # item_index of a user's items, oldest first
    recent = torch.tensor(history, dtype=torch.int64)[-int(items["max_length"]):]
    tokens = items["item_vectors"][recent] * items["token_scale"]  # [positions, width]
    if not len(recent):
        tokens = items["item_vectors"].new_zeros(1, items["item_vectors"].shape[1])
    states = backbone(inputs_embeds=tokens[None].to(backbone.dtype), use_cache=False).last_hidden_state
    last = layer_norm(states[0, -1].float(), states.shape[-1:])  # [width]
    query = linear(last, items["query.weight"], items["query.bias"])
    return items["item_vectors"] @ query  # [n_items], higher is better

index = dict(zip(catalogue["item_id"], catalogue["item_index"]))
history = [index[item] for item in catalogue["item_id"].head(3)]  # put a user's item_ids here
scores = score(history)
scores[history] = -torch.inf  # seen items are scored like any other
best = scores.argsort(descending=True)[:10].tolist()
print(catalogue[best].select("item_id", "title"))
""",
    new_items="another item needs another training.",
)

_TITLES = CardKind(
    about=(
        "It reads the titles of a user's history and says the next one; an item's score is the "
        "log-likelihood of its title. It was made for the {n_items} items of {data}."
    ),
    behind="",
    file=("`titles.safetensors`", "the prompt's first tokens, and all titles as a tree of tokens"),
    catalogue="place in `leaf_of_item`",
    load_merged="""\
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("model", dtype="auto").eval()
""",
    load_adapter="""\
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("base", dtype="auto")
model = PeftModel.from_pretrained(base, "adapter").eval()
""",
    use="""\
import polars as pl
import torch
from safetensors.torch import load_file

tree = load_file("titles.safetensors")  # a path from node 0 to a leaf says a title and its end
catalogue = pl.read_parquet("catalogue.parquet")  # row = item_index
token, parent, leaf = tree["tokens"], tree["parents"], tree["leaf_of_item"]
end = int(tree["end_token"])

def line(item):  # the tokens of an item's title, its end included
    node, said = int(leaf[item]), []
    while node > 0:
        said.append(int(token[node]))
        node = int(parent[node])
    return said[::-1]

def prompt(history):  # as many of the latest titles as there is room for, oldest first
    lines, room = [], int(tree["history_tokens"])
    for item in reversed(history):
        room -= len(line(item))
        if room < 0:
            break
        lines.insert(0, line(item))
    return tree["prefix"].tolist() + [t for said in lines for t in said]

def recommend(history, k=10):  # item_index of a user's items -> k others, best first
    unseen = torch.ones(len(leaf), dtype=torch.bool)
    unseen[history] = False
    is_open, nodes = torch.zeros(len(token), dtype=torch.bool), leaf[unseen].unique()
    while len(nodes):  # from the leaves up: every beginning of a title that may be said
        is_open[nodes] = True
        nodes = parent[nodes].unique()
        nodes = nodes[nodes >= 0]
    children = {}
    for node in is_open.nonzero().flatten().tolist()[1:]:
        children.setdefault(int(parent[node]), {})[int(token[node])] = node
    given = torch.tensor([prompt(history)])

    def node_of(text):
        node = 0
        for one in text[given.shape[1]:].tolist():
            node = children.get(node, {}).get(one, -1)
        return node

    said = model.generate(
        given, attention_mask=torch.ones_like(given), do_sample=False, num_beams=k, num_return_sequences=k,
        max_new_tokens=int(tree["longest"]), length_penalty=0.0, eos_token_id=end, pad_token_id=end,
        prefix_allowed_tokens_fn=lambda _, text: list(children.get(node_of(text), {})) or [end],
    )
    found = []
    for text in said:
        stop = (text[given.shape[1]:] == end).nonzero()[0, 0] + 1  # what follows is padding
        is_it = (leaf == node_of(text[:given.shape[1] + stop])) & unseen
        found += is_it.nonzero().flatten().tolist()
    return found[:k]

index = dict(zip(catalogue["item_id"], catalogue["item_index"]))
history = [index[item] for item in catalogue["item_id"].head(3)]  # put a user's item_ids here
best = recommend(history)
print(catalogue[best].select("item_id", "title"))
""",
    new_items="another title can be said and scored like any, once it is in the tree.",
    merged_note=", which vLLM and others that serve causal language models read too",
)

CARD_KINDS = {"item-token": _TOKENS, "title": _TITLES}
"""By the kind of the recommender, as its recipe names it."""
