"""What a benchmark compares: settings (data and amount), methods with their knobs, seeds, rules."""

import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailwise._settings import WRITTEN_WHEN_SET
from tailwise.errors import ConfigError
from tailwise.jobs._config import RunConfig
from tailwise.jobs._config_file import config_from_dict, merged, read_toml
from tailwise.jobs._variants import FOLDER_NAME_RULE, VariantConfig, is_folder_name
from tailwise.recommenders import ItemTokenConfig
from tailwise.training import TrainingConfig

__all__ = [
    "RERANK",
    "BenchComparison",
    "BenchConfig",
    "BenchMethod",
    "BenchSetting",
    "Knobs",
    "holds_whole_numbers",
    "load_bench_config",
]

Knobs = Mapping[str, float | int | str]
"""Setting of a method -> its value: a field of :class:`VariantConfig`, ``training.<field>``,
``recommender.<field>`` or ``rerank``."""

_ROLES = ("baseline", "rival", "eisam", "control", "scale")
_REFERENCES = ("most-popular", "item-knn", "sasrec")
RERANK = "rerank"
_OF_ALL_SETTINGS = "pooled"  # what tables call all settings together
_SECTIONS = {"training": TrainingConfig, "recommender": ItemTokenConfig}  # of a run, that knobs reach into


@dataclass(frozen=True)
class BenchSetting:
    """A data set and how much of it is trained on.

    Attributes:
        name: Of its folder and in tables, where ``pooled`` stands for all settings together.
        data: Log, catalogue, split and number of training histories, as in :class:`DataConfig`.
        run: What differs here from the benchmark's ``run``, nested like it.
    """

    name: str
    data: dict[str, Any]
    run: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not is_folder_name(self.name) or self.name.lower() == _OF_ALL_SETTINGS:
            raise ConfigError(
                f"settings.name must be {FOLDER_NAME_RULE}, and not {_OF_ALL_SETTINGS!r}, as tables call "
                f"all settings together; got {self.name!r}.\n  Give the setting another name."
            )


