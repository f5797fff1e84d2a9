import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailwise.errors import DataError
from tailwise.reports import AUDIT_SCHEMA_VERSION, check_audit, read_audit, write_audit
from tests.reports.audit_results import make_audit, make_checks

Content = dict[str, Any]
SCHEMA_DOC = Path(__file__).parents[2] / "docs" / "audit-schema.md"


@pytest.fixture
def audit() -> Content:
    return make_audit()


def _set(path: str, value: object) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        *parents, last = [int(p) if p.isdigit() else p for p in re.findall(r"\w+", path)]
        place: Any = content
        for parent in parents:
            place = place[parent]
        if value is ...:
            del place[last]
        else:
            place[last] = value

    return change


def test_what_is_written_is_read_back_unchanged(audit: Content, tmp_path: Path) -> None:
    path = write_audit(audit, tmp_path / "deep" / "audit.json")
    assert read_audit(path) == check_audit(audit)
    assert [p.name for p in path.parent.iterdir()] == ["audit.json"], "a temporary file was left"
    assert json.loads(path.read_text(encoding="utf-8"))["schema_version"] == AUDIT_SCHEMA_VERSION


@pytest.mark.parametrize(
    "options",
    [
        {"sharpness": None, "shuffled": False},
        {"targets": False, "sharpness": None},
        {"subjects": ("lists",), "checks": make_checks(n_tied_slots=3), "shuffled": False, "sharpness": None},
        {"subjects": ("most-popular",), "n_neglected": 0},
        {"attribution": None},
    ],
    ids=["no models", "no targets", "given lists", "a reference alone", "nothing to attribute"],
)
def test_parts_that_may_be_missing_are_null_or_empty(options: Content) -> None:
    check_audit(make_audit(**options))


def test_numpy_scalars_are_written_as_numbers(audit: Content, tmp_path: Path) -> None:
    audit["subjects"][0]["neglected"][0]["prior_percentile"] = np.float64(0.25)
    audit["subjects"][0]["attribution"]["is_measurable"] = np.bool_(True)
    found = read_audit(write_audit(audit, tmp_path / "audit.json"))["subjects"][0]
    assert found["neglected"][0]["prior_percentile"] == 0.25
    assert found["attribution"]["is_measurable"] is True


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("data_side", ..., "field data_side is missing"),
        ("data_side.skew.looks_filtered", ..., "field data_side.skew.looks_filtered is missing"),
        ("data_side.skew.looks_filtered", 1, "data_side.skew.looks_filtered must be true or false; got 1"),
        ("data_side.drift.changes[1].jaccard", 1.4, "changes[1].jaccard must be a fraction in 0–1; got 1.4"),
        ("prior_side.agreements[0].spearman.low", ..., "field prior_side.agreements[0].spearman.low is"),
        ("subjects[1].k", "ten", "subjects[1].k must be a whole number; got 'ten'"),
        (
            "subjects[0].role",
            "winner",
            "subjects[0].role must be one of baseline, treatment, reference, lists; got 'winner'",
        ),
        ("subjects[1].name", "adamw", "names in subjects must be unique; got 'adamw' more than once"),
        ("subjects", [], "subjects must hold at least one maker of lists"),
        (
            "subjects[0].attribution.corrected.data",
            None,
            "subjects[0].attribution.corrected.data must be an object; got None",
        ),
        ("subjects[0].grids[1].cells", [], "subjects[0].grids[1].cells must be with one of high by head"),
        (
            "subjects[0].columns[0].values[2].exposure_ratio_low",
            ...,
            "field subjects[0].columns[0].values[2].exposure_ratio_low is missing",
        ),
        ("sharpness.comparisons[0].groups[1].verdict", "blunt", "verdict must be one of flatter, sharper"),
        ("sharpness.models[0].measured[0].rho", ..., "field sharpness.models[0].measured[0].rho is missing"),
        ("data.concentration.curve", [[0.1]], "data.concentration.curve[0] must be a pair"),
        ("subjects[0].neglected[3].shown_ratio", float("nan"), "shown_ratio must be finite or null; got nan"),
    ],
)
def test_a_broken_field_is_named_by_its_path(audit: Content, path: str, value: object, message: str) -> None:
    _set(path, value)(audit)
    with pytest.raises(DataError, match=re.escape(message)):
        check_audit(audit)


def test_a_missing_field_is_looked_up_in_the_audits_own_page(audit: Content) -> None:
    del audit["seconds"]
    with pytest.raises(DataError, match=r"docs/audit-schema\.md.*`tailwise audit`"):
        check_audit(audit)


def test_another_version_is_refused_before_its_fields_are_read() -> None:
    with pytest.raises(DataError, match="schema_version must be 1; got 9"):
        check_audit({"schema_version": 9})


def test_a_missing_file_is_named_with_the_command_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)none\.json does not exist.*`tailwise audit` writes it"):
        read_audit(tmp_path / "none.json")


def test_bad_results_leave_the_old_file_in_place(audit: Content, tmp_path: Path) -> None:
    path = write_audit(audit, tmp_path / "audit.json")
    before = path.read_bytes()
    del audit["subjects"][0]["taste"]
    with pytest.raises(DataError, match=r"field subjects\[0\]\.taste is missing"):
        write_audit(audit, path)
    assert path.read_bytes() == before


def test_every_documented_field_of_a_part_is_required(audit: Content) -> None:
    for part in ("data_side", "prior_side", "sharpness"):
        documented = set(re.findall(rf"`{part}\.(\w+)", _first_cells()))
        assert len(documented) >= 3
        for field in documented:
            broken = dict(audit, **{part: {k: v for k, v in audit[part].items() if k != field}})
            with pytest.raises(DataError, match=rf"field {part}\.{field} is missing"):
                check_audit(broken)


def test_unknown_fields_pass_because_the_schema_may_gain_some(audit: Content) -> None:
    audit["subjects"][0]["mood"] = "sunny"
    assert check_audit(audit)["subjects"][0]["mood"] == "sunny"


def test_every_documented_top_level_field_is_required(audit: Content) -> None:
    documented = set(re.findall(r"`(\w+)", _first_cells()))
    assert documented == set(audit)
    for field in audit:
        with pytest.raises(DataError, match=f"field {field} is missing"):
            check_audit({key: value for key, value in audit.items() if key != field})


def test_every_documented_field_of_a_subject_is_required(audit: Content) -> None:
    documented = set(re.findall(r"`subjects\[\]\.(\w+)", _first_cells()))
    assert documented == set(audit["subjects"][0])
    for field in documented:
        broken = dict(audit, subjects=[{k: v for k, v in audit["subjects"][0].items() if k != field}])
        with pytest.raises(DataError, match=rf"field subjects\[0\]\.{field} is missing"):
            check_audit(broken)


def _first_cells() -> str:
    rows = re.findall(r"^\| (`[^|]+)\|", SCHEMA_DOC.read_text(encoding="utf-8"), re.MULTILINE)
    return "\n".join(rows)
