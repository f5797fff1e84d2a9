"""Adaptive sharpness-aware minimisation: the radius follows the size of each parameter entry."""

from collections.abc import Iterable
from typing import Any

from torch.optim import Optimizer

from tailwise.optim._sam import SAM

__all__ = ["ASAM"]


class ASAM(SAM):
    """Adaptive SAM: large entries of θ move far, small ones little.

    With ``T = |θ| + η`` entry by entry, and ``g`` the gradient of the mean loss at θ::

        ε = ρ · T² g / ‖T g‖₂

    and the base optimizer gets the gradient at θ+ε. Up to η, sharpness measured like this
    does not change when one layer is scaled up and the next one down. Price: two forwards
    and two backwards. The same as ``SAM(..., adaptive=True)``.

    Departure: every perturbed parameter is scaled. The authors' code leaves T at 1 for
    parameters without "weight" in their name, so that biases move as under SAM; names say
    little across language models and adapters, and adapters have no biases. To keep
    biases still, put them into a group with ``"perturb": False``.

    Adapters often start with one factor at zero. There T is η, so that this factor hardly
    moves until it has grown.

    Args:
        params: As for ``torch.optim.Optimizer``; groups may say ``"perturb": False`` or
            ``"per_item": True``.
        base_optimizer: Class of the base optimizer.
        rho: Radius ρ, dimensionless, >= 0; about ten times that of SAM. 0.5 is the paper's for
            small images.
        eta: Floor of T, in the units of the parameters, >= 0.
        **arguments: As for :class:`PerturbingOptimizer`, and those of ``base_optimizer``.

    Raises:
        ValueError: an argument is out of range, or a perturbed parameter is in less than
            float32.

    Example:
        >>> theta = torch.nn.Parameter(torch.tensor([3.0, 1.0]))
        >>> optimizer = ASAM([theta], torch.optim.SGD, rho=0.5, eta=0.0, lr=1.0)
        >>> _ = optimizer.compute_gradient(lambda rows: theta[rows] ** 2 / 2, torch.tensor([0, 1]))
        >>> theta.grad  # T²g ∝ (27, 1), ‖T g‖ ∝ √82: at θ + 0.5 (27, 1)/√82, over two targets
        tensor([2.2454, 0.5276])

    Reference:
        Kwon et al., ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning
        of Deep Neural Networks (arXiv:2102.11600), algorithm 1.
    """

    def __init__(
        self,
        params: Iterable[Any],
        base_optimizer: type[Optimizer],
        *,
        rho: float = 0.5,
        eta: float = 0.01,
        **arguments: Any,
    ) -> None:
        super().__init__(params, base_optimizer, rho=rho, adaptive=True, eta=eta, **arguments)
