"""The benchmark runs through, small; which attention is faster is for people to read, not for tests."""

import json

import pytest

import what_does_attention_cost

TINY = ["--lengths", "3", "6", "--positions", "12", "--width", "36", "--repeats", "2"]


def test_a_row_for_every_precision_and_length_and_the_record_is_kept(capsys, tmp_path):
    what_does_attention_cost.main([*TINY, "--output", str(tmp_path)])
    printed = capsys.readouterr().out.splitlines()
    record = json.loads(printed[-1])
    assert [(row["dtype"], row["length"], row["n_rows"]) for row in record["rows"]] == [
        ("bfloat16", 3, 4),
        ("bfloat16", 6, 2),
        ("float32", 3, 4),
        ("float32", 6, 2),
    ]
    (folder,) = tmp_path.iterdir()
    assert folder.name == f"{record['date']}-what-does-attention-cost"
    assert json.loads((folder / "result.json").read_text()) == record


def test_gradients_that_differ_stop_it(monkeypatch):
    found = what_does_attention_cost._gradient
    monkeypatch.setattr(
        what_does_attention_cost,
        "_gradient",
        lambda model, inputs: (
            found(model, inputs) * (2 if model.config._attn_implementation == "sdpa" else 1)
        ),
    )
    with pytest.raises(ValueError, match=r"gradients must agree to 0\.05; got"):
        what_does_attention_cost.main(TINY)
