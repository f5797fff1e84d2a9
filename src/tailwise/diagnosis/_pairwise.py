"""Which items an un-tuned language model says are better known, from comparisons of pairs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from tailwise.diagnosis._bradley_terry import fit_bradley_terry
from tailwise.diagnosis._comparison_checks import (
    QuestionReport,
    held_out_accuracy,
    mean_agreement,
    report_question,
)
from tailwise.diagnosis._comparison_design import comparison_pairs, sample_by_count
from tailwise.diagnosis._comparison_questions import QUESTIONS, Answers, Question, ask
from tailwise.diagnosis._prior_estimate import PriorCost, PriorEstimate
from tailwise.diagnosis._uncertain import Uncertain
from tailwise.errors import CannotCompareError
from tailwise.recommenders._text_model import TextModel

__all__ = ["Pairwise", "compare_pairs"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pairwise:
    """Scores from comparisons of pairs, and whether they can be believed.

    Attributes:
        estimate: Scores are log-odds of being called better known, mean 0 over the sample, NaN
            for items outside it; a column per question.
        errors: ``[n_items]`` float64; standard errors of the scores; NaN likewise.
        questions: How each was answered.
        held_out_accuracy: Share of pairs whose winner, both orders and all questions taken
            together, is foreseen by scores fitted to the other pairs; 0.5 = chance. High: the
            answers are transitive, so they follow *something* about the items.
        agreement: Spearman's correlation of the scores from different questions, mean over the
            pairs of questions: high only if that something does not hang on the wording. None
            with a single question.
    """

    estimate: PriorEstimate
    errors: Floats
    questions: tuple[QuestionReport, ...]
    held_out_accuracy: Uncertain
    agreement: Uncertain | None

    @property
    def flipped_share(self) -> float:
        """Share of pairs whose winner changes with the order, mean over questions."""
        return float(np.mean([question.flipped_share for question in self.questions]))

    @property
    def answers_by_position(self) -> bool:
        """Whether more than half of the winners change with the order."""
        return self.flipped_share > 0.5

    @property
    def is_informative(self) -> bool:
        """Whether the scores can be taken for what the model knows.

        Most winners must not change with the order, scores must foresee pairs that they were
        not fitted to (interval above 0.5), and different questions must agree (interval above
        0). None of the three looks at popularity.
        """
        foresees = (self.held_out_accuracy.low or 0.0) > 0.5
        agrees = self.agreement is None or (self.agreement.low or 0.0) > 0
        return not self.answers_by_position and foresees and agrees

    @property
    def sentence(self) -> str:
        """Say in plain words whether the comparison told anything."""
        if self.is_informative:
            return "The model's comparisons of pairs are consistent."
        if self.answers_by_position:
            return (
                f"The model compares pairs by position, not by item: {self.flipped_share:.0%} of its winners "
                "change when the two are swapped, so its comparisons say nothing."
            ).replace("%", " %")
        return (
            "The model's comparisons of pairs contradict each other, from pair to pair or from question to "
            "question, so they say nothing."
        )

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON, without the scores of single items."""
        return {
            "is_informative": self.is_informative,
            "answers_by_position": self.answers_by_position,
            "sentence": self.sentence,
            "flipped_share": self.flipped_share,
            "held_out_accuracy": self.held_out_accuracy.as_dict(),
            "agreement_of_questions": None if self.agreement is None else self.agreement.as_dict(),
            "mean_standard_error": float(np.nanmean(self.errors)),
            "questions": [question.as_dict() for question in self.questions],
        }


def compare_pairs(
    titles: Sequence[str],
    counts: ArrayLike,
    model: TextModel,
    *,
    kind: str = "product",
    n_items: int = 300,
    per_item: int = 10,
    questions: Sequence[Question] = QUESTIONS,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Pairwise:
    """Ask which of two items is better known, for pairs of a sample of head and tail.

    Every question is put in both orders, and half the difference of the two log-odds is what counts:
    a preference for the first or the second position cancels. Its logistic is the outcome, between
    0 and 1, to which Bradley–Terry scores are fitted: per question for the columns, and to the
    mean log-odds over questions for the scores.

    Args:
        titles: Of all items; the sample is drawn from different titles that are not empty.
        counts: ``[n_items]``; training interactions, for the sample alone.
        model: Un-tuned.
        kind: A noun for an item: "movie", "product".
        n_items: Items to sample, >= 10; all where there are no more.
        per_item: Comparisons of each item, about; even.
        questions: One or more.
        seed: Of the sample and the pairs.
        progress: Called with ("pairwise comparison", pairs × questions done, in all).

    Raises:
        ValueError: a number is out of range.
        CannotCompareError: there are fewer than ten different titles, or the model's tokenizer cannot
            tell the answers of a question apart.
    """
    first_of = {title.strip(): i for i, title in reversed(list(enumerate(titles)))}
    candidates = np.array(sorted(i for title, i in first_of.items() if title), dtype=np.int64)
    if n_items < 10:
        raise ValueError(f"n_items must be >= 10; got {n_items}.\n  The default is a start.")
    if not questions:
        raise ValueError("questions must hold one or more; got none.\n  QUESTIONS has two.")
    if candidates.size < 10:
        raise CannotCompareError(
            f"titles must hold 10 different ones to compare pairs; got {candidates.size} among "
            f"{len(titles):,} items.\n  Leave the pairwise estimator out for so small a catalogue."
        )
    sample = candidates[sample_by_count(np.asarray(counts)[candidates], n_items, seed=seed)]
    pairs = comparison_pairs(sample.size, per_item=per_item, seed=seed)
    short = [titles[i] for i in sample]
    answers: list[Answers] = []
    cost, done = PriorCost(), 0

    def tell(n: int) -> None:
        nonlocal done
        done += n
        if progress:
            progress("pairwise comparison", done, len(pairs) * len(questions))

    for question in questions:
        found, spent = ask(question, short, pairs, model, kind=kind, progress=tell)
        answers.append(found)
        cost += spent
    margins = np.column_stack([(found.margins[:, 0] - found.margins[:, 1]) / 2 for found in answers])
    whole = fit_bradley_terry(pairs, expit(margins.mean(axis=1)), sample.size)
    columns = np.column_stack([fit_bradley_terry(pairs, expit(m), sample.size).scores for m in margins.T])

    def of_catalogue(values: Floats) -> Floats:
        spread = np.full((len(titles), *values.shape[1:]), np.nan)
        spread[sample] = values
        return spread

    names = tuple(question.name for question in questions)
    return Pairwise(
        PriorEstimate("pairwise", of_catalogue(whole.scores), of_catalogue(columns), names, cost),
        errors=of_catalogue(whole.errors),
        questions=tuple(report_question(found) for found in answers),
        held_out_accuracy=held_out_accuracy(pairs, margins.mean(axis=1), sample.size, seed=seed),
        agreement=mean_agreement(columns, seed),
    )
