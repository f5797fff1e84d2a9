"""The audit: how long is the tail, whose fault is it, and who pays."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

import tailwise
from tailwise.diagnosis import (
    DataTail,
    PriorDiagnosis,
    accuracy_grid,
    attribute_gap,
    diagnose_data,
    item_shares,
    measure_output_frequency,
    measure_prior,
)
from tailwise.errors import ConfigError, DataError
from tailwise.evaluation import ColumnExposure, evaluate_variant, exposure_by_column, taste_for_the_tail
from tailwise.interactions import named_dataset
from tailwise.jobs._audit_config import AuditConfig
from tailwise.jobs._audit_folder import AuditFolder, PartStore
from tailwise.jobs._audit_shuffled import check_by_shuffling
from tailwise.jobs._audit_subjects import Subject, given_subject, run_subjects
from tailwise.jobs._audit_tables import neglected_table, write_tables
from tailwise.jobs._config import RunConfig
from tailwise.jobs._config_file import config_as_dict
from tailwise.jobs._language_recommender import choose_device
from tailwise.jobs._measure import cut_segments, describe_data
from tailwise.jobs._model_sharpness import measure_model_sharpness
from tailwise.jobs._progress import Narrator
from tailwise.jobs._run import run as run_job
from tailwise.jobs._run_data import RunData, load_run_data, prepare_run_data
from tailwise.jobs._run_folder import RunFolder
from tailwise.recommenders import resolve_language_model
from tailwise.reports import AUDIT_SCHEMA_VERSION, write_audit, write_audit_page
from tailwise.schema import BRAND, CATEGORY, ITEM_INDEX
from tailwise.segments import Segments

__all__ = ["audit"]

T = TypeVar("T")
_N_NEGLECTED = 50  # on the page; the table holds all
_GRIDS = (2, 3)
_CUT_OFFS = (5, 10, 20, 50)
_N_RESAMPLES = 200  # of users, for Gini and top shares


@dataclass(frozen=True, eq=False)
class _Scope:
    """What is audited.

    Attributes:
        data: Catalogue and split.
        segments: Of the items.
        subjects: Whose recommendations.
        settings: Of the run, or those that a run would have.
        run: Where models of ours are; None for lists alone.
        narrator: Says what is going on.
        parts: Finished parts that take long.
        seconds: What the other parts took.
    """

    data: RunData
    segments: Segments
    subjects: tuple[Subject, ...]
    settings: RunConfig
    run: RunFolder | None
    narrator: Narrator
    parts: PartStore
    seconds: dict[str, float] = field(default_factory=dict)


def audit(
    config: AuditConfig,
    out: Path,
    *,
    run: Path | None = None,
    settings: RunConfig | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Diagnose both long tails, who is served and who is shown; write ``audit.json``, tables, the page.

    The same call goes on where an earlier one was stopped, and takes what is finished from the
    folder and from the user's cache.

    Args:
        config: What is asked.
        out: The audit's folder.
        run: A finished run, whose models are audited (and whose data, beside given lists).
        settings: Data, language model and segments, in place of ``run``. Without given lists the
            run that they describe is done first, in ``out``.
        quiet: Say nothing on standard error.

    Returns:
        The content of ``audit.json``, docs/audit-schema.md.

    Raises:
        ConfigError: settings contradict each other, or ``out`` holds something else.
        DataError: data, lists or run break a rule.
        AssetError: data or model could not be fetched.
    """
    if (run is None) == (settings is None):
        raise ConfigError(
            f"audit needs either a run or data; got {'neither' if run is None else 'both'}. "
            "Pass a run's folder, or --data NAME, or --interactions FILE --items FILE."
        )
    if run is not None:
        RunFolder(run).read_config()  # a clear error before any folder is made
    narrator = Narrator(quiet=quiet)
    folder = AuditFolder(out)
    with RunFolder(out).locked():
        folder.claim(_identity(config, run, settings))
        scope = _open(config, folder, run, settings, narrator)
        result = _ask(config, folder, scope)
        write_audit(result, folder.results)
        write_audit_page(result, folder.page)
    return result


def _identity(config: AuditConfig, run: Path | None, settings: RunConfig | None) -> dict[str, Any]:
    """What makes it this audit and no other."""
    trains = settings is not None and config.recommendations is None
    return {
        "run": None if run is None else str(run.resolve()),
        "settings": None if settings is None else config_as_dict(settings if trains else settings.data),
        "trains": trains,
    }


