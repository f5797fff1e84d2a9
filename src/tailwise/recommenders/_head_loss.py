"""Losses of tokens under a frozen output head, without keeping a logit."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["frozen_head_losses"]

_TOKENS_AT_ONCE = 1024  # 200 MB of logits over 49,152 words
_TOKENS_IN_CACHE = 64  # few enough for softmaxes to stay in fast memory


def frozen_head_losses(hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> Tensor:
    """Return the negative log-likelihood of each token in nats, over the whole vocabulary.

    As ``cross_entropy(hidden @ weight.T + bias, labels, reduction="none")``. But a head that is not
    trained has one gradient to give, that of its input, and for each token it is known as soon as
    the token's softmax is: so it is computed along with the loss, and no logits are kept for the
    way back. Memory is that of 1,024 tokens' logits at a time, and of ``hidden``.

    Precision: all in float32. Where ``hidden`` is bfloat16, products may round what they
    multiply to bfloat16, which it already is.

    Args:
        hidden: ``[n, width]`` floating; gets a gradient, once: not a gradient's gradient.
        weight: ``[vocabulary, width]`` float32; gets none.
        bias: ``[vocabulary]`` float32, or None; gets none.
        labels: ``[n]`` int64.

    Returns:
        ``[n]`` float32.
    """
    losses: Tensor = _FrozenHeadLosses.apply(hidden, weight, bias, labels)  # type: ignore[no-untyped-call]
    return losses


class _FrozenHeadLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor
    ) -> Tensor:  # float32 [n]
        needs_gradient = ctx.needs_input_grad[0]
        losses = torch.empty(len(labels), device=hidden.device)
        gradients = torch.empty(hidden.shape, device=hidden.device) if needs_gradient else None
        with _product_precision(hidden.dtype):
            for begin in range(0, len(labels), _TOKENS_AT_ONCE):
                part = slice(begin, begin + _TOKENS_AT_ONCE)
                logits = hidden[part].float() @ weight.T  # [tokens, vocabulary]
                if bias is not None:
                    logits += bias
                losses[part] = _to_residuals(logits, labels[part])
                if gradients is not None:
                    torch.mm(logits, weight, out=gradients[part])
        if gradients is not None:
            ctx.save_for_backward(gradients)
            ctx.dtype = hidden.dtype
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, None, None, None]:
        (gradients,) = ctx.saved_tensors
        return (gradients * upstream[0][:, None]).to(ctx.dtype), None, None, None


def _to_residuals(logits: Tensor, labels: Tensor) -> Tensor:
    """Turn logits into softmax less the label's one-hot vector, in place; return the losses ``[tokens]``."""
    losses = torch.empty(len(labels), device=logits.device)
    for begin in range(0, len(labels), _TOKENS_IN_CACHE):
        part = slice(begin, begin + _TOKENS_IN_CACHE)
        few, own = logits[part], labels[part, None]
        few -= few.amax(1, keepdim=True)
        of_label = few.gather(1, own)  # [tokens, 1]
        total = few.exp_().sum(1, keepdim=True)
        losses[part] = (total.log() - of_label)[:, 0]
        few /= total
        few.scatter_add_(1, own, torch.full_like(of_label, -1.0))
    return losses


@contextmanager
def _product_precision(dtype: torch.dtype) -> Iterator[None]:
    """Let products of float32 matrices use the processor's bfloat16 where that is what comes in."""
    before = torch.get_float32_matmul_precision()
    if dtype == torch.bfloat16:
        torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
