"""Put trainable recommenders together, save them, and load them back."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tailwise._settings import WRITTEN_WHEN_SET, plain_of
from tailwise.errors import CheckpointError, ConfigError
from tailwise.optim import held_like
from tailwise.recommenders._item_token import ItemTokenConfig, ItemTokenRecommender, standardise
from tailwise.recommenders._language_model import (
    add_adapters,
    choose_dtype,
    fingerprint,
    hidden_width,
    load_causal_model,
    load_language_model,
    resolve_language_model,
    token_scale,
)
from tailwise.recommenders._protocol import TrainableRecommender
from tailwise.recommenders._text_model import TextModel
from tailwise.recommenders._title import TitleConfig, TitleRecommender
from tailwise.recommenders._title_prompts import write_prompts

__all__ = [
    "BackboneConfig",
    "SASRecConfig",
    "build_item_token",
    "build_sasrec",
    "build_title",
    "load_recommender",
    "load_trainable_state",
    "save_recommender",
]

_FORMAT = 1


@dataclass(frozen=True)
class BackboneConfig:
    """The language model behind an item-token recommender.

    Attributes:
        model: Registered asset, folder, or hub id.
        depth: Layers kept, counted from the input; None keeps all. Four layers of
            SmolLM2-135M train nearly twice as fast as eight.
        lora_rank: Rank of the adapters beside every linear layer, >= 1.
        dtype: Of the frozen weights: ``auto``, ``float32`` or ``bfloat16``.
        attention: ``sdpa`` (fused) or ``eager`` (plain products, faster where a CPU trains on short
            histories in bfloat16); None: what the language model's library takes, mostly sdpa. Results
            differ by rounding.
    """

    model: str = "smollm2-135m"
    depth: int | None = 4
    lora_rank: int = 8
    dtype: str = "auto"
    attention: str | None = field(default=None, metadata=WRITTEN_WHEN_SET)

    def __post_init__(self) -> None:
        if self.depth is not None and self.depth < 1:
            raise ConfigError(f"model.depth must be >= 1; got {self.depth}.")
        if self.lora_rank < 1:
            raise ConfigError(f"model.lora_rank must be >= 1; got {self.lora_rank}.")
        if self.dtype not in ("auto", "float32", "bfloat16"):
            raise ConfigError(f"model.dtype must be auto, float32 or bfloat16; got {self.dtype!r}.")
        if self.attention not in (None, "eager", "sdpa"):
            raise ConfigError(f"model.attention must be eager or sdpa; got {self.attention!r}.")


@dataclass(frozen=True)
class SASRecConfig:
    """A small random backbone; with it the item-token recommender is SASRec.

    Attributes:
        width: Of item vectors and hidden states; divisible by ``2 * n_heads``.
        depth: Number of layers, >= 1.
        n_heads: Attention heads, >= 1.
        attention_dropout: In [0, 1).
    """

    width: int = 64
    depth: int = 2
    n_heads: int = 2
    attention_dropout: float = 0.2

    def __post_init__(self) -> None:
        if self.depth < 1 or self.n_heads < 1:
            raise ConfigError(
                f"sasrec.depth and sasrec.n_heads must be >= 1; got {self.depth} and {self.n_heads}."
            )
        if not 0 <= self.attention_dropout < 1:
            raise ConfigError(f"sasrec.attention_dropout must be in [0, 1); got {self.attention_dropout}.")
        if self.width < 1 or self.width % (2 * self.n_heads):
            raise ConfigError(
                f"sasrec.width must be divisible by twice the number of heads ({2 * self.n_heads}); "
                f"got {self.width}."
            )


def build_item_token(
    title_encodings: Tensor,
    backbone: BackboneConfig,
    config: ItemTokenConfig,
    *,
    seed: int,
    device: torch.device | None = None,
) -> ItemTokenRecommender:
    """Build the item-token LRS: a frozen language model, adapters, title-based item vectors.

    Args:
        title_encodings: ``[n_items, d]`` from :func:`encode_titles`; every dimension is
            centred and scaled over the items first. float16 is held as such: half the memory.
        backbone: Which language model, how deep, in which precision.
        config: Tokens and scores.
        seed: Of everything drawn at the start.
        device: Where it will live; the CPU by default.
    """
    return _assemble(standardise(title_encodings), backbone, config, seed=seed, device=device)


def _assemble(
    encodings: Tensor,
    backbone: BackboneConfig,
    config: ItemTokenConfig,
    *,
    seed: int,
    device: torch.device | None,
) -> ItemTokenRecommender:
    device = device or torch.device("cpu")
    folder = resolve_language_model(backbone.model)
    language_model = load_language_model(
        folder,
        depth=backbone.depth,
        dtype=choose_dtype(backbone.dtype, device),
        attention=backbone.attention,
    )
    width = hidden_width(language_model)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        recommender = ItemTokenRecommender(
            add_adapters(language_model, rank=backbone.lora_rank),
            len(encodings),
            width,
            title_encodings=encodings,
            token_scale=token_scale(language_model),
            config=config,
        )
    recommender.recipe = {
        "kind": "item-token",
        "backbone": plain_of(backbone, with_none=True),
        "config": plain_of(config, with_none=True),
        "n_items": len(encodings),
    }
    return recommender.to(device)


def build_sasrec(
    n_items: int,
    sasrec: SASRecConfig,
    config: ItemTokenConfig,
    *,
    seed: int,
    device: torch.device | None = None,
    title_encodings: Tensor | None = None,
) -> ItemTokenRecommender:
    """Build SASRec: the same recommender over a small random backbone and free item vectors.

    With ``title_encodings`` ``[n_items, d]``, of whatever encoder, items have an adapter over them as in
    :func:`build_item_token`; with ``config.id_residual`` off, nothing that is trained grows with the
    catalogue.

    Reference: Kang and McAuley (arXiv:1808.09781), with the softmax over the whole
    catalogue as loss, and the blocks (rotary positions, RMS norms) of today's language models.
    """
    encodings = None if title_encodings is None else standardise(title_encodings)
    return _assemble_sasrec(n_items, encodings, sasrec, config, seed=seed, device=device)


def _assemble_sasrec(
    n_items: int,
    encodings: Tensor | None,
    sasrec: SASRecConfig,
    config: ItemTokenConfig,
    *,
    seed: int,
    device: torch.device | None,
) -> ItemTokenRecommender:
    from transformers import LlamaConfig, LlamaModel

    architecture = LlamaConfig(
        hidden_size=sasrec.width,
        intermediate_size=4 * sasrec.width,
        num_hidden_layers=sasrec.depth,
        num_attention_heads=sasrec.n_heads,
        attention_dropout=sasrec.attention_dropout,
        vocab_size=1,  # tokens come in as vectors
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = LlamaModel(architecture)
        backbone.embed_tokens.requires_grad_(False)
        recommender = ItemTokenRecommender(
            backbone, n_items, sasrec.width, title_encodings=encodings, token_scale=1.0, config=config
        )
    recommender.recipe = {
        "kind": "sasrec",
        "sasrec": asdict(sasrec),
        "config": plain_of(config, with_none=True),
        "n_items": n_items,
    }
    if encodings is not None:
        recommender.recipe["has_encodings"] = True
    return recommender.to(device or torch.device("cpu"))


def build_title(
    titles: Sequence[str],
    backbone: BackboneConfig,
    config: TitleConfig,
    *,
    seed: int,
    device: torch.device | None = None,
) -> TitleRecommender:
    """Build the title LRS: a frozen language model with adapters that says the next title.

    Args:
        titles: One per item.
        backbone: Which language model, how deep, in which precision. A model that is cut has to learn
            to speak again: its head was made for the states of the last layer.
        config: Prompts, losses, scores.
        seed: Of the adapters.
        device: Where it will live; the CPU by default.

    Raises:
        ConfigError: the model's head does more than multiply, or a setting does not suit the model.
        DataError: a title has no token.
    """
    device = device or torch.device("cpu")
    folder = resolve_language_model(backbone.model)
    prompts = write_prompts(
        TextModel(folder),
        titles,
        instruction=config.instruction,
        template=config.template,
        max_title_tokens=config.max_title_tokens,
        max_tokens=config.max_tokens,
    )
    language_model = load_causal_model(
        folder,
        depth=backbone.depth,
        dtype=choose_dtype(backbone.dtype, device),
        attention=backbone.attention,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        recommender = TitleRecommender(
            add_adapters(language_model, rank=backbone.lora_rank), prompts, folder, config
        )
    recommender.titles = tuple(titles)
    recommender.recipe = {
        "kind": "title",
        "backbone": plain_of(backbone, with_none=True),
        "config": asdict(config),
        "n_items": len(titles),
        "language_model": fingerprint(folder),
    }
    return recommender.to(device)


def save_recommender(
    recommender: ItemTokenRecommender | TitleRecommender,
    folder: Path,
    state: dict[str, Tensor] | None = None,
) -> None:
    """Save what training changed, and how to rebuild the rest, into ``folder``.

    Writes ``recommender.json``, ``weights.safetensors`` (trainable parameters) and, where
    titles are used, ``title_encodings.safetensors``, or ``titles.json`` where the titles themselves
    are. The language model itself is not copied; its name is kept.

    Args:
        recommender: What is saved.
        folder: Created if need be.
        state: Its ``trainable_state()``, where several processes hold shards of it and have asked
            for it together; None asks here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = recommender.trainable_state() if state is None else state
    save_file(
        {name: p.cpu().contiguous() for name, p in state.items()},
        folder / "weights.safetensors",
    )
    if isinstance(recommender, TitleRecommender):
        (folder / "titles.json").write_text(json.dumps(recommender.titles, ensure_ascii=False, indent=0))
    elif recommender.item_vectors.adapter is not None:
        encodings = recommender.item_vectors.get_buffer("encodings")
        save_file({"encodings": encodings.cpu().contiguous()}, folder / "title_encodings.safetensors")
    description = {"format": _FORMAT, **recommender.recipe}
    (folder / "recommender.json").write_text(json.dumps(description, indent=1))


