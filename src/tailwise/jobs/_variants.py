"""One way to train the recommender: a method, its settings, and what goes with any method."""

import math
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from torch import Tensor

from tailwise.errors import ConfigError
from tailwise.jobs._methods import METHODS, check_settings, settings_in_use, unused_settings
from tailwise.optim import PerTargetOptimizer, Ranks

__all__ = ["FOLDER_NAME_RULE", "VariantConfig", "is_folder_name", "make_optimizer", "recorded_settings"]

BASELINE_OPTIMIZER = "adamw"
FOLDER_NAME_RULE = "usable as a folder's: at most 200 letters, digits and =,+-._, not starting with a dot"
_FOLDER_NAME = re.compile(r"[\w=,+-][\w=,+.-]{0,199}")  # file systems end at 255 bytes


def is_folder_name(name: str) -> bool:
    """Whether a name obeys :data:`FOLDER_NAME_RULE`."""
    return _FOLDER_NAME.fullmatch(name) is not None


@dataclass(frozen=True)
class VariantConfig:
    """One way to train the recommender.

    A setting that the optimizer does not use is refused when it is given, and None when it is
    not; one that it uses and that is not given takes the optimizer's default. The last four go
    with any optimizer.

    Attributes:
        name: Of the folder and in all results; unique in a run.
        optimizer: A name in ``METHODS``: ``adamw``, ``sam``, ``eisam``, ...
        rho: ρ, radius of the perturbation, >= 0, in the units of the parameters; with ``adaptive``
            or ``relative`` as said there.
        strength: λ of EISAM, in [0, 1], and of Focal-SAM, >= 0.
        weights: Scheme of EISAM's item weights.
        gamma: Tail emphasis, >= 0: of the weights, or of Group-SAM's radii.
        head_share: Share of trained items that form the head, in (0, 1): of the weights ``step``,
            and of ImbSAM.
        n_groups: Groups of items by popularity that Group-SAM perturbs apart, 2 to 100.
        estimator: Of EISAM's gradient: ``exact``, ``sampled``, ``single-pass`` or ``every-k``.
        row_weights: Of the estimators that draw rows: ``unbiased`` or ``unit``.
        direction_decay: Of the average behind ``single-pass``'s direction, in [0, 1).
        row_share: Of a batch's rows that ``sampled`` evaluates twice, in (0, 1].
        every: Steps from one full one to the next, >= 1: of ``every-k`` and LookSAM.
        alpha: Weight of LookSAM's remembered direction, >= 0.
        ascend: Momentum-SAM against its published sign: a control.
        perturb: What is moved: ``shared`` parameters, ``all``, or those whose names match a pattern.
        adaptive: Scale the perturbation by each entry's size, as ASAM does.
        eta: Floor of that size, in the units of the parameters, >= 0.
        relative: Take ρ in units of the norm of the perturbed parameters.
        start_step: Steps of plain training first, >= 0.
        logit_adjustment: τ >= 0, added on the loss side; 0 is off.
        reweighting: Power of the inverse count that weighs each target's loss, >= 0; 0 is off.
        reweighting_beta: β of the class-balanced loss, another way to weigh targets, in [0, 1); 0
            is off.
        resampling: Power of the inverse count that decides how often a history is drawn, >= 0; 0
            is off.
    """

    name: str
    optimizer: str = BASELINE_OPTIMIZER
    rho: float | None = None
    strength: float | None = None
    weights: str | None = None
    gamma: float | None = None
    head_share: float | None = None
    n_groups: int | None = None
    estimator: str | None = None
    row_weights: str | None = None
    direction_decay: float | None = None
    row_share: float | None = None
    every: int | None = None
    alpha: float | None = None
    ascend: bool | None = None
    perturb: str | None = None
    adaptive: bool | None = None
    eta: float | None = None
    relative: bool | None = None
    start_step: int | None = None
    logit_adjustment: float = 0.0
    reweighting: float = 0.0
    reweighting_beta: float = 0.0
    resampling: float = 0.0

    def __post_init__(self) -> None:
        if self.optimizer not in METHODS:
            raise ConfigError(
                f"variant optimizer must be one of {', '.join(METHODS)}; got {self.optimizer!r}."
            )
        try:
            for name, value in settings_in_use(self.optimizer, self.own_settings()).items():
                object.__setattr__(self, name, value)
            self._check_what_goes_with_any()
            check_settings(self.optimizer, self.own_settings())
        except (ConfigError, ValueError) as error:
            raise ConfigError(f"variant {self.name!r}: {error}") from None
        if not is_folder_name(self.name) or self.name == "data":
            raise ConfigError(f"variant name must be {FOLDER_NAME_RULE}, and not 'data'; got {self.name!r}.")

    def _check_what_goes_with_any(self) -> None:
        for name in ("logit_adjustment", "reweighting", "resampling"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ConfigError(f"{name} must be a finite number >= 0; got {value}.")
        if not 0 <= self.reweighting_beta < 1:
            raise ConfigError(f"reweighting_beta must be in [0, 1); got {self.reweighting_beta}.")
        if self.reweighting and self.reweighting_beta:
            raise ConfigError(
                "reweighting and reweighting_beta must not both be on, for each weighs every target; got "
                f"{self.reweighting} and {self.reweighting_beta}."
            )
        if self.perturb == "":
            raise ConfigError("perturb must be shared, all or a pattern of parameter names; got ''.")

    @classmethod
    def parse(cls, text: str) -> "VariantConfig":
        """Read ``optimizer`` or ``optimizer:setting=value,...``, as on the command line.

        Example:
            >>> VariantConfig.parse("eisam:rho=0.1,logit_adjustment=0.2").name
            'eisam-rho=0.1-logit_adjustment=0.2'
        """
        optimizer, _, rest = text.partition(":")
        parts = [part for part in rest.split(",") if part]
        settings: dict[str, Any] = {}
        for part in parts:
            key, _, value = part.partition("=")
            if key not in _KINDS:
                raise ConfigError(
                    f"variant {text!r} must use settings that exist; got {key!r}. {_known(optimizer)}"
                )
            if key in settings:
                raise ConfigError(f"variant {text!r} must give each setting once; got {key} twice.")
            settings[key] = _parse_value(text, key, value)
        # What a folder's name cannot hold, such as a pattern's asterisk, is left out of it.
        name = re.sub(r"[^\w=,+.-]", "", "-".join([optimizer, *parts]))
        return cls(**{"name": name, "optimizer": optimizer, **settings})

    @property
    def moves_by_name(self) -> bool:
        """True if ``perturb`` is a pattern, which may match no parameter of the recommender."""
        return self.perturb not in (None, "shared", "all")

    @property
    def is_plain(self) -> bool:
        """True if nothing is done for the tail: what other variants are compared with."""
        extras = (self.logit_adjustment, self.reweighting, self.reweighting_beta, self.resampling)
        return self.optimizer == BASELINE_OPTIMIZER and not any(extras)

    def own_settings(self) -> dict[str, Any]:
        """Return the settings that the optimizer uses, by name."""
        return {name: value for name in _OWN if (value := getattr(self, name)) is not None}

    def as_dict(self) -> dict[str, Any]:
        """Return all settings in use, name and optimizer too: what a record says of the variant."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def label(self) -> str:
        """What people read in tables: what tells variants of a method apart, then what is not default."""
        method = METHODS[self.optimizer]
        used = self.own_settings()
        extras = [n for n, value in used.items() if n not in method.shown and value != method.defaults[n]]
        texts = [_TEXTS[n].format(used[n]) for n in (*method.shown, *extras) if n in used]
        text = method.title + (f" ({', '.join(texts)})" if texts else "")
        for name, words in _ADDED.items():
            if value := getattr(self, name):
                text += f" + {words.format(value)}"
        return text


_ADDED = {
    "logit_adjustment": "logit adjustment τ={:g}",
    "reweighting": "re-weighting {:g}",
    "reweighting_beta": "re-weighting β={:g}",
    "resampling": "re-sampling {:g}",
}
_TEXTS = {
    "rho": "ρ={:g}",
    "strength": "λ={:g}",
    "weights": "{}",
    "gamma": "γ={:g}",
    "head_share": "head {:g}",
    "n_groups": "{} groups",
    "estimator": "{}",
    "row_weights": "{} row weights",
    "direction_decay": "decay {:g}",
    "row_share": "{:.3g} of rows",
    "every": "k={}",
    "alpha": "α={:g}",
    "ascend": "ascending",
    "perturb": "moving {}",
    "adaptive": "adaptive",
    "eta": "η={:g}",
    "relative": "relative ρ",
    "start_step": "from step {}",
}
_OWN = tuple(_TEXTS)
"""Fields that some optimizers take and others do not."""


def _kinds() -> dict[str, type]:
    """The kind of every setting that ``parse`` reads."""
    hints = typing.get_type_hints(VariantConfig)
    names = [f.name for f in fields(VariantConfig) if f.name != "optimizer"]
    return {name: next(iter(typing.get_args(hints[name])), hints[name]) for name in names}


_KINDS = _kinds()


def _parse_value(text: str, key: str, value: str) -> Any:
    kind = _KINDS[key]
    if kind is str:
        return value
    if kind is bool:
        if value not in ("true", "false"):
            raise ConfigError(f"{key} of variant {text!r} must be true or false; got {value!r}.")
        return value == "true"
    try:
        return kind(value)
    except ValueError:
        number = "a whole number" if kind is int else "a number"
        raise ConfigError(f"{key} of variant {text!r} must be {number}; got {value!r}.") from None


def _known(optimizer: str) -> str:
    own = METHODS[optimizer].defaults if optimizer in METHODS else _OWN
    return f"Known: {', '.join([*own, *_ADDED, 'name'])}."


def recorded_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a variant's settings as the version that recorded them meant them.

    Earlier versions recorded every setting of every variant; what the optimizer does not use is left out.
    And EISAM moved the shared parameters alone before that was a setting.

    Args:
        settings: Of a variant, as its run recorded them.
    """
    optimizer = settings.get("optimizer", BASELINE_OPTIMIZER)
    if optimizer not in METHODS:
        return dict(settings)
    own = {name: settings[name] for name in _OWN if settings.get(name) is not None}
    unused = unused_settings(optimizer, own)
    unsaid = {"perturb": "shared"} if optimizer == "eisam" else {}
    return unsaid | {name: value for name, value in settings.items() if name not in unused}


def make_optimizer(
    variant: VariantConfig, params: Iterable[Any], counts: Tensor, *, seed: int, ranks: Ranks | None = None
) -> PerTargetOptimizer:
    """Return the optimizer that a variant names.

    Args:
        variant: Which one, and its settings.
        params: Named parameters, or groups of them with their learning rates.
        counts: ``[n_items]`` int64; training interactions.
        seed: Of the training; it is also that of the draw of rows, where rows are drawn.
        ranks: The processes that train together; None for this one alone.

    Raises:
        ConfigError: a setting does not fit the parameters or the counts.
    """
    try:
        settings = variant.own_settings() | ({} if ranks is None else {"ranks": ranks})
        return METHODS[variant.optimizer].build(params, counts, seed, settings)
    except ValueError as error:
        raise ConfigError(f"variant {variant.name!r}: {error}") from None
