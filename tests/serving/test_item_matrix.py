"""Item vectors held in full or short."""

import pytest
import torch
from torch.testing import assert_close

from tailwise.errors import ConfigError
from tailwise.serving._item_matrix import ItemMatrix

N, WIDTH = 70, 24
VECTORS = (
    torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 2, N)[:, None]
)
QUERIES = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(1))
CPU = torch.device("cpu")


def matrix(dtype, vectors=VECTORS) -> ItemMatrix:
    return ItemMatrix(lambda items: vectors[items], len(vectors), dtype, CPU)


def by_span(held: ItemMatrix, size: int, *, cosine: bool = False) -> torch.Tensor:
    spans = list(held.by_span(QUERIES, size, cosine=cosine))
    assert [first for first, _ in spans] == list(range(0, N, size))
    return torch.cat([scores for _, scores in spans], 1)


def error_of(scores: torch.Tensor, exact: torch.Tensor) -> float:
    """Largest error, in lengths of query and item: what rounding of either is in proportion to."""
    return float(((scores - exact).abs() / (QUERIES.norm(dim=1)[:, None] * VECTORS.norm(dim=1))).max())


@pytest.mark.parametrize("size", [1, 16, N + 3])
@pytest.mark.parametrize(
    # float32 sums; an eighth bit of mantissa lost in query, item and score; steps of 1/127 of the
    # largest entry, some 2.5 times the root mean square, in query and item, averaging out over 24.
    ("dtype", "tolerance"),
    [("float32", 1e-6), ("bfloat16", 2**-7), ("int8", 0.01), ("int8+float32", 0.01)],
)
def test_products_are_those_of_the_vectors_to_the_precision_they_are_held_in(dtype, tolerance, size):
    held = matrix(dtype)
    assert error_of(by_span(held, size), QUERIES @ VECTORS.T) < tolerance
    lengths = VECTORS.norm(dim=1)
    assert error_of(by_span(held, size, cosine=True) * lengths, QUERIES @ VECTORS.T) < tolerance


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "int8+float32"])
def test_exact_scores_are_float32_products_of_the_vectors_as_held(dtype):
    held = matrix(dtype)
    items = torch.tensor([[3, 69], [0, 0], [5, 4], [9, 8], [1, 2]])
    by_hand = (QUERIES[:, None].double() * held.of(items).double()).sum(-1).float()
    assert_close(held.exact(QUERIES, items), by_hand, rtol=1e-5, atol=1e-5)  # float32 sums of 24
    assert_close(held.unit(items).norm(dim=-1), torch.ones(5, 2))


def test_beside_int8_the_full_vectors_are_as_they_were():
    held = matrix("int8+float32")
    assert torch.equal(held.of(torch.arange(N)), VECTORS)
    assert held.is_rough


def test_short_vectors_take_half_and_a_quarter_of_the_memory():
    n_bytes = {
        dtype: matrix(dtype).nbytes - 4 * N for dtype in ("float32", "bfloat16", "int8", "int8+float32")
    }
    full = 4 * N * WIDTH
    assert n_bytes == {
        "float32": full,
        "bfloat16": full // 2,
        "int8": full // 4 + 4 * N,
        "int8+float32": full // 4 + 4 * N + full,
    }


def test_an_item_of_zeros_scores_zero():
    vectors = VECTORS.clone()
    vectors[7] = 0
    for dtype in ("float32", "bfloat16", "int8"):
        for cosine in (False, True):
            assert by_span(matrix(dtype, vectors), N, cosine=cosine)[:, 7].abs().max() == 0


def test_int8_is_refused_off_the_cpu():
    with pytest.raises(ConfigError, match="must be float32 or bfloat16 on meta; got 'int8'"):
        ItemMatrix(lambda items: VECTORS, N, "int8", torch.device("meta"))
