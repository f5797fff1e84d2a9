"""Language models: from a name to a local folder, and from there to a backbone with adapters."""

import copy
import hashlib
import logging
import math
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tailwise import assets
from tailwise.errors import AssetError, ConfigError

__all__ = [
    "add_adapters",
    "choose_dtype",
    "config_of_depth",
    "fingerprint",
    "hidden_width",
    "load_causal_model",
    "load_language_model",
    "resolve_language_model",
    "token_scale",
    "use_float32_head",
]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]  # never pickled weights


def resolve_language_model(name: str) -> Path:
    """Return the local folder of a language model, fetching or converting it first where needed.

    Args:
        name: A registered asset (``smollm2-135m``), a folder in the Hugging Face layout, or
            a hub id ``owner/name``.

    Returns:
        A folder with ``config.json``, tokenizer files and safetensors weights. GGUF files
        of registered assets are de-quantised once and kept in the cache as bfloat16.

    Raises:
        ConfigError: ``name`` is none of the three.
        AssetError: the model could not be fetched.
    """
    registered = {asset.name for asset in assets.list_assets() if asset.kind == "model"}
    if name in registered:
        folder = assets.fetch(name)
        gguf_files = sorted(folder.glob("*.gguf"))
        return _dequantised(gguf_files[0], name) if gguf_files else folder
    if name and Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise ConfigError(
                f"model must be a folder with a config.json; got {name!r}, which has none. "
                "Save the model with save_pretrained(), tokenizer included."
            )
        return Path(name)
    if _HUB_ID.fullmatch(name):
        return _from_hub(name)
    raise ConfigError(
        f"model must be a registered model ({', '.join(sorted(registered))}), a folder, or a hub id "
        f"'owner/name'; got {name!r}."
    )


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except Exception as error:  # the hub client raises a dozen kinds; all mean "not fetched"
        raise AssetError(
            f"model {name!r} could not be fetched from the hub: {type(error).__name__}: {error}. "
            "Check the name and the connection, or give a local folder."
        ) from error


def _dequantised(gguf_file: Path, name: str) -> Path:
    """Convert a GGUF file to the Hugging Face layout once; return the folder."""
    source = hashlib.sha256(f"{gguf_file.name}:{gguf_file.stat().st_size}".encode()).hexdigest()[:12]
    folder = assets.cache_dir() / "models" / f"{name}-{source}"
    if (folder / "config.json").is_file():
        return folder
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with quiet_transformers():
            quantised = AutoModelForCausalLM.from_pretrained(
                gguf_file.parent, gguf_file=gguf_file.name, dtype=torch.bfloat16
            )
            tokenizer = AutoTokenizer.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
            config = copy.deepcopy(quantised.config)
            if hasattr(config, "quantization_config"):
                del config.quantization_config  # the weights are plain now; a stale note blocks saving
            plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
            plain.load_state_dict(quantised.state_dict())
            plain.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
        try:
            partial.rename(folder)
        except OSError:  # another process was quicker; its result is the same
            if not (folder / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def fingerprint(folder: Path) -> str:
    """SHA-256 over a model folder's configuration, tokenizer and weights, as 16 hex digits."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in {".json", ".safetensors", ".model", ".txt", ".jinja"}:
            digest.update(file.name.encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def choose_dtype(requested: str, device: torch.device) -> torch.dtype:
    """Return the dtype of the frozen backbone.

    Args:
        requested: ``float32``, ``bfloat16``, or ``auto``: bfloat16 where the processor has
            instructions for it (AVX512-BF16 or AMX; any CUDA device that supports it). On
            such CPUs it trains about 1.7 times faster; on others it is slower.
        device: Where the backbone will run.

    Raises:
        ConfigError: ``requested`` is none of these.
    """
    if requested in _DTYPES:
        return _DTYPES[requested]
    if requested != "auto":
        raise ConfigError(f"dtype must be auto, float32 or bfloat16; got {requested!r}.")
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    fast = bool(features.get("avx512_bf16") or features.get("amx_bf16"))
    return torch.bfloat16 if fast else torch.float32


def load_language_model(
    folder: Path, *, depth: int | None, dtype: torch.dtype, attention: str | None = None
) -> nn.Module:
    """Load a causal transformer without its output head, frozen.

    Args:
        folder: From :func:`resolve_language_model`.
        depth: Keep the first ``depth`` layers; None keeps all.
        dtype: Of the weights.
        attention: How it is computed, ``eager`` or ``sdpa``; None: as transformers chooses.

    Raises:
        ConfigError: ``depth`` is not between 1 and the model's number of layers.
    """
    from transformers import AutoModel

    config = config_of_depth(folder, depth)
    with quiet_transformers():
        model: nn.Module = AutoModel.from_pretrained(
            folder, config=config, dtype=dtype, attn_implementation=attention
        )
    return model.requires_grad_(False)


def load_causal_model(
    folder: Path, *, depth: int | None, dtype: torch.dtype, attention: str | None = None
) -> nn.Module:
    """Load a causal language model with its output head, frozen, the head in float32.

    Args and errors as for :func:`load_language_model`.

    Raises:
        ConfigError: the head does more than multiply the last states with one matrix (soft caps,
            scales), so that losses computed from states and matrix would not be the model's.
    """
    from transformers import AutoModelForCausalLM

    config = config_of_depth(folder, depth)
    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(
            folder, config=config, dtype=dtype, attn_implementation=attention
        )
    use_float32_head(model)
    model.requires_grad_(False)
    tokens = torch.tensor([[0, 1]])
    with torch.no_grad():
        states = model.get_decoder()(input_ids=tokens, use_cache=False).last_hidden_state
        expected = model.get_output_embeddings()(states)
        logits = model(input_ids=tokens, use_cache=False).logits
    if not torch.allclose(logits.float(), expected, rtol=1e-4, atol=1e-4):
        raise ConfigError(
            f"model must compute logits as its last states times its head's matrix; got {folder.name} "
            f"({config.model_type}), whose logits differ by up to "
            f"{float((logits - expected).abs().max()):.2g}. Take another language model."
        )
    return model  # type: ignore[no-any-return]


def config_of_depth(folder: Path, depth: int | None) -> Any:
    """Read a model's configuration, with its first ``depth`` layers alone; None keeps all.

    Raises:
        ConfigError: ``depth`` is not between 1 and the model's number of layers.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    n_layers = int(config.num_hidden_layers)
    if depth is not None:
        if not 1 <= depth <= n_layers:
            raise ConfigError(f"depth must be in 1..{n_layers}, the layers of {folder.name}; got {depth}.")
        config.num_hidden_layers = depth
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:depth]
    return config