@dataclass(frozen=True)
class BenchMethod:
    """A way to train, and what is searched of it.

    Attributes:
        name: Of its folder and in records.
        role: ``baseline`` (exactly one), ``rival``, ``eisam``, ``control``, or ``scale`` (a reference that is
            shown and not tuned).
        label: What people read; by default the name.
        variant: Fixed fields of :class:`VariantConfig`.
        training: Fixed fields of the training, over those of the benchmark's run and over what
            tuning chose for the baseline.
        recommender: Fixed fields of the recommender, likewise.
        reference: ``most-popular``, ``item-knn`` or ``sasrec`` in place of a variant.
        search: Knob -> list of values, or ``{low=, high=, log=}``; tuned on validation. ``rerank``, here, in
            ``variant`` or in ``curve``, stands alone: such a method trains nothing that could have settings.
        curve: Knob -> numbers at which the method is measured as well, all else as chosen; one knob.
    """

    name: str
    role: str
    label: str = ""
    variant: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    recommender: dict[str, Any] | None = field(default=None, metadata=WRITTEN_WHEN_SET)
    reference: str | None = None
    search: dict[str, Any] = field(default_factory=dict)
    curve: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.role not in _ROLES:
            raise ConfigError(f"methods.role must be one of {', '.join(_ROLES)}; got {self.role!r}.")
        if (self.role == "scale") != (self.reference is not None):
            raise ConfigError(
                f"method {self.name!r} must have a reference if, and only if, its role is scale; got role "
                f"{self.role!r} and reference {self.reference!r}."
            )
        if self.reference is not None and self.reference not in _REFERENCES:
            raise ConfigError(
                f"reference of {self.name!r} must be one of {', '.join(_REFERENCES)}; got {self.reference!r}."
            )
        if self.reference is not None:
            self._check_reference()
        self._check_curve()
        for knob, space in self.search.items():
            _check_space(self.name, knob, space)
        for knob in {*self.search, *self.curve}:
            if "." in knob and knob.partition(".")[0] not in _SECTIONS:
                raise ConfigError(
                    f"a knob of {self.name!r} must be a field of the variant, {RERANK}, or a field of "
                    f"{' or '.join(_SECTIONS)}; got {knob!r}.\n"
                    "  What differs between settings stands in settings.run."
                )
        if self.is_rerank:
            self._check_rerank()
        if self.reference is None:
            for knobs in self.examples():
                self.make_variant(knobs)

    def _check_reference(self) -> None:
        for what in ("variant", "training", "recommender", "search", "curve"):
            if given := getattr(self, what):
                raise ConfigError(
                    f"{what} of {self.name!r} must be left out, for a reference has no settings here; got "
                    f"{', '.join(given)}.\n  Settings of sasrec stand in run.sasrec."
                )

    def _check_curve(self) -> None:
        if len(self.curve) > 1:
            raise ConfigError(f"curve of {self.name!r} must have one knob; got {', '.join(self.curve)}.")
        for knob, values in self.curve.items():
            for value in values:
                if not _is_number(value):
                    raise ConfigError(
                        f"curve of {self.name!r} must map {knob} to finite numbers; got {value!r}.\n"
                        "  What is no number can be searched, or be a method of its own."
                    )
            names = [f"{value:g}" for value in values]
            if len(set(names)) < len(names):
                raise ConfigError(
                    f"curve of {self.name!r} must map {knob} to numbers that differ in their first six "
                    f"digits; got {list(values)}."
                )

    def _check_rerank(self) -> None:
        if self.role == "baseline":
            raise ConfigError(
                f"method {self.name!r} of role baseline must be trained; got {RERANK}, which changes the "
                "baseline's scores.\n  Declare it as a rival."
            )
        for what in ("variant", "training", "recommender", "search", "curve"):
            for name, value in (getattr(self, what) or {}).items():
                if what in _SECTIONS or name != RERANK:
                    raise ConfigError(
                        f"method {self.name!r} with {RERANK} must have no other setting, for it changes the "
                        f"baseline's scores and trains nothing; got {what}.{name} = {value!r}.\n"
                        "  Take it out, or declare it as a method of its own."
                    )
        for knobs in self.examples():
            value = {**self.variant, **knobs}.get(RERANK, 0)
            if not _is_number(value) or value < 0:
                raise ConfigError(f"{RERANK} of {self.name!r} must be a finite number >= 0; got {value!r}.")

    @property
    def text(self) -> str:
        """What people read."""
        return self.label or self.name

    @property
    def is_rerank(self) -> bool:
        """True if the method changes the baseline's scores, and trains nothing."""
        return any(RERANK in fields for fields in (self.variant, self.search, self.curve))

    def examples(self) -> list[Knobs]:
        """Return knobs at which every value of every list, both ends of every range and every point occur."""
        some = {knob: _ends(space)[0] for knob, space in self.search.items()}
        spaces = [*self.search.items(), *((knob, list(values)) for knob, values in self.curve.items())]
        return [some, *({**some, knob: value} for knob, space in spaces for value in _ends(space))]

    def make_variant(self, knobs: Knobs) -> VariantConfig:
        """Return the variant at some values of its knobs."""
        own = {k: v for k, v in {**self.variant, **knobs}.items() if k != RERANK and "." not in k}
        return config_from_dict(VariantConfig, {"name": self.name, **own}, f"methods.{self.name}.")

    def rerank(self, knobs: Knobs) -> float:
        """Return the penalty per unit of log(1 + count) that scores are re-ranked by; 0 for none."""
        return float({**self.variant, **knobs}.get(RERANK, 0.0))


def _check_titles(run: RunConfig, setting: str, method: str, knobs: Knobs) -> None:
    of_items = [knob for knob in knobs if knob.startswith("recommender.")]
    if run.title is not None and of_items:
        raise ConfigError(
            f"a setting of {method!r} must change something in {setting!r}, whose recommender writes titles; "
            f"got {of_items[0]}, which is of items as tokens.\n  Take it out, or train items as tokens there."
        )


def _of_section(knob: str, value: Any) -> dict[str, dict[str, Any]]:
    section, _, name = knob.partition(".")
    return {section: {name: value}}


