"""Write a trained recommender so that plain transformers, peft and safetensors read it back."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tailwise import assets
from tailwise.assets import HubSource
from tailwise.recommenders._item_token import ItemTokenRecommender
from tailwise.recommenders._language_model import fingerprint, quiet_transformers, resolve_language_model
from tailwise.recommenders._title import TitleRecommender

__all__ = ["BaseModel", "describe_base_model", "export_recommender", "scoring_tensors", "title_tensors"]

BASE_OF_ADAPTER = "./base"  # a folder, never a hub id: loaded from elsewhere it is missed, not mistaken


@dataclass(frozen=True)
class BaseModel:
    """The language model behind a recommender, as far as it is known.

    Attributes:
        name: What people call it: registered name, hub id, or the last part of a folder's path.
        hub_id: ``owner/name``; None for a folder.
        licence: As the registry of assets says; None where it says nothing.
        quantised_file: File that the weights were de-quantised from; None where they are the model's own.
        fingerprint: Of configuration, tokenizer and weights; 16 hex digits.
        n_layers: Of the whole model.
        depth: Layers kept, counted from the input.
        lora_rank: Of the adapters.
        dtype: Of the frozen weights, ``float32`` or ``bfloat16``.
    """

    name: str
    hub_id: str | None
    licence: str | None
    quantised_file: str | None
    fingerprint: str
    n_layers: int
    depth: int
    lora_rank: int
    dtype: str


def describe_base_model(recommender: ItemTokenRecommender | TitleRecommender) -> BaseModel:
    """Tell what a recommender's backbone was made of.

    Args:
        recommender: Built on a language model, or from :func:`load_recommender`; not a SASRec.
    """
    from transformers import AutoConfig

    recipe = recommender.recipe["backbone"]
    name: str = recipe["model"]
    folder = resolve_language_model(name)
    hub_id, licence, quantised = None, None, None
    if name in {asset.name for asset in assets.list_assets() if asset.kind == "model"}:
        asset = assets.get_asset(name)
        hub_id = next((source.repo_id for source in asset.sources if isinstance(source, HubSource)), None)
        licence = asset.licence
        quantised = next((file.name for file in sorted(assets.fetch(name).glob("*.gguf"))), None)
    elif Path(name).is_dir():
        name = folder.resolve().name  # where it lies is nobody else's business
    else:
        hub_id = name
    return BaseModel(
        name=name,
        hub_id=hub_id,
        licence=licence,
        quantised_file=quantised,
        fingerprint=fingerprint(folder),
        n_layers=int(AutoConfig.from_pretrained(folder).num_hidden_layers),
        depth=int(recommender.backbone.config.num_hidden_layers),  # type: ignore[union-attr, arg-type]
        lora_rank=recipe["lora_rank"],
        dtype=str(next(recommender.backbone.parameters()).dtype).removeprefix("torch."),
    )


def export_recommender(
    recommender: ItemTokenRecommender | TitleRecommender, folder: Path, *, merged: bool = True
) -> None:
    """Write backbone, adapters, tokenizer and scoring tensors in the layouts of their libraries.

    Args:
        recommender: With a language model and adapters; it stays as it is.
        folder: Gets ``adapter/`` (peft), ``base/`` (transformers: the frozen backbone, cut as it is,
            which the adapters belong on), ``model/`` (transformers: both merged, float32), and
            ``items.safetensors`` (:func:`scoring_tensors`) or, of a model that says titles,
            ``titles.safetensors`` (:func:`title_tensors`).
        merged: Write ``model/``.

    Raises:
        ValueError: the recommender has no adapters, as SASRec.
    """
    kind = recommender.recipe.get("kind")
    if kind not in ("item-token", "title"):
        raise ValueError(f"recommender must have a language model and adapters; got one of kind {kind!r}.")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer_of = resolve_language_model(recommender.recipe["backbone"]["model"])
    backbone = copy.deepcopy(recommender.backbone).cpu()
    _save_adapter(backbone, folder / "adapter")
    _save_backbone(copy.deepcopy(backbone).unload(), tokenizer_of, folder / "base")  # type: ignore[operator]
    if merged:
        # In bfloat16 most digits of what the adapters add would be lost.
        whole = backbone.float().merge_and_unload()  # type: ignore[operator]
        _save_backbone(whole, tokenizer_of, folder / "model")
    if isinstance(recommender, TitleRecommender):
        save_file(title_tensors(recommender), folder / "titles.safetensors")
    else:
        save_file(scoring_tensors(recommender), folder / "items.safetensors")


@torch.no_grad()
def scoring_tensors(recommender: ItemTokenRecommender) -> dict[str, Tensor]:
    """Give what stands around the backbone: from items to its input, and from its output to scores.

    Returns:
        ``item_vectors`` ``[n_items, width]``, each title's vector plus the item's own;
        ``token_scale``, which times a vector is an input token; ``query.weight``
        ``[width, width]`` and ``query.bias`` ``[width]``, through which the layer-normed last state
        becomes what item vectors are multiplied with; ``max_length``, items of a history that
        are read. All float32 but the last, int64; on the CPU.
    """
    width = recommender.projection.weight.shape[1]
    tensors = {
        "item_vectors": recommender.item_vectors(),
        "token_scale": recommender.token_scale.reshape(()),
        "query.weight": recommender.projection.weight * width**-0.5,
        "query.bias": recommender.projection.bias,
        "max_length": torch.tensor(recommender.config.max_length),
    }
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def title_tensors(recommender: TitleRecommender) -> dict[str, Tensor]:
    """Give what stands around a language model that says titles: its prompts and the tree of all titles.

    Returns:
        ``tokens`` and ``parents`` ``[n_nodes]``, of the tree's nodes: the token that leads to each (the
        root, 0, has -1) and the node it is said after; ``leaf_of_item`` ``[n_items]``, the node at
        which an item's title ends, its ``end_token`` being the last on the way; ``prefix``, the first
        tokens of a prompt; ``history_tokens``, room for the titles of a history with their ends;
        ``longest``, tokens of the longest title with its end. All int64, on the CPU.
    """
    prompts, trie = recommender.prompts, recommender.trie
    tensors = {
        "tokens": trie.tokens,
        "parents": trie.parents,
        "leaf_of_item": trie.leaves(),
        "prefix": prompts.prefix,
        "end_token": prompts.end_token,
        "history_tokens": prompts.history_tokens,
        "longest": max(map(len, prompts.titles)) + 1,
    }
    return {name: torch.tensor(value, dtype=torch.int64) for name, value in tensors.items()}


def _save_adapter(backbone: torch.nn.Module, folder: Path) -> None:
    """Write the adapters of a backbone in peft's layout."""
    settings: Any = backbone.peft_config["default"]  # type: ignore[index]
    settings.base_model_name_or_path = BASE_OF_ADAPTER
    settings.target_modules = sorted(settings.target_modules)  # a set's order would change from day to day
    backbone.save_pretrained(folder, save_embedding_layers=False)  # type: ignore[operator]
    (folder / "README.md").unlink(missing_ok=True)  # an empty form; the card is another file's business


def _save_backbone(backbone: torch.nn.Module, tokenizer_of: Path, folder: Path) -> None:
    """Write a backbone and its tokenizer in the layout of transformers."""
    from transformers import AutoTokenizer

    with quiet_transformers():
        backbone.save_pretrained(folder)  # type: ignore[operator]
        AutoTokenizer.from_pretrained(tokenizer_of).save_pretrained(folder)
