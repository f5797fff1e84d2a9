"""`tailwise ground`: from what a model wrote to lists that an audit reads."""

import polars as pl
import pytest

from tailwise import cli, jobs
from tailwise.errors import ConfigError, DataError
from tailwise.evaluation import read_lists

ITEMS = {"item_id": ["a", "b", "c"], "title": ["Matrix, The (1999)", "Alien (1979)", "Heat (1995)"]}


@pytest.fixture
def catalogue(tmp_path):
    file = tmp_path / "items.csv"
    pl.DataFrame(ITEMS).write_csv(file)
    return file


def said(tmp_path, rows, schema=("user_id", "title", "rank")):
    file = tmp_path / "said.csv"
    pl.DataFrame(rows, schema=list(schema), orient="row").write_csv(file)
    return file


def test_lists_hold_what_the_texts_mean_in_their_order_without_gaps_and_repeats(tmp_path, catalogue):
    texts = said(
        tmp_path,
        [
            ("ann", "alien", 3),
            ("ann", "the matrix", 1),
            ("ann", "Some other film", 2),
            ("ann", "The Matrix (1999)", 4),
            ("bob", "Nothing", 1),
            ("cid", "Heat (1995)", 1),
        ],
    )
    done = jobs.ground(texts, tmp_path / "lists.parquet", items=catalogue, quiet=True)
    lists = read_lists(done.path).table.select("user_id", "item_id", "rank").rows()
    assert lists == [("ann", "a", 1), ("ann", "b", 2), ("cid", "c", 1)]
    assert (done.n_texts, done.n_users, done.n_repeated) == (6, 3, 1)
    assert done.shares == pytest.approx(
        {"exact": 1 / 6, "normalised": 3 / 6, "embedding": 0, "unmatched": 2 / 6}
    )
    assert dict(done.unmatched) == {"Some other film": 1, "Nothing": 1}


def test_without_ranks_the_rows_of_a_user_are_in_order(tmp_path, catalogue):
    rows = [("ann", "Heat"), ("bob", "Alien"), ("ann", "Alien")]
    texts = said(tmp_path, rows, ("user_id", "title"))
    done = jobs.ground(texts, tmp_path / "lists.parquet", items=catalogue, quiet=True)
    assert pl.read_parquet(done.path).select("user_id", "item_id", "rank").rows() == [
        ("ann", "c", 1),
        ("ann", "b", 2),
        ("bob", "b", 1),
    ]


def test_a_language_models_encodings_match_what_text_does_not(
    tmp_path, catalogue, tiny_model, tailwise_cache
):
    texts = said(tmp_path, [("ann", "Alien!! (1979) film", 1), ("ann", "Heat (1995)", 2)])
    strict = jobs.ground(texts, tmp_path / "a.parquet", items=catalogue, quiet=True)
    assert strict.shares["unmatched"] == 0.5
    loose = jobs.ground(
        texts, tmp_path / "b.parquet", items=catalogue, model=str(tiny_model), min_similarity=1e-6, quiet=True
    )
    assert loose.shares["embedding"] == 0.5


def test_the_command_prints_shares_and_the_file(tmp_path, catalogue, capsys):
    texts = said(tmp_path, [("ann", "alien", 1), ("ann", "Who knows", 2)])
    arguments = [str(texts), "--items", str(catalogue), "--out", str(tmp_path / "l.parquet"), "--quiet"]
    with pytest.raises(SystemExit, match="0"):
        cli.main(["ground", *arguments])
    told = capsys.readouterr().out
    assert "50.0%" in told
    assert "'Who knows'" in told
    assert told.splitlines()[-1].endswith("l.parquet")


@pytest.mark.parametrize(
    "case",
    [
        ([("ann", "Heat", 0)], {}, DataError, r"rank must be a whole number >= 1; got .*0"),
        ([("ann", "Nothing", 1)], {}, DataError, r"must hold a text that means an item .* got none among 1"),
        ([("ann", "Heat", 1)], {"data": "ml-100k"}, ConfigError, r"one of them; got 'ml-100k' and"),
        ([("ann", "Heat", 1)], {"min_similarity": 2.0}, ConfigError, r"in \(0, 1\]; got 2\.0"),
        (
            [("ann", "Heat", 1)],
            {"out": "lists.csv"},
            ConfigError,
            r"must end in \.parquet; got '.*lists\.csv'",
        ),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, catalogue, case):
    rows, arguments, error, match = case
    out = tmp_path / arguments.pop("out", "lists.parquet")
    with pytest.raises(error, match=match):
        jobs.ground(said(tmp_path, rows), out, items=catalogue, quiet=True, **arguments)
    assert not out.exists()
