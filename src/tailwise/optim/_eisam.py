"""Efficient item-wise sharpness-aware minimisation."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tailwise.optim._diagnostics import Diagnostics, cosine, realised_norm
from tailwise.optim._joint_batch import JointBatch, LossFunction
from tailwise.optim._kept import fits, restored, saved
from tailwise.optim._perturbing import PerturbingOptimizer, dense
from tailwise.optim._randomness import RandomState
from tailwise.optim._row_draw import (
    ROW_WEIGHTS,
    alike_probabilities,
    by_row,
    row_probabilities,
    sampling_probabilities,
    systematic_draw,
    target_factors,
)
from tailwise.optim._wrapper import direction_norm, perturbed

__all__ = ["EISAM", "ESTIMATORS"]

ESTIMATORS = ("exact", "single-pass", "every-k", "sampled")


class EISAM(PerturbingOptimizer):
    """Flatten the loss strongly around rare items and lightly around popular ones.

    For target j of item i(j), with item weight w and strength λ, let ``c_j = λ·w_{i(j)}``::

        g_w = (1/N) Σ_j c_j ∇l_j(θ)        ε = ρ · g_w / ‖g_w‖₂
        G   = (1/N) Σ_j (1−c_j) ∇l_j(θ)  +  (1/N) Σ_j c_j ∇l_j(θ+ε)

    and the base optimizer gets G at θ. One perturbation is shared by all items, which is
    what makes it affordable. ``strength=0`` or ``rho=0`` is the base optimizer bit for
    bit; weights of one at strength 1 are SAM.

    This is our reconstruction of EISAM (arXiv:2603.12752) from its abstract and its
    nearest public relatives; the paper's own formulas and code are not public.

    ============== =======================================================================
    ``exact``      Both weighted gradients at θ from one graph, then a second evaluation of
                   the rows that hold a target with c > 0: at most 2 forwards, 3 backwards.
                   Where the loss function draws random numbers (dropout), the second
                   evaluation repeats them; masks depend on the shape of the whole batch,
                   so in that case all rows are evaluated again.
    ``single-pass`` Each row is evaluated once, at θ+ε or at θ, drawn at random; factors on
                   its targets make the expectation G (``row_weights``). ε follows an
                   exponential average of the drawn rows' gradients of recent steps. 1
                   forward, 1 backward.
    ``sampled``    ``exact`` for a few rows of the batch, drawn by their strengths, with factors that
                   make up for the others; those are evaluated at θ alone. ε is that of the drawn
                   rows. With a share s of rows: 1+s forwards, 1+2s backwards; 1+s backwards with unit
                   weights, and where one target a row and one weight for all items make c one number.
    ``every-k``    ``exact`` every ``every`` steps; between, ``single-pass`` along the last
                   exact direction.
    ============== =======================================================================

    The loss returned by ``single-pass``, and between exact steps, is that of each row where
    it was evaluated, not at θ alone.

    Args:
        params: As for ``torch.optim.Optimizer``; groups may say ``"perturb": False`` or
            ``"per_item": True``, see ``perturb`` of :class:`PerturbingOptimizer`.
        base_optimizer: Class of the base optimizer, e.g. ``torch.optim.AdamW``.
        item_weights: ``[n_items]`` floating, each in [0, 1]; see :func:`item_weights`.
        rho: Radius ρ of the perturbation, in the units of the parameters, >= 0.
        strength: λ in [0, 1]; the share of the objective that the rarest items move to θ+ε.
        estimator: One of the above.
        row_weights: Of all but ``exact``. ``"unbiased"`` has expectation G for its own ε. ``"unit"``
            draws a row with the mean c of its targets and treats those alike, so it is item-wise only row
            by row. ``single-pass`` and ``every-k`` then leave losses alone: no variance from factors, and
            unbiased for rows of one target. ``sampled`` gives all drawn rows one factor, and is unbiased for
            c replaced by its mean over the row.
        direction_decay: Of the average behind ε in ``single-pass``, in [0, 1); 0 is the last step's.
        row_share: Share of a batch's rows that ``sampled`` draws on average, in (0, 1]; 1 is ``exact``.
            Of 16 rows, 1/20 draws one in four of five steps and none in the fifth.
        every: k of ``every-k``, >= 1; 1 is ``exact``.
        seed: Of the draw of rows; None takes torch's own seed at construction.
        short_circuit: Skip everything when ``rho`` or ``strength`` is 0, or every c of the
            batch. Turn it off only to check the identities.
        **arguments: As for :class:`PerturbingOptimizer` (``adaptive``, ``relative``,
            ``perturb``, ``rho_schedule``, ``start_step``), and those of ``base_optimizer`` (``lr=...``).

    Raises:
        ValueError: an argument is out of range, or a perturbed parameter is in less than
            float32.

    Example:
        >>> from tailwise.optim import item_weights
        >>> theta = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> weights = item_weights(torch.tensor([90, 10]))
        >>> optimizer = EISAM([theta], torch.optim.SGD, item_weights=weights, rho=0.1, strength=1.0, lr=0.1)
        >>> items = torch.tensor([0, 1])  # one target of each item
        >>> float(optimizer.step(lambda rows: 0.5 * theta[rows] ** 2, items))
        1.25
    """

    def __init__(
        self,
        params: Iterable[Any],
        base_optimizer: type[Optimizer],
        *,
        item_weights: Tensor,
        rho: float,
        strength: float = 1.0,
        estimator: str = "exact",
        row_weights: str = "unbiased",
        direction_decay: float = 0.9,
        row_share: float = 1 / 20,
        every: int = 5,
        seed: int | None = None,
        short_circuit: bool = True,
        **arguments: Any,
    ) -> None:
        if not math.isfinite(strength) or not 0 <= strength <= 1:
            raise ValueError(f"strength must be in [0, 1]; got {strength}.")
        for name, value, allowed in (
            ("estimator", estimator, ESTIMATORS),
            ("row_weights", row_weights, ROW_WEIGHTS),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}.")
        if not 0 <= direction_decay < 1:
            raise ValueError(f"direction_decay must be in [0, 1); got {direction_decay}.")
        if not 0 < row_share <= 1:
            raise ValueError(f"row_share must be in (0, 1]; got {row_share}.")
        if every < 1:
            raise ValueError(f"every must be >= 1; got {every}.")
        if item_weights.ndim != 1 or not item_weights.is_floating_point():
            raise ValueError(
                "item_weights must be a floating vector [n_items]; got "
                f"{item_weights.dtype} of shape {tuple(item_weights.shape)}. Use item_weights(counts)."
            )
        if not bool(((item_weights >= 0) & (item_weights <= 1)).all()):
            raise ValueError(
                f"item_weights must be in [0, 1]; got values from {item_weights.min().item()} "
                f"to {item_weights.max().item()}. Use item_weights(counts)."
            )
        self.item_weights = item_weights.detach()
        self.strength = strength
        self.estimator = estimator
        self.row_weights = row_weights
        self.direction_decay = direction_decay
        self.row_share = row_share
        self.every = every
        self.seed = torch.initial_seed() if seed is None else seed
        self.short_circuit = short_circuit
        self._kept_direction: list[Tensor] | None = (
            None  # g_w of earlier steps, one tensor per moved parameter
        )
        super().__init__(params, base_optimizer, rho=rho, **arguments)

    def _is_plain(self) -> bool:
        return self.short_circuit and (self.current_rho == 0 or self.strength == 0)

    def _perturbed_gradient(self, batch: JointBatch) -> Tensor:
        c = self._target_strengths(batch.items)
        if self.short_circuit and not batch.any(c > 0):
            return self._mean_loss_gradient(batch)
        if self.estimator == "sampled":
            return (
                self._sampled(batch, c) if self.row_weights == "unbiased" else self._sampled_alike(batch, c)
            )
        if self._is_exact_now():
            return self._exact(batch, c)
        return self._single_pass(batch, c)

    def _is_exact_now(self) -> bool:
        """Whether the next step takes the direction from its own batch."""
        if self.estimator == "every-k":
            has_direction = fits(self._kept_direction, self.perturbed_parameters())
            return self.n_steps % self.every == 0 or not has_direction
        return self.estimator == "exact"

    def _target_strengths(self, items: Tensor) -> Tensor:
        """c_j of every target, in the shape of ``items``; zero where there is no target."""
        largest = int(items.max()) if items.numel() > 0 else -1
        if largest >= self.item_weights.numel():
            raise ValueError(
                f"items must be below {self.item_weights.numel()}, the length of item_weights; got {largest}."
            )
        self.item_weights = self.item_weights.to(items.device)
        c = self.strength * self.item_weights[items.clamp_min(0)]
        return torch.where(items >= 0, c, torch.zeros_like(c))

    # Estimators

    def _exact(self, batch: JointBatch, c: Tensor) -> Tensor:
        loss, g_w = self._two_point_gradient(batch, c, torch.ones_like(batch.rows_with_target))
        if self.estimator == "every-k":
            self._kept_direction = [dense(g) for g in g_w]
        return loss

    def _sampled(self, batch: JointBatch, c: Tensor) -> Tensor:
        is_drawn, factors = self._draw_few_rows(batch, c)
        others = ~is_drawn & batch.rows_with_target
        batch.clear()
        loss = torch.zeros((), device=c.device)
        if batch.any(is_drawn):
            loss, _ = self._two_point_gradient(batch, factors * c, is_drawn)
        if batch.any(others):
            loss = loss + batch.add_gradient(only=others)  # adds to the drawn rows' gradient
        return loss

    def _sampled_alike(self, batch: JointBatch, c: Tensor) -> Tensor:
        """``∇L(θ) + f · (1/N) Σ [∇l(θ+ε) − ∇l(θ)]`` over the drawn rows, ε along their plain gradient."""
        is_drawn, factor = self._draw_rows_alike(batch, c)
        others = ~is_drawn & batch.rows_with_target
        batch.clear()
        loss = torch.zeros((), device=c.device)
        if batch.any(is_drawn):
            loss, _ = self._two_point_gradient_alike(batch, factor, is_drawn)
        if batch.any(others):
            loss = loss + batch.add_gradient(only=others)
        return loss

    def _two_point_gradient(
        self, batch: JointBatch, c: Tensor, rows: Tensor
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Leave ``(1/N) Σ (1−c) ∇l(θ) + c ∇l(θ+ε)`` over ``rows`` in ``.grad``, ε along their own g_w.

        Returns:
            The rows' share of the mean loss at θ, and g_w up to a factor.
        """
        moved = self._parameters_to_move()
        is_target = batch.has_target & rows.reshape(-1, *[1] * (c.ndim - 1))
        of_all = batch.common_value(c[is_target])
        all_at_theta_plus_eps = of_all == 1  # then SAM's price
        # Rows of several targets keep two backwards: what makes up for their draw differs with their number.
        if of_all is not None and c.ndim == 1 and not all_at_theta_plus_eps:
            return self._two_point_gradient_alike(batch, of_all, rows)
        loss, (g_w,) = batch.gradients([c], moved, with_remainder=not all_at_theta_plus_eps, only=rows)
        direction, scale = self._perturbation(g_w, moved)
        with perturbed(moved, direction, scale):
            has_strength = by_row(c > 0).any(dim=1)
            batch.add_gradient(c, only=rows & has_strength, again=True)  # adds to the first sum
        return loss, g_w

    def _two_point_gradient_alike(
        self, batch: JointBatch, c: float, rows: Tensor
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """As :meth:`_two_point_gradient` where all targets share one c: one backward at θ gives both sums."""
        moved = self._parameters_to_move()
        batch.clear()
        loss = batch.add_gradient(only=rows)
        plain = batch.seen(moved)
        direction, scale = self._perturbation(plain, moved)
        for p in self.parameters():
            p.grad = None if p.grad is None else p.grad * (1 - c)  # the direction may be this tensor
        with perturbed(moved, direction, scale):
            of_each = torch.full_like(batch.items, c, dtype=self.item_weights.dtype)
            batch.add_gradient(of_each, only=rows, again=True)
        return loss, plain

    def _single_pass(self, batch: JointBatch, c: Tensor) -> Tensor:
        moved = self._parameters_to_move()
        is_drawn, factors = self._draw_rows(batch, c)
        kept = self._kept_direction if fits(self._kept_direction, moved) else None
        # No direction is known before rows were drawn for the first time: then ε = 0.
        direction, scale = ([], 0.0) if kept is None else self._perturbation(kept, moved)
        batch.clear()
        loss = torch.zeros((), device=c.device)
        there = is_drawn & batch.rows_with_target
        here = ~is_drawn & batch.rows_with_target
        if batch.any(there):
            with perturbed(moved if direction else [], direction, scale):
                loss = loss + batch.add_gradient(factors, only=there)
            if self.estimator == "single-pass":
                kept = self._averaged(kept, batch.seen(moved))
        if batch.any(here):
            loss = loss + batch.add_gradient(factors, only=here)  # adds to the drawn rows'
        self._kept_direction = kept
        return loss

    def _draw_rows(self, batch: JointBatch, c: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of this step's draw, and what their targets' losses are multiplied by."""
        q = row_probabilities(c, batch.has_target, row_weights=self.row_weights)
        of_all, own = batch.ranks.gathered(q)  # one draw over the joint batch
        is_drawn = systematic_draw(of_all, self._uniform())[own]
        return is_drawn, target_factors(c, q, is_drawn, row_weights=self.row_weights)

    def _draw_few_rows(self, batch: JointBatch, c: Tensor) -> tuple[Tensor, Tensor]:
        """Rows that ``sampled`` evaluates twice, and what makes up for the others not being."""
        strength_of_row, own = batch.ranks.gathered(by_row(c).sum(1))
        p = sampling_probabilities(strength_of_row, self.row_share * len(strength_of_row))
        is_drawn = systematic_draw(p, self._uniform())[own]
        p = p[own]
        factors = torch.where(is_drawn, 1 / p.clamp_min(torch.finfo(p.dtype).tiny), torch.zeros_like(p))
        return is_drawn, factors.to(c.dtype).reshape(-1, *[1] * (c.ndim - 1))

    def _draw_rows_alike(self, batch: JointBatch, c: Tensor) -> tuple[Tensor, float]:
        """Rows that ``sampled`` with unit weights evaluates twice, and the factor of all of them."""
        q = row_probabilities(c, batch.has_target, row_weights="unit")
        of_all, own = batch.ranks.gathered(q)
        p, factor = alike_probabilities(of_all, self.row_share * len(of_all))
        return systematic_draw(p, self._uniform())[own], factor

    def _uniform(self) -> float:
        """This step's random number in [0, 1); a function of seed and step, so that it survives a resume."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.n_steps) % 2**63)
        return float(torch.rand((), generator=generator, dtype=torch.float64))

    def _averaged(self, kept: Sequence[Tensor] | None, seen: Sequence[Tensor]) -> list[Tensor]:
        """The average with what the drawn rows' backward has just left in ``.grad``."""
        of_rows = [dense(g) for g in seen]
        direction_norm(of_rows)  # one gradient that is not finite would spoil every later direction
        if kept is None:
            return [g.clone() for g in of_rows]
        return list(torch._foreach_lerp(list(kept), of_rows, 1 - self.direction_decay))

    # Diagnostics

    def diagnose(self, loss_fn: LossFunction, items: Tensor) -> Diagnostics:
        """Compare this batch's perturbation with the exact one, for a forward and a backward; change nothing.

        Args:
            loss_fn: As for :meth:`compute_gradient`.
            items: As for :meth:`compute_gradient`.

        Returns:
            What the next step on this batch would do.
        """
        c = self._target_strengths(items)
        moved = self._parameters_to_move()
        batch = JointBatch(loss_fn, items, self.parameters(), self.ranks)
        is_drawn, factors, own = self._plan(batch, c)
        in_place = [p.grad for p in self.parameters()]
        try:
            with torch.enable_grad(), RandomState(items.device).replayed():
                _, gradients = batch.gradients([c] if own is None else [c, own], moved)
        finally:
            for p, gradient in zip(self.parameters(), in_place, strict=True):
                p.grad = gradient
        g_w = gradients[0]
        direction = self._kept_direction if own is None else gradients[1]
        if not fits(direction, moved):
            direction = None
        ours = ([], 0.0) if direction is None else self._perturbation(direction, moved)
        exact, _ = self._perturbation(g_w, moved)
        is_per_item = [
            group["per_item"] for group in self.param_groups for moves in self._moves(group) if moves
        ]

        def agreement(*, per_item: bool) -> float | None:
            chosen = [i for i in range(len(moved)) if is_per_item[i] == per_item]
            return cosine([ours[0][i] for i in chosen], [exact[i] for i in chosen]) if ours[0] else None

        used = factors[batch.has_target]
        return Diagnostics(
            cosine_shared=agreement(per_item=False),
            cosine_per_item=agreement(per_item=True),
            radius=self._radius(moved),
            realised_norm=realised_norm(moved, *ours) if ours[0] else 0.0,
            share_of_rows_perturbed=float(is_drawn[batch.rows_with_target].double().mean()),
            smallest_factor=float(used.min()),
            largest_factor=float(used.max()),
        )

    def _plan(self, batch: JointBatch, c: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Rows the next step perturbs, factors on their targets, and weights of its own direction, if any."""
        if self.estimator == "sampled" and self.row_weights == "unit":
            is_drawn, factor = self._draw_rows_alike(batch, c)
            of_rows = is_drawn.reshape(-1, *[1] * (c.ndim - 1)).expand_as(c)
            return is_drawn, torch.where(of_rows, factor, 1.0), of_rows.to(c.dtype)
        if self.estimator == "sampled":
            is_drawn, factors = self._draw_few_rows(batch, c)
            return is_drawn, torch.where(factors > 0, factors, 1.0).expand_as(c), factors * c
        if self._is_exact_now():
            return by_row(c > 0).any(dim=1), torch.ones_like(c), c
        return *self._draw_rows(batch, c), None

    # State

    def _own_state(self) -> dict[str, Any]:
        return {
            **super()._own_state(),
            "strength": self.strength,
            "estimator": self.estimator,
            "row_weights": self.row_weights,
            "direction_decay": self.direction_decay,
            "row_share": self.row_share,
            "every": self.every,
            "seed": self.seed,
            "item_weights": self.item_weights.clone(),
            "kept_direction": saved(self._kept_direction),
        }

    def _load_own_state(self, state: dict[str, Any]) -> None:
        weights: Tensor = state["item_weights"]
        if weights.shape != self.item_weights.shape:
            raise ValueError(
                f"state_dict must hold weights of {self.item_weights.numel()} items; got {weights.numel()}. "
                "The checkpoint belongs to another catalogue."
            )
        if state["estimator"] != self.estimator:
            raise ValueError(
                f"state_dict must be of estimator {self.estimator!r}; got {state['estimator']!r}."
            )
        kept = restored(state["kept_direction"], self.perturbed_parameters(), "a direction")
        super()._load_own_state(state)
        self.item_weights = weights.to(self.item_weights.device)
        self._kept_direction = kept
        for name in ("strength", "row_weights", "direction_decay", "row_share", "every", "seed"):
            setattr(self, name, state[name])
