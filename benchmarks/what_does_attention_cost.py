"""What does a language model's pass cost with fused and with plain attention (``model.attention``) on a CPU?

    python benchmarks/what_does_attention_cost.py --output benchmarks/results
    python benchmarks/what_does_attention_cost.py --lengths 6 --width 18 --repeats 2

One layer of SmolLM2's shape (nine heads of 64 numbers over three of keys and values, random weights), forward
and backward to its input, as many rows as make ``--positions``, in one process on one core: ``sdpa``, which
calls PyTorch's fused kernel, and ``eager``, turn by turn in an order that alternates. A ratio is that of two
neighbouring turns; the median over repeats is reported with a 95 % interval from order statistics. Both must
find the same gradient up to the precision's rounding, or the benchmark stops.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel

from _record import aligned, by_turns, conclude, rounded, surroundings

QUESTION = "What does a language model's pass cost on a CPU, with fused and with plain attention?"
SLUG = "what-does-attention-cost"

_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
_TOLERANCE = {"bfloat16": 0.05, "float32": 1e-4}  # of the gradient, relative to its norm
_N_HEADS, _N_KEY_HEADS = 9, 3


def measure(dtype: str, length: int, *, width: int, positions: int, repeats: int) -> dict[str, Any]:
    """Seconds of a layer's pass both ways, and the ratio."""
    n_rows = max(1, positions // length)
    models = {way: _layer(way, width, length, _DTYPES[dtype]) for way in ("sdpa", "eager")}
    models["eager"].load_state_dict(models["sdpa"].state_dict())
    inputs = torch.randn(n_rows, length, width, generator=torch.Generator().manual_seed(0)).to(_DTYPES[dtype])
    seconds: dict[str, list[float]] = {"sdpa": [], "eager": []}
    for repeat in range(repeats + 1):
        found = {}
        for way in ("sdpa", "eager") if repeat % 2 else ("eager", "sdpa"):
            began = time.perf_counter()
            found[way] = _gradient(models[way], inputs)
            seconds[way].append(time.perf_counter() - began)
        apart = float((found["sdpa"] - found["eager"]).norm() / found["eager"].norm())
        if apart > _TOLERANCE[dtype]:
            raise ValueError(f"gradients must agree to {_TOLERANCE[dtype]}; got {apart:.3g} apart.")
    seconds = {way: values[1:] for way, values in seconds.items()}  # the first turn warms up
    return rounded(
        {
            "dtype": dtype,
            "length": length,
            "n_rows": n_rows,
            **{f"ms_{way}": median(values) * 1e3 for way, values in seconds.items()},
            **by_turns(seconds["sdpa"], seconds["eager"]),
        }
    )


def _layer(attention: str, width: int, length: int, dtype: torch.dtype) -> nn.Module:
    config = LlamaConfig(
        vocab_size=8,
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=1,
        num_attention_heads=_N_HEADS,
        num_key_value_heads=_N_KEY_HEADS,
        max_position_embeddings=length,
        attn_implementation=attention,
    )
    return LlamaModel(config).to(dtype).requires_grad_(False)


def _gradient(model: nn.Module, inputs: Tensor) -> Tensor:
    inputs = inputs.clone().requires_grad_()
    states = model(inputs_embeds=inputs, use_cache=False).last_hidden_state
    (gradient,) = torch.autograd.grad(states, inputs, inputs.detach().flip(0))
    return gradient.float()


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """Lay the rows out."""
    header = ["", "positions", "rows", "sdpa, ms", "eager, ms", "sdpa / eager", "95 % interval"]
    lines = [
        [
            row["dtype"],
            str(row["length"]),
            str(row["n_rows"]),
            f"{row['ms_sdpa']:.1f}",
            f"{row['ms_eager']:.1f}",
            f"{row['ratio']:.2f}",
            f"{row['ratio_low']:.2f}-{row['ratio_high']:.2f}",
        ]
        for row in rows
    ]
    return aligned(header, lines)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the command line, measure, print, keep; return the record."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--lengths", type=int, nargs="+", default=[10, 50, 200], help="of a row")
    parser.add_argument("--positions", type=int, default=800, help="of a batch, over its rows")
    parser.add_argument("--width", type=int, default=576, help="of a state; SmolLM2-135M has 576")
    parser.add_argument("--repeats", type=int, default=9, help="six are the least for a 95 %% interval")
    parser.add_argument("--output", type=Path, help="keep the record in a dated folder below this one")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = [
        measure(dtype, length, width=options.width, positions=options.positions, repeats=options.repeats)
        for dtype in _DTYPES
        for length in options.lengths
    ]
    record = {"question": QUESTION, **surroundings(), "rows": rows}
    return conclude(record, as_table(rows), options, SLUG)


if __name__ == "__main__":
    main()
