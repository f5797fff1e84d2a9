"""Parameters shared out over processes (FSDP2), and their state as one process alone would have it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

from tailwise.optim import PerTargetOptimizer, held_like, whole
from tailwise.training._processes import Processes

__all__ = ["held_state", "shard", "whole_state"]

_ENTRANCES = ("losses", "scores")  # methods through which parameters are used


def shard(recommender: nn.Module, processes: Processes) -> None:
    """Leave this process a shard of every parameter, in place; call it before an optimizer is made.

    Layers of the backbone are gathered one at a time, when they are used, and let go again; what is
    around them is gathered for the whole of a call.

    Args:
        recommender: With ``losses`` and ``scores``; the same parameters in every process.
        processes: All of them call this.
    """
    # Here, not above: it loads torch's compiler, and whoever only serves or ranks would wait a second for it.
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(processes.device.type, (processes.size,))
    for layer in _layers(recommender):
        fully_shard(layer, mesh=mesh)
    fully_shard(recommender, mesh=mesh, reshard_after_forward=True)
    for entrance in _ENTRANCES:
        register_fsdp_forward_method(recommender, entrance)


def _layers(recommender: nn.Module) -> list[nn.Module]:
    """The layers of the backbone: the longest list of modules in it."""
    lists = [list(module) for module in recommender.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len, default=[])


def whole_state(state: Any) -> Any:
    """Return nested dicts, lists and tuples with every sharded tensor made whole; all processes call this."""
    return _mapped(state, whole)


def held_state(state: dict[str, Any], optimizer: PerTargetOptimizer) -> dict[str, Any]:
    """Return an optimizer's whole state as this process holds it, for ``optimizer.load_state_dict``."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    held = {
        index: {
            name: held_like(value, parameters[index]) if _is_like(value, parameters[index]) else value
            for name, value in moments.items()
        }
        for index, moments in state["state"].items()
    }
    return {**state, "state": held}


def _is_like(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(entry, change) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(entry, change) for entry in value)
    return value
