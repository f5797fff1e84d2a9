"""The terms of a PAC-Bayes bound for the item-wise penalty, and two penalties held against each other."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["BoundTerms", "PenaltyComparison", "compare_penalties", "generalisation_bound"]

Floats = NDArray[np.float64]

_ALPHA = 0.99  # of the moment in the proof: the bound is 0.5 % wider than its limit and pays ln 10 nats
_SUM_TOLERANCE = 1e-6  # shares written with six digits still count as summing to one


@dataclass(frozen=True)
class BoundTerms:
    """What a bound on a weighted average of the items' risks is made of.

    With probability at least ``1 - delta`` the risk is at most ``total``. Losses, risks and all
    terms made of them are in the unit of the loss (nats where it is a log likelihood).

    Attributes:
        counts: ``[n_items]``; training targets n_i of each item.
        target: ``[n_items]``; share π_i of each item in the risk that is bounded; sums to 1.
        penalty: ``[n_items]``; what the objective charges for a unit of the item's sharpness,
            p_i = c_i n_i / N; sums to the mean of c over the training targets.
        matched_weights: ``[n_items]`` in (0, 1]; the weights that charge in proportion to π_i, that is
            π_i / n_i over its largest value. They charge for what the bound pays, and nothing else.
        sharpness: ``[n_items]``; rise of each item's training loss at the perturbation, s_i.
        slack: ``[n_items]``; complexity term of each item's own bound: a constant over √n_i.
            All items' bounds hold at once.
        empirical_loss: Σ π_i L_i at the trained parameters.
        flatness: Σ π_i s_i: what the bound pays for sharpness.
        penalised: Σ p_i s_i: what the objective pays for it.
        escape: Loss range times the probability that the posterior leaves the ball of radius ρ.
        complexity: Of the bound on the average; falls with Σ π_i² / n_i.
        item_complexity: Σ π_i ``slack``: the same from the items' own bounds; never smaller.
        divergence: KL divergence of posterior from prior, nats.
        sigma: Standard deviation of the posterior in each parameter.
        total: ``empirical_loss + flatness + escape + complexity``.
        is_vacuous: Whether ``total`` is no smaller than the loss's range, which holds without a proof.
    """

    counts: Floats
    target: Floats
    penalty: Floats
    matched_weights: Floats
    sharpness: Floats
    slack: Floats
    empirical_loss: float
    flatness: float
    penalised: float
    escape: float
    complexity: float
    item_complexity: float
    divergence: float
    sigma: float
    total: float
    is_vacuous: bool


@dataclass(frozen=True)
class PenaltyComparison:
    """Item weights against one weight for all, at the same mean penalty.

    Attributes:
        mean_penalty: Mean of c over the training targets; the uniform penalty has it at every item.
        certificate: Largest Σ π_i s_i that a unit of the penalty Σ p_i s_i leaves possible, over all
            s >= 0: max π_i / p_i. Infinite where an item that counts is not charged.
        uniform_certificate: The same under the uniform penalty.
        rate: How fast a step down the penalty's gradient lowers the bound, Σ p_i a_i.
        uniform_rate: The same under the uniform penalty.
        alignment: Cosine between ``penalty`` and ``target``, in [0, 1]: the rate per unit length of the
            penalty's gradient, over the best one, where the gradients of the items' sharpness are
            orthogonal and equally long.
        uniform_alignment: The same under the uniform penalty.
    """

    mean_penalty: float
    certificate: float
    uniform_certificate: float
    rate: float
    uniform_rate: float
    alignment: float
    uniform_alignment: float


def generalisation_bound(
    counts: ArrayLike,
    weights: ArrayLike,
    *,
    rho: float,
    n_parameters: int,
    distance: float,
    sharpness: ArrayLike = 0.0,
    empirical_loss: ArrayLike = 0.0,
    loss_range: float = 1.0,
    delta: float = 0.05,
    target: str | ArrayLike = "items",
    escape: float = 1e-3,
    n_radii: int = 1,
    targets_per_user: int = 1,
) -> BoundTerms:
    """Evaluate the bound of docs/theory.md on a weighted average of the items' risks.

    The bound is on the loss under Gaussian noise around the trained parameters, and on the loss
    at them where assumption A5 holds. For a model of usual size it is far above the loss's range:
    use it to compare items and penalties, not as a promise.

    Args:
        counts: ``[n_items]``; training targets of each item, each >= 1.
        weights: ``[n_items]`` in [0, 1], or one number; c_i, the item weights times the strength.
        rho: Radius of the perturbation, in the norm over all ``n_parameters``; > 0.
        n_parameters: Parameters that are trained and perturbed, >= 1.
        distance: ‖θ − θ₀‖₂ between trained parameters and a point fixed before the data, such as
            those that training began at; >= 0.
        sharpness: ``[n_items]`` or one number for all; rise of the item's mean training loss at the
            shared perturbation, the worst of length ``rho`` for the target's average; unit of the loss.
        empirical_loss: ``[n_items]`` or one number; the item's mean training loss, unit of the loss.
        loss_range: B > 0; every target's loss is clipped to [0, B].
        delta: Probability with which the bound may fail, in (0, 1).
        target: Which risk: ``"items"`` (every item counts alike), ``"log"`` (every interaction counts
            alike) or ``[n_items]`` shares >= 0 that sum to 1.
        escape: η in (0, 1), probability allowed for the posterior to leave the ball of radius ``rho``.
        n_radii: How many values of ``rho`` were tried before one was chosen, >= 1.
        targets_per_user: Largest number of training targets that share a user, >= 1.

    Returns:
        The terms, per item and summed.

    Raises:
        ValueError: an argument is outside its range, or lengths differ.

    Example:
        >>> from tailwise.diagnosis import generalisation_bound
        >>> terms = generalisation_bound(
        ...     [400, 100, 4], [0.01, 0.04, 1.0], rho=0.05, n_parameters=1_000, distance=0.01
        ... )
        >>> terms.matched_weights.tolist()  # of the item average: 1 / n_i
        [0.01, 0.04, 1.0]
        >>> (terms.slack / terms.slack[0]).round(6).tolist()  # √(n_0 / n_i)
        [1.0, 2.0, 10.0]

    Reference:
        Theorems 1 and 2 of docs/theory.md; after McAllester (1999) and SAM (arXiv:2010.01412).
    """
    n = _counts(counts)
    c = _weights(weights, n)
    pi = _target(target, n)
    s = _per_item("sharpness", sharpness, n)
    losses = _per_item("empirical_loss", empirical_loss, n)
    for name, value in (("rho", rho), ("loss_range", loss_range)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a finite number > 0; got {value}.")
    if not (math.isfinite(distance) and distance >= 0):
        raise ValueError(f"distance must be a finite number >= 0; got {distance}.")
    for name, value in (("delta", delta), ("escape", escape)):
        if not 0 < value < 1:
            raise ValueError(f"{name} must be a probability in (0, 1); got {value}.")
    for name, value in (
        ("n_parameters", n_parameters),
        ("n_radii", n_radii),
        ("targets_per_user", targets_per_user),
    ):
        if value < 1 or value != int(value):
            raise ValueError(f"{name} must be a whole number >= 1; got {value}.")
    if (losses < 0).any() or (losses > loss_range).any():
        worst = losses[np.argmax(np.abs(losses - loss_range / 2))]
        raise ValueError(
            f"empirical_loss must lie in [0, loss_range = {loss_range}]; got {worst}. "
            "Clip the losses, or raise loss_range."
        )

    sigma = rho / (math.sqrt(n_parameters) + math.sqrt(2 * math.log(1 / escape)))
    divergence = distance**2 / (2 * sigma**2)

    def half_width(spread: Floats | float, n_statements: int) -> Floats:
        """B √(v (KL + ln(statements / (δ √(1−α)))) / (2α)) for v = ``spread``."""
        nats = divergence + math.log(n_statements / (delta * math.sqrt(1 - _ALPHA)))
        return np.asarray(
            loss_range * np.sqrt(targets_per_user * spread * nats / (2 * _ALPHA)), dtype=np.float64
        )

    slack = half_width(1 / n, n.size * n_radii)
    complexity = float(half_width(float((pi**2 / n).sum()), n_radii))
    penalty = c * n / n.sum()
    matched = pi / n
    flatness, loss = float(pi @ s), float(pi @ losses)
    total = loss + flatness + escape * loss_range + complexity
    return BoundTerms(
        counts=n,
        target=pi,
        penalty=penalty,
        matched_weights=matched / matched.max(),
        sharpness=s,
        slack=slack,
        empirical_loss=loss,
        flatness=flatness,
        penalised=float(penalty @ s),
        escape=escape * loss_range,
        complexity=complexity,
        item_complexity=float(pi @ slack),
        divergence=divergence,
        sigma=sigma,
        total=total,
        is_vacuous=total >= loss_range,
    )


def compare_penalties(
    counts: ArrayLike,
    weights: ArrayLike,
    *,
    target: str | ArrayLike = "items",
    gains: ArrayLike | None = None,
) -> PenaltyComparison:
    """Hold item weights against one weight for all at the same mean penalty.

    Says for one risk what Propositions 1 and 2 of docs/theory.md say of it. Which penalty comes
    out ahead depends on ``target``: for ``"log"`` the uniform one does.

    Args:
        counts: ``[n_items]``; training targets of each item, each >= 1.
        weights: ``[n_items]`` in [0, 1], at least one > 0; c_i, the item weights times the strength.
        target: Which risk, as in :func:`generalisation_bound`.
        gains: ``[n_items]``; a_i, how much the bound falls where the item's sharpness is stepped down:
            the inner product of the two gradients. None means the target's shares π_i, right up to a factor
            where the items' gradients are orthogonal and equally long.

    Returns:
        The comparison. ``rate - uniform_rate`` is the covariance of weight and gain over the log.

    Raises:
        ValueError: an argument is outside its range, or lengths differ.

    Example:
        >>> from tailwise.diagnosis import compare_penalties
        >>> compared = compare_penalties([90, 10], [1 / 9, 1.0])
        >>> round(compared.certificate, 6), round(compared.uniform_certificate, 6)
        (5.0, 25.0)
        >>> compared = compare_penalties([90, 10], [1 / 9, 1.0], target="log")
        >>> round(compared.certificate, 6), round(compared.uniform_certificate, 6)
        (9.0, 5.0)

    Reference:
        Propositions 1 and 2 of docs/theory.md.
    """
    n = _counts(counts)
    c = _weights(weights, n)
    pi = _target(target, n)
    a = pi if gains is None else _per_item("gains", gains, n)
    share = n / n.sum()
    penalty = c * share
    mean = float(penalty.sum())
    if mean == 0:
        raise ValueError(
            "weights must have a positive entry; got zeros only. Without a penalty none is better."
        )
    uniform = mean * share
    return PenaltyComparison(
        mean_penalty=mean,
        certificate=_certificate(pi, penalty),
        uniform_certificate=_certificate(pi, uniform),
        rate=float(penalty @ a),
        uniform_rate=float(uniform @ a),
        alignment=_cosine(pi, penalty),
        uniform_alignment=_cosine(pi, uniform),
    )


def _certificate(pi: Floats, penalty: Floats) -> float:
    counted = pi > 0
    if (penalty[counted] == 0).any():
        return math.inf
    return float((pi[counted] / penalty[counted]).max())


def _cosine(first: Floats, second: Floats) -> float:
    cosine = float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))
    return min(cosine, 1.0)  # rounding


def _counts(counts: ArrayLike) -> Floats:
    n = np.asarray(counts, dtype=np.float64)
    if n.ndim != 1 or n.size == 0:
        raise ValueError(f"counts must be a vector [n_items] of at least one item; got shape {n.shape}.")
    if not (np.isfinite(n) & (n >= 1)).all():
        wrong = n[~(np.isfinite(n) & (n >= 1))]
        raise ValueError(
            f"counts must be finite and >= 1; got {wrong[0]:g}, {wrong.size} such of {n.size} items. "
            "The bound says nothing of items never trained: leave them out of counts and weights."
        )
    return n


def _per_item(name: str, values: ArrayLike, n: Floats) -> Floats:
    given = np.asarray(values, dtype=np.float64)
    if given.shape not in ((), n.shape):
        raise ValueError(
            f"{name} must be one number or a vector of {n.size} items, as counts; got shape {given.shape}."
        )
    if not np.isfinite(given).all():
        raise ValueError(f"{name} must be finite; got {given[~np.isfinite(given)].flat[0]}.")
    return np.array(np.broadcast_to(given, n.shape))


def _weights(weights: ArrayLike, n: Floats) -> Floats:
    c = _per_item("weights", weights, n)
    if (c < 0).any() or (c > 1).any():
        wrong = c[(c < 0) | (c > 1)]
        raise ValueError(
            f"weights must lie in [0, 1]; got {wrong[0]:g}, {wrong.size} such of {n.size} items. "
            "Divide by the largest."
        )
    return c


def _target(target: str | ArrayLike, n: Floats) -> Floats:
    if isinstance(target, str):
        if target == "items":
            return np.full(n.shape, 1 / n.size)
        if target == "log":
            return np.asarray(n / n.sum(), dtype=np.float64)
        raise ValueError(f"target must be 'items', 'log' or a share for each item; got {target!r}.")
    pi = np.asarray(target, dtype=np.float64)
    if pi.shape != n.shape:
        raise ValueError(
            f"target must be a vector of {n.size} items, as counts, or a name; got shape {pi.shape}."
        )
    if not np.isfinite(pi).all() or (pi < 0).any() or abs(pi.sum() - 1) > _SUM_TOLERANCE:
        raise ValueError(
            f"target must hold shares >= 0 that sum to 1; got a smallest share of {pi.min():g} "
            f"and a sum of {pi.sum():g}. Divide by the sum."
        )
    return np.asarray(pi / pi.sum(), dtype=np.float64)
