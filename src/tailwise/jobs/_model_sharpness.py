"""Sharpness per popularity group of the models of a run, before and after."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from tailwise.diagnosis import Sharpness, compare_sharpness, recommender_curvature, recommender_sharpness
from tailwise.errors import DataError
from tailwise.jobs._audit_subjects import Subject
from tailwise.jobs._run_data import RunData
from tailwise.jobs._run_folder import RunFolder
from tailwise.recommenders import TitleRecommender, load_recommender
from tailwise.segments import Segments

__all__ = ["measure_model_sharpness"]

_N_SPLITS = 2  # three, the function's default, take two minutes a model of four layers on one core
_OF_TITLES = (
    "sharpness per group is measured for models whose items are tokens; this run's recommender says titles"
)
Progress = Callable[[str, int, int], None]


def measure_model_sharpness(
    run: RunFolder,
    subjects: Sequence[Subject],
    *,
    data: RunData,
    segments: Segments,
    hessian: bool,
    device: torch.device,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """Measure every trained model of a run, and compare each treatment with the baseline.

    Args:
        run: Where the models are.
        subjects: Its trained variants.
        data: Of the run; training histories give the targets.
        segments: The groups.
        hessian: Find the top eigenvalue of each group's Hessian as well; takes minutes a model.
        device: Where to measure.
        seed: Of splits, draws and random directions: the same for every model.
        progress: Told of stage, done and in all.

    Returns:
        ``sharpness`` of docs/audit-schema.md.
    """
    histories = data.training_histories()
    measured: dict[str, list[Sharpness]] = {subject.name: [] for subject in subjects}
    curvatures: dict[str, list[dict[str, Any]]] = {subject.name: [] for subject in subjects}
    try:
        for subject in subjects:
            for training_seed in subject.seeds:
                recommender = load_recommender(run.result(subject.name, training_seed).model, device=device)
                if isinstance(recommender, TitleRecommender):
                    return {"models": [], "comparisons": [], "missing_because": _OF_TITLES}
                stage = f"{subject.name}, seed {training_seed}"
                measured[subject.name].append(
                    recommender_sharpness(
                        recommender,
                        histories,
                        segments,
                        n_repeats=_N_SPLITS,
                        seed=seed,
                        progress=_of_stage(progress, stage),
                    )
                )
                if hessian:
                    found = recommender_curvature(recommender, histories, segments, seed=seed)
                    curvatures[subject.name].append(found.as_dict())
    except DataError as error:  # a segment without enough targets; the result says so
        return {"models": [], "comparisons": [], "missing_because": str(error)}
    baseline = next((s.name for s in subjects if s.role == "baseline"), None)
    return {
        "models": [
            {
                "name": subject.name,
                "label": subject.label,
                "seeds": list(subject.seeds),
                "measured": [one.as_dict() for one in measured[subject.name]],
                "hessian": curvatures[subject.name] if hessian else None,
            }
            for subject in subjects
        ],
        "comparisons": [
            {
                "variant": subject.name,
                "baseline": baseline,
                **compare_sharpness(
                    measured[baseline], measured[subject.name], treatment_name=subject.label
                ).as_dict(),
            }
            for subject in subjects
            if baseline is not None and subject.role == "treatment"
        ],
        "missing_because": None,
    }


def _of_stage(progress: Progress, stage: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(stage, done, total)
