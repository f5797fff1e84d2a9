"""The audit as a user runs it, on real data with the real language model."""

import pytest

from tailwise.cli import main
from tailwise.interactions import load_dataset
from tailwise.reports import read_audit

pytestmark = [pytest.mark.realdata, pytest.mark.llm, pytest.mark.slow]


@pytest.fixture
def every_fourth_film(fetched, tmp_path):
    """Arguments for two files: 421 films of MovieLens 100K, and what was watched of them."""
    fetched("ml-100k")
    films = load_dataset("ml-100k")
    items = films.catalogue.items.select("item_id", "title").gather_every(4)
    log = films.interactions.select("user_id", "item_id", "timestamp")
    files = {"items": items, "interactions": log.join(items.select("item_id"), on="item_id", how="semi")}
    for name, frame in files.items():
        frame.write_parquet(tmp_path / f"{name}.parquet")
    return [argument for name in files for argument in (f"--{name}", str(tmp_path / f"{name}.parquet"))]


def test_titles_of_films_are_told_apart_from_the_log(fetched, every_fourth_film, tmp_path):
    """Asks 421 titles of a real model; one short epoch stands for the recommender."""
    fetched("smollm2-135m")
    settings = ["model.depth=1", "training.max_epochs=1", "training.positions_per_batch=6400"]
    with pytest.raises(SystemExit, match=r"^0$"):
        main(
            [
                *("audit", *every_fourth_film, "--kind", "movie", "--split", "leave-last-out"),
                *("--model", "smollm2-135m", "--out", str(tmp_path / "audit")),
                *("--estimator", "title-likelihood", "--sharpness", "off", "--quiet"),
                *(f"--set={setting}" for setting in settings),
            ]
        )
    found = read_audit(tmp_path / "audit" / "audit.json")
    prior = found["prior_side"]
    assert prior["kind"] == "movie"
    agreement = next(
        a for a in prior["agreements"] if {a["first"], a["second"]} == {"title-likelihood", "popularity"}
    )
    # The model does know famous films better: 0.33 (0.29 to 0.37) of all 1,682.
    assert 0.2 < agreement["spearman"]["value"] < 0.45
    check = next(c for c in prior["length_checks"] if c["name"] == "score")
    assert check["is_free_of_length"]
    assert found["data_side"]["skew"]["concentration"]["gini"] == pytest.approx(0.63, abs=0.01)
