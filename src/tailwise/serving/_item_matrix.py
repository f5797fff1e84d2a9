"""Vectors of all items, in as little memory as wanted: many users are scored by one product."""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from tailwise.errors import ConfigError
from tailwise.serving._engine_settings import ItemDtype

__all__ = ["GivesItemVectors", "ItemMatrix"]

_MADE_AT_ONCE = 65_536  # vectors held in float32 while those of a large catalogue are shortened


class GivesItemVectors(Protocol):
    """Makes vectors of items, such as ``ItemTokenRecommender.item_vectors``."""

    def __call__(self, items: Tensor) -> Tensor:
        """Return ``[n, width]`` float32 of ``items`` (int64 ``[n]``)."""
        ...


class ItemMatrix:
    """``[n_items, width]`` in ``float32``, ``bfloat16``, ``int8``, or in ``int8+float32``: in both.

    Products with the short kinds are rough: bfloat16 rounds a score to three digits, int8 has 255 steps
    per item and per user. They choose candidates; :meth:`exact` scores those in float32, from the
    vectors as they are held; from the full ones, where these are. int8 vectors are scaled by their own
    largest entry.

    Args:
        vectors: Makes float32 vectors.
        n_items: How many there are.
        dtype: How they are held.
        device: Where.

    Raises:
        ConfigError: int8 on anything but a CPU.
    """

    def __init__(
        self, vectors: GivesItemVectors, n_items: int, dtype: ItemDtype, device: torch.device
    ) -> None:
        is_int8 = dtype.startswith("int8")
        if is_int8 and device.type != "cpu":
            raise ConfigError(
                f"engine.item_dtype must be float32 or bfloat16 on {device.type}; got {dtype!r}. "
                "It is for CPUs."
            )
        self.n_items = n_items
        self.dtype = dtype
        self._device = device
        kind = torch.int8 if is_int8 else torch.bfloat16 if dtype == "bfloat16" else torch.float32
        held: Tensor | None = None
        full: Tensor | None = None
        scales: list[Tensor] = []
        lengths: list[Tensor] = []
        with torch.no_grad():
            for first in range(0, n_items, _MADE_AT_ONCE):
                last = min(first + _MADE_AT_ONCE, n_items)
                part = vectors(torch.arange(first, last, device=device)).float()
                if held is None:
                    held = torch.empty(n_items, part.shape[1], dtype=kind, device=device)
                    full = torch.empty_like(held, dtype=torch.float32) if dtype == "int8+float32" else None
                if full is not None:
                    full[first:last] = part
                if is_int8:
                    scale = _scale(part)
                    part = (part / scale[:, None]).round()
                    scales.append(scale)
                held[first:last] = part
                as_held = held[first:last].float() * (scales[-1][:, None] if scales else 1.0)
                as_held = as_held if full is None else full[first:last]
                lengths.append(torch.linalg.vector_norm(as_held, dim=1))
        assert held is not None  # a catalogue has items
        self._held = held
        self._full = full
        self._scales = torch.cat(scales) if scales else None  # [n_items] float32
        self._lengths = torch.cat(lengths)  # [n_items] float32

    @property
    def is_rough(self) -> bool:
        """Whether :meth:`by_span` gives rough scores."""
        return self.dtype != "float32"

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        parts = (self._held, self._lengths, self._scales, self._full)
        return sum(part.numel() * part.element_size() for part in parts if part is not None)

    def of(self, items: Tensor) -> Tensor:
        """Return vectors of ``items`` (int64, any shape) as they are held: ``[..., width]`` float32."""
        if self._full is not None:
            return self._full[items]
        vectors = self._held[items].float()
        return vectors if self._scales is None else vectors * self._scales[items][..., None]

    def unit(self, items: Tensor) -> Tensor:
        """Return vectors of ``items`` divided by their lengths."""
        return self.of(items) / self._lengths[items].clamp_min(1e-12)[..., None]

    def by_span(
        self, queries: Tensor, items_at_once: int, *, cosine: bool = False
    ) -> Iterator[tuple[int, Tensor]]:
        """Multiply with neighbouring items, span after span.

        Args:
            queries: ``[rows, width]`` float32.
            items_at_once: Items of a span.
            cosine: Divide by the items' lengths.

        Yields:
            Index of the first item and ``[rows, items of the span]`` float32, yours to write into.
        """
        queries = queries.to(self._device)
        if self._scales is not None:
            scale = _scale(queries)
            steps = (queries / scale[:, None]).round().to(torch.int8)
        for first in range(0, self.n_items, items_at_once):
            span = slice(first, first + items_at_once)
            held = self._held[span]
            if self._scales is not None:
                scores = torch._int_mm(steps, held.T).float()  # [rows, n]
                scores *= self._scales[span]
                scores *= scale[:, None]
            else:
                scores = (queries.to(held.dtype) @ held.T).float()
            if cosine:
                scores /= self._lengths[span].clamp_min(1e-12)
            yield first, scores

    def exact(self, queries: Tensor, items: Tensor, *, cosine: bool = False) -> Tensor:
        """Score chosen items: ``[rows, width]`` and int64 ``[rows, n]`` to ``[rows, n]`` float32."""
        vectors = self.unit(items) if cosine else self.of(items)
        return torch.einsum("rw,rnw->rn", queries.to(self._device), vectors)


def _scale(vectors: Tensor) -> Tensor:
    """Size of one of 127 steps of each row; 1 for a row of zeros."""
    peak = vectors.abs().amax(1)
    return torch.where(peak > 0, peak / 127, torch.ones_like(peak))
