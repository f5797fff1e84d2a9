import gzip
from pathlib import Path

import polars as pl
import pytest

from tailwise.errors import DataError
from tailwise.interactions import load_catalogue, load_interactions

HEADER = "user_id,item_id,timestamp\n"
ROWS = HEADER + "007,00123,1700000000\n8,B,1700000001\n"


def _write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding=encoding)
    return path


def test_csv_identifiers_stay_text_with_their_leading_zeros(tmp_path: Path):
    log = load_interactions(_write(tmp_path / "log.csv", ROWS))
    assert log.table.rows() == [("007", "00123", 1700000000), ("8", "B", 1700000001)]
    assert log.timestamps == "unix seconds"


def test_tsv_and_gzipped_csv_read_alike(tmp_path: Path):
    tsv = load_interactions(_write(tmp_path / "log.tsv", ROWS.replace(",", "\t")))
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress(ROWS.encode()))
    zipped = load_interactions(tmp_path / "log.csv.gz")
    assert tsv.table.equals(zipped.table)


def test_parquet_integer_identifiers_become_text(tmp_path: Path):
    table = pl.DataFrame({"user_id": [7], "item_id": [123], "timestamp": [1700000000], "rating": [4]})
    table.write_parquet(tmp_path / "log.parquet")
    log = load_interactions(tmp_path / "log.parquet")
    assert log.table.rows() == [("7", "123", 1700000000, 4.0)]


def test_float_identifiers_are_refused_with_type_and_value(tmp_path: Path):
    table = pl.DataFrame({"user_id": [7.0, 8.0], "item_id": ["a", "b"], "timestamp": [1, 2]})
    table.write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"user_id must be text or whole numbers; got Float64 \(first: 7.0"):
        load_interactions(tmp_path / "log.parquet")


def test_recbole_files_are_read_without_quoting_or_types(tmp_path: Path):
    _write(tmp_path / "x.inter", "user_id:token\titem_id:token\ttimestamp:float\n1\t007\t881250949.0\n")
    _write(
        tmp_path / "x.item",
        'item_id:token\tmovie_title:token_seq\trelease_year:token\n007\t"Amélie" of Montmartre\tV\n',
    )
    assert load_interactions(tmp_path).table.rows() == [("1", "007", 881250949)]
    catalogue = load_catalogue(tmp_path, columns={"title": "movie_title"})
    assert catalogue.titles() == ['"Amélie" of Montmartre']
    assert catalogue.ignored_columns == ("release_year",)


def test_columns_are_mapped_by_name(tmp_path: Path):
    path = _write(tmp_path / "sales.csv", "customer,sku,when\nann,1,1700000000\n")
    log = load_interactions(path, columns={"user_id": "customer", "item_id": "sku", "timestamp": "when"})
    assert log.table.columns == ["user_id", "item_id", "timestamp"]


def test_missing_column_names_file_column_existing_ones_nearest_and_mapping(tmp_path: Path):
    path = _write(tmp_path / "sales.csv", "userid,item_id,timestamp\nann,1,2\n")
    with pytest.raises(DataError) as caught:
        load_interactions(path)
    assert str(caught.value) == (
        f"{path} must have a column 'user_id'; got 'userid', 'item_id', 'timestamp'.\n"
        "  Nearest: 'userid'. If that is it, pass columns={'user_id': 'userid'}."
    )


def test_missing_title_of_a_recbole_file_points_to_movie_title(tmp_path: Path):
    path = _write(tmp_path / "x.item", "item_id:token\tmovie_title:token_seq\n1\tA\n")
    with pytest.raises(
        DataError, match=r"'title'; got 'item_id', 'movie_title'(?s:.*)\{'title': 'movie_title'\}"
    ):
        load_catalogue(path)


def test_unknown_mapping_key_is_an_argument_error(tmp_path: Path):
    with pytest.raises(ValueError, match="got the key 'customer'"):
        load_interactions(_write(tmp_path / "log.csv", ROWS), columns={"customer": "user_id"})


def test_mapped_column_that_does_not_exist_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="must have a column 'price_usd'"):
        load_interactions(_write(tmp_path / "log.csv", ROWS), columns={"price": "price_usd"})


def test_semicolons_are_recognised_in_the_error_and_read_on_request(tmp_path: Path):
    path = _write(tmp_path / "log.csv", ROWS.replace(",", ";"))
    with pytest.raises(DataError, match="pass separator=';'"):
        load_interactions(path)
    assert load_interactions(path, separator=";").n_interactions == 2


def test_latin_1_is_refused_with_the_option_and_read_with_it(tmp_path: Path):
    path = _write(tmp_path / "items.csv", "item_id,title\n1,Café\n", encoding="latin-1")
    with pytest.raises(DataError, match="encoding='latin-1'"):
        load_catalogue(path)
    assert load_catalogue(path, encoding="latin-1").titles() == ["Café"]


def test_wrong_encoding_names_the_byte(tmp_path: Path):
    path = _write(tmp_path / "items.csv", "item_id,title\n1,Café\n", encoding="latin-1")
    with pytest.raises(DataError, match=r"items.csv must be ascii text; got byte 0xe9 at 19"):
        load_catalogue(path, encoding="ascii")


def test_byte_order_mark_does_not_hide_the_first_column(tmp_path: Path):
    assert load_interactions(_write(tmp_path / "log.csv", ROWS, encoding="utf-8-sig")).n_interactions == 2


def test_empty_file_is_refused(tmp_path: Path):
    with pytest.raises(
        DataError, match=r"log.csv must hold a header and rows; got an empty file \(0 bytes\)"
    ):
        load_interactions(_write(tmp_path / "log.csv", ""))


def test_header_without_rows_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"log.csv must hold at least one interaction; got 0 rows"):
        load_interactions(_write(tmp_path / "log.csv", HEADER))
    with pytest.raises(DataError, match=r"items.csv must hold at least one item; got 0 rows"):
        load_catalogue(_write(tmp_path / "items.csv", "item_id,title\n"))


def test_ragged_rows_are_refused_naming_the_file(tmp_path: Path):
    with pytest.raises(DataError, match=r"log.csv must be a readable .csv file"):
        load_interactions(_write(tmp_path / "log.csv", ROWS + "a,b,3,extra\n"))


def test_damaged_parquet_is_refused_naming_the_file(tmp_path: Path):
    with pytest.raises(DataError, match=r"log.parquet must be a readable .parquet file"):
        load_interactions(_write(tmp_path / "log.parquet", "not parquet"))


def test_unknown_ending_lists_the_formats(tmp_path: Path):
    with pytest.raises(DataError, match=r"got '.*log\.xlsx'(?s:.*)CSV \(\.csv\)"):
        load_interactions(_write(tmp_path / "log.xlsx", ROWS))


def test_absent_file_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"interactions file must exist; got '.*none.csv'"):
        load_interactions(tmp_path / "none.csv")


def test_folder_with_two_candidates_is_refused_listing_them(tmp_path: Path):
    _write(tmp_path / "interactions.csv", ROWS)
    _write(tmp_path / "x.inter", "")
    with pytest.raises(DataError, match=r"exactly one interactions table; got interactions.csv, x.inter"):
        load_interactions(tmp_path)


def test_folder_without_items_says_what_was_looked_for(tmp_path: Path):
    with pytest.raises(DataError, match=r"exactly one items table; got none(?s:.*)items.parquet"):
        load_catalogue(tmp_path)
