"""The settings of a run, and what each part of it means."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tailwise._settings import WRITTEN_WHEN_SET
from tailwise.errors import ConfigError
from tailwise.jobs._rescoring import RescoringConfig
from tailwise.jobs._variants import VariantConfig
from tailwise.recommenders import BackboneConfig, ItemTokenConfig, SASRecConfig, TitleConfig
from tailwise.recommenders._title import REFUSED_NEGATIVES, REFUSED_OFFSETS
from tailwise.segments import RULES
from tailwise.training import TrainingConfig

__all__ = [
    "DataConfig",
    "EvaluationConfig",
    "RunConfig",
    "SASRecReferenceConfig",
    "SegmentConfig",
]

_REFERENCES = ("most-popular", "item-knn", "sasrec")
_SPLITS = ("auto", "global-time", "leave-last-out")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} must be one of {', '.join(allowed)}; got {value!r}.")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name} must be >= {least}; got {value}.")


@dataclass(frozen=True)
class DataConfig:
    """Where the data comes from and how it is split.

    Attributes:
        name: A named data set, or None for files.
        interactions: Path of the interaction log; with ``items``, instead of ``name``.
        items: Path of the catalogue.
        columns: From our column names to the files' own.
        split: ``auto`` is the named data set's recommended split, and global time for files.
        validation_share: Of the interactions, under global time; in (0, 1).
        test_share: Of the interactions, under global time; in (0, 1).
        repeats: ``first`` counts only the first interaction of a user with an item; ``keep``
            counts all.
        unknown_items: What to do with interactions whose item is not in the catalogue:
            ``error`` or ``drop`` (counted in the data checks).
        split_seed: Of the hash that orders interactions with equal timestamps.
        training_histories: Users whose training parts are trained on, at most, >= 1; None takes all.
            Each training's seed draws its own, so that differences between seeds cover the
            draw. Popularity, segments, validation and test stay those of the whole log.
    """

    name: str | None = None
    interactions: str | None = None
    items: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    split: str = "auto"
    validation_share: float = 0.1
    test_share: float = 0.1
    repeats: str = "first"
    unknown_items: str = "error"
    split_seed: int = 0
    training_histories: int | None = None

    def __post_init__(self) -> None:
        from_files = self.interactions is not None or self.items is not None
        if (self.name is None) == (not from_files):
            raise ConfigError(
                "data must be either a named data set or a pair of files; got "
                f"name={self.name!r}, interactions={self.interactions!r}, items={self.items!r}. "
                "Pass --data NAME, or --interactions FILE --items FILE."
            )
        if from_files and (self.interactions is None or self.items is None):
            missing = "--interactions" if self.interactions is None else "--items"
            raise ConfigError(f"data needs both a log and a catalogue; got no {missing} FILE.")
        if self.name is not None and self.columns:
            raise ConfigError(f"data.columns must be empty for a named data set; got {self.columns!r}.")
        shares = self.validation_share, self.test_share
        if not (min(shares) > 0 and sum(shares) < 1):
            raise ConfigError(
                "data.validation_share and data.test_share must be fractions > 0 with a sum below 1; got "
                f"{shares[0]} and {shares[1]}."
            )
        _at_least("data.split_seed", self.split_seed, 0)
        if self.training_histories is not None:
            _at_least("data.training_histories", self.training_histories, 1)
        _one_of("data.split", self.split, _SPLITS)
        _one_of("data.repeats", self.repeats, ("first", "keep"))
        _one_of("data.unknown_items", self.unknown_items, ("error", "drop"))

    @property
    def title(self) -> str:
        """What people read: the data set's or the file's name; the folder's for ``interactions.*``."""
        if self.name is not None:
            return self.name
        path = Path(self.interactions or "").resolve()
        return path.parent.name if path.stem == "interactions" else path.stem