def _open(
    config: AuditConfig, folder: AuditFolder, run: Path | None, settings: RunConfig | None, narrator: Narrator
) -> _Scope:
    """Read what is audited; train first where there is neither a run nor lists."""
    runs = None if run is None else RunFolder(run)
    if settings is not None and config.recommendations is None:
        run_job(settings, folder.run.path, resume=True, quiet=narrator.is_quiet)
        runs = folder.run
    if runs is not None:
        settings = runs.read_config()
        data = load_run_data(runs.data)
    else:
        assert settings is not None  # audit() has checked
        data = prepare_run_data(settings.data, folder.data, narrator.say)
    segments = cut_segments(data, settings.segments)
    if config.recommendations is not None:
        subjects: tuple[Subject, ...] = (given_subject(config, data),)
    else:
        assert runs is not None
        subjects = run_subjects(runs, settings)
    return _Scope(
        data=data,
        segments=segments,
        subjects=subjects,
        settings=settings,
        run=None if config.recommendations is not None else runs,
        narrator=narrator,
        parts=folder.parts,
    )


def _ask(config: AuditConfig, folder: AuditFolder, scope: _Scope) -> dict[str, Any]:
    """Ask everything, the cheap first; return the content of ``audit.json``."""
    data = scope.data
    data_side = _timed(scope, "data side", lambda: _data_side(scope))
    prior = _prior_side(config, scope)
    subjects, neglected = [], {}
    for subject in scope.subjects:
        describe = partial(_describe, subject, config, scope, prior)
        found, ranked = _timed(scope, f"exposure of {subject.name}", describe)
        subjects.append(found)
        neglected[subject.name] = ranked
    sharpness = _sharpness(config, scope)
    shuffled = _shuffled(config, folder, scope, prior)
    write_tables(
        folder.tables,
        data=data,
        segments=scope.segments,
        prior=prior,
        subjects=subjects,
        neglected=neglected,
    )
    return {
        "schema_version": AUDIT_SCHEMA_VERSION,
        "tailwise_version": tailwise.__version__,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": asdict(config),
        "data": describe_data(data),
        "segments": scope.segments.as_dict(data.held_out("test").target_items),
        "data_side": data_side.as_dict(),
        "prior_side": {
            "model": scope.settings.model.model,
            "kind": _kind(config, scope),
            **prior.as_dict(),
        },
        "subjects": subjects,
        "sharpness": sharpness,
        "shuffled_titles": shuffled,
        "seconds": scope.seconds | scope.parts.seconds,
        "from_cache": sorted(scope.parts.kept),
    }


def _timed(scope: _Scope, name: str, compute: Callable[[], T]) -> T:
    began = time.perf_counter()
    with scope.narrator.task(name):
        value = compute()
    scope.seconds[name] = time.perf_counter() - began
    return value


def _data_side(scope: _Scope) -> DataTail:
    data = scope.data
    return diagnose_data(
        data.split.train,
        data.catalogue.items,
        segments=scope.segments,
        separators=_separators(scope),
        n_user_resamples=_N_RESAMPLES,
    )


def _prior_side(config: AuditConfig, scope: _Scope) -> PriorDiagnosis:
    """Ask the un-tuned language model; what it has answered before is in the user's cache."""
    titles = scope.data.catalogue.titles()
    model = resolve_language_model(scope.settings.model.model)
    device = choose_device(scope.settings.device)
    kind = _kind(config, scope)
    began = time.perf_counter()
    with scope.narrator.task(f"prior of {scope.settings.model.model}") as progress:
        others = []
        if "output-frequency" in config.estimators:
            found = measure_output_frequency(
                titles,
                scope.data.training_histories(),
                model,
                kind=kind,
                n_users=config.n_frequency_users,
                seed=config.seed,
                device=device,
                progress=progress.counting,
            )
            others.append(found.estimate)
        prior = measure_prior(
            titles,
            scope.data.counts,
            model,
            kind=kind,
            n_pairwise_items=config.n_pairwise_items,
            estimators=tuple(name for name in config.estimators if name != "output-frequency"),
            others=others,
            device=device,
            seed=config.seed,
            progress=progress.counting,
        )
    scope.seconds["prior"] = time.perf_counter() - began
    return prior