def load_recommender(
    folder: Path | str, *, device: torch.device | None = None
) -> ItemTokenRecommender | TitleRecommender:
    """Load what :func:`save_recommender` wrote.

    Raises:
        CheckpointError: the folder holds no recommender, one of another format version, or
            weights that do not fit, or its titles were trained with another language model.
    """
    folder = Path(folder)
    if not (folder / "recommender.json").is_file():
        raise CheckpointError(f"folder must hold a saved recommender; got {str(folder)!r}, which has none.")
    description: dict[str, Any] = json.loads((folder / "recommender.json").read_text())
    if description["format"] != _FORMAT:
        raise CheckpointError(
            f"recommender format must be {_FORMAT}; got {description['format']} in {str(folder)!r}. "
            "Load it with the version of tailwise that wrote it."
        )
    recommender = _rebuilt(description, folder, device)
    load_trainable_state(recommender, _read_tensors(folder / "weights.safetensors"))
    return recommender.eval()


def _rebuilt(
    description: dict[str, Any], folder: Path, device: torch.device | None
) -> ItemTokenRecommender | TitleRecommender:
    """The recommender of a description, with parameters as at the start of training."""
    if description["kind"] == "title":
        return _rebuilt_title(description, folder, device)
    config = ItemTokenConfig(**description["config"])
    is_sasrec = description["kind"] == "sasrec"
    encodings = None
    if not is_sasrec or description.get("has_encodings"):
        encodings = _read_tensors(folder / "title_encodings.safetensors")["encodings"]
    if is_sasrec:
        n_items, sasrec = description["n_items"], SASRecConfig(**description["sasrec"])
        return _assemble_sasrec(n_items, encodings, sasrec, config, seed=0, device=device)
    assert encodings is not None  # just read
    return _assemble(encodings, BackboneConfig(**description["backbone"]), config, seed=0, device=device)


