"""Every training method by its name: which settings it takes, their defaults, and how it is built."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from tailwise.errors import ConfigError
from tailwise.optim import (
    ASAM,
    EISAM,
    ERM,
    SAM,
    FocalSAM,
    GroupSAM,
    ImbSAM,
    LookSAM,
    MomentumSAM,
    PerTargetOptimizer,
    item_weights,
)
from tailwise.segments import segment_items

__all__ = ["METHODS", "Method", "check_settings", "radii_of_groups", "settings_in_use", "unused_settings"]

Parameters = Iterable[Any]
_TOY_COUNTS = torch.arange(1, 101)  # enough items for any number of groups


@dataclass(frozen=True)
class Method:
    """A training method.

    Attributes:
        title: What people read.
        defaults: Every setting that it takes; names are those of its constructor.
        shown: The settings that its label always states.
        make: From parameters, base optimizer, training counts ``[n_items]``, seed and the settings in use
            to the optimizer.
    """

    title: str
    defaults: Mapping[str, Any]
    shown: tuple[str, ...]
    make: Callable[[Parameters, type[Optimizer], Tensor, int, dict[str, Any]], PerTargetOptimizer]

    def build(
        self, params: Parameters, counts: Tensor, seed: int, settings: Mapping[str, Any]
    ) -> PerTargetOptimizer:
        """Return the optimizer, over AdamW.

        Args:
            params: As for any optimizer.
            counts: ``[n_items]`` int64; training interactions.
            seed: Of the draw of rows, where rows are drawn.
            settings: Those in use; see :func:`settings_in_use`.

        Raises:
            ValueError: a setting is out of range, or does not fit parameters or counts.
        """
        return self.make(params, AdamW, counts, seed, dict(settings))


class _AllCheckedError(Exception):
    """Says that a method asked for its base optimizer: it has nothing against its settings."""


class _NoBase(Optimizer):
    """Stands in for a base optimizer. A real one costs the import of torch's compiler, a second and more."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise _AllCheckedError


def check_settings(optimizer: str, settings: Mapping[str, Any]) -> None:
    """Let a method judge its settings, before any work rather than after.

    Every method looks at them before it makes its base optimizer, and is stopped there. Whether a pattern of
    ``perturb`` matches, only the recommender's own parameters can tell.

    Args:
        optimizer: A name in :data:`METHODS`.
        settings: Those in use; see :func:`settings_in_use`.

    Raises:
        ValueError: a setting is out of range.
    """
    try:
        METHODS[optimizer].make((), _NoBase, _TOY_COUNTS, 0, dict(settings))
    except _AllCheckedError:
        return
    raise TypeError(f"method {optimizer} must make the base optimizer that it is given; it did not.")


