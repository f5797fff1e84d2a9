"""Makes results of an audit: parts from the classes that make real ones, with settable numbers."""

from typing import Any

import numpy as np
import polars as pl

from tailwise.diagnosis import (
    AccuracyGrid,
    Attribution,
    Drift,
    GapShares,
    GridCell,
    HeadChange,
    PowerLaw,
    PriorReliability,
    Rival,
    TimeWindow,
    Uncertain,
)
from tailwise.diagnosis._comparison_checks import QuestionReport
from tailwise.diagnosis._curvature import Curvature, GroupCurvature
from tailwise.diagnosis._length_check import LengthCheck
from tailwise.diagnosis._pairwise import Pairwise
from tailwise.diagnosis._prior_agreement import PriorAgreement, PriorStability
from tailwise.diagnosis._prior_estimate import PriorCost, PriorEstimate
from tailwise.diagnosis._sharpness import GroupSharpness
from tailwise.diagnosis._sharpness_change import GroupChange
from tailwise.evaluation import ColumnExposure, ListChecks, TasteForTheTail
from tailwise.evaluation._taste import TasteGroup
from tailwise.evaluation._with_interval import WithInterval
from tests.reports.conftest import make_metrics

Content = dict[str, Any]
Around = tuple[float, float]  # value, half width of the interval

SUBJECTS = {
    "adamw": ("AdamW", "baseline"),
    "eisam": ("EISAM (exact, ρ=0.05)", "treatment"),
    "most-popular": ("Most popular", "reference"),
}
TITLES = ("Fargo (1996)", "Faster Pussycat! Kill! Kill! (1965)", "Chungking Express (1994)")


def uncertain(around: Around | None) -> Uncertain:
    return (
        Uncertain(None)
        if around is None
        else Uncertain(around[0], around[0] - around[1], around[0] + around[1])
    )


def with_interval(around: Around) -> WithInterval:
    return WithInterval(around[0], around[0] - around[1], around[0] + around[1])


def make_attribution(
    *,
    data: Around = (0.62, 0.15),
    prior: Around = (0.21, 0.14),
    p_data: float = 0.0025,
    p_prior: float = 0.01,
    both: Around = (0.83, 0.1),
    corrected: bool = True,
    measurable: bool = True,
    n_targets: int = 1880,
) -> Content:
    shares = GapShares(
        v_data=uncertain((data[0] + 0.1, 0.1)),
        v_prior=uncertain((prior[0] + 0.1, 0.1)),
        v_both=uncertain(both),
        data=uncertain(data),
        prior=uncertain(prior),
        data_alone=uncertain((data[0] - 0.1, 0.1)),
        prior_alone=uncertain((prior[0] - 0.1, 0.08)),
        interaction=uncertain((-0.2, 0.1)),
    )
    return Attribution(
        uncorrected=shares,
        corrected=shares if corrected else None,
        why_uncorrected=None if corrected else "the estimates of the prior agree too little",
        reliability=PriorReliability(0.9, 0.84, 0.6, 6),
        p_data=p_data,
        p_prior=p_prior,
        deviation=uncertain((0.09, 0.01)),
        is_measurable=measurable,
        correlation=0.36,
        weigh="targets",
        n_targets=n_targets,
        n_items=710,
        n_users=140,
        n_permutations=400,
        seed=0,
    ).as_dict()


