"""What tuning found: the front of head and tail as a figure, all trials as a table."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import altair as alt

from tailwise.errors import DataError
from tailwise.reports._drawing import MARK_SIZE, draw_chart, inline, stand_alone
from tailwise.reports._numbers import duration, number, percent, signed_percent
from tailwise.reports._palette import AXIS, MUTED, styles
from tailwise.reports._result_file import write_atomically

__all__ = ["tuning_page", "write_tuning"]

_SIZE = 380, 300


def write_tuning(file: str | Path) -> Path:
    """Write ``tuning.md`` and ``front.svg`` beside a ``tune.json``.

    Args:
        file: That ``tailwise tune`` wrote, finished or not.

    Returns:
        The path of ``tuning.md``.

    Raises:
        DataError: the file is not there, or not a tuning's.
    """
    file = Path(file)
    try:
        tuning = json.loads(file.read_text(encoding="utf-8"))
        page = tuning_page(tuning)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"tuning must be a tune.json of tailwise tune; got {str(file)!r} ({error})."
        ) from None
    write_atomically(file.with_name("front.svg"), _figure(tuning))
    return write_atomically(file.with_name("tuning.md"), page)


def tuning_page(tuning: Mapping[str, Any]) -> str:
    """Write all trials as Markdown, the front first marked, with the one that is recommended.

    Args:
        tuning: The content of ``tune.json``.
    """
    baseline, trials = tuning["baseline"]["validation"], tuning["trials"]
    knobs = list(trials[0]["knobs"]) if trials else []
    header = ["trial", *knobs, "head", "of baseline", "tail", "of baseline", "overall", "training"]
    rows = [["baseline", *[""] * len(knobs), *_measured(tuning["baseline"], baseline)]]
    for place in sorted(range(len(trials)), key=lambda i: -trials[i]["validation"]["tail"]):
        trial = trials[place]
        marks = ["front"] if place in tuning["front"] else []
        marks += ["**recommended**"] if place == tuning["recommended"] else []
        settings = [str(trial["knobs"][knob]) for knob in knobs]
        rows.append(
            [f"{place}{' ' if marks else ''}{', '.join(marks)}", *settings, *_measured(trial, baseline)]
        )
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" + "---:|" * (len(header) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return (
        "\n\n".join(
            [
                "# Settings tried on validation users",
                _advice(tuning),
                "![Head and tail of every trial; the front is joined](front.svg)",
                "\n".join(lines),
                f"NDCG@{_k(tuning)} of validation users, {_seeds(tuning)}: small differences are chance, "
                "and the best of many trials is flattered. Run what you choose with several seeds, and "
                "read its intervals on test users.",
            ]
        )
        + "\n"
    )


def _advice(tuning: Mapping[str, Any]) -> str:
    limit = percent(tuning["head_loss"])
    chosen = tuning["recommended"]
    if chosen is None:
        return (
            f"No trial lifts the tail and keeps the head within {limit} of the baseline's: stay with the "
            "baseline, search elsewhere, or allow a larger loss of the head."
        )
    found, baseline = tuning["trials"][chosen]["validation"], tuning["baseline"]["validation"]
    arguments = " ".join(f"'{argument}'" if "," in argument else argument for argument in tuning["use"])
    tail, head = (_relative(found[segment], baseline[segment]) for segment in ("tail", "head"))
    return (
        f"Recommended: trial {chosen}, the best tail ({tail}) among those that keep the head within {limit} "
        f"of the baseline's ({head}).\n\n    tailwise run {arguments} ..."
    )


def _measured(trial: Mapping[str, Any], baseline: Mapping[str, float]) -> list[str]:
    found = trial["validation"]
    cells = []
    for segment in ("head", "tail"):
        cells += [number(found[segment]), _relative(found[segment], baseline[segment])]
    return [*cells, number(found["overall"]), duration(trial["seconds"])]


def _k(tuning: Mapping[str, Any]) -> int:
    """Length of the lists that judged; 10 in tunings of before it could be chosen."""
    return int(tuning["declared"].get("k", 10))


def _seeds(tuning: Mapping[str, Any]) -> str:
    n_seeds = len(tuning["baseline"].get("by_seed", ())) or 1
    return "one training seed" if n_seeds == 1 else f"means over {n_seeds} training seeds"


def _relative(value: float, baseline: float) -> str:
    return signed_percent(value / baseline - 1 if baseline else None)


def _figure(tuning: Mapping[str, Any]) -> str:
    baseline = tuning["baseline"]["validation"]
    looks = styles([{"name": "trial", "role": "treatment"}, {"name": "baseline", "role": "baseline"}])
    rows = [
        {"head": trial["validation"]["head"], "tail": trial["validation"]["tail"], "number": str(place)}
        for place, trial in enumerate(tuning["trials"])
    ]
    joined = [rows[place] for place in tuning["front"]]
    chosen = [] if tuning["recommended"] is None else [rows[tuning["recommended"]]]
    x = alt.X("head:Q", title=f"Head NDCG@{_k(tuning)}", scale=alt.Scale(zero=False, nice=True))
    y = alt.Y("tail:Q", title=f"Tail NDCG@{_k(tuning)}", scale=alt.Scale(zero=False, nice=True))

    def marks(data: list[dict[str, Any]]) -> Any:
        return alt.Chart(inline(data)).encode(x=x, y=y)

    limit = [{"head": (1 - tuning["head_loss"]) * baseline["head"]}]
    trial, plain = looks["trial"], looks["baseline"]
    layers = alt.layer(
        alt.Chart(inline(limit)).mark_rule(color=AXIS, strokeDash=[4, 3]).encode(x=x),
        marks(joined).mark_line(color=trial.color, strokeWidth=1.2),
        marks(rows).mark_point(size=MARK_SIZE, color=trial.color, filled=False),
        marks(chosen).mark_point(size=MARK_SIZE, color=trial.color, filled=True, opacity=1),
        marks(rows).mark_text(dx=9, dy=-7, fontSize=11, color=MUTED).encode(text="number:N"),
        marks([{**baseline, "number": "baseline"}]).mark_point(
            size=MARK_SIZE, color=plain.color, filled=True, shape="square", opacity=1
        ),
        marks([{**baseline, "number": "baseline"}])
        .mark_text(dx=9, dy=12, fontSize=11, color=MUTED, align="left")
        .encode(text="number:N"),
    ).properties(width=_SIZE[0], height=_SIZE[1])
    title = (
        "Head and tail of every trial; the front is joined, the recommended one is solid, the limit dashed"
    )
    return stand_alone(draw_chart(lambda wide: layers, title).wide)
