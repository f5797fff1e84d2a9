import json

import numpy as np
import pytest

from tailwise.diagnosis._prior_estimate import PriorCost, PriorEstimate

NAN = float("nan")


def test_sequences_become_float64_arrays():
    found = PriorEstimate("x", [1, 2], [[1, 2, 3], [4, 5, 6]], ["a", "b", "c"])
    assert (found.scores.dtype, found.columns.shape, found.column_names) == (
        np.float64,
        (2, 3),
        ("a", "b", "c"),
    )


def test_items_that_were_not_asked_about_are_nan_and_counted_out():
    found = PriorEstimate("x", [1, NAN, 3], [[1], [NAN], [3]], ("a",))
    assert found.n_asked == 2
    assert found.as_dict()["n_asked"] == 2
    json.dumps(found.as_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("scores", "columns", "names"),
    [([1, 2], [[1], [2], [3]], ("a",)), ([1, 2], [[1], [2]], ("a", "b")), ([[1, 2]], [[1], [2]], ("a",))],
)
def test_shapes_that_do_not_fit_are_refused(scores, columns, names):
    with pytest.raises(ValueError, match=r"columns must be \[n_items, n_columns\] = .* got shape"):
        PriorEstimate("x", scores, columns, names)


def test_infinite_values_are_refused_by_name_and_number():
    with pytest.raises(ValueError, match="scores must be finite or NaN; got 1 infinite values in 'x'"):
        PriorEstimate("x", [1, float("inf")], [[1], [2]], ("a",))
    with pytest.raises(ValueError, match="columns must be finite or NaN; got 2 infinite"):
        PriorEstimate("x", [1, 2], [[float("inf")], [-float("inf")]], ("a",))


def test_costs_add_up_part_by_part():
    total = PriorCost(1.0, 2, 3, 4, 5.0) + PriorCost(10.0, 20, 30, 40, 50.0)
    assert total == PriorCost(11.0, 22, 33, 44, 55.0)
    assert list(total.as_dict().values()) == [11.0, 22, 33, 44, 55.0]
