import gzip
import json

import polars as pl
import pytest

from tailwise.errors import DataError
from tailwise.evaluation import LISTS_METADATA, check_lists, read_lists

RANKED = pl.DataFrame(
    {
        "user_id": ["ann", "ann", "ann", "bob", "bob"],
        "item_id": ["007", "008", "009", "008", "007"],
        "rank": [1, 2, 3, 1, 2],
    }
)
SCORED = RANKED.with_columns(score=pl.Series([0.9, 0.5, 0.5, 2.0, -1.0])).drop("rank")


def test_parquet_csv_tsv_and_gzip_give_the_same_lists(tmp_path):
    RANKED.write_parquet(tmp_path / "a.parquet")
    RANKED.write_csv(tmp_path / "a.csv")
    RANKED.write_csv(tmp_path / "a.tsv", separator="\t")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    found = [read_lists(tmp_path / name).table for name in ("a.parquet", "a.csv", "a.tsv", "b.csv.gz")]
    assert found[0]["item_id"].to_list() == ["007", "008", "009", "008", "007"]  # leading zeros stay
    for table in found[1:]:
        assert table.equals(found[0])


def test_rows_may_come_in_any_order():
    assert check_lists(RANKED.sample(fraction=1, shuffle=True, seed=1)).table.equals(
        check_lists(RANKED).table
    )


def test_the_order_is_that_of_the_columns_with_values():
    assert check_lists(RANKED).order == "rank"
    assert check_lists(SCORED).order == "score"
    both = RANKED.with_columns(score=10.0 - pl.col("rank"))
    assert check_lists(both).order == "rank and score"
    assert check_lists(both.with_columns(score=None)).order == "rank"


def test_columns_are_mapped_and_the_others_are_named():
    theirs = RANKED.rename({"user_id": "customer", "rank": "position"}).with_columns(shop=1)
    given = check_lists(theirs, columns={"user_id": "customer", "rank": "position"})
    assert given.table.equals(check_lists(RANKED).table)
    assert given.ignored_columns == ("shop",)


def test_whole_numbers_as_identifiers_become_text_and_floats_are_refused():
    given = check_lists(RANKED.with_columns(item_id=pl.Series([7, 8, 9, 8, 7])))
    assert given.table["item_id"].to_list() == ["7", "8", "9", "8", "7"]
    with pytest.raises(DataError, match=r"item_id must be text or whole numbers; got Float64 \(first: 7\.0"):
        check_lists(RANKED.with_columns(item_id=pl.Series([7.0, 8, 9, 8, 7])))


def test_equal_scores_at_falling_ranks_do_not_contradict():
    assert (
        check_lists(RANKED.with_columns(score=pl.Series([3.0, 3.0, 1.0, 5.0, 5.0]))).order == "rank and score"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"rank": [0, 1, 2, 1, 2]},
            r"rank must start at 1; got 0 in the lists of 1 of 2 users \(first: 'ann'\).*add 1",
        ),
        ({"rank": [1, 2, 2, 1, 2]}, r"rank must occur once .*1 of 2 users \(first: 'ann'\)"),
        ({"rank": [1, 2, 4, 1, 2]}, r"rank must run 1, 2, 3, .*without a gap.*1 of 2 users \(first: 'ann'\)"),
        ({"rank": [2, 3, 4, 1, 2]}, r"rank must run 1, 2, 3"),
        ({"rank": [1, 2, 1e30, 1, 2]}, r"rank must run 1, 2, 3"),
        ({"rank": [1, 2, 2.5, 1, 2]}, r"rank must be a whole number; got 1 of 5 .*2\.5.*'ann'"),
        ({"rank": [1, 2, None, 1, 2]}, r"rank must be a finite number .*got 1 of 5 rows .*'ann'"),
        ({"rank": ["1", "2", "3", "1", "two"]}, r"rank must be a number; got 1 of 5 rows .*'two'"),
        (
            {"score": [1.0, 2.0, float("nan"), float("inf"), None]},
            r"score must be a finite number .*got 3 of 5 rows .*2 of 2 users \(first: 'ann', 'bob'\)",
        ),
        ({"score": ["0.5", "nan", "0.1", "0.5", "0.2"]}, r"score must be a finite number .*got 1 of 5"),
        (
            {"score": [1.0, 2.0, 3.0, 2.0, 1.0]},
            r"rank and score must agree.*1 of 2 users \(first: 'ann'\).*Give one of the two",
        ),
        ({"user_id": ["ann", None, "ann", "bob", "bob"]}, r"user_id must have a value .*got 1 of 5.*row 2"),
        ({"item_id": ["7", "8", "", "8", "7"]}, r"item_id must have a value .*got 1 of 5.*row 3"),
        (
            {"item_id": ["7", "8", "7", "8", "7"]},
            r"item_id must occur once in a user's list; got 1 of 5 rows .*1 of 2 users \(first: 'ann'\); "
            r"first item: '7'.*repeated_items='drop'",
        ),
    ],
)
def test_what_is_probably_a_mistake_is_an_error_that_counts_and_names(change, message):
    columns = [pl.Series(name, values, strict=False) for name, values in change.items()]
    with pytest.raises(DataError, match=f"(?s){message}"):
        check_lists(RANKED.with_columns(columns), source="lists.csv")


