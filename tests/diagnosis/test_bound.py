"""The bound's terms by hand, its truth in simulated worlds, and when item weights are the better penalty."""

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import chi

from tailwise.diagnosis import compare_penalties, generalisation_bound
from tailwise.optim import item_weights

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "theory.md").read_text()

some_counts = st.lists(st.integers(1, 1000), min_size=2, max_size=30).map(np.array)


def bound(counts, weights=1.0, *, rho=0.1, n_parameters=4, distance=0.2, **others):
    return generalisation_bound(
        counts, weights, rho=rho, n_parameters=n_parameters, distance=distance, **others
    )


def power(counts, gamma):
    return (counts.min() / counts) ** gamma


# --- worked by hand


def test_log_target_without_distance_is_the_classical_rate():
    terms = bound([30, 60, 10], target="log", distance=0.0, delta=0.05)
    # v = 1 / N and KL = 0: sqrt(ln(1 / (0.05 * 0.1)) / (2 * 0.99 * 100))
    assert terms.complexity == pytest.approx(math.sqrt(math.log(200) / 198))
    assert terms.divergence == 0.0


def test_item_target_has_the_mean_reciprocal_count_over_the_number_of_items():
    terms = bound([4, 1], distance=0.0)
    # v = (1/4 + 1) / 4
    assert terms.complexity == pytest.approx(math.sqrt(0.3125 * math.log(200) / 1.98))


def test_sigma_and_divergence_by_hand():
    escape = math.exp(-2)  # sqrt(2 ln 1/escape) = 2, and sqrt(9) = 3
    terms = bound([5, 5], rho=1.0, n_parameters=9, distance=0.4, escape=escape)
    assert terms.sigma == pytest.approx(0.2)
    assert terms.divergence == pytest.approx(0.4**2 / (2 * 0.2**2))  # 2 nats
    assert terms.complexity == pytest.approx(math.sqrt(0.1 * (2 + math.log(200)) / 1.98))
    assert terms.escape == pytest.approx(escape)


def test_slack_of_an_item_is_its_own_bound_with_its_share_of_delta():
    terms = bound([25, 4], distance=0.0, n_radii=3)
    nats = math.log(2 * 3 / (0.05 * 0.1))
    assert terms.slack == pytest.approx([math.sqrt(nats / (1.98 * 25)), math.sqrt(nats / (1.98 * 4))])
    assert terms.item_complexity == pytest.approx(terms.slack.mean())


def test_sums_of_two_items_by_hand():
    terms = bound(
        [90, 10], [1 / 9, 1.0], sharpness=[0.1, 0.3], empirical_loss=[1.0, 2.0], loss_range=4.0, escape=0.01
    )
    assert terms.penalty == pytest.approx([0.1, 0.1])
    assert terms.flatness == pytest.approx(0.2)
    assert terms.penalised == pytest.approx(0.04)
    assert terms.empirical_loss == pytest.approx(1.5)
    assert terms.escape == pytest.approx(0.04)
    assert terms.total == pytest.approx(1.5 + 0.2 + 0.04 + terms.complexity)
    assert terms.matched_weights == pytest.approx([1 / 9, 1.0])


def test_the_counter_example_of_the_page():
    items = compare_penalties([90, 10], [1 / 9, 1.0])
    log = compare_penalties([90, 10], [1 / 9, 1.0], target="log")
    assert items.mean_penalty == log.mean_penalty == pytest.approx(0.2)
    assert (items.certificate, items.uniform_certificate) == pytest.approx((5, 25))
    assert (log.certificate, log.uniform_certificate) == pytest.approx((9, 5))
    assert (items.rate, items.uniform_rate) == pytest.approx((0.1, 0.1))
    assert (log.rate, log.uniform_rate) == pytest.approx((0.1, 0.164))
    assert (items.alignment, items.uniform_alignment) == pytest.approx((1, 0.7809), abs=1e-4)
    assert (log.alignment, log.uniform_alignment) == pytest.approx((0.7809, 1), abs=1e-4)


# --- monotone and invariant


def test_slack_times_the_root_of_the_count_is_one_constant():
    terms = bound([1, 7, 400, 12345])
    assert terms.slack * np.sqrt(terms.counts) == pytest.approx(np.full(4, terms.slack[0]))


