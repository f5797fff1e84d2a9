"""The intervention: if titles are shuffled among items, the prior of an item's own title must not matter."""

from typing import Any

import numpy as np

from tailwise.diagnosis import Attribution, PriorDiagnosis, attribute_gap
from tailwise.evaluation import Rankings, accuracy
from tailwise.jobs._audit_subjects import Subject
from tailwise.jobs._config import RunConfig
from tailwise.jobs._language_recommender import read_titles
from tailwise.jobs._progress import Narrator
from tailwise.jobs._run_data import RunData
from tailwise.jobs._run_folder import RunFolder
from tailwise.jobs._train_variant import train_variant
from tailwise.segments import Segments

__all__ = ["check_by_shuffling"]

_ALPHA = 0.05


def check_by_shuffling(
    settings: RunConfig,
    folder: RunFolder,
    *,
    data: RunData,
    segments: Segments,
    prior: PriorDiagnosis,
    k: int,
    n_permutations: int,
    seed: int,
    narrator: Narrator,
) -> dict[str, Any]:
    """Train a run's baseline again with titles dealt out anew, and attribute its gap.

    An item then wears the title of another. What the language model knows of the item's own title
    can no longer reach the recommender, so a share of the prior that remains was never the
    language model's doing: it came through whatever goes with fame, such as quality or age.

    Args:
        settings: Of the run; all its seeds are trained.
        folder: Where the trainings go; finished ones are kept.
        data: Of the run.
        segments: Of the items.
        prior: Of the items' own titles.
        k: Cut-off of NDCG.
        n_permutations: Of the tests.
        seed: Of the shuffle and the tests.
        narrator: Says what is going on.

    Returns:
        ``shuffled_titles`` of docs/audit-schema.md.
    """
    order = np.random.default_rng(seed).permutation(data.n_items)  # item i wears title order[i]
    variant = settings.baseline
    todo = [s for s in settings.seeds if not folder.result(variant.name, s).is_done()]
    if todo:
        titles = read_titles(settings, data, narrator).dealt(order)
    for training_seed in todo:
        train_variant(
            settings,
            variant,
            seed=training_seed,
            data=data,
            titles=titles,
            folder=folder.result(variant.name, training_seed),
            narrator=narrator,
        )
    rankings = tuple(Rankings.load(folder.result(variant.name, s).rankings) for s in settings.seeds)
    subject = Subject(
        variant.name, f"{variant.label}, titles shuffled", "baseline", rankings, tuple(settings.seeds)
    )
    own, worn = (
        attribute_gap(subject.outcomes(data.counts, columns, k), n_permutations=n_permutations, seed=seed)
        for columns in (prior.combined, prior.combined[order])
    )
    return {
        "seeds": list(settings.seeds),
        "accuracy": accuracy(rankings, segments, ks=[k], metrics=["ndcg"], seed=seed),
        "attribution_own": own.as_dict(),
        "attribution_worn": worn.as_dict(),
        "sentence": _sentence(own, worn),
    }


def _sentence(own: Attribution, worn: Attribution) -> str:
    """Say whether the share went away with the titles, and whether it went along with them."""
    if not own.is_measurable:
        return "With titles shuffled, items do not differ measurably in accuracy, so the check says nothing."
    of_own = "what the language model knows of an item's own title"
    if own.p_prior > _ALPHA:
        first = f"With titles shuffled among items, {of_own} adds nothing any more"
    else:
        first = (
            f"Even with titles shuffled among items, {of_own} still adds something, which was never "
            "the language model's doing"
        )
    second = "adds something" if worn.p_prior <= _ALPHA else "cannot be told from nothing"
    return (
        f"{first} (p = {own.p_prior:.2f}); what it knows of the title that the item wears instead {second} "
        f"(p = {worn.p_prior:.2f})."
    )
