"""What a trainer needs to know of EISAM, beside its own arguments."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.optim import Optimizer

from tailwise.optim import EISAM, PerTargetOptimizer, Ranks

__all__ = ["EISAMSettings"]


@dataclass(frozen=True)
class EISAMSettings:
    """EISAM around the optimizer that the trainer makes; see :class:`tailwise.optim.EISAM`.

    Attributes:
        item_weights: ``[n_items]`` floating in [0, 1]; from ``tailwise.optim.item_weights(counts)``.
        rho: Radius ρ of the perturbation, in the units of the parameters, >= 0. At 0 training is the
            trainer's own, up to rounding.
        strength: λ in [0, 1].
        estimator: ``"single-pass"`` costs one forward and one backward; ``"exact"`` two and
            three. ``"sampled"`` and ``"every-k"`` lie between.
        row_weights: ``"unbiased"`` or ``"unit"``; of all but ``exact``.
        direction_decay: Of the average behind ε in ``single-pass``, in [0, 1).
        row_share: Of ``sampled``, in (0, 1].
        every: k of ``every-k``, in steps, >= 1.
        adaptive: Scale ε by the size of each parameter entry.
        relative: Take ρ in units of the norm of what is perturbed.
        perturb: ``"all"`` that is trained, or shell patterns of parameter names, such as
            ``"*lora_*"``.
        start_step: Steps of plain training before the first perturbation, >= 0.
        rho_schedule: From the number of steps taken to a factor of ρ. Give it again on resuming.
        item_column: Column of the data with the item each example is about: an integer, a
            position in ``item_weights``.
        keep_precision: Compute with perturbed parameters in float32 where the rest runs in
            mixed precision, which would swallow most of ε. What is perturbed should then be
            small, as adapters are.
        diagnose_steps: Every so many updates, compare ε with the exact one on the first
            micro-batch, for one more forward and backward, and log what comes out; 0 for never.
    """

    item_weights: Tensor
    rho: float
    strength: float = 1.0
    estimator: str = "single-pass"
    row_weights: str = "unbiased"
    direction_decay: float = 0.9
    row_share: float = 1 / 20
    every: int = 5
    adaptive: bool = False
    relative: bool = False
    perturb: str | Sequence[str] = "all"
    start_step: int = 0
    rho_schedule: Callable[[int], float] | None = None
    item_column: str = "item"
    keep_precision: bool = True
    diagnose_steps: int = 0

    def around(self, base: Optimizer, *, ranks: Ranks, seed: int) -> PerTargetOptimizer:
        """EISAM over an optimizer that exists already, whose groups and state it shares.

        Raises:
            ValueError: a setting is out of range; see :class:`tailwise.optim.EISAM`.
        """

        def as_it_is(*_: object, **__: object) -> Optimizer:
            return base

        return EISAM(
            [],
            as_it_is,  # type: ignore[arg-type]  # called once, for an optimizer
            item_weights=self.item_weights,
            rho=self.rho,
            strength=self.strength,
            estimator=self.estimator,
            row_weights=self.row_weights,
            direction_decay=self.direction_decay,
            row_share=self.row_share,
            every=self.every,
            adaptive=self.adaptive,
            relative=self.relative,
            perturb=self.perturb,
            start_step=self.start_step,
            rho_schedule=self.rho_schedule,
            ranks=ranks,
            seed=seed,
        )