def _rebuilt_title(
    description: dict[str, Any], folder: Path, device: torch.device | None
) -> TitleRecommender:
    try:
        titles = json.loads((folder / "titles.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"saved recommender must hold a readable titles.json; got {type(error).__name__}: {error} "
            f"in {str(folder)!r}. Save it again, or copy the whole folder."
        ) from error
    backbone, config = BackboneConfig(**description["backbone"]), TitleConfig(**description["config"])
    recommender = build_title(titles, backbone, config, seed=0, device=device)
    if recommender.recipe != {name: value for name, value in description.items() if name != "format"}:
        raise CheckpointError(
            f"saved recommender must meet the language model and titles it was trained with; got "
            f"{len(titles):,} titles and model {recommender.recipe['language_model']} for "
            f"{description['n_items']:,} and {description['language_model']} in {str(folder)!r}. "
            f"Bring back the model that {backbone.model!r} was, and the whole folder."
        )
    return recommender


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except Exception as error:  # missing, cut short, or no such format: the remedy is the same
        raise CheckpointError(
            f"saved recommender must hold a readable {file.name}; got {type(error).__name__}: {error} "
            f"in {str(file.parent)!r}. Save it again, or copy the whole folder."
        ) from error


def load_trainable_state(recommender: TrainableRecommender, state: dict[str, Tensor]) -> None:
    """Copy saved parameters into a recommender; refuse anything that does not fit.

    Raises:
        CheckpointError: names or shapes differ.
    """
    own = {name: p for name, p in recommender.named_parameters() if p.requires_grad}
    state = {
        name: value.reshape(own[name].shape) if name in own and value.numel() == 1 else value
        for name, value in state.items()
    }
    if own.keys() != state.keys():
        odd = sorted(own.keys() ^ state.keys())
        raise CheckpointError(
            f"saved weights must name the recommender's parameters; got {len(odd)} names that differ "
            f"(first: {odd[0]!r}). They belong to another kind or depth of model."
        )
    for name, value in state.items():
        if own[name].shape != value.shape:
            raise CheckpointError(
                f"saved weight {name!r} must have shape {tuple(own[name].shape)}; got {tuple(value.shape)}. "
                "It belongs to another model or catalogue."
            )
    with torch.no_grad():
        for name, value in state.items():
            own[name].copy_(held_like(value, own[name]))
