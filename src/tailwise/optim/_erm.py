"""Plain training behind the same interface: the baseline of every comparison."""

from torch import Tensor

from tailwise.optim._joint_batch import JointBatch
from tailwise.optim._wrapper import PerTargetOptimizer

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

    def _gradient(self, batch: JointBatch) -> Tensor:
        return self._mean_loss_gradient(batch)
