"""The prior side of a diagnosis: what a language model knew of each item before any tuning."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from tailwise.diagnosis._length_check import LengthCheck, check_length
from tailwise.diagnosis._pairwise import Pairwise, compare_pairs
from tailwise.diagnosis._prior_agreement import (
    POPULARITY,
    PriorAgreement,
    PriorStability,
    measure_agreements,
    measure_stability,
)
from tailwise.diagnosis._prior_estimate import PriorEstimate
from tailwise.diagnosis._prior_words import agreement_sentence
from tailwise.diagnosis._title_likelihood import TitleLikelihood, title_likelihood
from tailwise.errors import CannotCompareError
from tailwise.recommenders._text_model import TextModel

__all__ = ["PriorDiagnosis", "measure_prior"]

Floats = NDArray[np.float64]
_ESTIMATORS = ("title-likelihood", "pairwise")


@dataclass(frozen=True, eq=False)
class PriorDiagnosis:
    """What a language model knew of a catalogue, by several ways of asking.

    Attributes:
        kind: The noun that prompts used for an item.
        fingerprint: Of the model's folder.
        dtype: Of the model's weights.
        estimates: One per way of asking, title likelihood first.
        agreements: Of every two estimates, and of each with ``popularity``.
        stabilities: One per estimate.
        length_checks: Of the title likelihood as it is used, before length was taken out (where it
            was), and of the two naive scores: the mean and the sum of the titles' log-likelihood.
        likelihood: The title likelihood in detail.
        pairwise: The comparison of pairs in detail; None when it was not asked for, or left out.
        pairwise_left_out: Why pairs could not be compared although this was asked for; else None.
        combined: ``[n_items, n_templates]`` float64, finite: the title likelihood under each
            template. What attribution takes as ``Outcomes(priors=...)``.
        n_filled: Items without a title; in ``combined`` they have each column's median.
    """

    kind: str
    fingerprint: str
    dtype: str
    estimates: tuple[PriorEstimate, ...]
    agreements: tuple[PriorAgreement, ...]
    stabilities: tuple[PriorStability, ...]
    length_checks: tuple[LengthCheck, ...]
    likelihood: TitleLikelihood
    pairwise: Pairwise | None
    pairwise_left_out: str | None
    combined: Floats
    n_filled: int

    def agreement(self, first: str, second: str = POPULARITY) -> PriorAgreement:
        """Return the agreement of two estimates by name, in either order.

        Raises:
            KeyError: there is no such pair.
        """
        for found in self.agreements:
            if {found.first, found.second} == {first, second}:
                return found
        raise KeyError(f"no agreement of {first!r} and {second!r}")

    @property
    def sentence(self) -> str:
        """Say in plain words how far the model's knowledge and the log agree."""
        text = agreement_sentence(self.agreement("title-likelihood").spearman)
        if self.pairwise is not None and not self.pairwise.is_informative:
            text += f" {self.pairwise.sentence}"
        if self.pairwise_left_out is not None:
            text += " The model could not be asked which of two items is better known."
        return text

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON, without the scores of single items."""
        return {
            "kind": self.kind,
            "model_fingerprint": self.fingerprint,
            "dtype": self.dtype,
            "sentence": self.sentence,
            "estimates": [estimate.as_dict() for estimate in self.estimates],
            "agreements": [found.as_dict() for found in self.agreements],
            "stabilities": [found.as_dict() for found in self.stabilities],
            "length_checks": [check.as_dict() for check in self.length_checks],
            "title_likelihood": self.likelihood.as_dict(),
            "pairwise": None if self.pairwise is None else self.pairwise.as_dict(),
            "pairwise_left_out": self.pairwise_left_out,
            "n_filled": self.n_filled,
        }


def measure_prior(
    titles: Sequence[str],
    counts: ArrayLike,
    model_folder: Path,
    *,
    kind: str = "product",
    n_pairwise_items: int = 300,
    estimators: Sequence[str] = _ESTIMATORS,
    others: Sequence[PriorEstimate] = (),
    length_adjusted: bool = True,
    device: torch.device | str | None = None,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> PriorDiagnosis:
    """Ask an un-tuned language model how well it knows each item, and compare the answers.

    Answers are kept in the user's cache: a run that is stopped goes on where it was, and a second
    one takes seconds.

    Args:
        titles: ``[n_items]``; of the whole catalogue, in its order; any may be empty.
        counts: ``[n_items]``; training interactions, each >= 0.
        model_folder: From :func:`~tailwise.recommenders.resolve_language_model`.
        kind: A noun for an item, as prompts say it: "movie".
        n_pairwise_items: Items whose pairs are compared, >= 10.
        estimators: ``title-likelihood``, which ``combined`` is made of, and ``pairwise``, which is
            left out with its reason where this model or catalogue does not allow it.
        others: Estimates from elsewhere, over the same items, to be compared with these.
        length_adjusted: Take out of the likelihood what the length of a title predicts of it.
        device: Where to run; the CPU by default.
        seed: Of samples and resamples.
        progress: Called with (stage, done, total).

    Raises:
        ValueError: lengths differ, a count is negative, an estimator is unknown, title likelihood
            is not among them, two estimates have one name, or no title has a text.

    Example (``smollm2`` is a folder)::

        found = measure_prior(["Toy Story (1995)", "Fargo (1996)", ...], counts, smollm2, kind="movie")
        print(found.sentence)
    """
    n = _checked_counts(counts, len(titles))
    _check(estimators, others, len(titles))
    if not any(title.strip() for title in titles):
        raise ValueError(
            f"titles must hold one that is not empty; got {len(titles):,} empty ones.\n"
            "  The model is asked about titles: without any it knows nothing."
        )
    model = TextModel(Path(model_folder), device=device)
    likelihood = title_likelihood(
        titles, model, kind=kind, length_adjusted=length_adjusted, progress=progress
    )
    pairwise, left_out = None, None
    if "pairwise" in estimators:
        try:
            pairwise = compare_pairs(
                titles, n, model, kind=kind, n_items=n_pairwise_items, seed=seed, progress=progress
            )
        except CannotCompareError as error:
            left_out = str(error).partition("\n")[0]
    own = [likelihood.estimate] + ([] if pairwise is None else [pairwise.estimate])
    estimates = (*own, *others)
    columns = likelihood.estimate.columns
    unknown = ~np.isfinite(columns[:, 0])
    return PriorDiagnosis(
        kind=kind,
        fingerprint=model.fingerprint,
        dtype=str(model.dtype).removeprefix("torch."),
        estimates=estimates,
        agreements=measure_agreements(estimates, n, seed),
        stabilities=tuple(measure_stability(estimate, n) for estimate in estimates),
        length_checks=_length_checks(likelihood, n, seed),
        likelihood=likelihood,
        pairwise=pairwise,
        pairwise_left_out=left_out,
        combined=np.where(unknown[:, None], np.nanmedian(columns, axis=0), columns),
        n_filled=int(unknown.sum()),
    )


def _checked_counts(counts: ArrayLike, n_items: int) -> NDArray[np.int64]:
    n = np.asarray(counts)
    if n.shape != (n_items,):
        raise ValueError(
            f"counts must be one per title, {n_items:,}; got shape {n.shape}.\n"
            "  popularity(train, n_items) counts every item of the catalogue."
        )
    if not np.issubdtype(n.dtype, np.integer):
        raise ValueError(f"counts must be whole numbers; got {n.dtype}.\n  Count training rows.")
    if n_items and n.min() < 0:
        raise ValueError(
            f"counts must be >= 0; got {n.min()} for item {int(n.argmin())}.\n  Count training rows."
        )
    return n.astype(np.int64)


def _check(estimators: Sequence[str], others: Sequence[PriorEstimate], n_items: int) -> None:
    if not set(estimators) <= set(_ESTIMATORS) or _ESTIMATORS[0] not in estimators:
        raise ValueError(
            f"estimators must be of {', '.join(_ESTIMATORS)}, with {_ESTIMATORS[0]}; got "
            f"{', '.join(estimators) or 'none'}.\n  Pass estimates from elsewhere as others."
        )
    names = [*estimators, POPULARITY, *(estimate.name for estimate in others)]
    for estimate in others:
        if estimate.scores.size != n_items:
            raise ValueError(
                f"others must have one score per title, {n_items:,}; got {estimate.scores.size:,} in "
                f"{estimate.name!r}.\n  Estimate over the same catalogue."
            )
        if names.count(estimate.name) > 1:
            raise ValueError(
                f"others must have names of their own; got {estimate.name!r} twice.\n  Rename the estimate."
            )


def _length_checks(
    likelihood: TitleLikelihood, counts: NDArray[np.int64], seed: int
) -> tuple[LengthCheck, ...]:
    scores = {"score": likelihood.estimate.scores}
    if likelihood.is_length_adjusted:
        scores["score before adjustment"] = likelihood.unadjusted
    scores |= {"naive mean": likelihood.naive_mean, "naive sum": likelihood.naive_sum}
    return tuple(
        check_length(name, values, likelihood.n_tokens, counts, seed=seed) for name, values in scores.items()
    )
