import polars as pl
import pytest

from tailwise.errors import DataError
from tailwise.evaluation import Rankings

from .builders import rank


def example():
    return rank([[3, 2, 1], [1, 1, 1], [0, 1, 2]], [[1], [], [0, 2]], histories=[[0], [], []])


def test_saved_rankings_load_unchanged(tmp_path):
    rankings = example()
    rankings.save(tmp_path / "new" / "folder")
    loaded = Rankings.load(tmp_path / "new" / "folder")
    assert loaded.targets.equals(rankings.targets)
    assert loaded.lists.equals(rankings.lists)
    assert (loaded.n_items, loaded.list_length) == (3, 50)


def test_saving_leaves_no_temporary_files(tmp_path):
    example().save(tmp_path)
    example().save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lists.parquet", "rankings.json", "targets.parquet"]


def test_save_that_fails_midway_leaves_a_folder_that_refuses_to_load(tmp_path, monkeypatch):
    rankings = example()
    rankings.save(tmp_path)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(type(rankings.lists), "write_parquet", fail)
    with pytest.raises(OSError, match="disk full"):
        rankings.save(tmp_path)
    with pytest.raises(DataError, match=r"folder must hold complete rankings; got .* without rankings\.json"):
        Rankings.load(tmp_path)


def test_tables_are_sorted_by_user_whatever_order_they_come_in():
    rankings = example()
    again = Rankings(rankings.targets.reverse(), rankings.lists.reverse(), n_items=3, list_length=50)
    assert again.targets.equals(rankings.targets)
    assert again.lists.equals(rankings.lists)


def test_lists_of_another_system_need_no_seen_column():
    rankings = Rankings(
        example().targets,
        pl.DataFrame({"user_index": [0, 1, 2], "items": [[1], [], [2]]}),
        n_items=3,
        list_length=1,
    )
    assert rankings.lists["seen"].to_list() == [[], [], []]


def test_missing_column_is_named():
    with pytest.raises(DataError, match="Missing: n_tied"):
        Rankings(example().targets.drop("n_tied"), example().lists, n_items=3, list_length=50)


def test_target_of_a_user_without_a_list_is_refused():
    with pytest.raises(DataError, match="got 2 of 3 targets whose user has no list"):
        Rankings(example().targets, example().lists.head(2), n_items=3, list_length=50)


def test_repeated_user_list_is_refused():
    with pytest.raises(DataError, match="one row per user_index; got 1 repeated of 4"):
        Rankings(
            example().targets, pl.concat([example().lists, example().lists[:1]]), n_items=3, list_length=50
        )
