"""``audit.json``: check, write, read.

The shapes below are docs/audit-schema.md in executable form, as far as the page reads the file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tailwise.errors import DataError
from tailwise.reports._metrics_file import (
    ACCURACY,
    DATA,
    DECILE,
    EXPOSURE,
    SEGMENTS,
    check_pairs,
    check_unique,
)
from tailwise.reports._result_file import OneOf, Optional, ResultFile, must_be

__all__ = ["AUDIT_SCHEMA_VERSION", "check_audit", "read_audit", "write_audit"]

AUDIT_SCHEMA_VERSION = 1  # rises when a field changes its meaning or goes away

_UNCERTAIN = {"value": "number?", "low": "number?", "high": "number?"}

# What the data says

_HEAD_CHANGE = dict.fromkeys(
    (
        "jaccard",
        "previous_head_share",
        "jaccard_without_drift",
        "previous_head_share_without_drift",
    ),
    "share?",
)
_COLUMN_TAIL = {
    "column": "text",
    "values": [{"value": "text", "kind": "text", "n_items": "int", "interaction_share": "share"}],
}
_DATA_SIDE = {
    "skew": {
        "n_items": "int",
        "n_interactions": "int",
        "n_cold_items": "int",
        "smallest_count": "int",
        "looks_filtered": "bool",
        "holders": [{"interaction_share": "share", "n_items": "int", "item_share": "share"}],
        "rare_items": [
            {"count": "int", "n_items": "int", "item_share": "share", "interaction_share": "share"}
        ],
        "intervals": Optional(
            {
                "gini": _UNCERTAIN,
                "top_shares": [{"item_share": "share", "interaction_share": _UNCERTAIN}],
            }
        ),
    },
    "power_law": Optional(
        {
            "exponent": "number",
            "low": "number?",
            "high": "number?",
            "x_min": "int",
            "fitted_item_share": "share",
            "fitted_interaction_share": "share",
            "ks_p": "number?",
            "support": "text?",
            "rivals": [{"name": "text", "statistic": "number", "p": "number"}],
        }
    ),
    "drift": Optional(
        {
            "head_share": "share",
            "n_shuffles": "int",
            "windows": [
                {
                    "start": "int",
                    "end": "int",
                    "n_interactions": "int",
                    "n_items": "int",
                    "n_new_items": "int",
                    "head_interaction_share": "share",
                }
            ],
            "changes": [{"earlier": "int", **_HEAD_CHANGE}],
        }
    ),
    "columns": [_COLUMN_TAIL],
    "omitted": "object",
}

# What goes with which side

_GAP_SHARES = dict.fromkeys(
    ("v_data", "v_prior", "v_both", "data", "prior", "data_alone", "prior_alone", "interaction"), _UNCERTAIN
)
_RELIABILITY = {"reliability": "number?", "given_data": "number?", "n_estimates": "int"}
_ATTRIBUTION = {
    "uncorrected": _GAP_SHARES,
    "corrected": Optional(_GAP_SHARES),
    "why_uncorrected": "text?",
    "reliability": _RELIABILITY,
    "p_data": "number",
    "p_prior": "number",
    "deviation": _UNCERTAIN,
    "is_measurable": "bool",
    "correlation": "number",
    "n_targets": "int",
    "n_items": "int",
    "n_users": "int",
    "n_permutations": "int",
    "sentence": "text",
}
_GRID = {
    "prior_groups": ["text"],
    "data_groups": ["text"],
    "cells": [
        {
            "prior_group": "text",
            "data_group": "text",
            "accuracy": _UNCERTAIN,
            "n_targets": "int",
            "n_items": "int",
        }
    ],
}

# What the language model knew

_PRIOR_SIDE = {
    "model": "text",
    "kind": "text",
    "sentence": "text",
    "estimates": [
        {
            "name": "text",
            "n_items": "int",
            "n_asked": "int",
            "columns": ["text"],
            "cost": {"seconds_when_computed": "number", "n_computed": "int", "n_from_cache": "int"},
        }
    ],
    "agreements": [{"first": "text", "second": "text", "n_items": "int", "spearman": _UNCERTAIN}],
    "stabilities": [
        {
            "name": "text",
            "mean_spearman": "number?",
            "lowest_spearman": "number?",
            "reliability": _RELIABILITY,
        }
    ],
    "length_checks": [
        {
            "name": "text",
            "spearman_with_length": _UNCERTAIN,
            "spearman_with_popularity": _UNCERTAIN,
            "spearman_with_popularity_given_length": _UNCERTAIN,
            "is_free_of_length": "bool",
        }
    ],
    "pairwise": Optional({"is_informative": "bool", "sentence": "text"}),
    "pairwise_left_out": "text?",
    "n_filled": "int",
}

# Who is shown

_COLUMN_EXPOSURE = {
    "column": "text",
    "k": "int",
    "n_slots": "number",
    "values": [
        {
            "value": "text",
            "kind": "text",
            "n_items": "int",
            "n_interactions": "int",
            "interaction_share": "share",
            "slot_share": "number?",
            "exposure_ratio": "number?",
            "exposure_ratio_low": "number?",
            "exposure_ratio_high": "number?",
        }
    ],
}
_TASTE = {
    "n_users": "int",
    "own_tail_share": _UNCERTAIN,
    "shown_tail_share": _UNCERTAIN,
    "difference": _UNCERTAIN,
    "shown_less_share": _UNCERTAIN,
    "shown_less_by_chance": _UNCERTAIN,
    "groups": [
        {
            "name": "text",
            "n_users": "int",
            "own_tail_share": _UNCERTAIN,
            "shown_tail_share": _UNCERTAIN,
            "difference": _UNCERTAIN,
        }
    ],
}
_NEGLECTED = {
    "item_id": "text",
    "title": "text",
    "category": "text?",
    "brand": "text?",
    "segment": "text",
    "n_interactions": "int",
    "popularity_rank": "int",
    "n_slots": "number",
    "expected_slots": "number",
    "shown_ratio": "number",
    "shown_ratio_high": "number",
    "prior_percentile": "share?",
    "data_effect": "number?",
    "prior_effect": "number?",
}
_SUBJECT = {
    "name": "text",
    "label": "text",
    "role": OneOf(("baseline", "treatment", "reference", "lists")),
    "seeds": ["int"],
    "k": "int",
    "checks": "object?",
    "accuracy": [ACCURACY],
    "exposure": [EXPOSURE],
    "exposure_deciles": [DECILE],
    "columns": [_COLUMN_EXPOSURE],
    "taste": Optional(_TASTE),
    "grids": [_GRID],
    "attribution": Optional(_ATTRIBUTION),
    "no_attribution_because": "text?",
    "neglected": [_NEGLECTED],
}

# How sharp the models are

_GROUP_SHARPNESS = {
    "name": "text",
    "loss": _UNCERTAIN,
    "held_out": _UNCERTAIN,
    "random": _UNCERTAIN,
    "above_random": _UNCERTAIN,
}
_CURVATURE = {
    "groups": [
        {"name": "text", "eigenvalue": "number?", "held_out": _UNCERTAIN, "is_converged": "bool"},
    ]
}
_SHARPNESS = {
    "models": [
        {
            "name": "text",
            "label": "text",
            "seeds": ["int"],
            "measured": [{"groups": [_GROUP_SHARPNESS], "rho": "number", "n_per_group": "int"}],
            "hessian": Optional([_CURVATURE]),
        }
    ],
    "comparisons": [
        {
            "variant": "text",
            "baseline": "text",
            "groups": [
                {
                    "name": "text",
                    "difference": _UNCERTAIN,
                    "verdict": OneOf(("flatter", "sharper", "unclear")),
                }
            ],
            "sentence": "text",
            "notes": ["text"],
        }
    ],
    "missing_because": "text?",
}
_SHUFFLED = {
    "seeds": ["int"],
    "attribution_own": _ATTRIBUTION,
    "attribution_worn": _ATTRIBUTION,
    "accuracy": [ACCURACY],
    "sentence": "text",
}
_AUDIT: dict[str, Any] = {
    "schema_version": "int",
    "tailwise_version": "text",
    "created_at": "moment",
    "settings": "object",
    "data": DATA,
    "segments": SEGMENTS,
    "data_side": _DATA_SIDE,
    "prior_side": _PRIOR_SIDE,
    "subjects": [_SUBJECT],
    "sharpness": Optional(_SHARPNESS),
    "shuffled_titles": Optional(_SHUFFLED),
    "seconds": "object",
    "from_cache": ["text"],
}


def check_audit(audit: Mapping[str, Any], *, source: str = "audit") -> dict[str, Any]:
    """Check an audit's results against the schema and return them as plain JSON types.

    Args:
        audit: Results, docs/audit-schema.md.
        source: What an error calls them, e.g. the file they were read from.

    Raises:
        DataError: another ``schema_version``; a field that is missing, of the wrong kind or
            outside its range; two subjects of one name; a grid without one of its cells.
    """
    return _FILE.check(audit, source=source)


def write_audit(audit: Mapping[str, Any], path: str | Path) -> Path:
    """Check an audit's results and write them as JSON; a reader never sees half a file.

    Returns:
        The path written.

    Raises:
        DataError: the results break the schema; nothing is written then.
    """
    return _FILE.write(audit, path)


def read_audit(path: str | Path) -> dict[str, Any]:
    """Read and check an ``audit.json``.

    Raises:
        DataError: the file is missing, is not JSON, or breaks the schema.
    """
    return _FILE.read(path)


def _check_rest(audit: dict[str, Any], source: str) -> None:
    if not audit["subjects"]:
        raise DataError(f"{source}: subjects must hold at least one maker of lists; got an empty list.")
    check_unique(audit["subjects"], "subjects", source)
    check_unique(audit["segments"]["segments"], "segments.segments", source)
    check_pairs(audit["data"]["concentration"]["curve"], "data.concentration.curve", source)
    for s, subject in enumerate(audit["subjects"]):
        for g, grid in enumerate(subject["grids"]):
            found = {(cell["prior_group"], cell["data_group"]) for cell in grid["cells"]}
            for pair in ((p, d) for p in grid["prior_groups"] for d in grid["data_groups"]):
                if pair not in found:
                    path, rule = f"subjects[{s}].grids[{g}].cells", f"with one of {pair[0]} by {pair[1]}"
                    raise must_be(source, path, rule, sorted(found))


_FILE = ResultFile(
    version=AUDIT_SCHEMA_VERSION,
    shape=_AUDIT,
    documentation="docs/audit-schema.md",
    written_by="`tailwise audit` writes it.",
    again="Write it again with `tailwise audit`",
    check_rest=_check_rest,
)