@pytest.mark.parametrize(
    ("name", "smaller", "larger", "sign"),
    [
        ("rho", 0.1, 0.2, -1),
        ("delta", 0.01, 0.1, -1),
        ("distance", 0.1, 0.2, 1),
        ("n_parameters", 4, 5, 1),
        ("n_radii", 1, 2, 1),
        ("targets_per_user", 1, 2, 1),
        ("loss_range", 1.0, 2.0, 1),
        ("escape", 0.001, 0.01, -1),
    ],
)
def test_complexity_moves_the_right_way(name, smaller, larger, sign):
    low, high = (bound([50, 5, 2], **{name: value}) for value in (smaller, larger))
    assert np.sign(high.complexity - low.complexity) == sign
    assert (np.sign(high.slack - low.slack) == sign).all()


def test_complexity_is_in_proportion_to_the_loss_range_and_the_root_of_targets_per_user():
    one = bound([50, 5, 2])
    assert bound([50, 5, 2], loss_range=3.0).complexity == pytest.approx(3 * one.complexity)
    assert bound([50, 5, 2], targets_per_user=9).complexity == pytest.approx(3 * one.complexity)


@given(some_counts, st.floats(0, 3), st.randoms(use_true_random=False))
def test_order_of_the_items_does_not_matter(counts, gamma, random):
    order = list(range(len(counts)))
    random.shuffle(order)
    weights = power(counts, gamma)
    rises = 1 / (1 + counts)
    first = bound(counts, weights, sharpness=rises)
    second = bound(counts[order], weights[order], sharpness=rises[order])
    assert second.slack == pytest.approx(first.slack[order])
    assert second.penalty == pytest.approx(first.penalty[order])
    for name in ("flatness", "penalised", "complexity", "item_complexity", "total"):
        assert getattr(second, name) == pytest.approx(getattr(first, name)), name
    for target in ("items", "log"):
        compared = [compare_penalties(counts[o], weights[o], target=target) for o in (slice(None), order)]
        assert vars(compared[0]) == pytest.approx(vars(compared[1]))


@given(st.integers(1, 1000), st.integers(1, 20), st.floats(0, 3), st.sampled_from(["items", "log"]))
def test_equal_counts_make_item_weights_uniform(count, n_items, gamma, target):
    counts = np.full(n_items, count)
    compared = compare_penalties(counts, power(counts, gamma), target=target)
    assert compared.certificate == pytest.approx(compared.uniform_certificate)
    assert compared.rate == pytest.approx(compared.uniform_rate)
    assert compared.alignment == pytest.approx(compared.uniform_alignment)


@given(some_counts, st.sampled_from(["items", "log"]))
def test_the_averaged_bound_is_never_wider_than_the_items_own(counts, target):
    terms = bound(counts, target=target)
    assert terms.complexity <= terms.item_complexity * (1 + 1e-12)  # rounding


@given(some_counts)
def test_matched_weights_charge_what_the_bound_pays(counts):
    rises = np.linspace(-0.1, 0.5, len(counts))
    for target in ("items", "log", np.arange(1, len(counts) + 1) / np.arange(1, len(counts) + 1).sum()):
        matched = bound(counts, target=target).matched_weights
        terms = bound(counts, matched, target=target, sharpness=rises)
        mean = terms.penalty.sum()
        assert terms.penalised == pytest.approx(mean * terms.flatness)
        assert compare_penalties(counts, matched, target=target).certificate == pytest.approx(1 / mean)


def test_weights_of_the_optimizer_are_taken_as_they_are():
    counts = torch.tensor([100, 40, 4, 1])
    matched = bound(counts).matched_weights
    scheme = item_weights(counts, "power", gamma=1.0, reference_quantile=1e-9)  # n_ref = smallest count
    assert scheme.numpy() == pytest.approx(matched)


# --- the bound holds, and would not if it were much smaller


def noisy_risks(theta, sigma, probability):
    """E_ν of Φ(-x) where the label is 1 and Φ(x) where it is 0, x = θ + σν: in closed form."""
    middle = theta / math.sqrt(1 + sigma**2)
    return probability * ndtr(-middle) + (1 - probability) * ndtr(middle)


COUNTS = np.array([60, 20, 5, 2, 1])
RATES = np.array([0.5, 0.4, 0.5, 0.6, 0.5])  # P(label = 1) of each item