def use_float32_head(model: Any) -> None:
    """Give the head weights of its own in float32; the embeddings, often shared with it, stay."""
    head = model.get_output_embeddings()
    for name, parameter in list(head.named_parameters(recurse=False)):
        setattr(head, name, nn.Parameter(parameter.detach().float()))
    head.register_forward_pre_hook(lambda _, states: (states[0].float(),))


def hidden_width(backbone: nn.Module) -> int:
    """Width of a loaded model's hidden states."""
    return int(backbone.config.hidden_size)  # type: ignore[union-attr, arg-type]


def token_scale(backbone: nn.Module) -> float:
    """Root mean square of an entry of the token embeddings: the input size a backbone is used to."""
    weight = backbone.get_input_embeddings().weight  # type: ignore[operator]
    return math.sqrt(float(weight.detach().float().pow(2).mean()))


def add_adapters(backbone: nn.Module, *, rank: int) -> nn.Module:
    """Put trainable low-rank adapters (LoRA) of float32 beside every linear layer of the backbone.

    Reference: Hu et al. (arXiv:2106.09685), through the library ``peft``. The factors stay
    float32 and multiply in float32, which EISAM's small perturbations need.

    Args:
        backbone: Frozen.
        rank: Of the factors, >= 1; the scale is ``2 * rank / rank``.

    Raises:
        ConfigError: ``rank`` is below 1.
    """
    if rank < 1:
        raise ConfigError(f"lora_rank must be >= 1; got {rank}.")
    # peft imports it where it is installed, and it warns of kernels that nothing here would use.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", lora_dropout=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # between peft and transformers; not ours to mend
        adapted: nn.Module = get_peft_model(backbone, settings, autocast_adapter_dtype=True)
    return adapted


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide loading bars and reports: layers cut off on purpose look like a mistake to them."""
    from transformers.utils import logging as its_logging

    level = its_logging.get_verbosity()
    its_logging.set_verbosity_error()
    its_logging.disable_progress_bar()
    try:
        yield
    finally:
        its_logging.set_verbosity(level)
        its_logging.enable_progress_bar()
