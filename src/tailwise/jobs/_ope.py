"""What a run's variant would have earned on logged lists of drawn items, without showing it to anybody."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tailwise.errors import ConfigError, DataError
from tailwise.experiments.ope import (
    EXPORTED_REWARDS,
    LoggedLists,
    OffPolicyResult,
    PlackettLuce,
    check_logged_lists,
    evaluate_policy,
    exported_slots,
)
from tailwise.interactions._columns import first_offenders
from tailwise.interactions._files import read_table
from tailwise.jobs._language_recommender import choose_device
from tailwise.jobs._load_recommender import load_finished
from tailwise.jobs._progress import Narrator
from tailwise.jobs._run_folder import RunFolder, write_json
from tailwise.jobs._stored_histories import HISTORIES, StoredData
from tailwise.recommenders import Recommender
from tailwise.schema import USER, USER_INDEX

__all__ = ["ope"]

Histories = list[NDArray[np.int64]]


def ope(
    logs: Path,
    policy: Path,
    *,
    seed: int | None = None,
    temperature: float | None = None,
    n_candidates: int | None = None,
    reward: str = "clicks",
    columns: Mapping[str, str] | None = None,
    positions: int | None = None,
    clip: float | None = None,
    whole_lists: bool = False,
    max_unsupported: float = 0.05,
    include_seen: bool | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    out: Path | None = None,
    quiet: bool = False,
) -> OffPolicyResult:
    """Estimate what a variant's lists would have earned from lists that were drawn with logged propensities.

    The variant scores the catalogue for the history of each logged list: the column ``history`` where the
    log has one, else what the run knows of the list's user. Lists without either are left out and counted.

    Args:
        logs: The folder of an export of our event log; or CSV, TSV or Parquet, a row per shown slot with its
            reward, see :func:`check_logged_lists`.
        policy: ``RUN/VARIANT``: a run's folder and a finished variant or reference of it.
        seed: Of the training. None: the first of the run's seeds.
        temperature: At which the variant's lists would be drawn, >= 0; 0 is its list of best items. None: the
            log's own, which must then be one.
        n_candidates: Best items of the variant that would have a chance, >= 1. None: as many as in the log,
            or all where it does not say.
        reward: Column of the log that is earned, and what to call it; of an export ``clicks``, ``purchases``
            or ``revenue``.
        columns: Our column name -> the log's.
        positions: Evaluate the slots down to this place only. None: all.
        clip: See :func:`evaluate_policy`, as for the next two.
        whole_lists: Give whole-list weights too.
        max_unsupported: Share of the policy's probability that may lack support.
        include_seen: Let the variant list items of the history. None: as the run measures.
        batch_size: Histories scored at once. None: the run's.
        device: ``auto``, ``cpu`` or ``cuda``. None: the run's.
        out: JSON file to write. None: none.
        quiet: Say nothing on standard error.

    Raises:
        ConfigError: an argument does not fit run or log.
        DataError: log or run break a rule, or the log does not support what the variant shows.
    """
    narrator = Narrator(quiet=quiet)
    folder = RunFolder(policy.parent)
    config = folder.read_config()
    result, seed = folder.finished(config, policy.name, seed)
    names = {"reward": reward} | dict(columns or {})
    log = check_logged_lists(_read(logs, reward), columns=names, max_position=positions, source=str(logs))
    tau = _temperature(log) if temperature is None else temperature
    if not (np.isfinite(tau) and tau >= 0):
        raise ConfigError(f"--temperature must be a number >= 0; got {tau}.")
    batch_size = config.evaluation.batch_size if batch_size is None else batch_size
    if batch_size < 1:
        raise ConfigError(f"--batch-size must be >= 1; got {batch_size}.")
    data = StoredData.of(folder, "all")
    histories, context = _histories(log, data)
    has_history = np.array([histories[c].size > 0 for c in context])
    if not has_history.any():
        raise DataError(
            f"a list must have a history for the variant to score; got none among {log.n_lists:,} drawn "
            "lists.\n  The run knows none of their users. Log the column history, or take the run behind the "
            "service."
        )
    log, context = log.of_lists(has_history), context[has_history]
    narrator.say(_told(log))
    n_best = _n_candidates(log) if n_candidates is None else n_candidates
    exclude_seen = config.data.repeats == "first" if include_seen is None else not include_seen
    recommender = load_finished(policy.name, result, folder, data, choose_device(device or config.device))
    target = PlackettLuce(
        data.item_ids,
        _Scores(recommender, histories, batch_size, exclude_seen=exclude_seen),
        context,
        tau,
        None if n_best is None else max(n_best, log.n_ordinals),
        _name(policy.name, tau, n_best),
    )
    found = evaluate_policy(
        log, target, reward=reward, clip=clip, whole_lists=whole_lists, max_unsupported=max_unsupported
    )
    found = replace(found, cautions=(*found.cautions, *_cautions(log, n_best)))
    if out is not None:
        made = {"logs": str(logs), "run": str(policy.parent), "variant": policy.name, "seed": seed}
        settings = {"temperature": tau, "n_candidates": n_best, "exclude_seen": exclude_seen}
        write_json({**found.as_dict(), "made_with": {**made, **settings}}, out)
    return found


class _Scores:
    """Scores of contexts, ``-inf`` for items of their history."""

    def __init__(
        self, recommender: Recommender, histories: Histories, batch_size: int, *, exclude_seen: bool
    ) -> None:
        self._recommender, self._histories = recommender, histories
        self._batch_size, self._exclude_seen = batch_size, exclude_seen

    def __call__(self, contexts: NDArray[np.int64]) -> NDArray[np.float64]:
        batches = []
        for start in range(0, len(contexts), self._batch_size):
            histories = [self._histories[c] for c in contexts[start : start + self._batch_size]]
            scores = self._recommender.scores(histories).detach().float().cpu().numpy().astype(np.float64)
            if np.isnan(scores).any() or (scores == np.inf).any():
                raise DataError(
                    "scores must be finite or -inf; got NaN or +inf.\n  The variant's training diverged."
                )
            if self._exclude_seen:
                for row, history in enumerate(histories):
                    scores[row, history] = -np.inf
            batches.append(scores)
        return np.concatenate(batches)


def _read(logs: Path, reward: str) -> pl.DataFrame:
    if logs.is_dir():
        if reward not in EXPORTED_REWARDS:
            known = ", ".join(EXPORTED_REWARDS)
            raise ConfigError(f"--reward must be one of {known} for an export; got {reward!r}.")
        return exported_slots(logs, reward)
    if not logs.is_file():
        raise DataError(
            f"logs must be a file or the folder of an export; got {str(logs)!r}.\n  Check the path."
        )
    return read_table(logs, role="interactions")[0]


def _temperature(log: LoggedLists) -> float:
    """The one temperature at which the log's lists were drawn."""
    if "temperature" not in log.lists.columns:
        raise ConfigError(
            "--temperature must be given, since the log has no column temperature; got none.\n"
            "  0 asks for the variant's best items in order, which needs far more explored lists."
        )
    found = log.lists["temperature"].unique().drop_nulls().sort()
    if len(found) != 1:
        raise ConfigError(
            f"--temperature must be given, since the log's lists were drawn at {len(found):,} temperatures "
            f"({first_offenders(found)}); got none.\n  Name the one at which the variant would be served."
        )
    return float(found[0])