def gaps(n_draws, seed, *, target, copies=1, thetas=None):
    """Risk minus training loss of the noisy model, largest over θ of (gap minus complexity).

    One parameter, prior around θ₀ = 5, where the loss is almost the label itself: its variance is
    nearly the largest that a loss in [0, 1] can have. Every user has ``copies`` equal targets.
    """
    rng = np.random.default_rng(seed)
    thetas = np.linspace(4.0, 6.0, 9) if thetas is None else thetas
    ones = rng.binomial(COUNTS, RATES, size=(n_draws, len(COUNTS))) / COUNTS  # [draws, items]
    found = []
    for theta in thetas:
        terms = generalisation_bound(
            COUNTS * copies, 1.0, rho=1.0, n_parameters=1, distance=abs(theta - 5.0), target=target,
            targets_per_user=copies,
        )  # fmt: skip
        risk = noisy_risks(theta, terms.sigma, RATES) @ terms.target
        loss = noisy_risks(theta, terms.sigma, ones) @ terms.target  # [draws]
        found.append((risk - loss, terms.complexity))
    return found


def share_violated(found, factor=1.0):
    return np.mean(np.any([gap > factor * width for gap, width in found], axis=0))


@pytest.mark.parametrize("target", ["items", "log", np.array([0, 0, 0.2, 0.3, 0.5])])
def test_complexity_covers_the_gap_of_every_theta_at_once(target):
    found = gaps(4000, seed=1, target=target)
    assert share_violated(found) <= 0.05
    assert share_violated(found, 1 / 3) > 0.05  # so the bound is within a factor of three of the truth


def test_targets_of_one_user_may_be_copies_of_each_other():
    found = gaps(4000, seed=2, target="items", copies=9)
    assert share_violated(found) <= 0.05
    as_if_independent = [(gap, width / 3) for gap, width in found]
    assert share_violated(as_if_independent) > 0.05


def test_every_items_own_bound_holds_at_once():
    rng = np.random.default_rng(3)
    counts = np.array([40, 10, 4, 4, 2])
    terms = generalisation_bound(counts, 1.0, rho=1.0, n_parameters=1, distance=0.0)
    ones = rng.binomial(counts, RATES, size=(4000, 5)) / counts
    gap = noisy_risks(5.0, terms.sigma, RATES) - noisy_risks(5.0, terms.sigma, ones)  # [draws, items]
    assert (gap > terms.slack).any(axis=1).mean() <= 0.05
    assert (gap > terms.slack / 3).any(axis=1).mean() > 0.05


@pytest.mark.parametrize("n_parameters", [1, 2, 10, 1000, 10**6])
@pytest.mark.parametrize("escape", [1e-6, 1e-3, 0.2, 0.9])
def test_the_posterior_leaves_the_ball_no_more_often_than_said(n_parameters, escape):
    terms = bound([5, 5], rho=0.3, n_parameters=n_parameters, escape=escape)
    assert chi.sf(0.3 / terms.sigma, n_parameters) <= escape


def test_the_whole_bound_holds_at_parameters_fitted_with_the_item_wise_penalty():
    rng = np.random.default_rng(4)
    grid = np.linspace(-4.0, 4.0, 801)  # θ, spacing 0.01
    rho, reach = 0.5, 50  # the ball is fifty grid points to each side
    weights = power(COUNTS, 1.0)
    n_violated, n_draws = 0, 200
    for ones in rng.binomial(COUNTS, RATES, size=(n_draws, len(COUNTS))) / COUNTS:
        losses = noisy_risks(grid[:, None], 0.0, ones)  # [grid, items], without noise
        charged = losses @ (weights * COUNTS / COUNTS.sum())
        windows = np.lib.stride_tricks.sliding_window_view(charged, 2 * reach + 1).max(axis=1)
        inner = np.arange(reach, len(grid) - reach)
        objective = losses[inner] @ (COUNTS / COUNTS.sum()) + windows - charged[inner]
        at = inner[objective.argmin()]
        average = losses.mean(axis=1)
        worst = at - reach + average[at - reach : at + reach + 1].argmax()
        terms = generalisation_bound(
            COUNTS, weights, rho=rho, n_parameters=1, distance=abs(grid[at]),
            sharpness=losses[worst] - losses[at], empirical_loss=losses[at],
        )  # fmt: skip
        # Lemma 2, exactly: what the perturbation costs is no less than what the noise costs.
        noise = (noisy_risks(grid[at], terms.sigma, ones) - losses[at]).mean()
        assert noise <= terms.flatness + terms.escape
        n_violated += noisy_risks(grid[at], terms.sigma, RATES).mean() > terms.total
    assert n_violated <= 0.05 * n_draws


# --- when item weights are better


@given(some_counts, st.floats(0.05, 1.0))
def test_item_average_gains_where_weights_fall_no_faster_than_counts_rise(counts, gamma):
    compared = compare_penalties(counts, power(counts, gamma))
    assert compared.rate == pytest.approx(compared.uniform_rate)  # a tie at equal mean penalty
    if len(set(counts.tolist())) > 1:
        assert compared.certificate < compared.uniform_certificate
        assert compared.alignment > compared.uniform_alignment


