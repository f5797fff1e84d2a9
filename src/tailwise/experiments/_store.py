"""Where experiments are kept: definitions, state, and every decision with what it was based on."""

import difflib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from tailwise._settings import from_plain, plain_of
from tailwise.errors import ConfigError, TailwiseError
from tailwise.experiments._experiment import Experiment, experiment_as_json, experiment_from_json
from tailwise.experiments._guardrails import Evidence, GuardrailResult, evidence_as_plain
from tailwise.experiments._rollout import Action, Decision, Moment, Rollout, State, transition
from tailwise.experiments._store_database import DECISIONS, EXPERIMENTS, StoreDatabase

__all__ = ["AuditEntry", "ConflictError", "ExperimentStore"]


class ConflictError(TailwiseError):
    """Somebody else changed the experiment in the meantime; look again and decide anew."""


@dataclass(frozen=True)
class AuditEntry:
    """One line of the audit log.

    Attributes:
        seq: Rises from line to line.
        experiment: Name.
        at: Unix seconds.
        by: Who: ``machine``, or ``person:`` and a name.
        action: What; ``create`` is the first.
        reason: Why, for a person.
        needs_person: A person was waited for.
        state_before: State before it.
        stage_before: Stage before it.
        state_after: State after it.
        stage_after: Stage after it.
        version_after: Version of the rollout after it.
        guardrails: What they said; empty where nobody looked.
        evidence: Plain values, as :func:`evidence_as_plain` makes them; empty likewise.
    """

    seq: int
    experiment: str
    at: float
    by: str
    action: str
    reason: str
    needs_person: bool
    state_before: State
    stage_before: int
    state_after: State
    stage_after: int
    version_after: int
    guardrails: tuple[GuardrailResult, ...]
    evidence: Mapping[str, Any]


