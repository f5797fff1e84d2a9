"""The largest eigenvalue of a Hessian that is known by its products with vectors alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from tailwise.diagnosis._moved_losses import MovedLosses

__all__ = ["N_VECTORS", "Top", "top_eigenvalue"]

Ints = NDArray[np.int64]

N_VECTORS = 20  # that ARPACK keeps; the first round takes as many products


@dataclass(frozen=True)
class Top:
    """The largest eigenvalue of a mean loss; no value where it was not found in time.

    Attributes:
        value: The algebraically largest one.
        vector: Of length 1, shaped like the parameters.
        residual: ‖Hv − λv‖ / |λ|.
        n_products: Hessian-vector products.
    """

    value: float | None
    vector: list[Tensor] | None
    residual: float | None
    n_products: int


def top_eigenvalue(
    at: MovedLosses,
    targets: Ints,
    *,
    tolerance: float,
    max_products: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> Top:
    """Find the top eigenvalue of the Hessian of the mean loss of ``targets`` by Lanczos (ARPACK).

    Args:
        at: Evaluates losses, and twice differentiates them.
        targets: Positions of targets.
        tolerance: Relative residual to reach.
        max_products: Rounded down to whole restarts.
        seed: Of the starting vector.
        progress: Told of every product.
    """
    n_products = 0

    def product(entries: NDArray[Any]) -> NDArray[Any]:
        nonlocal n_products
        n_products += 1
        found = at.hessian_product(targets, _as_parameters(entries.ravel(), at.parameters))
        if progress:
            progress(n_products)
        return np.concatenate([f.detach().cpu().numpy().ravel() for f in found]).astype(entries.dtype)

    size = sum(p.numel() for p in at.parameters)
    is_double = all(p.dtype == torch.float64 for p in at.parameters)
    start = np.random.default_rng([seed, 3]).standard_normal(size)
    entries = (start / np.linalg.norm(start)).astype(np.float64 if is_double else np.float32)
    slope = product(entries)
    if size > 1 and np.any(slope):  # else there is nothing to search: one entry, or no curvature at all
        n_vectors = min(N_VECTORS, size)
        try:
            _, vectors = eigsh(
                LinearOperator((size, size), matvec=product, dtype=entries.dtype),
                k=1,
                which="LA",
                v0=entries,
                ncv=n_vectors,
                tol=tolerance / 2,  # ARPACK's estimate of the residual can be a little below the residual
                maxiter=max(1, max_products // n_vectors),
            )
        except ArpackNoConvergence:
            return Top(None, None, None, n_products)
        entries = vectors[:, 0] / np.linalg.norm(vectors[:, 0])
        slope = product(entries)
    value = float(entries.astype(np.float64) @ slope.astype(np.float64))
    residual = float(np.linalg.norm(np.asarray(slope) - value * np.asarray(entries)))
    vector = _as_parameters(entries, at.parameters)
    return Top(value, vector, residual / abs(value) if value else residual, n_products)


def _as_parameters(entries: NDArray[Any], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Cut a flat vector into tensors shaped like the parameters."""
    parts = np.split(entries, np.cumsum([p.numel() for p in parameters])[:-1])
    return [
        torch.from_numpy(np.ascontiguousarray(part)).to(p).view(p.shape)
        for part, p in zip(parts, parameters, strict=True)
    ]