@pytest.mark.parametrize(("scheme", "gamma"), [("power", 0.5), ("power", 1.0), ("effective-number", 1.0)])
def test_schemes_said_to_satisfy_the_condition_do(scheme, gamma):
    counts = np.sort(np.ceil(2_000 / np.arange(1, 301)))
    weights = item_weights(torch.tensor(counts), scheme, gamma=gamma).double().numpy()
    assert (np.diff(weights) <= 0).all()
    assert (np.diff(weights * counts) >= -1e-4).all()  # the weights are float32
    compared = compare_penalties(counts, weights)
    assert compared.certificate < compared.uniform_certificate
    assert compared.alignment > compared.uniform_alignment


@pytest.mark.parametrize("scheme", ["step", "focal-max"])
def test_an_item_of_weight_zero_is_not_certified(scheme):
    counts = np.array([100.0, 50.0, 3.0, 2.0, 1.0])
    weights = item_weights(torch.tensor(counts), scheme).double().numpy()
    assert weights[0] == 0
    assert compare_penalties(counts, weights).certificate == math.inf


def test_weights_that_fall_faster_than_counts_rise_can_lose_the_item_average():
    counts = np.array([100, 1])
    steep = compare_penalties(counts, power(counts, 3.0))
    assert steep.certificate > steep.uniform_certificate


@given(some_counts, st.floats(0.05, 3.0))
def test_log_average_is_served_worse_by_item_weights(counts, gamma):
    compared = compare_penalties(counts, power(counts, gamma), target="log")
    if len(set(counts.tolist())) > 1:
        assert compared.certificate > compared.uniform_certificate
        assert compared.rate < compared.uniform_rate
        assert compared.alignment < compared.uniform_alignment


@given(some_counts, st.floats(0.05, 3.0), st.floats(0.05, 2.0))
def test_a_target_more_tail_than_the_item_average_gains_at_equal_mean_penalty(counts, gamma, beta):
    target = counts**-beta / (counts**-beta).sum()
    compared = compare_penalties(counts, power(counts, gamma), target=target)
    if len(set(counts.tolist())) > 1:
        assert compared.rate > compared.uniform_rate


@given(some_counts, st.floats(0, 3), st.integers(0, 1000))
def test_difference_of_rates_is_the_covariance_over_the_log(counts, gamma, seed):
    weights, gains = power(counts, gamma), np.random.default_rng(seed).normal(size=len(counts))
    compared = compare_penalties(counts, weights, gains=gains)
    log = np.repeat(np.arange(len(counts)), counts)
    covariance = np.cov(weights[log], gains[log], ddof=0)[0, 1]
    assert compared.rate - compared.uniform_rate == pytest.approx(covariance, abs=1e-12)


def flatness_after_a_step(counts, weights, target, *, per_length):
    """Losses ½ (a_i x)² with x shared and perturbed: F falls by this much in a short step on a.

    At x = 0 the rise is s_i = ½ a_i² ρ²; its gradients in a are orthogonal and, for equal a, equally long.
    """
    rho, a, rate = 0.5, np.ones(len(counts)), 1e-6
    share = counts / counts.sum()
    downhill = weights * share * a * rho**2  # gradient of the penalty in a
    if per_length:
        downhill = downhill / np.linalg.norm(downhill)
    rises = [0.5 * (entry * rho) ** 2 for entry in (a, a - rate * downhill)]
    return float(target @ (rises[0] - rises[1])) / rate


@pytest.mark.parametrize(
    ("target", "per_length", "sign"), [("items", False, 0), ("items", True, 1), ("log", False, -1)]
)
def test_a_real_gradient_step_lowers_the_bound_as_the_comparison_says(target, per_length, sign):
    counts = np.array([500, 60, 9, 2])
    weights = power(counts, 1.0)
    compared = compare_penalties(counts, weights, target=target)
    shares = bound(counts, target=target).target
    itemwise, uniform = (
        flatness_after_a_step(counts, w, shares, per_length=per_length)
        for w in (weights, np.full(4, compared.mean_penalty))
    )
    said = (
        compared.alignment / compared.uniform_alignment
        if per_length
        else compared.rate / compared.uniform_rate
    )
    assert itemwise / uniform == pytest.approx(said, rel=1e-5)  # a step of 1e-6 bends by its own size
    assert (itemwise > uniform * (1 + 1e-5)) - (itemwise < uniform * (1 - 1e-5)) == sign


