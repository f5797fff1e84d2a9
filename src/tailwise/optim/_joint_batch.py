"""The batch of one update: its rows in micro-batches, over all ranks.

Enters a loss function and target items; leaves gradients of weighted sums of the losses. What
a method is made of, it says in weights per target; how many evaluations and processes that takes
is settled here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tailwise.optim._randomness import RandomState
from tailwise.optim._ranks import Ranks
from tailwise.optim._row_draw import by_row

__all__ = ["JointBatch", "LossFunction"]

LossFunction = Callable[[Tensor], Tensor]
"""Takes ``rows`` (int64 ``[n]``, positions in the batch) and returns their losses:
``[n]`` or ``[n, positions]``, one per target, differentiable."""


@dataclass(frozen=True)
class _FirstEvaluation:
    """What a second evaluation of the same micro-batch needs to know."""

    rows: Tensor
    random_state: RandomState
    has_drawn: bool  # random numbers; dropout masks depend on the shape of all that is evaluated


class JointBatch:
    """All targets of one update, of this rank and of the others.

    Args:
        loss_fn: See :data:`LossFunction`; called with rows of one micro-batch at a time.
        items: ``[rows]`` or ``[rows, positions]`` int64; this rank's target items, -1 where
            there is no target.
        parameters: All trainable parameters: those that may receive a gradient.
        ranks: The processes; see :class:`Ranks`.
        rows_at_once: Rows per evaluation: a number, the sizes of consecutive micro-batches, or
            None for all at once.
        normalizer: What sums of losses are divided by; None for the number of targets of all
            ranks.
        loss_scale: Factor on what is differentiated, as a ``GradScaler`` has it; ``.grad``
            is left with it, :meth:`gradients` is not.

    Raises:
        ValueError: no rank has a target, or ``rows_at_once`` does not fit the rows.
    """

    def __init__(
        self,
        loss_fn: LossFunction,
        items: Tensor,
        parameters: Sequence[Tensor],
        ranks: Ranks,
        *,
        rows_at_once: int | Sequence[int] | None = None,
        normalizer: float | None = None,
        loss_scale: float = 1.0,
    ) -> None:
        self.items = items
        self.has_target = items >= 0
        self.rows_with_target = by_row(self.has_target).any(dim=1)  # [rows]
        self.ranks = ranks
        self._loss_fn = loss_fn
        self._parameters = parameters
        self._loss_scale = loss_scale
        n_targets = ranks.total(self.has_target.sum())
        if int(n_targets) == 0:
            raise ValueError("items must name a target in at least one place; got -1 everywhere.")
        self._normalizer = (
            n_targets if normalizer is None else torch.as_tensor(normalizer, device=items.device)
        )
        self._passes = _passes(len(items), rows_at_once, items.device)
        if ranks.reduces_in_backward:
            counts, _ = ranks.gathered(torch.tensor([len(self._passes)], device=items.device))
            nothing = torch.arange(0, device=items.device)
            self._passes += [nothing] * (int(counts.max()) - len(self._passes))
        self._first: list[_FirstEvaluation | None] = [None] * len(self._passes)
        self._bad_of_all = torch.zeros(2, dtype=torch.int64, device=items.device)  # losses not finite, losses
        self._is_summed = False

    # Questions to all ranks

    def any(self, values: Tensor) -> bool:
        """Whether a value is true on any rank."""
        return bool(self.ranks.total(values.any().to(torch.int64)) > 0)

    def common_value(self, values: Tensor) -> float | None:
        """The value that ``values`` ``[n]`` have on all ranks; None where they differ or there are none."""
        of_all, _ = self.ranks.gathered(values)
        return float(of_all[0]) if len(of_all) > 0 and bool((of_all == of_all[0]).all()) else None

    # Gradients

    def clear(self) -> None:
        """Drop what is in ``.grad``."""
        for p in self._parameters:
            p.grad = None

    def add_gradient(
        self, weights: Tensor | None = None, *, only: Tensor | None = None, again: bool = False
    ) -> Tensor:
        """Add ``(1/N) Σ weight_j ∇l_j`` of this rank's targets to ``.grad``.

        Args:
            weights: In the shape of ``items``; None for 1.
            only: ``[rows]`` bool; rows to evaluate, None for all. The others' gradient is not there.
            again: Draw the random numbers (dropout masks) of the rows' first evaluation. Where
                there are any, all rows evaluated then are evaluated now.

        Returns:
            Scalar, detached: ``(1/N) Σ l_j`` over the rows evaluated, unweighted, of this rank.
        """
        loss = torch.zeros((), device=self.items.device)

        def add(rows: Tensor, losses: Tensor) -> None:
            nonlocal loss
            torch.autograd.backward(self._objective(losses, weights, rows))
            loss = loss + losses.detach().sum() / self._normalizer

        self._for_each_pass(add, only, again=again)
        return loss

    def gradients(
        self,
        weights: Sequence[Tensor | None],
        moved: Sequence[Tensor],
        *,
        with_remainder: bool = False,
        only: Tensor | None = None,
    ) -> tuple[Tensor, list[list[Tensor]]]:
        """Gradients of several weighted sums at once, from one graph where that can be.

        Args:
            weights: One set of weights, in the shape of ``items``, per gradient; None for 1.
            moved: With respect to which parameters.
            with_remainder: Leave this rank's gradient of what the weights leave of each target,
                1 less their sum, in ``.grad`` of all parameters; None is there otherwise.
            only: As in :meth:`add_gradient`.

        Returns:
            This rank's ``(1/N) Σ l_j``, and for each set of weights a tensor per parameter, of
            the joint batch.
        """
        self.clear()
        if self.ranks.reduces_in_backward:
            return self._gradients_by_backward(weights, moved, with_remainder, only)
        loss = torch.zeros((), device=self.items.device)
        sums: list[list[Tensor]] = [[] for _ in weights]

        def add(rows: Tensor, losses: Tensor) -> None:
            nonlocal loss
            for n, w in enumerate(weights):
                gradient = torch.autograd.grad(
                    self._objective(losses, w, rows),
                    moved,
                    retain_graph=with_remainder or n + 1 < len(weights),
                    allow_unused=True,
                    materialize_grads=True,
                )
                sums[n] = (
                    [a + b for a, b in zip(sums[n], gradient, strict=True)] if sums[n] else list(gradient)
                )
            if with_remainder:
                torch.autograd.backward(self._objective(losses, self._remainder(weights, losses), rows))
            loss = loss + losses.detach().sum() / self._normalizer

        self._for_each_pass(add, only)
        whole = [self.ranks.summed(s or [torch.zeros_like(p) for p in moved]) for s in sums]
        return loss, [self._unscaled(gradient) for gradient in whole]

    def _gradients_by_backward(
        self,
        weights: Sequence[Tensor | None],
        moved: Sequence[Tensor],
        with_remainder: bool,
        only: Tensor | None,
    ) -> tuple[Tensor, list[list[Tensor]]]:
        """One evaluation per gradient: a sharded module gives gradients to ``.grad`` and frees its graph."""
        loss = torch.zeros((), device=self.items.device)
        out = []
        for n, w in enumerate(weights):
            loss = self.add_gradient(w, only=only, again=n > 0)
            out.append(self.seen(moved))
            self.clear()
        if with_remainder:
            of_remainder = self.add_gradient(self._remainder(weights, loss), only=only, again=bool(weights))
            loss = loss if weights else of_remainder
        return loss, out

    def seen(self, moved: Sequence[Tensor]) -> list[Tensor]:
        """What is in ``.grad`` of ``moved`` by now, of the joint batch, zero where there is nothing."""
        here = [torch.zeros_like(p) if p.grad is None else p.grad.detach() for p in moved]
        return self._unscaled(self.ranks.summed(here))

    def sum_gradients(self) -> None:
        """Make ``.grad`` the joint batch's, once; a parameter that no rank used keeps None."""
        if self._is_summed or self.ranks.size == 1 or self.ranks.reduces_in_backward:
            return
        self._is_summed = True
        has_gradient = torch.tensor([p.grad is not None for p in self._parameters], device=self.items.device)
        is_used = self.ranks.total(has_gradient.to(torch.int64)).tolist()
        used = [p for p, n in zip(self._parameters, is_used, strict=True) if n > 0]
        here = [torch.zeros_like(p) if p.grad is None else p.grad for p in used]
        for p, gradient in zip(used, self.ranks.summed(here), strict=True):
            p.grad = gradient

    # Evaluations

    def _for_each_pass(
        self, use: Callable[[Tensor, Tensor], None], only: Tensor | None, *, again: bool = False
    ) -> None:
        """Hand rows and losses of each micro-batch to ``use``; its graph is freed before the next one's."""
        for k, all_rows in enumerate(self._passes):
            rows = all_rows if only is None else all_rows[only[all_rows]]
            first = self._first[k] if again else None
            if first is not None and first.has_drawn:
                rows = first.rows
            if len(rows) == 0 and not self.ranks.reduces_in_backward:
                continue
            if first is not None:
                with first.random_state.replayed():
                    use(*self._evaluate(rows))
                continue
            random_state = RandomState(self.items.device)
            use(*self._evaluate(rows))
            self._first[k] = _FirstEvaluation(rows, random_state, random_state.has_changed())
        self._check()

    def _evaluate(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Losses of ``rows``, zero where there is no target."""
        is_dummy = len(rows) == 0  # the others wait in the forward: join them, at weight zero
        asked = torch.zeros(1, dtype=torch.int64, device=self.items.device) if is_dummy else rows
        losses = self._loss_fn(asked)
        part = self.has_target[asked]
        if losses.shape != part.shape:
            raise ValueError(
                f"loss_fn must return one loss per target, shape {tuple(part.shape)}; got "
                f"{tuple(losses.shape)}. Use reduction='none'."
            )
        if is_dummy:
            return asked, losses * 0
        losses = torch.where(part, losses, torch.zeros_like(losses))
        n_bad = (~torch.isfinite(losses.detach())).sum()
        self._bad_of_all = self._bad_of_all + torch.stack([n_bad, part.sum()])
        if self.ranks.size == 1:
            self._check()
        return rows, losses

    def _check(self) -> None:
        """Refuse losses that are not finite, on all ranks together: the others would wait for ever."""
        n_bad, n = self.ranks.total(self._bad_of_all).tolist()
        if n_bad > 0:
            raise FloatingPointError(
                f"losses must be finite; got {n_bad} of {n} that are not. "
                "Parameters are unchanged; lower the learning rate or rho, or inspect the batch."
            )

    def _objective(self, losses: Tensor, weights: Tensor | None, rows: Tensor) -> Tensor:
        weighted = losses if weights is None else weights[rows].to(losses.dtype) * losses
        objective = weighted.sum() / self._normalizer
        # A sharded backward takes the mean over the ranks where the sum is meant.
        factor = self._loss_scale * (self.ranks.size if self.ranks.reduces_in_backward else 1)
        return objective if factor == 1 else objective * factor

    def _remainder(self, weights: Sequence[Tensor | None], like: Tensor) -> Tensor:
        """1 less the sum of the weights of each target, in the precision of the losses."""
        whole = torch.ones(self.items.shape, dtype=like.dtype, device=like.device)
        for w in weights:
            whole = whole - (1 if w is None else w.to(like.dtype))
        return whole

    def _unscaled(self, gradients: list[Tensor]) -> list[Tensor]:
        return gradients if self._loss_scale == 1 else [g / self._loss_scale for g in gradients]


def _passes(n_rows: int, rows_at_once: int | Sequence[int] | None, device: torch.device) -> list[Tensor]:
    """Rows of each evaluation."""
    rows = torch.arange(n_rows, device=device)
    if rows_at_once is None:
        return [rows]
    if isinstance(rows_at_once, int):
        if rows_at_once < 1:
            raise ValueError(f"rows_at_once must be >= 1; got {rows_at_once}.")
        return list(torch.split(rows, rows_at_once)) if n_rows > 0 else []
    sizes = list(rows_at_once)
    if any(size < 1 for size in sizes) or sum(sizes) != n_rows:
        raise ValueError(
            f"rows_at_once must be sizes >= 1 that add up to the {n_rows} rows of items; got {sizes}."
        )
    return list(torch.split(rows, sizes)) if sizes else []
