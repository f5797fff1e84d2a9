"""Explained variances of item accuracy from pairs of targets that share neither item nor user.

A target's accuracy is the mean of its item plus noise. The variance that a regression on
features x explains between items is the mean of mean_i · f(x_i). Squares of noisy values
would count noise as signal, so only products of *different* items and users are used: for
the least-squares fit that is leave-one-out cross-fitting, with every item a fold of its own
(Kline, Saggio, Sølvsten, *Leave-out estimation of variance components*, Econometrica 2020).
The total between-item variance comes from pairs of targets of the same item and different
users. All of them are smooth functions of one weight per target; so one pass at
unit weights gives the linear part of any bootstrap, and other weights give a resample.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tailwise.diagnosis._leave_out import LeaveOutFit
from tailwise.diagnosis._two_way import group_sums

__all__ = ["Linear", "Moments"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Linear:
    """Moments together with what every target and every item contributes to them.

    Attributes:
        value: ``[k]``.
        by_target: ``[n_targets, k]``; derivatives by each target's weight.
        by_item: ``[n_items, k]``; derivatives by each item's weight.
        twice: ``[k, k]``; what squares of ``by_item`` count too often. A product of the noise
            of two items is in the derivative of either, but is drawn once (Efron, Stein, *The
            jackknife estimate of variance*, Annals of Statistics 1981).
    """

    value: Floats
    by_target: Floats
    by_item: Floats
    twice: Floats


class Moments:
    """Explained variances, total variance and reliabilities as functions of target weights.

    Args:
        items: ``[n_targets]``; position of the item among those with targets, 0..n_items-1.
        users: ``[n_targets]``; likewise of the user.
        accuracy: ``[n_targets]``.
        omega: ``[n_targets]``; what a target counts for, before any resampling.
        features: ``[n_items, n_features]``; the first column is 1.
        parts: The regressions: which columns of the features each uses, the constant first.
        strata: ``[n_items]``; items of one stratum are alike enough that those with
            several targets may speak for those with one.
        products: ``[n_items, n_products]``; whose weighted mean over items is wanted too.
    """

    def __init__(
        self,
        *,
        items: NDArray[np.int64],
        users: NDArray[np.int64],
        accuracy: Floats,
        omega: Floats,
        features: Floats,
        parts: Sequence[tuple[int, ...]],
        strata: NDArray[np.int64],
        products: Floats,
    ) -> None:
        self.items, self.users, self.omega = items, users, omega
        self.n_items, self.n_users = features.shape[0], int(users.max()) + 1
        self.y = accuracy - np.average(accuracy, weights=omega)
        self.features, self.parts, self.strata, self.products = features, parts, strata, products
        _, self.pair = np.unique(items * self.n_users + users, return_inverse=True)  # same item and user
        self.item_of_pair = np.zeros(int(self.pair.max()) + 1, dtype=np.int64)
        self.item_of_pair[self.pair] = items
        by_user = np.zeros_like(self.item_of_pair)
        by_user[self.pair] = users
        self._by_user = sparse.csr_array(
            (np.ones(by_user.size), (by_user, np.arange(by_user.size))), shape=(self.n_users, by_user.size)
        )
        n = group_sums(items, None, self.n_items)
        per_pair = group_sums(self.pair)
        n_pairs = n * n - self._of_items(per_pair**2)
        weight = group_sums(items, omega, self.n_items)
        self.kappa = np.divide(weight, n_pairs, out=np.zeros_like(weight), where=n_pairs > 0)
        self.n_strata = int(strata.max()) + 1

    def _of_items(self, per_pair: Floats) -> Floats:
        return group_sums(self.item_of_pair, per_pair, self.n_items)

    def __call__(self, by_target: Floats | None = None, by_item: Floats | None = None) -> Floats:
        """Return explained variance of each part, total variance, and means of the products.

        Args:
            by_target: ``[n_targets]``; weights of a resample of users. None: ones.
            by_item: ``[n_items]``; of a resample of items. None: ones. An item drawn
                twice is two items, so its pairs of targets count twice, not four times.
        """
        by_target = np.ones(self.y.size) if by_target is None else by_target
        by_item = np.ones(self.n_items) if by_item is None else by_item
        return self._evaluate(by_target, by_item, linear=False)[0]

    def linearised(self) -> "Linear":
        """Return the moments with the first-order effect of every target and every item on them."""
        value, by_target, within, twice = self._evaluate(
            np.ones(self.y.size), np.ones(self.n_items), linear=True
        )
        by_item = np.stack([group_sums(self.items, column, self.n_items) for column in by_target.T], axis=1)
        by_item[:, len(self.parts)] -= within
        return Linear(value, by_target, by_item, twice)

    def _evaluate(self, w: Floats, b: Floats, *, linear: bool) -> tuple[Floats, Floats, Floats, Floats]:
        items, pair = self.items, self.pair
        weight = w * b[items] * self.omega  # [n_targets]
        of_item = group_sums(items, weight, self.n_items)
        total = float(of_item.sum())
        s = weight * self.y
        s_item = group_sums(items, s, self.n_items)
        s_pair = group_sums(pair, s)  # [n_pairs]
        same_pair = self._of_items(s_pair**2)
        s_user = self._by_user @ (s_pair[:, None] * self.features[self.item_of_pair])  # [n_users, p]
        outer_user = s_user.T @ s_user  # [p, p]
        outer_pair = self.features.T @ (same_pair[:, None] * self.features)
        gram = self.features.T @ (of_item[:, None] * self.features)
        explained, slopes, fits = [], [], []
        for columns in ((0,), *self.parts):
            index = np.ix_(columns, columns)
            fit = LeaveOutFit.of(self.features[:, columns], of_item, s_item, gram[index])
            shared = (outer_pair - outer_user)[index]  # products of one user that the fit must not use
            explained.append(fit.explained + float(np.sum(fit.inverse * shared)))
            if linear:
                slopes.append(self._slope(fit, shared, s_pair, s_user[:, columns]))
                fits.append(fit)
        between, between_slope, within = self._between(w, b, of_item, linear=linear)
        parts = np.array(explained)
        sums = np.concatenate([parts[1:] - parts[0], [between - parts[0]], of_item @ self.products])
        if not linear:
            return sums / total, between_slope, within, within
        slope = np.column_stack(
            [
                *(one - slopes[0] for one in slopes[1:]),
                between_slope - slopes[0],
                self.omega[:, None] * self.products[items],
            ]
        )
        slope = (slope - self.omega[:, None] * (sums / total)) / total
        return sums / total, slope, within / total, self._twice(fits) / total**2

    def _slope(self, fit: LeaveOutFit, shared: Floats, s_pair: Floats, s_user: Floats) -> Floats:
        """Derivative of what a fit explains by the weight of each target: ``[n_targets]``."""
        items = self.items
        # An item acts as the one that is predicted, and as one of those that others learn from.
        without_itself = fit.fitted - fit.kept * fit.pull * fit.residual
        stretch = fit.kept**2 * fit.sums * fit.residual
        middle = fit.x.T @ (stretch[:, None] * fit.x) - shared
        bent = np.einsum("ij,jk,ik->i", fit.z, middle, fit.z) - stretch * fit.pull**2
        of_user = np.einsum("ij,ij->i", fit.z[items], s_user[self.users])
        same_user = 2 * (s_pair[self.pair] * fit.pull[items] - of_user)
        learnt = (self.y - fit.fitted[items]) * fit.taught[items]
        return np.asarray(
            self.omega * (self.y * (without_itself[items] + same_user) + learnt + bent[items]),
            dtype=np.float64,
        )

    def _twice(self, fits: Sequence[LeaveOutFit]) -> Floats:
        """What pairs of items contribute to the moments' covariances: ``[k, k]``, see :class:`Linear`.

        With e the residual and a = kept · sums − weight · taught, the second derivative by the
        weights of items i and j is x_i G⁻¹ x_j (a_i e_j + a_j e_i), up to terms of higher order.
        """
        n = len(fits)
        shown = [fit.kept * fit.sums - fit.weight * fit.taught for fit in fits]
        pairs = np.empty((n, n))
        for k, one in enumerate(fits):
            for m, other in enumerate(fits[: k + 1]):
                residuals, weights = one.residual * other.residual, shown[k] * shown[m]
                found = -2 * float(np.sum(one.pull * other.pull * residuals * weights))  # i = j
                for left, right in (
                    (residuals, weights),
                    (one.residual * shown[m], shown[k] * other.residual),
                ):
                    first = one.inverse @ (one.x.T @ (left[:, None] * other.x))
                    found += float(np.sum((first @ other.inverse) * (one.x.T @ (right[:, None] * other.x))))
                pairs[k, m] = pairs[m, k] = found
        # From the fits, the constant's first, to the moments: what each explains beyond the constant.
        turn = np.zeros((n + self.products.shape[1], n))
        turn[: n - 1, 1:] = np.eye(n - 1)
        turn[:n, 0] = -1.0
        return np.asarray(turn @ pairs @ turn.T)

    def _between(
        self, w: Floats, b: Floats, of_item: Floats, *, linear: bool
    ) -> tuple[float, Floats, Floats]:
        """Σ ω (mean_i)² from pairs of the same item and different users, stratum by stratum."""
        items, pair = self.items, self.pair
        r = w * self.y
        r_item, r_pair = group_sums(items, r, self.n_items), group_sums(pair, r)
        n_item, n_pair = group_sums(items, w, self.n_items), group_sums(pair, w)
        above = b * self.kappa * (r_item**2 - self._of_items(r_pair**2))
        below = b * self.kappa * (n_item**2 - self._of_items(n_pair**2))
        weight = group_sums(self.strata, of_item, self.n_strata)
        up = group_sums(self.strata, above, self.n_strata)
        down = group_sums(self.strata, below, self.n_strata)
        mean = np.divide(up, down, out=np.zeros_like(up), where=down > 0)
        value = float(weight @ mean)
        if not linear:
            return value, r, r
        s = self.strata[items]
        scale = np.divide(weight, down, out=np.zeros_like(up), where=down > 0)
        d_up = 2 * self.kappa[items] * self.y * (r_item[items] - r_pair[pair])
        d_down = 2 * self.kappa[items] * (n_item[items] - n_pair[pair])
        # Both weights of a pair within an item are the item's: its derivative is half of the sum of theirs.
        within = scale[self.strata] * (above - mean[self.strata] * below)
        return value, self.omega * mean[s] + scale[s] * (d_up - mean[s] * d_down), within
