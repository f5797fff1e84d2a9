"""The benchmark runs through, small; which update is faster is for people to read, not for tests."""

import json

import pytest
from torch.optim import AdamW

import what_does_an_update_cost

TINY = ["--items", "20", "60", "--width", "8", "--repeats", "2"]


def test_a_row_for_every_size_and_the_record_is_kept(capsys, tmp_path):
    what_does_an_update_cost.main([*TINY, "--output", str(tmp_path)])
    printed = capsys.readouterr().out.splitlines()
    record = json.loads(printed[-1])
    assert [row["n_items"] for row in record["rows"]] == [20, 60]
    (folder,) = tmp_path.iterdir()
    assert folder.name == f"{record['date']}-what-does-an-update-cost"
    assert json.loads((folder / "result.json").read_text()) == record


def test_updates_that_end_elsewhere_stop_it(monkeypatch):
    class Faster(AdamW):
        def __init__(self, groups, **settings):
            super().__init__(groups, **settings | {"lr": 2e-3 if groups[0]["fused"] else 1e-3})

    monkeypatch.setattr(what_does_an_update_cost, "AdamW", Faster)
    with pytest.raises(AssertionError, match="not close"):
        what_does_an_update_cost.main(TINY)