def test_a_contradiction_between_users_is_none():
    ranks_and_scores = RANKED.with_columns(score=pl.Series([3.0, 2.0, 1.0, 9.0, 8.0]))
    check_lists(ranks_and_scores)


def test_lists_without_rank_and_score_are_refused_for_rows_have_no_order():
    with pytest.raises(DataError, match="a column 'rank' or 'score' with values; got 'user_id', 'item_id'"):
        check_lists(RANKED.drop("rank"))


def test_a_missing_column_is_named_with_the_nearest():
    with pytest.raises(DataError, match=r"(?s)a column 'item_id'; got .*Nearest: 'itemid'") as error:
        check_lists(RANKED.rename({"item_id": "itemid"}), source="lists.csv")
    assert "lists.csv" in str(error.value)


def test_empty_and_absent_files_are_refused(tmp_path):
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError, match="got an empty file"):
        read_lists(tmp_path / "empty.csv")
    RANKED.clear().write_csv(tmp_path / "header.csv")
    with pytest.raises(DataError, match="must hold at least one list; got 0 rows"):
        read_lists(tmp_path / "header.csv")
    for path in (tmp_path / "no.csv", tmp_path):
        with pytest.raises(DataError, match=f"lists must be a file; got '{path}'"):
            read_lists(path)
    (tmp_path / "lists.xlsx").write_text("x")
    with pytest.raises(DataError, match="file format must be known by its ending"):
        read_lists(tmp_path / "lists.xlsx")


def test_repeats_are_dropped_on_request_at_their_best_place_and_later_items_move_up():
    rows = pl.DataFrame(
        {
            "user_id": ["ann"] * 4,
            "item_id": ["7", "8", "7", "9"],
            "rank": [1, 2, 3, 4],
            "score": [4.0, 3, 2, 1],
        }
    )
    given = check_lists(rows, repeated_items="drop")
    assert given.table.select("item_id", "rank").rows() == [("7", 1), ("8", 2), ("9", 3)]
    assert (given.n_rows_read, given.n_repeated_rows_dropped) == (4, 1)
    by_score = check_lists(rows.drop("rank").reverse(), repeated_items="drop").table
    assert sorted(by_score.select("item_id", "score").rows()) == [("7", 4.0), ("8", 3.0), ("9", 1.0)]


def test_a_file_exported_twice_can_be_read_with_repeats_dropped():
    twice = pl.concat([RANKED, RANKED])
    with pytest.raises(DataError, match=r"(?s)rank must occur once.*repeated_items='drop'"):
        check_lists(twice)
    given = check_lists(twice, repeated_items="drop")
    assert given.table.equals(check_lists(RANKED).table)
    assert given.n_repeated_rows_dropped == 5


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="repeated_items must be 'error' or 'drop'; got 'ignore'"):
        check_lists(RANKED, repeated_items="ignore")


def test_what_tailwise_wrote_about_its_lists_is_read_back(tmp_path):
    RANKED.write_parquet(tmp_path / "a.parquet", metadata={LISTS_METADATA: json.dumps({"history": "all"})})
    assert read_lists(tmp_path / "a.parquet").made_with == {"history": "all"}
    RANKED.write_parquet(tmp_path / "b.parquet")
    assert read_lists(tmp_path / "b.parquet").made_with is None
