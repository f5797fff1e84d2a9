"""Whether a model's comparisons of pairs are about the items, or about the order and the wording."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from tailwise.diagnosis._bradley_terry import fit_bradley_terry
from tailwise.diagnosis._comparison_questions import Answers
from tailwise.diagnosis._rank_correlation import rank_correlation
from tailwise.diagnosis._uncertain import Uncertain, Z

__all__ = ["QuestionReport", "held_out_accuracy", "mean_agreement", "report_question"]

Floats = NDArray[np.float64]
_FOLDS = 5


@dataclass(frozen=True)
class QuestionReport:
    """How the model answered one question, apart from which items won.

    Attributes:
        name: Of the question.
        n_pairs: Pairs that were asked in both orders.
        flipped_share: Share of pairs whose winner changes with the order, 0–1. 0 = consistent;
            1 = the answer is always the first, or always the second, whatever they are.
        first_share: Share of all answers that name the first item, 0–1; 0.5 without position bias.
        position_bias_nats: Mean log-odds for the first item over both orders; 0 without bias.
        item_margin_nats: Standard deviation over pairs of what is left when the bias cancels:
            half the difference of the log-odds of the two orders.
        answer_share: Mean probability that the next token is an answer at all, 0–1.
    """

    name: str
    n_pairs: int
    flipped_share: float
    first_share: float
    position_bias_nats: float
    item_margin_nats: float
    answer_share: float

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "name": self.name,
            "n_pairs": self.n_pairs,
            "flipped_share": self.flipped_share,
            "first_share": self.first_share,
            "position_bias_nats": self.position_bias_nats,
            "item_margin_nats": self.item_margin_nats,
            "answer_share": self.answer_share,
        }


def report_question(answers: Answers) -> QuestionReport:
    """Count how often the order decides."""
    margins = answers.margins
    return QuestionReport(
        name=answers.question.name,
        n_pairs=len(margins),
        flipped_share=float(np.mean((margins[:, 0] > 0) == (margins[:, 1] > 0))),
        first_share=float(np.mean(margins > 0)),
        position_bias_nats=float(margins.mean()),
        item_margin_nats=float(np.std((margins[:, 0] - margins[:, 1]) / 2)),
        answer_share=float(answers.answer_shares.mean()),
    )


def held_out_accuracy(pairs: NDArray[np.int64], margins: Floats, n_items: int, *, seed: int = 0) -> Uncertain:
    """Foresee the winner of each pair from scores fitted to four fifths that do not hold it.

    Pairs whose items the other four fifths do not connect are left out. The interval is
    Wilson's.
    """
    fold = np.random.default_rng(seed).permutation(len(pairs)) % _FOLDS
    n_right, n_told = 0, 0
    for k in range(_FOLDS):
        rest, out = fold != k, fold == k
        try:
            scores = fit_bradley_terry(pairs[rest], expit(margins[rest]), n_items).scores
        except ValueError:  # not connected
            continue
        foreseen = scores[pairs[out, 0]] - scores[pairs[out, 1]]
        n_right += int(np.sum((foreseen > 0) == (margins[out] > 0)))
        n_told += int(out.sum())
    if not n_told:
        return Uncertain(None)
    share, square = n_right / n_told, Z * Z / n_told
    centre = (share + square / 2) / (1 + square)
    half = Z * (share * (1 - share) / n_told + square / (4 * n_told)) ** 0.5 / (1 + square)
    return Uncertain(share, centre - half, centre + half)


def mean_agreement(columns: Floats, seed: int = 0) -> Uncertain | None:
    """Mean Spearman correlation of two of the columns ``[n_items, n_columns]``; None of a single one.

    Of several pairs the ends of the intervals are averaged too, which is on the wide side.
    """
    k = columns.shape[1]
    if k < 2:
        return None
    found = [
        rank_correlation(columns[:, i], columns[:, j], seed=seed) for i in range(k) for j in range(i + 1, k)
    ]
    if any(one.value is None for one in found):
        return Uncertain(None)
    return Uncertain(
        *(float(np.mean([getattr(one, end) for one in found])) for end in ("value", "low", "high"))
    )
