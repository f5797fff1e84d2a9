"""Hyper-parameters on one's own data: trials on validation users, the front of head and tail, one to take."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailwise.errors import ConfigError
from tailwise.jobs._bench_cell import Cell, run_trial
from tailwise.jobs._bench_config import RERANK, BenchConfig, BenchMethod, BenchSetting, Knobs
from tailwise.jobs._bench_folder import BenchFolder
from tailwise.jobs._bench_tuning import combinations, measured, suggest
from tailwise.jobs._config import RunConfig
from tailwise.jobs._config_file import config_as_dict
from tailwise.jobs._progress import Narrator
from tailwise.jobs._run_folder import ResultFolder, write_json
from tailwise.jobs._variants import BASELINE_OPTIMIZER, VariantConfig

__all__ = ["TuneConfig", "default_search", "front", "parse_search", "parse_variant", "recommended", "tune"]

FILE = "tune.json"
_SETTING = "data"
_WITH_ANY_OPTIMIZER = ("logit_adjustment", "reweighting", "reweighting_beta", "resampling")  # knobs
_MAX_LISTED = 10_000  # combinations of lists of values
_N_ATTEMPTS = 20  # proposals for one trial, until one was not tried before
_SEED_STRIDE = 1_000_003  # between the seeds of proposals for one trial
_N_STARTUP = 8  # trials drawn at random before the model of the outcomes has a say


@dataclass(frozen=True)
class TuneConfig:
    """What is tuned, and how.

    Attributes:
        run: Data, model and training. Every trial is trained with each of its seeds and judged by the means;
            its variants, references and test users are not looked at.
        variant: Optimizer and fixed settings of :class:`VariantConfig`; of plain AdamW, ``search`` must have
            a knob that changes something.
        search: Knob to a list of values or ``{low, high, log}``: a field of the variant,
            ``training.<field>`` or ``recommender.<field>``. Empty for :func:`default_search`.
        n_trials: Trainings, besides the baseline's, at most: no settings are trained twice; >= 1.
        head_loss: Share of the baseline's head NDCG that a recommended trial may cost, in [0, 1).
        users: Validation users that judge a trial, at most.
        k: Length of the lists whose NDCG judges a trial, >= 1. Of ten places rare items take so few
            that chance decides between trials (docs/tuning.md).
    """

    run: RunConfig
    variant: dict[str, Any] = field(default_factory=lambda: {"optimizer": "eisam"})
    search: dict[str, Any] = field(default_factory=dict)
    n_trials: int = 16
    head_loss: float = 0.02
    users: int = 4000
    k: int = 100

    def __post_init__(self) -> None:
        if not self.search:
            object.__setattr__(self, "search", default_search(self.run))
        if RERANK in self.search:
            raise ConfigError(f"search must be of trainings; got {RERANK!r}, which trains nothing.")
        if not 0 <= self.head_loss < 1:
            raise ConfigError(
                f"head_loss must be a fraction in [0, 1); got {self.head_loss}. For two percent, write 0.02."
            )
        if self.users < 1:
            raise ConfigError(f"users must be >= 1; got {self.users}.")
        if self.k < 1:
            raise ConfigError(f"k must be >= 1; got {self.k}.")
        if self.variant.get("optimizer", BASELINE_OPTIMIZER) == BASELINE_OPTIMIZER and not any(
            knob in _WITH_ANY_OPTIMIZER or "." in knob for knob in self.search
        ):
            raise ConfigError(
                f"variant must differ from the baseline, plain {BASELINE_OPTIMIZER}; got {self.variant}. "
                "Pass --variant eisam, or search a setting of the training or the recommender, e.g. "
                "--search recommender.dropout=0.2,0.5."
            )
        self.as_bench()  # every value that will be tried is judged before any work

    def as_bench(self) -> BenchConfig:
        """Return the comparison of one setting whose trials these are."""
        content = config_as_dict(self.run)
        data = content.pop("data")
        seed, *more = self.run.seeds
        for key in ("variants", "references", "seeds"):
            content.pop(key)
        return BenchConfig(
            question="Which settings?",
            settings=(BenchSetting(_SETTING, data),),
            methods=(
                BenchMethod("baseline", role="baseline", variant={"optimizer": BASELINE_OPTIMIZER}),
                BenchMethod("tuned", role="eisam", variant=self.variant, search=self.search),
            ),
            run=content,
            seeds=(max(self.run.seeds) + 1,),  # nothing is tested
            tuning_seed=seed,
            more_tuning_seeds=tuple(more),
            n_trials=self.n_trials,
            tuning_users=self.users,
            tuning_k=self.k,
        )

    def declared(self) -> dict[str, Any]:
        """All that makes trials comparable: not how many there are, nor what is then recommended."""
        content = config_as_dict(self)
        for key in ("n_trials", "head_loss"):
            content.pop(key)
        return content


def default_search(run: RunConfig) -> dict[str, Any]:
    """Return ρ and γ of EISAM, and τ of the logit adjustment beside it, which titles cannot have.

    λ is left out: it would only trade against ρ.
    """
    search: dict[str, Any] = {
        "rho": {"low": 0.02, "high": 0.5, "log": True},
        "gamma": {"low": 0.0, "high": 1.0},
    }
    return search if run.title else search | {"logit_adjustment": {"low": 0.0, "high": 0.4}}


def parse_search(texts: Sequence[str]) -> dict[str, Any]:
    """Read ``knob=low:high``, ``knob=low:high:log`` and ``knob=value,value``.

    Example:
        >>> parse_search(["rho=0.02:1:log", "estimator=exact,single-pass"])
        {'rho': {'low': 0.02, 'high': 1, 'log': True}, 'estimator': ['exact', 'single-pass']}

    Raises:
        ConfigError: a text is neither; it is named.
    """
    search: dict[str, Any] = {}
    for text in texts:
        knob, equals, space = text.partition("=")
        parts = space.split(":")
        try:
            if not (knob and equals and space) or len(parts) > 3 or (len(parts) == 3 and parts[2] != "log"):
                raise ValueError
            if len(parts) == 1:
                search[knob] = [_value(part) for part in space.split(",")]
            else:
                low, high = (_number(part) for part in parts[:2])
                search[knob] = {"low": low, "high": high} | ({"log": True} if len(parts) == 3 else {})
        except ValueError:
            raise ConfigError(
                f"--search must be KNOB=LOW:HIGH, KNOB=LOW:HIGH:log or KNOB=VALUE,VALUE; got {text!r}."
            ) from None
    return search


def parse_variant(text: str) -> dict[str, Any]:
    """Read ``optimizer`` or ``optimizer:setting=value,...``: the settings that are given, and no defaults.

    Example:
        >>> parse_variant("eisam:estimator=single-pass")
        {'optimizer': 'eisam', 'estimator': 'single-pass'}

    Raises:
        ConfigError: as of :meth:`VariantConfig.parse`.
    """
    variant = VariantConfig.parse(text)
    given = [part.partition("=")[0] for part in text.partition(":")[2].split(",") if part]
    return {"optimizer": variant.optimizer} | {name: getattr(variant, name) for name in given}


def _number(text: str) -> int | float:
    return int(text) if text.strip("-").isdecimal() else float(text)


def _value(text: str) -> int | float | str:
    if not text:
        raise ValueError
    try:
        return _number(text)
    except ValueError:
        return text


def tune(config: TuneConfig, out: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Train the baseline and the trials, one after another, and recommend one.

    Optuna's TPE sampler proposes, told of head and tail NDCG and of how much of the head was lost
    beyond the limit. Lists of values that make no more combinations than there are trials are gone
    through, and nothing is tried twice. ``tune.json`` is written after each trial. The same call goes
    on where it was stopped, inside a training from its last checkpoint; with more ``n_trials`` it adds
    to those that are there, and ``head_loss`` may be another.

    Args:
        config: What is tuned.
        out: Folder; new, or of the same tuning.
        quiet: Say nothing on standard error.

    Returns:
        The content of ``tune.json``: ``declared``, ``baseline`` and ``trials`` (``knobs``, ``validation`` by
        segment, ``seconds``; of several seeds ``by_seed``), ``front`` (numbers of trials), ``recommended``
        (a number, or None) and ``use`` (arguments of ``tailwise run``, or None).

    Raises:
        ConfigError: ``out`` holds another tuning.
    """
    import optuna

    narrator = Narrator(quiet=quiet)
    bench = config.as_bench()
    _declare(config, out)
    seed = bench.tuning_seed
    baseline = run_trial(bench, out, Cell(_SETTING, "baseline", seed, {}, trial=0), None)
    narrator.say(f"baseline: {_found(baseline, config.k)}")
    limit = (1 - config.head_loss) * baseline["validation"]["head"]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["maximize", "maximize"])
    trials: list[dict[str, Any]] = []
    for number in range(config.n_trials):
        earlier = BenchFolder(out).setting(_SETTING).trial("tuned", number)
        known = earlier.read_record()["settings"] if earlier.is_done() else None
        proposed = _propose(config, study, [trial["knobs"] for trial in trials], known)
        if proposed is None:
            narrator.say(f"after {number} of {config.n_trials} trials nothing is left to try")
            break
        asked, knobs = proposed
        record = run_trial(bench, out, Cell(_SETTING, "tuned", seed, knobs, trial=number), None)
        found = record["validation"]
        asked.set_constraint("head", limit - found["head"])
        study.tell(asked, [found["head"], found["tail"]])
        trials.append({"knobs": knobs, **measured(record)})
        content = _content(config, baseline, trials)
        write_json(content, out / FILE)
        settings = ", ".join(f"{knob}={value}" for knob, value in knobs.items())
        narrator.say(f"[{number + 1}/{config.n_trials}] {settings}: {_found(record, config.k)}")
    return content


