"""Whose recommendations an audit looks at: a run's models, or lists that any system made."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailwise.diagnosis import Outcomes, count_slots
from tailwise.evaluation import Rankings, encode_lists, read_lists, target_values
from tailwise.jobs._audit_config import AuditConfig
from tailwise.jobs._config import RunConfig
from tailwise.jobs._measure import finished_results, label_of, role_of
from tailwise.jobs._run_data import RunData
from tailwise.jobs._run_folder import RunFolder
from tailwise.schema import ITEM_INDEX, USER_INDEX

__all__ = ["Subject", "given_subject", "run_subjects"]


@dataclass(frozen=True, eq=False)
class Subject:
    """Recommendations of one maker.

    Attributes:
        name: Unique in the audit.
        label: What people read.
        role: ``baseline``, ``treatment`` or ``reference`` of a run, or ``lists``.
        rankings: One per training seed.
        seeds: Of the trainings; empty where there was none of ours.
        checks: Of given lists: what was irregular and what was done about it.
    """

    name: str
    label: str
    role: str
    rankings: tuple[Rankings, ...]
    seeds: tuple[int, ...] = ()
    checks: dict[str, Any] | None = None

    @property
    def has_targets(self) -> bool:
        """True where accuracy can be measured."""
        return self.rankings[0].targets.height > 0

    def slots(self, k: int) -> NDArray[np.float64]:
        """Lists that show each item in their first k slots, mean over seeds: ``[n_items]``."""
        first = self.rankings[0]
        shown = [count_slots(r.lists["items"], first.n_items, k) for r in self.rankings]
        return np.asarray(np.mean(shown, axis=0), dtype=np.float64)

    def outcomes(self, counts: NDArray[np.int64], priors: NDArray[np.float64], k: int) -> Outcomes:
        """NDCG@k of every target, mean over seeds, beside both popularities of the items."""
        targets = self.rankings[0].targets
        accuracy = np.mean([target_values(r, "ndcg", k) for r in self.rankings], axis=0)
        return Outcomes(
            targets[USER_INDEX].to_numpy(), targets[ITEM_INDEX].to_numpy(), accuracy, counts, priors
        )


def run_subjects(folder: RunFolder, config: RunConfig) -> tuple[Subject, ...]:
    """Return what is finished in a run, the baseline first, references last.

    Raises:
        DataError: nothing is finished.
    """
    found = []
    for name, results in finished_results(folder, config).items():
        found.append(
            Subject(
                name=name,
                label=label_of(name, config),
                role=role_of(name, config),
                rankings=tuple(Rankings.load(result.rankings) for result in results),
                seeds=tuple(config.seeds) if "cost" in results[0].read_record() else (),
            )
        )
    order = ("baseline", "treatment", "reference")
    return tuple(sorted(found, key=lambda subject: order.index(subject.role)))


def given_subject(config: AuditConfig, data: RunData) -> Subject:
    """Read lists that any system made, as rankings of the test users' targets.

    Raises:
        DataError: the lists break a rule of docs/recommendation-lists.md.
    """
    path = Path(config.recommendations or "")
    given = read_lists(
        path,
        columns=config.lists_columns,
        repeated_items=config.repeated_items,  # type: ignore[arg-type]
    )
    rankings, checks = encode_lists(
        given,
        data.catalogue,
        data.split,
        part=None if config.exposure_only else "test",
        unknown_items=config.unknown,  # type: ignore[arg-type]
        unknown_users=config.unknown,  # type: ignore[arg-type]
        seed=config.seed,
    )
    return Subject(path.stem, path.name, "lists", (rankings,), checks=checks.as_dict())