def settings_in_use(optimizer: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return every setting that a method uses: those given, the others at their defaults.

    Args:
        optimizer: A name in :data:`METHODS`.
        given: The settings that somebody chose.

    Raises:
        ConfigError: a given setting would do nothing; the message says why.
    """
    for reason in unused_settings(optimizer, given).values():
        raise ConfigError(reason)
    settings = {**METHODS[optimizer].defaults, **given}
    unused = unused_settings(optimizer, settings)
    return {name: value for name, value in settings.items() if name not in unused}


def unused_settings(optimizer: str, given: Mapping[str, Any]) -> dict[str, str]:
    """Return which settings would do nothing, and why: the method does not take them, or not in this case."""
    taken = METHODS[optimizer].defaults
    settings = {**taken, **given}
    reasons = {}
    for name, value in given.items():
        other, values = _ONLY_WITH.get(name, ("", ()))
        if name not in taken:
            listed = ", ".join(taken) or "no settings of its own"
            reasons[name] = (
                f"{name} must be left out for {optimizer}, which does not use it; got {_text(value)}. "
                f"{optimizer} takes {listed}."
            )
        elif other in settings and settings[other] not in values:
            needed = " or ".join(_text(v) for v in values)
            reasons[name] = (
                f"{name} must be left out where {optimizer} does not use it; got {name}={_text(value)} with "
                f"{other}={_text(settings[other])}. It goes with {other}={needed}."
            )
    return reasons


# Settings that count only beside certain values of another, where a method takes both.
_ONLY_WITH: dict[str, tuple[str, tuple[Any, ...]]] = {
    "eta": ("adaptive", (True,)),
    "gamma": ("weights", ("power", "rank", "focal-max")),
    "head_share": ("weights", ("step",)),
    "row_weights": ("estimator", ("single-pass", "sampled", "every-k")),
    "direction_decay": ("estimator", ("single-pass",)),
    "row_share": ("estimator", ("sampled",)),
    "every": ("estimator", ("every-k",)),
}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _imbsam(
    params: Parameters, base: type[Optimizer], counts: Tensor, _seed: int, settings: dict[str, Any]
) -> PerTargetOptimizer:
    is_tail = item_weights(counts, "step", head_share=settings.pop("head_share")) == 1
    return ImbSAM(params, base, tail_items=is_tail, **settings)


def _group_sam(
    params: Parameters, base: type[Optimizer], counts: Tensor, _seed: int, settings: dict[str, Any]
) -> PerTargetOptimizer:
    groups, radii = radii_of_groups(counts, settings.pop("n_groups"), gamma=settings.pop("gamma"))
    return GroupSAM(params, base, item_groups=groups, rhos=radii, **settings)


def _eisam(
    params: Parameters, base: type[Optimizer], counts: Tensor, seed: int, settings: dict[str, Any]
) -> PerTargetOptimizer:
    emphasis = {name: settings.pop(name) for name in ("gamma", "head_share") if name in settings}
    weights = item_weights(counts, settings.pop("weights"), **emphasis)
    return EISAM(params, base, item_weights=weights, seed=seed, **settings)


def radii_of_groups(counts: Tensor, n_groups: int, *, gamma: float) -> tuple[Tensor, list[float]]:
    """Part the catalogue into groups by popularity and give each a radius, larger for rarer items.

    The groups are those of the segment rule ``quantiles``: equal numbers of trained items, equal
    counts together; items never trained on join the rarest. With ``m_g`` the mean training count of
    group g's trained items, its radius is ``(m_rarest / m_g) ** gamma``: 1 for the rarest group, and
    less the more popular the items. At 1/4 it falls with the count as CC-SAM's does with the size of
    a class.

    Args:
        counts: ``[n_items]`` int64; training interactions.
        n_groups: From 2 to 100.
        gamma: Tail emphasis, dimensionless, >= 0; at 0 all groups have the same radius.

    Returns:
        ``[n_items]`` int64, the group of each item, 0 for the most popular; and a radius in
        [0, 1] per group, 0 for one that ties left without items.

    Raises:
        ValueError: a parameter is out of range.

    Example:
        >>> radii_of_groups(torch.tensor([48, 32, 3, 2, 0]), 2, gamma=0.5)
        (tensor([0, 0, 1, 1, 1]), [0.25, 1.0])
    """
    if not 0 <= gamma < float("inf"):
        raise ValueError(f"gamma must be a finite number >= 0; got {gamma}.")
    segments = segment_items(counts.numpy(), "quantiles", n_groups=n_groups)
    groups = torch.from_numpy(segments.labels.astype("int64")).clamp_max(n_groups - 1)
    is_trained = counts > 0
    n_trained = torch.bincount(groups[is_trained], minlength=n_groups)
    mean = torch.bincount(groups[is_trained], counts[is_trained].double(), n_groups) / n_trained.clamp_min(1)
    radii = torch.where(n_trained > 0, (mean[-1] / mean.clamp_min(1)) ** gamma, 0.0)
    return groups, radii.tolist()


_MOVING = {
    "rho": 0.05,
    "perturb": "shared",
    "relative": False,
    "adaptive": False,
    "eta": 0.01,
    "start_step": 0,
}

METHODS = {
    "adamw": Method("AdamW", {}, (), lambda params, base, _c, _s, own: ERM(params, base, **own)),
    "sam": Method("SAM", _MOVING, ("rho",), lambda params, base, _c, _s, own: SAM(params, base, **own)),
    "asam": Method(
        "ASAM",
        {name: value for name, value in _MOVING.items() if name != "adaptive"} | {"rho": 0.5},
        ("rho",),
        lambda params, base, _c, _s, own: ASAM(params, base, **own),
    ),
    "imbsam": Method("ImbSAM", {**_MOVING, "head_share": 0.2}, ("rho",), _imbsam),
    "focal-sam": Method(
        "Focal-SAM",
        {**_MOVING, "strength": 0.8, "gamma": 1.0},
        ("rho", "strength", "gamma"),
        lambda params, base, counts, _s, own: FocalSAM(params, base, counts=counts, **own),
    ),
    "group-sam": Method(
        "Group-SAM", {**_MOVING, "n_groups": 3, "gamma": 0.25}, ("rho", "n_groups"), _group_sam
    ),
    "looksam": Method(
        "LookSAM",
        {**_MOVING, "every": 5, "alpha": 0.7},
        ("rho", "every"),
        lambda params, base, _c, _s, own: LookSAM(params, base, **own),
    ),
    "momentum-sam": Method(
        "Momentum-SAM",
        {**_MOVING, "ascend": False},
        ("rho",),
        lambda params, base, _c, _s, own: MomentumSAM(params, base, **own),
    ),
    "eisam": Method(
        "EISAM",
        {
            **_MOVING,
            "rho": 0.1,
            "perturb": "all",
            "strength": 1.0,
            "weights": "rank",
            "gamma": 1.0,
            "head_share": 0.2,
            "estimator": "sampled",
            "row_weights": "unbiased",
            "direction_decay": 0.9,
            "row_share": 0.1,
            "every": 5,
        },
        ("estimator", "every", "rho", "strength", "weights", "perturb"),
        _eisam,
    ),
}
