"""Plain training behind the same interface: the baseline of every comparison."""

from torch import Tensor

from tailwise.optim._wrapper import LossFunction, PerTargetOptimizer

__all__ = ["ERM"]


class ERM(PerTargetOptimizer):
    """Empirical risk minimisation: the base optimizer on the mean loss, nothing else.

    Price: one forward and one backward per step.

    Example:
        >>> import torch
        >>> theta = torch.nn.Parameter(torch.tensor([3.0]))
        >>> optimizer = ERM([theta], torch.optim.SGD, lr=0.5)
        >>> float(optimizer.step(lambda rows: 0.5 * theta.expand(len(rows)) ** 2, torch.tensor([0])))
        4.5
        >>> theta.item()
        1.5
    """

    def compute_gradient(self, loss_fn: LossFunction, items: Tensor) -> Tensor:
        """Set ``.grad`` to the gradient of the mean loss; see the base class for the arguments."""
        return self._mean_loss_gradient(loss_fn, items)