@dataclass(frozen=True)
class SegmentConfig:
    """How items are cut into head, tail and cold; see ``tailwise.segments``.

    Attributes:
        rule: Name of the rule.
        parameters: The rule's own; empty for its defaults.
        window_days: Count only the last so many days of the training part, > 0; None counts
            all of it. What was trained on but not in the window is tail, not cold.
    """

    rule: str = "head-share"
    parameters: dict[str, Any] = field(default_factory=dict)
    window_days: float | None = None

    def __post_init__(self) -> None:
        if self.window_days is not None and not self.window_days > 0:
            raise ConfigError(f"segments.window_days must be > 0; got {self.window_days}.")
        # The rule itself judges its parameters, on a catalogue of a hundred items: before
        # hours of training rather than after.
        _one_of("segments.rule", self.rule, tuple(rule for rule in RULES if rule != "column"))
        try:
            RULES[self.rule](np.arange(1, 101), np.ones(100, dtype=np.bool_), **self.parameters)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"segments.parameters must suit the rule {self.rule!r}; got {self.parameters!r}: {error}"
            ) from None


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured, and on whom.

    Attributes:
        validation_users: Users on whom early stopping decides, at most; drawn once by
            ``seed``. None takes all. Two thousand keep the standard error of NDCG@10 near
            0.005, from 0.007 seen on 943.
        test_users: Users who are measured, at most; drawn likewise. None takes all.
        list_length: Items kept of every user's list, >= 50 for the metrics at 50.
        batch_size: Users scored at once, >= 1.
        n_resamples: Of the bootstrap over users, >= 100.
        seed: Of the bootstrap and of the draw of validation users.
    """

    validation_users: int | None = 2000
    test_users: int | None = None
    list_length: int = 50
    batch_size: int = 256
    n_resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        _at_least("evaluation.list_length", self.list_length, 50)
        _at_least("evaluation.batch_size", self.batch_size, 1)
        _at_least("evaluation.n_resamples", self.n_resamples, 100)
        _at_least("evaluation.seed", self.seed, 0)
        for name in ("validation_users", "test_users"):
            if (value := getattr(self, name)) is not None:
                _at_least(f"evaluation.{name}", value, 1)


@dataclass(frozen=True)
class SASRecReferenceConfig:
    """The reference without a language model, with settings of its own.

    Attributes:
        architecture: Size of the random backbone.
        tokens: As for the item-token recommender; it needs more dropout.
        training: As for the item-token recommender; it needs more epochs.
    """

    architecture: SASRecConfig = SASRecConfig()
    tokens: ItemTokenConfig = ItemTokenConfig(dropout=0.2)
    training: TrainingConfig = TrainingConfig(
        max_epochs=60, learning_rate=2e-3, patience=8, positions_per_batch=1600
    )


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run computes.

    Attributes:
        data: Log, catalogue and split.
        segments: Head, tail, cold.
        model: The language model behind the recommender.
        recommender: How items become tokens.
        training: Loop, schedule, early stopping; the same for every variant.
        evaluation: What is measured.
        variants: Ways to train, compared with the first plain one.
        references: Models without a language model, for scale: ``most-popular``,
            ``item-knn``, ``sasrec``.
        sasrec: Settings of the reference ``sasrec``.
        seeds: One training per variant and seed.
        device: ``auto`` (CUDA where there is one), ``cpu`` or ``cuda``.
        rescorings: Other ways to score with every variant's weights, each compared with the variant.
        title: Titles as text in place of items as tokens, and how; None trains the item-token recommender.
    """

    data: DataConfig
    segments: SegmentConfig = SegmentConfig()
    model: BackboneConfig = BackboneConfig()
    recommender: ItemTokenConfig = ItemTokenConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    variants: tuple[VariantConfig, ...] = (
        VariantConfig("adamw"),
        VariantConfig("eisam", optimizer="eisam"),
    )
    references: tuple[str, ...] = ("most-popular", "item-knn")
    sasrec: SASRecReferenceConfig = SASRecReferenceConfig()
    seeds: tuple[int, ...] = (0,)
    device: str = "auto"
    rescorings: tuple[RescoringConfig, ...] = field(default=(), metadata=WRITTEN_WHEN_SET)
    title: TitleConfig | None = field(default=None, metadata=WRITTEN_WHEN_SET)

    def __post_init__(self) -> None:
        for reference in self.references:
            _one_of("references", reference, _REFERENCES)
        _one_of("device", self.device, ("auto", "cpu", "cuda"))
        names = [variant.name for variant in self.variants] + list(self.references)
        names += [how.of(variant.name) for variant in self.variants for how in self.rescorings]
        if not self.variants:
            raise ConfigError("variants must hold at least one entry; got none. Pass --optimizer adamw.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ConfigError(f"seeds must be distinct numbers >= 0, at least one; got {list(self.seeds)}.")
        if self.title is not None:
            self._check_titles(self.title)
        else:
            for how in self.rescorings:
                if how.per_token:
                    raise ConfigError(
                        "rescorings.per_token must be false where items are tokens; got true in "
                        f"{how.name!r}. It is about titles: --recommender title."
                    )
        trained = {} if self.title is not None else {"training": self.training}
        if "sasrec" in self.references:
            trained["sasrec.training"] = self.sasrec.training
        for section, training in trained.items():
            if training.positions_per_batch < self.recommender.max_length:
                raise ConfigError(
                    f"{section}.positions_per_batch must be at least recommender.max_length "
                    f"({self.recommender.max_length}); got {training.positions_per_batch}."
                )
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"variant names must be unique; got {name!r} twice. Add name=... to one.")

    def _check_titles(self, title: TitleConfig) -> None:
        """Refuse what a recommender that says titles cannot do."""
        for variant in self.variants:
            if variant.logit_adjustment:
                offsets = f"{variant.logit_adjustment} in variant {variant.name!r}"
                raise ConfigError(REFUSED_OFFSETS.format(offsets))
        if self.training.negatives is not None:
            raise ConfigError(REFUSED_NEGATIVES.format(self.training.negatives))
        if self.training.positions_per_batch < title.max_tokens:
            raise ConfigError(
                f"training.positions_per_batch must be at least title.max_tokens ({title.max_tokens}); got "
                f"{self.training.positions_per_batch}."
            )
        if title.scoring == "beam" and self.data.repeats == "keep":
            raise ConfigError(
                "title.scoring must be exact where data.repeats is 'keep', for a beam search leaves out what "
                "the user has had; got 'beam'."
            )

    @property
    def baseline(self) -> VariantConfig:
        """The variant that the others are compared with: the first plain one, else the first."""
        return next((v for v in self.variants if v.is_plain), self.variants[0])
