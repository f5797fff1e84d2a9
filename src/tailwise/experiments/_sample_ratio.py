"""Did as many users see treatment as should have? A test that may be looked at after every user."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = ["SampleRatio", "check_sample_ratio", "follow_sample_ratio"]

Floats = NDArray[np.float64]

_USERS_OF_PRIOR = 200.0  # of the Beta: deviations of about 3.5 percentage points are expected, if any


@dataclass(frozen=True)
class SampleRatio:
    """Whether first exposures split as planned.

    Attributes:
        n_control: First exposures under control.
        n_treatment: First exposures under treatment.
        treatment_share: Of all; NaN without any.
        expected_share: As planned, stages weighed by their users.
        e_value: Largest evidence so far against the planned shares.
        p_value: Always-valid: the least so far.
        is_mismatch: ``p_value`` <= ``alpha``: nothing that is compared can be trusted.
        alpha: Probability of a false alarm, however often it is looked at.
    """

    n_control: int
    n_treatment: int
    treatment_share: float
    expected_share: float
    e_value: float
    p_value: float
    is_mismatch: bool
    alpha: float


def check_sample_ratio(
    treated: object,
    stage: object = 0,
    *,
    expected_share: float | dict[int, float] = 0.5,
    alpha: float = 0.001,
) -> SampleRatio:
    """Test the split of first exposures, in their order, against the planned one.

    Half of the evidence bets on a deviation of each stage's own (Beta mixtures of the binomial,
    multiplied over stages), half on one that all stages of the same planned share have in common. Each is
    a martingale under the planned shares, so the largest value ever seen reaches 1/alpha with
    probability <= alpha, exactly, at any number of users.

    Args:
        treated: ``[n]`` of 0 and 1, in order of first exposure.
        stage: ``[n]`` whole numbers, or one for all.
        expected_share: Of treatment, in (0, 1), one for all or per stage.
        alpha: In (0, 1). Small by default: an alarm stops everything.

    Raises:
        ValueError: an argument is outside its range, or a stage has no expected share.

    Reference:
        Lindon and Malek, Anytime-valid inference for multinomial count data (NeurIPS 2022).
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1); got {alpha}.")
    flags, code, shares = _checked(treated, stage, expected_share)
    p_value = float(follow_sample_ratio(treated, stage, expected_share=expected_share)[-1:].min(initial=1.0))
    n_treatment = int(np.count_nonzero(flags))
    return SampleRatio(
        n_control=flags.size - n_treatment,
        n_treatment=n_treatment,
        treatment_share=n_treatment / flags.size if flags.size else float("nan"),
        expected_share=float(shares[code].mean()) if flags.size else float("nan"),
        e_value=1 / max(p_value, 1e-300),
        p_value=p_value,
        is_mismatch=p_value <= alpha,
        alpha=alpha,
    )


def follow_sample_ratio(
    treated: object, stage: object = 0, *, expected_share: float | dict[int, float] = 0.5
) -> Floats:
    """Return the p-value of :func:`check_sample_ratio` after every user: ``[n]``, never rising.

    Args:
        treated: ``[n]`` of 0 and 1, in order of first exposure.
        stage: ``[n]`` whole numbers, or one for all.
        expected_share: Of treatment, in (0, 1), one for all or per stage.

    Raises:
        ValueError: an argument is outside its range, or a stage has no expected share.
    """
    flags, code, shares = _checked(treated, stage, expected_share)
    largest = np.maximum(np.maximum.accumulate(_log_evidence(flags.astype(np.float64), code, shares)), 0.0)
    return np.asarray(np.exp(-largest), dtype=np.float64)


def _checked(
    treated: object, stage: object, expected: float | dict[int, float]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Variant and stage of every user, stages from 0 on, and the expected share of each stage."""
    flags = np.asarray(treated)
    if flags.ndim != 1 or not np.isin(flags, (0, 1)).all():
        raise ValueError("treated must be a flat array of 0 and 1; got other values or another shape.")
    stages, code = np.unique(np.broadcast_to(np.asarray(stage), flags.shape), return_inverse=True)
    shares = np.array([_share_of(int(s), expected) for s in stages], dtype=np.float64)
    return flags.astype(np.int64), code.astype(np.int64), shares


def _share_of(stage: int, expected: float | dict[int, float]) -> float:
    if isinstance(expected, dict):
        if stage not in expected:
            raise ValueError(f"expected_share must name every stage; got none for stage {stage}.")
        share = expected[stage]
    else:
        share = expected
    if not 0 < share < 1:
        raise ValueError(f"expected_share must be in (0, 1); got {share}.")
    return share


def _log_evidence(treated: Floats, code: NDArray[np.int64], shares: Floats) -> Floats:
    """Logarithm of the evidence after every user. ``[n]``."""
    alike = np.unique(shares, return_inverse=True)[1]
    own = _log_mixture(treated, code, shares[code])
    common = _log_mixture(treated, alike[code], shares[code])
    return np.asarray(np.logaddexp(own, common) - np.log(2), dtype=np.float64)


def _log_mixture(treated: Floats, group: NDArray[np.int64], planned: Floats) -> Floats:
    """Product over groups of Beta mixtures of the binomial, each around its planned share. ``[n]``."""
    total = np.zeros(treated.size)
    for label in np.unique(group):
        (mine,) = np.nonzero(group == label)
        share = float(planned[mine[0]])
        ones = np.cumsum(treated[mine])
        zeros = np.arange(1, mine.size + 1) - ones
        a, b = _USERS_OF_PRIOR * share, _USERS_OF_PRIOR * (1 - share)
        mixed = special.betaln(a + ones, b + zeros) - special.betaln(a, b)
        value = mixed - ones * np.log(share) - zeros * np.log1p(-share)
        total[mine] += np.diff(value, prepend=0.0)
    return np.cumsum(total)
