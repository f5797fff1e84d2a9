"""Precision of matrix products."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["matmul_precision"]


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Multiply float32 matrices with ``precision`` in this block; see ``TrainingConfig``."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