def _propose(
    config: TuneConfig, study: Any, tried: Sequence[Knobs], known: Knobs | None
) -> tuple[Any, Knobs] | None:
    """Return Optuna's next trial and its values, which were not tried before; None if nothing is left.

    Args:
        config: What is tuned.
        study: Told of every trial so far.
        tried: Their values.
        known: Values of the next trial where it is there already.
    """
    import optuna

    listed = combinations(config.search, at_most=_MAX_LISTED)
    untried = [knobs for knobs in listed if knobs not in tried]
    if known is None and listed and len(untried) <= config.n_trials - len(tried):
        known = next(iter(untried), None)  # all of them will be: nothing to draw
        if known is None:
            return None
    if known is not None:
        study.enqueue_trial(known)
    for attempt in range(_N_ATTEMPTS):
        # A sampler of its own for each trial: what is proposed rests on the outcomes so far alone.
        study.sampler = optuna.samplers.TPESampler(
            seed=config.run.seeds[0] + len(tried) + attempt * _SEED_STRIDE, n_startup_trials=_N_STARTUP
        )
        asked = study.ask()
        knobs = {knob: _rounded(suggest(asked, knob, space), space) for knob, space in config.search.items()}
        if known is not None or knobs not in tried:
            return asked, knobs
        study.tell(asked, state=optuna.trial.TrialState.FAIL)  # which the sampler takes no notice of
        if attempt == _N_ATTEMPTS - 2 and untried:
            known = untried[0]
            study.enqueue_trial(known)
    return None


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the positions of the points that no other equals or exceeds in both, by rising first value.

    Example:
        >>> front([(0.3, 0.1), (0.2, 0.2), (0.1, 0.1), (0.2, 0.2)])
        [1, 0]
    """
    best, found = -float("inf"), []
    for position in sorted(range(len(points)), key=lambda i: (-points[i][0], -points[i][1], i)):
        if points[position][1] > best:
            best = points[position][1]
            found.append(position)
    return found[::-1]


def recommended(
    trials: Sequence[Mapping[str, Any]], baseline: Mapping[str, float], *, head_loss: float
) -> int | None:
    """Return the trial with the best tail among those that keep the head, if it beats the baseline's tail.

    Args:
        trials: Each with ``validation``: NDCG of ``head`` and ``tail``.
        baseline: The same of the baseline.
        head_loss: Share of the baseline's head that may be lost.
    """
    keep = [
        number
        for number, trial in enumerate(trials)
        if trial["validation"]["head"] >= (1 - head_loss) * baseline["head"]
        and trial["validation"]["tail"] > baseline["tail"]
    ]
    return max(keep, key=lambda number: trials[number]["validation"]["tail"], default=None)


def _declare(config: TuneConfig, out: Path) -> None:
    """Write what is tuned before the first trial, or check that what is there is the same."""
    file = ResultFolder(out).path / "declared.json"
    declared = config.declared()
    if file.is_file():
        earlier = json.loads(file.read_text())
        earlier = {"k": 10, **earlier}  # a tuning of before it could be chosen
        differing = [key for key in declared if earlier.get(key) != declared[key]]
        if differing:
            raise ConfigError(
                f"--out must hold this tuning or nothing; got {str(out)!r}, where {', '.join(differing)} are "
                "set otherwise.\n  Choose another folder."
            )
    write_json(declared, file)


def _content(
    config: TuneConfig, baseline: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    chosen = recommended(trials, baseline["validation"], head_loss=config.head_loss)
    points = [(trial["validation"]["head"], trial["validation"]["tail"]) for trial in trials]
    return {
        "schema_version": 1,
        "declared": config.declared(),
        "head_loss": config.head_loss,
        "baseline": measured(baseline),
        "trials": list(trials),
        "front": front(points),
        "recommended": chosen,
        "use": None if chosen is None else _arguments(config.variant, trials[chosen]["knobs"]),
    }


def _arguments(variant: Mapping[str, Any], knobs: Knobs) -> list[str]:
    """Return what makes ``tailwise run`` train the variant at these values."""
    own = {k: v for k, v in {**variant, **knobs}.items() if k not in ("optimizer", "name") and "." not in k}
    settings = ",".join(f"{key}={_text(value)}" for key, value in own.items())
    text = variant["optimizer"] + (f":{settings}" if settings else "")
    VariantConfig.parse(text)  # what is recommended can be run
    others = [f"--set={key}={_text(value)}" for key, value in knobs.items() if "." in key]
    return [f"--optimizer={text}", *others]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _rounded(value: float | int | str, space: Any) -> float | int | str:
    """Three digits, within the range: what is printed is what was trained."""
    if isinstance(space, list) or not isinstance(value, float):
        return value
    return min(max(float(f"{value:.3g}"), float(space["low"])), float(space["high"]))


def _found(record: Mapping[str, Any], k: int) -> str:
    found = record["validation"]
    return (
        f"validation NDCG@{k} head {found['head']:.4f}, tail {found['tail']:.4f} ({record['seconds']:.0f} s)"
    )