def _describe(
    subject: Subject, config: AuditConfig, scope: _Scope, prior: PriorDiagnosis
) -> tuple[dict[str, Any], pl.DataFrame]:
    """Everything about one maker's recommendations; and all items, the most neglected first."""
    data, segments = scope.data, scope.segments
    longest = subject.rankings[0].list_length
    k = min(config.k, longest)
    measured = evaluate_variant(
        subject.rankings,
        segments,
        ks=sorted({k, *(cut for cut in _CUT_OFFS if cut <= longest)}),
        decile_k=k,
        n_resamples=scope.settings.evaluation.n_resamples,
        seed=config.seed,
    )
    taste = taste_for_the_tail(subject.rankings, data.split.train, segments, k, seed=config.seed)
    found: dict[str, Any] = {
        "name": subject.name,
        "label": subject.label,
        "role": subject.role,
        "seeds": list(subject.seeds),
        "k": k,
        "checks": subject.checks,
        **{part: measured[part] for part in ("accuracy", "exposure", "exposure_deciles")},
        "columns": [one.as_dict() for one in _columns(subject, scope, k, config.seed)],
        "taste": taste.as_dict(),
        "grids": [],
        "attribution": None,
        "no_attribution_because": None,
    }
    effects = None
    if subject.role == "reference":
        found["no_attribution_because"] = "it does not use the language model"
    elif not subject.has_targets:
        found["no_attribution_because"] = "no held-out interaction of its users is known"
    else:
        outcomes = subject.outcomes(data.counts, prior.combined, k)
        found["grids"] = [accuracy_grid(outcomes, n_groups=n, seed=config.seed).as_dict() for n in _GRIDS]
        try:
            attribution = attribute_gap(outcomes, n_permutations=config.n_permutations, seed=config.seed)
            found["attribution"] = attribution.as_dict()
            effects = item_shares(outcomes)
        except DataError as error:  # too few targets, or sides that do not vary: the result says so
            found["no_attribution_because"] = str(error)
    ranked = neglected_table(subject, data=data, segments=segments, prior=prior, effects=effects, k=k)
    found["neglected"] = ranked.drop(ITEM_INDEX).head(_N_NEGLECTED).to_dicts()
    return found, ranked


def _columns(subject: Subject, scope: _Scope, k: int, seed: int) -> list[ColumnExposure]:
    """Exposure by category and brand, where the catalogue has them."""
    items = scope.data.catalogue.items
    separators = _separators(scope)
    # Users' interactions are resampled along with their lists where the segments counted all of them.
    training = scope.data.split.train if scope.segments.window is None else None
    return [
        exposure_by_column(
            subject.rankings,
            items[column],
            scope.segments,
            k=k,
            training=training,
            column=column,
            separator=separators.get(column),
            seed=seed,
        )
        for column in (CATEGORY, BRAND)
        if column in items.columns and items[column].is_not_null().any()
    ]


def _sharpness(config: AuditConfig, scope: _Scope) -> dict[str, Any] | None:
    """Of the trained models of a run; a part of its own, since it takes a while."""
    if config.sharpness == "off" or scope.run is None:
        return None
    run = scope.run
    trained = [subject for subject in scope.subjects if subject.role != "reference"]
    records = {s.name: [run.result(s.name, seed).read_record() for seed in s.seeds] for s in trained}
    decided_by = [config.sharpness, config.seed, scope.data.summary["checksum"], scope.segments.rule, records]
    with scope.narrator.task("sharpness of each group") as progress:
        measure = partial(
            measure_model_sharpness,
            run,
            trained,
            data=scope.data,
            segments=scope.segments,
            hessian=config.sharpness == "hessian",
            device=choose_device(scope.settings.device),
            seed=config.seed,
            progress=progress.counting,
        )
        found: dict[str, Any] = scope.parts.get("sharpness", decided_by, measure)
    return found


def _shuffled(
    config: AuditConfig, folder: AuditFolder, scope: _Scope, prior: PriorDiagnosis
) -> dict[str, Any] | None:
    """The intervention check, on request, of models of ours."""
    if not config.shuffle_titles:
        return None
    if scope.run is None:
        raise ConfigError(
            "audit.shuffle_titles needs a recommender of ours to train again; got recommendations "
            f"{config.recommendations!r}. Leave one of the two out."
        )
    return check_by_shuffling(
        scope.settings,
        folder.shuffled,
        data=scope.data,
        segments=scope.segments,
        prior=prior,
        k=config.k,
        n_permutations=config.n_permutations,
        seed=config.seed,
        narrator=scope.narrator,
    )


def _kind(config: AuditConfig, scope: _Scope) -> str:
    """What prompts call an item."""
    if config.kind is not None:
        return config.kind
    name = scope.settings.data.name
    return "product" if name is None else named_dataset(name).kind


def _separators(scope: _Scope) -> dict[str, str]:
    name = scope.settings.data.name
    return {} if name is None else dict(named_dataset(name).separators)