def make_grid(n_groups: int, *, empty: tuple[str, str] = ("low", "cold"), scale: float = 1.0) -> Content:
    priors = {2: ("high", "low"), 3: ("high", "middle", "low")}[n_groups]
    datas = {2: ("head", "tail", "cold"), 3: ("head", "mid", "tail", "cold")}[n_groups]
    cells = []
    for i, p in enumerate(priors):
        for j, d in enumerate(datas):
            value = scale * 0.11 / (1 + i) / (1 + j)
            n = 0 if (p, d) == empty else 900 // (1 + i + 2 * j)
            accuracy = uncertain((value, value / 4)) if n else Uncertain(None)
            cells.append(GridCell(p, d, accuracy, n, 400, n // 3, n // 4))
    return AccuracyGrid(tuple(cells), priors, datas, n_groups).as_dict()


def make_column(name: str, ratios: dict[str, Around]) -> Content:
    table = pl.DataFrame(
        [
            {
                "value": value,
                "kind": "value",
                "n_values": 1,
                "n_items": 60,
                "n_interactions": 4000,
                "n_slots": 470.0 * ratio,
                "item_share": 0.05,
                "interaction_share": 0.05,
                "slot_share": 0.05 * ratio,
                "slot_share_low": 0.05 * (ratio - half),
                "slot_share_high": 0.05 * (ratio + half),
                "exposure_ratio": ratio,
                "exposure_ratio_low": ratio - half,
                "exposure_ratio_high": ratio + half,
            }
            for value, (ratio, half) in ratios.items()
        ]
    )
    return ColumnExposure(
        column=name,
        k=10,
        table=table,
        min_items=20,
        max_values=50,
        n_users=943,
        n_slots=9430.0,
        is_partition=True,
        resamples_interactions=False,
    ).as_dict()


def make_taste(niche: Around, *, own: float = 0.5) -> Content:
    """``niche``: what users who like rare items most are shown, less what they chose."""
    changes = {"niche": (own, niche), "mixed": (0.3, (-0.2, 0.05)), "mainstream": (0.1, (-0.05, 0.02))}
    groups = tuple(
        TasteGroup(
            name,
            314,
            with_interval((liked, 0.02)),
            with_interval((liked + change[0], 0.02)),
            with_interval(change),
        )
        for name, (liked, change) in changes.items()
    )
    return TasteForTheTail(
        k=10,
        tail="tail",
        n_users=943,
        n_users_without_history=0,
        n_users_without_slot=0,
        own_tail_share=with_interval((0.3, 0.02)),
        shown_tail_share=with_interval((0.06, 0.01)),
        shown_cold_share=with_interval((0.01, 0.001)),
        difference=with_interval((-0.24, 0.02)),
        shown_less_share=with_interval((0.81, 0.02)),
        shown_less_by_chance=with_interval((0.47, 0.01)),
        correlation=with_interval((0.2, 0.05)),
        reliability=with_interval((0.8, 0.02)),
        groups=groups,
        n_users_not_grouped=0,
    ).as_dict()


def make_neglected(n: int, *, percentile: float = 0.3, effects: bool = True) -> list[Content]:
    return [
        {
            "item_id": str(100 + i),
            "title": TITLES[i] if i < len(TITLES) else f"Film number {i}",
            "category": "Comedy" if i % 2 else None,
            "brand": None,
            "segment": "head" if i % 4 else "tail",
            "n_interactions": 300 - 5 * i,
            "popularity_rank": 20 + i,
            "n_slots": float(i) / 3,
            "expected_slots": 40.0 - i / 2,
            "shown_ratio": i / 3 / (40 - i / 2),
            "shown_ratio_high": (i / 3 + 3.7) / (40 - i / 2),
            "prior_percentile": percentile,
            "data_effect": -0.012 + 0.001 * i if effects else None,
            "prior_effect": 0.003 if effects else None,
        }
        for i in range(n)
    ]


def make_data_side(*, support: str | None = "none", drifts: bool = True, filtered: bool = False) -> Content:
    rivals = {
        None: (Rival("lognormal", 1.0, 0.2, 0.8, {}),),
        "none": (Rival("lognormal", -20.0, -2.1, 0.03, {}), Rival("exponential", 3.0, 0.9, 0.4, {})),
        "moderate": (Rival("lognormal", 1.0, 0.2, 0.8, {}), Rival("exponential", 9.0, 2.9, 0.01, {})),
        "good": (Rival("lognormal", 8.0, 2.2, 0.02, {}), Rival("exponential", 9.0, 2.9, 0.01, {})),
    }[support]
    law = PowerLaw(
        exponent=2.34,
        standard_error=0.05,
        low=2.2,
        high=2.5,
        x_min=6,
        n_fitted_items=800,
        fitted_item_share=0.48,
        fitted_interaction_share=0.9,
        ks_distance=0.03,
        ks_p=None if support is None else 0.5,
        n_resamples=100,
        rivals=rivals,
    )
    windows = tuple(
        TimeWindow(i * 10**6, (i + 1) * 10**6, 20_000, 1200, 90, 240, 0.65, 0.6) for i in range(4)
    )
    changes = tuple(
        HeadChange(i, 0.45, 30, 30, 0.4 if drifts else 0.63, 0.5, 0.73, 0.64, 0.9) for i in range(3)
    )
    smallest = 5 if filtered else 1
    uncertain_share = {"value": 0.59, "low": 0.58, "high": 0.6, "resample_mean": 0.6}
    return {
        "skew": {
            "n_items": 1682,
            "n_interactions": 81_377,
            "n_cold_items": 40,
            "smallest_count": smallest,
            "looks_filtered": filtered,
            "concentration": make_metrics()["data"]["concentration"],
            "holders": [
                {"interaction_share": 0.2, "n_items": 50, "item_share": 50 / 1682},
                {"interaction_share": 0.5, "n_items": 215, "item_share": 215 / 1682},
            ],
            "rare_items": [
                {"count": 0, "n_items": 40, "item_share": 40 / 1682, "interaction_share": 0.0},
                {"count": 5, "n_items": 384, "item_share": 384 / 1682, "interaction_share": 0.01},
            ],
            "deciles": [],
            "intervals": {
                "gini": {"value": 0.629, "low": 0.616, "high": 0.642, "resample_mean": 0.64},
                "top_shares": [{"item_share": 0.2, "interaction_share": uncertain_share}],
                "n_users": 943,
                "n_resamples": 100,
            },
        },
        "power_law": law.as_dict(),
        "drift": Drift("equal-counts", 0.2, 10, windows, changes).as_dict(),
        "columns": [
            {
                "column": "category",
                "values": [
                    {
                        "value": value,
                        "kind": "value",
                        "n_items": 60,
                        "interaction_share": 0.05,
                        "tail_share": 0.7,
                    }
                    for value in ("Documentary", "War", "Drama")
                ],
            }
        ],
        "omitted": {},
    }


def make_checks(**counts: int) -> Content:
    nothing = dict.fromkeys(ListChecks.__dataclass_fields__, 0)
    described = nothing | {
        "source": "theirs.parquet",
        "order": "rank",
        "part": "test",
        "users": "listed",
        "list_length": 10,
        "users_by_length": {10: 900},
        "n_slots": 9000,
        "exclude_seen": True,
    }
    return ListChecks(**(described | counts)).as_dict()


def make_sharpness(verdict: str = "flatter", *, hessian: bool = True) -> Content:
    change = {"flatter": (-0.004, 0.002), "sharper": (0.004, 0.002), "unclear": (-0.001, 0.002)}[verdict]
    groups = ("head", "tail")
    models = []
    for name in ("adamw", "eisam"):
        measured = [
            GroupSharpness(
                name=group,
                n_available=9000,
                n_users=400,
                loss=uncertain((4.2, 0.1)),
                held_out=uncertain((0.012 + 0.01 * i + (change[0] if name == "eisam" else 0.0), 0.002)),
                in_sample=0.02,
                random=uncertain((0.0002, 0.0001)),
                random_spread=0.0001,
                above_random=uncertain((0.0118, 0.002)),
                relative=uncertain((0.003, 0.001)),
                slope=uncertain((0.01, 0.002)),
                curvature=uncertain((0.002, 0.001)),
                gradient_norm=0.3,
                agreement=0.7,
            ).as_dict()
            for i, group in enumerate(groups)
        ]
        top = Curvature(
            tuple(GroupCurvature(g, 31.0, uncertain((18.0, 4.0)), 0.004, True, 80) for g in groups),
            300,
            100_000,
            "shared",
            0.01,
            0,
            "f00",
            12.0,
        )
        models.append(
            {
                "name": name,
                "label": SUBJECTS[name][0],
                "seeds": [0],
                "measured": [{"groups": measured, "rho": 0.05, "n_per_group": 1000, "seconds": 9.0}],
                "hessian": [top.as_dict()] if hessian else None,
            }
        )
    changes = [
        GroupChange(
            name=group,
            before=0.012,
            after=0.012 + change[0],
            difference=uncertain(change),
            ratio=uncertain((0.7, 0.1)),
            relative_difference=uncertain((-0.001, 0.0005)),
            curvature_before=0.002,
            curvature_after=0.001,
            curvature_difference=uncertain((-0.001, 0.0005)),
            in_sample=(0.02, 0.02),
            random=(0.0002, 0.0002),
        ).as_dict()
        for group in groups
    ]
    return {
        "models": models,
        "missing_because": None,
        "comparisons": [
            {
                "variant": "eisam",
                "baseline": "adamw",
                "groups": changes,
                "n_seeds": 1,
                "variance": "users",
                "rho": 0.05,
                "sentence": "EISAM flattened the tail: sharpness 0.022 → 0.018.",
                "notes": ["One training of each: the intervals speak of other users."],
            }
        ],
    }


def make_shuffled(*, p_own: float = 0.6, p_worn: float = 0.01) -> Content:
    own, worn = make_attribution(prior=(0.02, 0.05), p_prior=p_own), make_attribution(p_prior=p_worn)
    return {
        "seeds": [0],
        "attribution_own": own,
        "attribution_worn": worn,
        "accuracy": make_metrics()["variants"][2]["accuracy"],
        "sentence": "With titles shuffled among items, the prior adds nothing any more.",
    }


def make_audit(
    *,
    subjects: tuple[str, ...] = ("adamw", "eisam", "most-popular"),
    tail_slots: Around = (0.06, 0.004),
    treated_tail_slots: Around = (0.078, 0.004),
    tail_coverage: float | None = 0.17,
    attribution: Content | str | None = "usual",
    niche: Around = (-0.38, 0.03),
    ratios: dict[str, Around] | None = None,
    n_neglected: int = 30,
    percentile: float = 0.3,
    seeds: tuple[int, ...] = (0,),
    support: str | None = "none",
    drifts: bool = True,
    filtered: bool = False,
    sharpness: str | None = "flatter",
    shuffled: bool = True,
    checks: Content | None = None,
    prior_side: Content | None = None,
    targets: bool = True,
) -> Content:
    """Results of one audit. ``subjects`` may be of SUBJECTS, or ``("lists",)``."""
    metrics = make_metrics()
    by_name = {v["name"]: v for v in metrics["variants"]}
    shown = {
        "adamw": tail_slots,
        "eisam": treated_tail_slots,
        "lists": tail_slots,
        "most-popular": (0.0, 0.0),
    }
    found = []
    for name in subjects:
        label, role = SUBJECTS.get(name, ("Lists of theirs.parquet", "lists"))
        usual = by_name.get(name, by_name["adamw"])
        value, half = shown[name]
        exposure = [row for row in usual["exposure"] if row["metric"] not in ("slot_share", "coverage")]
        for k in (5, 10, 20, 50):
            for segment, at in (("head", 1 - value), ("tail", value), ("cold", 0.0)):
                exposure.append(_row("slot_share", k, segment, at, (at - half, at + half)))
            exposure.append(_row("coverage", k, None, 0.38, None))
            if tail_coverage is not None:
                exposure.append(_row("coverage", k, "tail", tail_coverage, None))
        has_sides = targets and role != "reference"
        usual_attribution = make_attribution() if attribution == "usual" else attribution
        found.append(
            {
                "name": name,
                "label": label,
                "role": role,
                "seeds": list(seeds) if role in ("baseline", "treatment") else [],
                "k": 10,
                "checks": checks,
                "accuracy": usual["accuracy"] if targets else [],
                "exposure": exposure,
                "exposure_deciles": usual["exposure_deciles"],
                "columns": [
                    make_column(
                        "category",
                        ratios or {"War": (1.9, 0.2), "Drama": (1.02, 0.1), "Documentary": (0.2, 0.05)},
                    )
                ],
                "taste": make_taste(niche),
                "grids": [make_grid(2), make_grid(3)] if has_sides else [],
                "attribution": usual_attribution if has_sides else None,
                "no_attribution_because": None
                if has_sides and usual_attribution is not None
                else "it does not use the language model"
                if role == "reference"
                else "no held-out interaction of its users is known",
                "neglected": make_neglected(n_neglected, percentile=percentile, effects=has_sides),
            }
        )
    return {
        "schema_version": 1,
        "tailwise_version": "0.1.0",
        "created_at": "2026-01-31T12:00:00+00:00",
        "settings": {"recommendations": None, "kind": "movie", "k": 10, "sharpness": "hessian", "seed": 0},
        "data": metrics["data"],
        "segments": metrics["segments"] | {"segments": _segments()},
        "data_side": make_data_side(support=support, drifts=drifts, filtered=filtered),
        "prior_side": prior_side or make_prior_side(),
        "subjects": found,
        "sharpness": None if sharpness is None else make_sharpness(sharpness),
        "shuffled_titles": make_shuffled() if shuffled else None,
        "seconds": {"data": 1.4, "prior": 210.0, "sharpness": 75.0},
        "from_cache": ["sharpness"],
    }


def make_prior_side(
    *, agreement: Around | None = (0.36, 0.05), informative: bool = True, free_of_length: bool = True
) -> Content:
    n_asked = {"title-likelihood": 6, "pairwise": 3, "output-frequency": 3}
    estimates = [
        PriorEstimate(
            name, [0.1, 0.2], [[0.1] * n] * 2, [f"Prompt {i}" for i in range(n)], PriorCost(1, 9, 0, 9, 70)
        )
        for name, n in n_asked.items()
    ]
    pairs = [
        PriorAgreement("title-likelihood", "pairwise", 300, uncertain((-0.05, 0.1))),
        PriorAgreement("title-likelihood", "output-frequency", 1682, uncertain((0.5, 0.05))),
        PriorAgreement("pairwise", "output-frequency", 300, uncertain(None)),
        PriorAgreement("title-likelihood", "popularity", 1682, uncertain(agreement)),
        PriorAgreement("pairwise", "popularity", 300, uncertain((-0.2, 0.1))),
        PriorAgreement("output-frequency", "popularity", 1682, uncertain((0.3, 0.05))),
    ]
    lengths = [
        LengthCheck(
            name,
            uncertain((value, 0.04)),
            uncertain((0.36, 0.05)),
            uncertain((0.33, 0.05)),
            uncertain((-0.1, 0.05)),
        )
        for name, value in (("score", 0.02 if free_of_length else -0.31), ("naive sum", -0.8))
    ]
    pairwise = Pairwise(
        estimate=estimates[1],
        errors=np.array([0.1, 0.1]),
        questions=(QuestionReport("known", 900, 0.1 if informative else 0.9, 0.5, 0.1, 0.4, 0.9),),
        held_out_accuracy=uncertain((0.7, 0.05) if informative else (0.5, 0.05)),
        agreement=uncertain((0.6, 0.1)),
    )
    return {
        "model": "smollm2-135m",
        "kind": "movie",
        "sentence": "The items that the language model knows well are, in part, those that users chose.",
        "estimates": [one.as_dict() for one in estimates],
        "agreements": [one.as_dict() for one in pairs],
        "stabilities": [
            PriorStability(name, 0.74, 0.6, PriorReliability(0.9, 0.84, 0.6, n)).as_dict()
            for name, n in n_asked.items()
        ],
        "length_checks": [one.as_dict() for one in lengths],
        "title_likelihood": {"prompts": ["A popular movie:"]},
        "pairwise": pairwise.as_dict(),
        "pairwise_left_out": None,
        "n_filled": 0,
    }


def _row(metric: str, k: int, segment: str | None, value: float, ends: tuple[float, float] | None) -> Content:
    low, high = ends or (None, None)
    return {"metric": metric, "k": k, "segment": segment, "value": value, "low": low, "high": high}


def _segments() -> list[Content]:
    shares = {"head": (0.2, 0.647), "tail": (0.776, 0.353), "cold": (0.024, 0.0)}
    return [
        {
            "name": name,
            "n_items": round(1682 * items),
            "n_training_interactions": round(81_377 * choices),
            "item_share": items,
            "interaction_share": choices,
            "n_test_targets": 600,
        }
        for name, (items, choices) in shares.items()
    ]
