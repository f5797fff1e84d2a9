"""The audit's page: put results, words and drawings into the template."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tailwise.reports import _audit_charts, _audit_heat, _audit_log_words, _audit_sections, _charts
from tailwise.reports._audit_file import check_audit
from tailwise.reports._audit_results import Audit
from tailwise.reports._audit_words import words_for_audit
from tailwise.reports._palette import BAR, DOWN, INK, MUTED, UP, Style, styles
from tailwise.reports._result_file import write_atomically
from tailwise.reports._results import Estimate
from tailwise.reports._sections import exposure_rows, setting_rows
from tailwise.reports._templates import style_sheet, template

__all__ = ["audit_summary", "render_audit", "write_audit_page"]

_N_NEGLECTED = 10  # the others fold


def render_audit(audit: Mapping[str, Any]) -> str:
    """Render an audit as one HTML page that needs nothing else: no script, no outside request.

    Args:
        audit: Results, docs/audit-schema.md.

    Returns:
        The HTML text. Every text of the results is escaped.

    Raises:
        DataError: the results break the schema.
    """
    content = check_audit(audit)
    found = Audit(content)
    looks = styles(found.subjects)
    return template("audit.html.jinja").render(
        m=content,
        a=found,
        file="audit.json",
        makers=found.subjects,
        labels=found.labels,
        looks=looks,
        css=style_sheet("base.css", "report.css", "audit.css"),
        words=words_for_audit(found),
        tiles=_audit_sections.audit_tiles(found),
        charts={
            "attribution": _audit_charts.attribution_chart(found, looks),
            "segments": _audit_charts.segment_chart(found, looks),
            "taste": _audit_charts.taste_chart(found, looks),
            "deciles": _charts.decile_chart(found.subjects, found.k, looks),
            "concentration": _charts.concentration_chart(content["data"]["concentration"]),
            "drift": _audit_charts.drift_chart(found),
            "sharpness": _audit_charts.sharpness_chart(found, looks),
        },
        gridded=[s for s in found.subjects if s["grids"]],
        attributed=[s for s in found.subjects if s["attribution"]],
        unanswered=[s for s in found.subjects if s["no_attribution_because"] and s["role"] != "reference"],
        tasted=[s for s in found.subjects if s["taste"]],
        measured=[s for s in found.subjects if s["accuracy"]],
        checked=[s for s in found.subjects if s["checks"]],
        agreement=_audit_heat.agreement_table(found),
        prior_rows=_audit_heat.prior_rows(content["prior_side"]),
        exposure_rows=exposure_rows(found.subjects, found.segments, found.k),
        columns=_columns(found, looks),
        neglected=_neglected(found),
        neglect_notes=_audit_sections.neglect_notes(found.main),
        power_law=_audit_log_words.power_law_sentences(content["data_side"]),
        drift=_audit_log_words.drift_sentence(content["data_side"]),
        sharpness=_measured_with(content["sharpness"]),
        hessian=_hessian(content["sharpness"]),
        settings=setting_rows([{"name": "", "settings": content["settings"]}]),
        seconds=_audit_sections.second_rows(found),
        nothing=Estimate(None, None, None),
        colors={"bar": BAR, "ink": INK, "muted": MUTED, "up": UP, "down": DOWN},
        grid_table=_audit_heat.grid_table,
        attribution_rows=_audit_sections.attribution_rows,
        check_rows=_audit_sections.check_rows,
    )


def write_audit_page(audit: Mapping[str, Any], path: str | Path) -> Path:
    """Render an audit and write the page; a reader never sees half a file.

    Returns:
        The path written.

    Raises:
        DataError: the results break the schema; nothing is written then.
    """
    return write_atomically(Path(path), render_audit(audit))


def audit_summary(audit: Mapping[str, Any]) -> str:
    """The audit's words alone, for a terminal or a mail: headline, paragraph, caveats.

    Raises:
        DataError: the results break the schema.
    """
    words = words_for_audit(Audit(check_audit(audit)))
    caveats = "".join(f"\n- {caveat}" for caveat in words.caveats)
    return f"{words.headline}\n\n{words.paragraph}\n{caveats}"


def _columns(audit: Audit, looks: Mapping[str, Style]) -> list[dict[str, Any]]:
    """Each column of the catalogue that lists were looked at by."""
    names = dict.fromkeys(c["column"] for s in audit.subjects for c in s["columns"])
    return [
        {
            "name": name,
            "chart": _audit_charts.column_chart(audit, name, looks),
            "rows": _audit_sections.column_rows(audit, name),
            "labels": [
                audit.label(s) for s in audit.subjects if any(c["column"] == name for c in s["columns"])
            ],
        }
        for name in names
    ]


def _neglected(audit: Audit) -> list[dict[str, Any]]:
    """The neglected items of each maker of lists, some shown and more folded."""
    return [
        {
            "subject": subject,
            "rows": _audit_sections.neglected_rows(subject["neglected"], slice(_N_NEGLECTED)),
            "more": _audit_sections.neglected_rows(subject["neglected"], slice(_N_NEGLECTED, None)),
        }
        for subject in sorted(audit.subjects, key=lambda s: s is not audit.main)
        if subject["neglected"] and (subject["role"] != "reference" or subject is audit.main)
    ]


def _measured_with(sharpness: Mapping[str, Any] | None) -> dict[str, Any]:
    """Radius and number of targets, the same for all models."""
    measured = [one for model in (sharpness or {}).get("models", []) for one in model["measured"]]
    return {"rho": None, "n_per_group": None} if not measured else measured[0]


def _hessian(sharpness: Mapping[str, Any] | None) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Model and group of every curvature that was measured."""
    return [
        (model, group)
        for model in (sharpness or {}).get("models", [])
        for one in model["hessian"] or []
        for group in one["groups"]
    ]