def _n_candidates(log: LoggedLists) -> int | None:
    """How many items had a chance in most of the log's draws."""
    if "n_candidates" not in log.lists.columns:
        return None
    return int(log.lists["n_candidates"].drop_nulls().mode().max())  # type: ignore[arg-type]


def _histories(log: LoggedLists, data: StoredData) -> tuple[Histories, NDArray[np.int64]]:
    """Distinct histories, some empty, and which of them each list has."""
    if "history" in log.lists.columns:
        return _logged_histories(log.lists["history"], data.item_ids)
    if USER not in log.lists.columns:
        raise DataError(
            "log must have user_id or history to know what the variant would list; got neither.\n"
            "  history is a list of item_id, oldest first."
        )
    files = [data.folder / f"{part}.parquet" for part in HISTORIES["all"]]
    known = (
        pl.concat([pl.scan_parquet(file, glob=False).select(USER, USER_INDEX) for file in files])
        .join(log.lists.lazy().select(USER).unique(), on=USER, how="semi")
        .unique()
        .collect()
    )
    indices = known[USER_INDEX].cast(pl.Int64).sort().to_numpy()
    histories: Histories = [np.empty(0, np.int64)]  # of users that the run does not know
    if not indices.size:
        return histories, np.zeros(log.n_lists, np.int64)
    users = data.read_users(indices)
    histories += users.histories
    number = pl.DataFrame({USER: users.ids, "context": np.arange(1, len(users.ids) + 1)})
    found = log.lists.select(USER).join(number, on=USER, how="left", maintain_order="left")
    return histories, found["context"].fill_null(0).to_numpy()


def _logged_histories(logged: pl.Series, item_ids: pl.Series) -> tuple[Histories, NDArray[np.int64]]:
    if not isinstance(logged.dtype, pl.List):
        raise DataError(
            f"history must be a list of item_id per row; got {logged.dtype}.\n  Write the log as Parquet."
        )
    index = {item: i for i, item in enumerate(item_ids.to_list())}
    numbers: dict[tuple[int, ...], int] = {}
    context = np.empty(len(logged), np.int64)
    for row, items in enumerate(logged.cast(pl.List(pl.String)).to_list()):
        known = tuple(index[item] for item in items or () if item in index)
        context[row] = numbers.setdefault(known, len(numbers))
    return [np.array(history, np.int64) for history in numbers], context


def _name(variant: str, temperature: float, n_candidates: int | None) -> str:
    if temperature == 0:
        return f"{variant} (its best items)"
    among = "" if n_candidates is None else f" among its best {n_candidates:,}"
    return f"{variant} (drawn at temperature {temperature:g}{among})"


def _told(log: LoggedLists) -> str:
    checks = log.checks
    return (
        f"{checks.n_rows:,} slots of {checks.n_lists:,} {log.unit}; {checks.n_deterministic_lists:,} not "
        f"drawn; {checks.n_left_out_lists:,} without a history; {checks.n_evaluated_lists:,} of "
        f"{checks.n_users:,} users are evaluated"
    )


def _cautions(log: LoggedLists, n_candidates: int | None) -> list[str]:
    found = []
    if log.checks.n_left_out_lists:
        found.append(
            f"{log.checks.n_left_out_lists:,} drawn lists without a history are left out; numbers are about "
            f"the other {log.n_lists:,}"
        )
    if n_candidates is not None and "n_candidates" in log.lists.columns:
        other = int((log.lists["n_candidates"] != n_candidates).sum())
        if other:
            found.append(
                f"{other:,} lists were drawn among another number of items than {n_candidates:,}: if filters "
                "or exclusions made it so, the variant is not held to them here"
            )
    return found
