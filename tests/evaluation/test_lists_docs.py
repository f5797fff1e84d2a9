import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tailwise.evaluation import (
    ListChecks,
    TasteForTheTail,
    exposure_by_column,
    rank_targets,
    taste_for_the_tail,
)
from tailwise.interactions import histories, load_dataset, split_leave_last_out, training_histories
from tailwise.recommenders import ItemKNN
from tailwise.segments import popularity, segment_items

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "recommendation-lists.md").read_text()


def test_code_blocks_of_the_page_run():
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        command = [sys.executable, "-W", "error", "-c", block]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("kind", [ListChecks, TasteForTheTail])
def test_every_field_of_a_result_is_on_the_page(kind):
    known = {"k", "tail"}  # said of every metric
    missing = [f.name for f in dataclasses.fields(kind) if f"`{f.name}`" not in PAGE and f.name not in known]
    assert missing == []


@pytest.mark.realdata
def test_the_page_says_of_ml_100k_what_the_code_says(fetched):
    fetched("ml-100k")
    data = load_dataset("ml-100k")
    split = split_leave_last_out(data)
    segments = segment_items(popularity(split.train, data.n_items))
    held_out = histories(split, "test")
    model = ItemKNN(training_histories(split)[1], data.n_items)
    rankings = rank_targets(
        model.scores,
        held_out.histories,
        held_out.target_offsets,
        held_out.target_items,
        n_items=data.n_items,
        users=held_out.users,
        list_length=10,
    )
    taste = taste_for_the_tail(rankings, split.train, segments, n_resamples=10)
    niche, _, mainstream = taste.groups
    genres = exposure_by_column(
        rankings, data.catalogue.items["category"], segments, separator=" ", n_resamples=10
    )
    ratio = {row["value"]: row["exposure_ratio"] for row in genres.table.to_dicts()}
    text = " ".join(PAGE.split())
    for promised in (
        f"shows {taste.shown_tail_share.value:.1%} tail",
        f"histories hold {taste.own_tail_share.value:.1%}",
        f"{taste.shown_less_share.value:.1%} of them",
        f"({taste.shown_less_by_chance.value:.1%} would be by chance)",
        f"−{-100 * niche.difference.value:.1f} points",
        f"−{-100 * mainstream.difference.value:.1f} for mainstream",
        f"Action films get {ratio['Action']:.2f} times",
        f"comedies {ratio['Comedy']:.2f} times",
    ):
        assert promised.replace("%", " %") in text, promised
