import numpy as np
import pytest

from tailwise.diagnosis import Outcomes
from tailwise.errors import DataError

GOOD = {
    "users": [1, 2],
    "items": [0, 1],
    "accuracy": [1.0, 0.0],
    "counts": [3, 0],
    "priors": [[0.1, 0.2], [0.3, 0.4]],
}


def test_sequences_become_typed_arrays_and_one_estimate_a_column():
    outcomes = Outcomes(**(GOOD | {"priors": [1, 2]}))
    assert outcomes.priors.shape == (2, 1)
    assert outcomes.accuracy.dtype == np.float64
    assert (outcomes.n_targets, outcomes.n_items, outcomes.n_estimates) == (2, 2, 1)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"users": [1]}, ValueError, r"one value per target; got shapes \(\(1,\), \(2,\), \(2,\)\)"),
        ({"items": [0, 2]}, ValueError, r"items must lie in 0\.\.1; got 0\.\.2"),
        ({"items": [0.5, 1]}, ValueError, "items must be a list of whole numbers"),
        ({"counts": [3, -1]}, ValueError, "counts must be >= 0; got -1 for item 1"),
        ({"priors": [[1, 2]]}, ValueError, r"priors must be .* got shape \(1, 2\)"),
        ({"priors": [[1, np.nan], [2, 3]]}, DataError, "priors must be finite; got 1 values of 4"),
        ({"accuracy": [1, np.inf]}, DataError, "accuracy must be finite; got 1"),
        ({"users": [], "items": [], "accuracy": []}, DataError, "at least one target; got 0"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_value(changed, error, message):
    with pytest.raises(error, match=message):
        Outcomes(**(GOOD | changed))