def best_radii(counts, bends):
    """Radius on a grid that serves each item's own bound best when its rise is bend · ρ²."""
    radii = np.geomspace(0.05, 5.0, 60)
    slack = np.array([bound(counts, rho=r, distance=0.3, n_radii=60).slack for r in radii])  # [radii, items]
    return radii[(slack + radii[:, None] ** 2 * bends).argmin(axis=0)]


def test_radii_of_their_own_make_the_item_average_gain_strictly():
    counts = np.array([3000, 500, 60, 9, 2])
    radii = best_radii(counts, 0.5)
    assert (np.diff(radii) > 0).all()  # rarer items want larger ones
    compared = compare_penalties(counts, power(counts, 1.0), gains=radii**2)
    assert compared.rate > 1.1 * compared.uniform_rate


def test_the_gain_turns_round_where_rare_items_bend_far_more():
    counts = np.array([3000, 500, 60, 9, 2])
    radii = best_radii(counts, 100.0 / counts)  # bend · √n falls with n
    compared = compare_penalties(counts, power(counts, 1.0), gains=radii**2)
    assert compared.rate < compared.uniform_rate


# --- errors and the page


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"counts": [3, 0, 0]}, r"counts must be finite and >= 1; got 0, 2 such of 3 items.*leave them out"),
        ({"counts": [[3, 1]]}, r"counts must be a vector.*got shape \(1, 2\)"),
        ({"counts": []}, r"at least one item; got shape \(0,\)"),
        ({"counts": [3, math.nan, 1]}, r"counts must be finite and >= 1; got nan"),
        ({"weights": [0.5, 2, 1]}, r"weights must lie in \[0, 1\]; got 2, 1 such of 3.*Divide"),
        ({"weights": [0.5, -1, 1]}, r"weights must lie in \[0, 1\]; got -1"),
        ({"weights": [0.5, 1]}, r"weights must be one number or a vector of 3 items.*got shape \(2,\)"),
        ({"sharpness": [0, math.inf, 0]}, r"sharpness must be finite; got inf"),
        ({"empirical_loss": 3.0}, r"empirical_loss must lie in \[0, loss_range = 1.0\]; got 3.0.*Clip"),
        ({"rho": 0.0}, r"rho must be a finite number > 0; got 0.0"),
        ({"loss_range": math.inf}, r"loss_range must be a finite number > 0; got inf"),
        ({"distance": -1.0}, r"distance must be a finite number >= 0; got -1.0"),
        ({"delta": 1.0}, r"delta must be a probability in \(0, 1\); got 1.0"),
        ({"escape": 0.0}, r"escape must be a probability in \(0, 1\); got 0.0"),
        ({"n_parameters": 0}, r"n_parameters must be a whole number >= 1; got 0"),
        ({"n_radii": 1.5}, r"n_radii must be a whole number >= 1; got 1.5"),
        ({"targets_per_user": 0}, r"targets_per_user must be a whole number >= 1; got 0"),
        ({"target": "tail"}, r"target must be 'items', 'log' or a share for each item; got 'tail'"),
        ({"target": [0.5, 0.5]}, r"target must be a vector of 3 items.*got shape \(2,\)"),
        ({"target": [0.5, 0.5, 0.5]}, r"target must hold shares.*a sum of 1.5"),
        ({"target": [1.5, -0.5, 0.0]}, r"target must hold shares.*a smallest share of -0.5"),
    ],
)
def test_a_wrong_argument_is_named_with_its_value(changed, message):
    arguments = {
        "counts": [3, 2, 1],
        "weights": 1.0,
        "rho": 0.1,
        "n_parameters": 4,
        "distance": 0.2,
    } | changed
    with pytest.raises(ValueError, match=message):
        generalisation_bound(arguments.pop("counts"), arguments.pop("weights"), **arguments)


def test_a_penalty_of_nothing_is_refused():
    with pytest.raises(ValueError, match="weights must have a positive entry; got zeros only"):
        compare_penalties([3, 1], 0.0)


@pytest.mark.parametrize("block", re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL))
def test_code_blocks_of_the_page_print_what_they_say(block):
    result = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    printed = [float(word) for word in result.stdout.split() if word not in ("True", "False")]
    assert printed == pytest.approx([31.62, 146.4, 0.129, 7.75, 60.05], rel=1e-3)
    assert "146 times" in block
    assert "0.129, 7.7, 60.1" in block
