"""The settings of an audit, beside those of the run or the data that is audited."""

from dataclasses import dataclass, field

from tailwise.errors import ConfigError

__all__ = ["ESTIMATORS", "AuditConfig"]

ESTIMATORS = ("title-likelihood", "output-frequency", "pairwise")
_CHOICES = {
    "sharpness": ("off", "directions", "hessian"),
    "unknown": ("error", "drop"),
    "repeated_items": ("error", "drop"),
}


@dataclass(frozen=True)
class AuditConfig:
    """What an audit asks.

    Attributes:
        recommendations: Path of lists that any system made; None audits a run's models.
        exposure_only: Do not look for held-out targets in those lists: who is shown, not who is found.
        lists_columns: From our column names to those of that file.
        unknown: What to do with rows of the lists whose user or item is not in the data: ``error`` or
            ``drop`` (counted).
        repeated_items: What to do with an item that is twice in a user's list: ``error`` or ``drop``.
        kind: What an item is, as prompts say it ("movie"); None takes what is known of a named
            data set, or "product".
        estimators: Of the language model's prior; the first is always computed, as the
            attribution needs it.
        k: Cut-off of all lists and of NDCG, 1 to 50.
        n_pairwise_items: Items that are compared in pairs, >= 10.
        n_frequency_users: Users whose histories the un-tuned model continues, >= 6, one per prompt.
        sharpness: ``off``, ``directions``, or ``hessian`` for its top eigenvalues as well; of the
            models of a run.
        shuffle_titles: Train the baseline again with titles shuffled among items: the prior's
            share must vanish. Costs a training per seed.
        n_permutations: Of the attribution's tests, >= 19.
        seed: Of all draws.
    """

    recommendations: str | None = None
    exposure_only: bool = False
    lists_columns: dict[str, str] = field(default_factory=dict)
    unknown: str = "error"
    repeated_items: str = "error"
    kind: str | None = None
    estimators: tuple[str, ...] = ESTIMATORS
    k: int = 10
    n_pairwise_items: int = 300
    n_frequency_users: int = 240
    sharpness: str = "directions"
    shuffle_titles: bool = False
    n_permutations: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        if not set(self.estimators) <= set(ESTIMATORS) or ESTIMATORS[0] not in self.estimators:
            raise ConfigError(
                f"audit.estimators must be of {', '.join(ESTIMATORS)}, with {ESTIMATORS[0]}; got "
                f"{', '.join(self.estimators) or 'none'}."
            )
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"audit.{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}."
                )
        if self.exposure_only and self.recommendations is None:
            raise ConfigError(
                "audit.exposure_only needs recommendations; got none. Models of a run have held-out targets."
            )
        if self.kind is not None and not self.kind.strip():
            raise ConfigError("audit.kind must be a noun such as 'movie'; got an empty text.")
        for name, least, most in (
            ("k", 1, 50),
            ("n_pairwise_items", 10, None),
            ("n_frequency_users", 6, None),
            ("n_permutations", 19, None),
            ("seed", 0, None),
        ):
            value = getattr(self, name)
            if value < least or (most is not None and value > most):
                limits = f">= {least}" if most is None else f"in {least}..{most}"
                raise ConfigError(f"audit.{name} must be {limits}; got {value}.")