def holds_whole_numbers(knob: str) -> bool:
    """Whether the setting behind a knob is a whole number, as epochs are; γ from 0 to 1 is not."""
    section, _, name = knob.rpartition(".")
    return typing.get_type_hints(_SECTIONS.get(section, VariantConfig)).get(name) in (int, int | None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_space(method: str, knob: str, space: Any) -> None:
    if isinstance(space, list) and space:
        return
    if isinstance(space, dict) and {"low", "high"} <= set(space) <= {"low", "high", "log"}:
        low, high = space["low"], space["high"]
        if holds_whole_numbers(knob) and not (isinstance(low, int) and isinstance(high, int)):
            raise ConfigError(
                f"search of {method!r}: {knob} holds whole numbers; got from {low} to {high}. "
                "Give whole numbers."
            )
        if low < high and (low > 0 or not space.get("log")):
            return
    raise ConfigError(
        f"search of {method!r} must map {knob} to a list of values or to low < high (> 0 with log = true); "
        f"got {space!r}."
    )


def _ends(space: Any) -> list[Any]:
    return space if isinstance(space, list) else [space["low"], space["high"]]


@dataclass(frozen=True)
class BenchComparison:
    """A difference that tables show beside those from the baseline.

    Attributes:
        method: Whose; a method, or ``method@value``, a point of its curve.
        against: From which, likewise.
        family: Comparisons of one family are counted together (Holm), in a table of that title.
        seeds: Of these alone; empty for all that both have.
    """

    method: str
    against: str
    family: str = "declared beforehand"
    seeds: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """What errors call it."""
        return f"{self.method!r} against {self.against!r}"


@dataclass(frozen=True)
class BenchConfig:
    """A declared comparison.

    Attributes:
        question: What it answers.
        settings: Data sets and amounts.
        methods: In the order of tables; one is the baseline.
        run: What all trainings share: fields of :class:`RunConfig` but data, variants, references and seeds.
        seeds: One cell per setting, method and seed.
        tuning_seed: Of the trials; not among ``seeds``.
        more_tuning_seeds: With which every trial is trained as well; means over all its seeds judge it. One
            seed takes a trial's luck for its worth. Not among ``seeds``.
        n_trials: Per setting and method, the same for all that have something to search; >= 1.
        tuning_users: Validation users that judge a trial, at most; >= 1.
        tuning_k: Length of the lists whose NDCG judges a trial, >= 1.
        comparisons: Differences between methods to be shown beside those from the baseline.
        margin: Share of the baseline's overall NDCG@``tuning_k`` that a choice may cost, in (0, 1); also of
            the non-inferiority test, of NDCG@10.
    """

    question: str
    settings: tuple[BenchSetting, ...]
    methods: tuple[BenchMethod, ...]
    run: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    tuning_seed: int = 100
    more_tuning_seeds: tuple[int, ...] = ()
    n_trials: int = 6
    tuning_users: int = 4000
    tuning_k: int = 10
    margin: float = 0.02
    comparisons: tuple[BenchComparison, ...] = ()

    def __post_init__(self) -> None:
        for what, entries in (("settings", self.settings), ("methods", self.methods)):
            names = [entry.name for entry in entries]
            if not names or len(set(names)) < len(names):
                raise ConfigError(f"{what} must be one or more of different names; got {', '.join(names)}.")
        n_baselines = sum(method.role == "baseline" for method in self.methods)
        if n_baselines != 1:
            raise ConfigError(f"methods must hold one of role baseline; got {n_baselines}.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds must be one or more different numbers; got {list(self.seeds)}.")
        if self.tuning_seed in self.seeds:
            raise ConfigError(
                f"tuning_seed must not be among the seeds that are tested; got {self.tuning_seed}."
            )
        if len({*self.seeds, *self.trial_seeds}) < len(self.seeds) + len(self.trial_seeds):
            raise ConfigError(
                "more_tuning_seeds must differ from each other, from tuning_seed and from the seeds that are "
                f"tested; got {list(self.more_tuning_seeds)}."
            )
        self._check_judging()
        self._check_comparisons()
        for setting in self.settings:
            for method in self.methods:
                for knobs in method.examples():
                    every = self.knobs(method, knobs, {})
                    run = self.run_config(setting, method, every, seed=self.seeds[0])
                    _check_titles(run, setting.name, method.name, every)

    def _check_judging(self) -> None:
        if self.n_trials < 1:
            raise ConfigError(f"n_trials must be >= 1; got {self.n_trials}.")
        if self.tuning_k < 1:
            raise ConfigError(f"tuning_k must be >= 1; got {self.tuning_k}.")
        if self.tuning_users < 1:
            raise ConfigError(f"tuning_users must be >= 1; got {self.tuning_users}.")
        if not 0 < self.margin < 1:
            raise ConfigError(
                f"margin must be a fraction in (0, 1), or no difference could show that quality is kept; got "
                f"{self.margin}.\n  For two percent, write 0.02."
            )

    def _check_comparisons(self) -> None:
        points = {method.name for method in self.methods}
        points |= {
            f"{m.name}@{value:g}" for m in self.methods for values in m.curve.values() for value in values
        }
        for one in self.comparisons:
            for what, point in (("method", one.method), ("against", one.against)):
                if point not in points:
                    raise ConfigError(
                        f"comparisons.{what} must be a method, or method@value of its curve; got {point!r}."
                    )
            if one.method == one.against:
                raise ConfigError(f"comparisons must be of two methods; got {one.text}.")
            if unknown := [seed for seed in one.seeds if seed not in self.seeds]:
                raise ConfigError(
                    f"seeds of the comparison of {one.text} must be among {list(self.seeds)}; got {unknown}."
                )
        if len(set(self.comparisons)) < len(self.comparisons):
            raise ConfigError("comparisons must differ from each other; got one twice.")

    @property
    def baseline(self) -> BenchMethod:
        """What the others are compared with."""
        return next(method for method in self.methods if method.role == "baseline")

    @property
    def trial_seeds(self) -> tuple[int, ...]:
        """Seeds of every trial."""
        return (self.tuning_seed, *self.more_tuning_seeds)

    def setting(self, name: str) -> BenchSetting:
        """Return a setting by its name."""
        return next(setting for setting in self.settings if setting.name == name)

    def method(self, name: str) -> BenchMethod:
        """Return a method by its name."""
        return next(method for method in self.methods if method.name == name)

    @property
    def rule(self) -> str:
        """Say how a trial is chosen."""
        trials = f"{self.n_trials} trial{'' if self.n_trials == 1 else 's'}"
        seeds = f"seed {self.tuning_seed} alone"
        if self.more_tuning_seeds:
            seeds = f"the means over seeds {', '.join(map(str, self.trial_seeds))}"
        return (
            f"Of {trials} per method and setting, on validation users and {seeds}: the highest "
            f"tail NDCG@{self.tuning_k} among trials whose overall NDCG@{self.tuning_k} is at least "
            f"{1 - self.margin:.0%} of the best trial's of the baseline, and where there is none the highest "
            "overall. The baseline is chosen by the same rule."
        ).replace("%", " %")

    def knobs(self, method: BenchMethod, own: Knobs, of_baseline: Knobs) -> Knobs:
        """Return all that decides a method's training here.

        Args:
            method: Whose.
            own: Values of what it searches.
            of_baseline: What was chosen for the baseline; its training and its recommender are taken over,
                unless the method has its own.
        """
        shared = {k: v for k, v in of_baseline.items() if k.partition(".")[0] in _SECTIONS}
        sections = {"training": method.training, "recommender": method.recommender or {}}
        fixed = {f"{section}.{k}": v for section, fields in sections.items() for k, v in fields.items()}
        return {**shared, **fixed, **own}

    def run_config(self, setting: BenchSetting, method: BenchMethod, knobs: Knobs, *, seed: int) -> RunConfig:
        """Return the settings of one training; ``knobs`` are those of :meth:`knobs`."""
        content = merged(self.run, setting.run, *(_of_section(k, v) for k, v in knobs.items() if "." in k))
        variant = {"name": method.name} if method.reference else method.make_variant(knobs).as_dict()
        return config_from_dict(
            RunConfig,
            {**content, "data": setting.data, "variants": [variant], "references": [], "seeds": [seed]},
        )


def load_bench_config(file: Path) -> BenchConfig:
    """Read a benchmark's declaration. Paths of data are relative to the file.

    Raises:
        ConfigError: the file is not there or not TOML, or a setting is unknown or out of range.
    """
    content = read_toml(file)
    for setting in content.get("settings", []):
        data = setting.get("data", {})
        for key in ("interactions", "items"):
            if isinstance(data.get(key), str):
                data[key] = str((file.parent / data[key]).resolve())
    try:
        return config_from_dict(BenchConfig, content)
    except ConfigError as error:
        raise ConfigError(f"{error}\n  Read from {file}.") from None
