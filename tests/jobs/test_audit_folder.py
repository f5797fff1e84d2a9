"""An audit's folder: whose it is, and what it keeps."""

import json

import pytest

from tailwise.errors import ConfigError
from tailwise.jobs import AuditConfig
from tailwise.jobs._audit_folder import AuditFolder, PartStore


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "audit").mkdir()
    return AuditFolder(tmp_path / "audit")


def test_the_same_audit_is_taken_up_and_another_is_refused_by_name(folder):
    folder.claim({"run": "wrong", "trains": False})
    folder.claim({"run": "a", "trains": False})  # nothing came of the first
    folder.parts.get("slow", [], dict)
    folder.claim({"run": "a", "trains": False})
    with pytest.raises(ConfigError, match=r"other run\. Choose another folder"):
        folder.claim({"run": "b", "trains": False})


def test_a_folder_with_other_files_is_left_alone(folder):
    (folder.path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="other files"):
        folder.claim({"run": "a"})
    assert [p.name for p in folder.path.iterdir()] == ["thesis.txt"]


def test_a_part_is_computed_once_while_nothing_that_decides_it_changes(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"value": len(calls)}

    first = PartStore(tmp_path)
    assert first.get("slow", [1, "a"], compute) == {"value": 1}
    again = PartStore(tmp_path)
    assert again.get("slow", [1, "a"], compute) == {"value": 1}
    assert again.kept == {"slow"}
    assert again.seconds["slow"] == first.seconds["slow"]  # what it took when it was computed
    assert PartStore(tmp_path).get("slow", [2, "a"], compute) == {"value": 2}


@pytest.mark.parametrize("content", ["", '{"key": ', "[]", '{"other": 1}'])
def test_a_damaged_part_is_computed_again(tmp_path, content):
    store = PartStore(tmp_path)
    store.get("slow", 1, lambda: "good")
    (tmp_path / "slow.json").write_text(content)
    assert PartStore(tmp_path).get("slow", 1, lambda: "again") == "again"
    assert json.loads((tmp_path / "slow.json").read_text())["value"] == "again"


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("estimators", ("pairwise",), "title-likelihood; got pairwise"),
        ("estimators", ("title-likelihood", "horoscope"), "horoscope"),
        ("sharpness", "blunt", "'blunt'"),
        ("unknown", "guess", "'guess'"),
        ("repeated_items", "keep", "'keep'"),
        ("kind", " ", "empty"),
        ("k", 0, r"1\.\.50; got 0"),
        ("k", 51, r"1\.\.50; got 51"),
        ("n_permutations", 18, ">= 19; got 18"),
        ("n_pairwise_items", 9, ">= 10; got 9"),
        ("seed", -1, ">= 0; got -1"),
    ],
)
def test_a_setting_out_of_range_is_named_with_its_value(setting, value, named):
    with pytest.raises(ConfigError, match=named):
        AuditConfig(**{setting: value})