class ExperimentStore:
    """Experiments on disk, shared by every worker and every process that decides.

    What returned is durable. Of two that want to change one experiment at once, the second gets
    :class:`ConflictError`, and nothing happens twice.

    Args:
        url: ``sqlite:///path`` or ``postgresql://user@host/name``; the event log's will do. The tables are
            made at first use.
        clock: Unix seconds; of every change that names no time of its own.

    Raises:
        ConfigError: the URL is neither of these.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        self._database = StoreDatabase(url)
        self._clock = clock

    def create(self, experiment: Experiment, *, by: str, reason: str = "") -> Rollout:
        """Keep a definition, as a draft. It never changes again.

        Raises:
            ConfigError: there is one of this name.
            LogUnavailableError: the database cannot be written now. So of every other call.
        """
        rollout, now = Rollout(experiment), self._clock()
        with self._database.writing() as connection:
            if _row(connection, experiment.name) is not None:
                raise ConfigError(
                    f"name must be new; got {experiment.name!r}, which exists. "
                    "A definition never changes: choose another name, and another seed deals users anew."
                )
            connection.execute(
                EXPERIMENTS.insert().values(
                    name=experiment.name,
                    definition=experiment_as_json(experiment),
                    state=rollout.state,
                    stage=0,
                    version=0,
                    timeline="[]",
                    created_at=now,
                    changed_at=now,
                )
            )
            _log(connection, rollout, rollout, "create", by=by, reason=reason, at=now)
        return rollout

    def get(self, name: str) -> Rollout:
        """Return an experiment and where it stands.

        Raises:
            ConfigError: there is none of this name.
        """
        with self._database.reading() as connection:
            return _get(connection, name)

    def all(self) -> tuple[Rollout, ...]:
        """Return every experiment, newest first."""
        with self._database.reading() as connection:
            return _all(connection)

    def version(self) -> int:
        """Return a number that grows with every line of the audit log."""
        with self._database.reading() as connection:
            return int(connection.execute(sa.select(sa.func.max(DECISIONS.c.seq))).scalar() or 0)

    def act(
        self, name: str, action: Action, *, by: str, reason: str = "", expected_version: int | None = None
    ) -> Rollout:
        """Do something by hand. Ending twice is safe: it changes nothing, and is logged.

        Args:
            name: Of the experiment.
            action: See :func:`legal_actions`.
            by: Who, such as ``person:anna``.
            reason: Why.
            expected_version: Version that was looked at. None: whatever it is now.

        Raises:
            ConfigError: there is none of this name, or starting it would let it overlap with another.
            IllegalTransitionError: its state does not allow the action.
            ConflictError: it is not at ``expected_version`` any more.
        """
        with self._database.writing() as connection:
            rollout = _get(connection, name)
            _check_version(rollout, expected_version)
            return self._apply(connection, rollout, action, by=by, reason=reason, at=self._clock())

    def apply(
        self, rollout: Rollout, decision: Decision, evidence: Evidence, *, by: str = "machine"
    ) -> Rollout:
        """Do what was decided about the rollout as it was then, and log it with its evidence.

        Raises:
            ConflictError: it was changed since.
            IllegalTransitionError: its state does not allow the action.
        """
        with self._database.writing() as connection:
            current = _get(connection, rollout.experiment.name)
            _check_version(current, rollout.version)
            return self._apply(
                connection,
                current,
                decision.action,
                by=by,
                reason=decision.reason,
                at=evidence.at,
                decision=decision,
                evidence=evidence,
            )

    def history(self, name: str, *, limit: int | None = None) -> tuple[AuditEntry, ...]:
        """Return an experiment's audit log, newest first.

        Args:
            name: Of the experiment.
            limit: At most so many lines, >= 1. None: all.

        Raises:
            ConfigError: there is none of this name.
        """
        with self._database.reading() as connection:
            _get(connection, name)
            query = sa.select(DECISIONS).where(DECISIONS.c.experiment == name)
            rows = connection.execute(query.order_by(DECISIONS.c.seq.desc()).limit(limit)).mappings()
            return tuple(_entry(row) for row in rows)

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def _apply(
        self,
        connection: Connection,
        rollout: Rollout,
        action: Action,
        *,
        by: str,
        reason: str,
        at: float,
        decision: Decision | None = None,
        evidence: Evidence | None = None,
    ) -> Rollout:
        after = transition(rollout, action, at)
        if after.is_live and not rollout.is_live:
            _check_overlap(after, _all(connection))
        if after.version != rollout.version:
            changed = connection.execute(
                EXPERIMENTS.update()
                .where(
                    EXPERIMENTS.c.name == rollout.experiment.name, EXPERIMENTS.c.version == rollout.version
                )
                .values(
                    state=after.state,
                    stage=after.stage,
                    version=after.version,
                    timeline=json.dumps([[m.at, m.action, m.stage] for m in after.timeline]),
                    changed_at=at,
                )
            )
            if changed.rowcount != 1:
                raise _conflict(rollout.experiment.name, rollout.version)
        _log(
            connection,
            rollout,
            after,
            action,
            by=by,
            reason=reason,
            at=at,
            decision=decision,
            evidence=evidence,
        )
        return after


def _check_version(rollout: Rollout, expected: int | None) -> None:
    if expected is not None and rollout.version != expected:
        raise _conflict(rollout.experiment.name, expected)


def _conflict(name: str, expected: int) -> ConflictError:
    return ConflictError(
        f"{name!r} must still be at version {expected}; got a later one, as somebody changed it. "
        "Look again and decide anew."
    )


def _check_overlap(rollout: Rollout, others: tuple[Rollout, ...]) -> None:
    """Refuse a start that would give one user, or one surface, two experiments."""
    experiment = rollout.experiment
    for other in others:
        theirs = other.experiment
        if not other.is_live or theirs.name == experiment.name:
            continue
        if experiment.overlaps(theirs):
            raise ConfigError(
                f"{experiment.name!r} must not overlap with a live experiment; got {theirs.name!r}, which is "
                f"{other.state} on {theirs.surface} with {theirs.layer_percent[0]:g} to "
                f"{theirs.layer_percent[1]:g} % of layer {theirs.layer!r}. "
                "Stop it, or give both disjoint layer_percent in one layer."
            )
        if theirs.surface == experiment.surface and theirs.control != experiment.control:
            raise ConfigError(
                f"control of {experiment.name!r} must be that of {theirs.name!r} on the same surface, "
                f"{theirs.control!r}; got {experiment.control!r}."
            )


def _row(connection: Connection, name: str) -> RowMapping | None:
    return connection.execute(sa.select(EXPERIMENTS).where(EXPERIMENTS.c.name == name)).mappings().first()


def _get(connection: Connection, name: str) -> Rollout:
    row = _row(connection, name)
    if row is None:
        known = list(connection.execute(sa.select(EXPERIMENTS.c.name).order_by(EXPERIMENTS.c.name)).scalars())
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known) or 'none'}."
        raise ConfigError(f"experiment must exist; got {name!r}. {hint}")
    return _rollout(row)


def _all(connection: Connection) -> tuple[Rollout, ...]:
    order = (EXPERIMENTS.c.created_at.desc(), EXPERIMENTS.c.name)
    return tuple(map(_rollout, connection.execute(sa.select(EXPERIMENTS).order_by(*order)).mappings()))


def _rollout(row: RowMapping) -> Rollout:
    return Rollout(
        experiment_from_json(row["definition"]),
        row["state"],
        row["stage"],
        row["version"],
        tuple(Moment(at, action, stage) for at, action, stage in json.loads(row["timeline"])),
    )


def _log(
    connection: Connection,
    before: Rollout,
    after: Rollout,
    action: str,
    *,
    by: str,
    reason: str,
    at: float,
    decision: Decision | None = None,
    evidence: Evidence | None = None,
) -> None:
    if not by:
        raise ValueError("by must say who; got ''. Write machine, or person: and a name.")
    guardrails = [] if decision is None else plain_of(decision.guardrails)
    connection.execute(
        DECISIONS.insert().values(
            experiment=before.experiment.name,
            at=at,
            by=by,
            action=action,
            reason=reason,
            needs_person=decision is not None and decision.needs_person,
            state_before=before.state,
            stage_before=before.stage,
            state_after=after.state,
            stage_after=after.stage,
            version_after=after.version,
            guardrails=json.dumps(guardrails, ensure_ascii=False),
            evidence=json.dumps({} if evidence is None else evidence_as_plain(evidence), allow_nan=False),
        )
    )


def _entry(row: RowMapping) -> AuditEntry:
    values = dict(row)
    stored = json.loads(values.pop("guardrails"))
    guardrails = tuple(from_plain(GuardrailResult, result, "guardrails") for result in stored)
    evidence = json.loads(values.pop("evidence"))
    return AuditEntry(**values, guardrails=guardrails, evidence=evidence)
