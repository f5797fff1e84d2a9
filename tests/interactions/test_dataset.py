from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tailwise.errors import DataError
from tailwise.interactions import (
    Catalogue,
    build_dataset,
    check_catalogue,
    check_interactions,
    drop_unknown_items,
    list_datasets,
    load_catalogue,
    load_dataset,
    load_interactions,
    named_dataset,
    split_by_time,
    split_leave_last_out,
)
from tailwise.interactions._named import _GENRES, _read_complete_journey, _read_ml_100k

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"

LOG = pl.DataFrame(
    {
        "user_id": ["zoe", "ann", "ann", "ann", "zoe"],
        "item_id": ["b", "a", "b", "a", "c"],
        "timestamp": [20, 10, 30, 40, 20],
    }
)
ITEMS = pl.DataFrame({"item_id": ["c", "b", "a", "d"], "title": ["C", "B", "A", "D"]})


def _dataset(log: pl.DataFrame = LOG, items: pl.DataFrame = ITEMS, **options: object):
    return build_dataset(check_interactions(log), check_catalogue(items), **options)  # type: ignore[arg-type]


def test_users_and_items_are_encoded_in_the_order_of_their_identifiers():
    dataset = _dataset(repeats="keep")
    assert dataset.interactions.select("user_index", "item_index", "timestamp").rows() == [
        (0, 0, 10),
        (0, 1, 30),
        (0, 0, 40),
        (1, 1, 20),
        (1, 2, 20),
    ]
    assert (dataset.n_users, dataset.n_items, dataset.n_interactions) == (2, 4, 5)
    assert dataset.interactions.schema["user_index"] == pl.Int64


def test_only_the_first_of_repeated_interactions_is_kept_and_the_rest_counted():
    dataset = _dataset()
    assert dataset.interactions.filter(pl.col("user_id") == "ann")["timestamp"].to_list() == [10, 30]
    assert (dataset.checks.n_repeats, dataset.checks.n_repeats_removed) == (1, 1)
    kept = _dataset(repeats="keep").checks
    assert (kept.n_repeats, kept.n_repeats_removed) == (1, 0)


def test_checks_count_ties_single_users_and_untouched_items():
    log = pl.concat([LOG, pl.DataFrame({"user_id": ["one"], "item_id": ["a"], "timestamp": [5]})])
    checks = _dataset(log).checks
    assert checks.n_tied_interactions == 2
    assert checks.n_users_with_one_interaction == 1
    assert checks.n_items_without_interactions == 1
    assert checks.as_dict()["ignored_item_columns"] == []
    assert "users with one interaction (training only): 1" in str(checks)


def test_unknown_items_are_an_error_that_names_count_items_and_remedy():
    log = LOG.with_columns(pl.Series("item_id", ["b", "a", "gone", "lost", "lost"]))
    with pytest.raises(DataError) as caught:
        _dataset(log)
    assert "3 of 5 interactions name items absent from the catalogue (first: 'gone', 'lost')" in str(
        caught.value
    )
    assert "drop_unknown_items()" in str(caught.value)


def test_unknown_items_are_dropped_and_counted_on_request():
    log = check_interactions(LOG.with_columns(pl.Series("item_id", ["b", "a", "gone", "a", "c"])))
    catalogue = check_catalogue(ITEMS)
    assert drop_unknown_items(log, catalogue).n_unknown_item_rows_removed == 1
    dataset = build_dataset(log, catalogue, unknown_items="drop")
    assert (dataset.checks.n_unknown_item_rows_removed, dataset.n_interactions) == (1, 3)


def test_no_known_item_at_all_is_an_error_even_when_dropping():
    log = LOG.with_columns(item_id=pl.lit("elsewhere"))
    with pytest.raises(DataError, match=r"at least one interaction must name an item .* got 0 of 5"):
        _dataset(log, unknown_items="drop")


@pytest.mark.parametrize(
    ("item_id", "reason"),
    [("007", "leading zeros"), (" 7", "surrounding spaces"), ("X", "upper and lower case")],
)
def test_identifiers_that_nearly_match_say_how_they_differ(item_id: str, reason: str):
    log = pl.DataFrame({"user_id": ["u"], "item_id": [item_id], "timestamp": [1]})
    items = pl.DataFrame({"item_id": ["7", "x"], "title": ["Seven", "Ex"]})
    with pytest.raises(DataError, match=f"1 of them match but for {reason}"):
        _dataset(log, items)


def test_unknown_options_are_argument_errors():
    with pytest.raises(ValueError, match="repeats must be 'first' or 'keep'; got 'last'"):
        _dataset(repeats="last")
    with pytest.raises(ValueError, match="unknown_items must be 'error' or 'drop'; got 'skip'"):
        _dataset(unknown_items="skip")


def test_checksum_does_not_depend_on_row_order_name_or_ignored_columns():
    shuffled = _dataset(
        LOG.sample(fraction=1.0, shuffle=True, seed=3).with_columns(extra=pl.lit(1)),
        ITEMS.reverse(),
        name="other",
    )
    assert shuffled.checksum() == _dataset().checksum()


def test_checksum_is_the_same_on_every_machine():
    # Fixed once; a change means that recorded runs no longer recognise their data.
    log = LOG.with_columns(price=pl.Series([1.5, None, 2.0, 0.0, 3.0]))
    assert _dataset(log).checksum() == "afdc6375f51252317c3c1cec47d21a781764a9015b8997c8e7eec64fbf067b89"


@pytest.mark.parametrize(
    "change",
    [
        {"log": LOG.with_columns(pl.col("timestamp") + 1)},
        {"log": LOG.with_columns(user_id=pl.col("user_id").replace("ann", "bob"))},
        {"items": ITEMS.with_columns(title=pl.col("title").replace("D", "E"))},
        {"repeats": "keep"},
    ],
)
def test_checksum_sees_every_change_of_content(change: dict[str, object]):
    assert _dataset(**change).checksum() != _dataset().checksum()  # type: ignore[arg-type]


def test_catalogue_may_be_made_by_hand_but_needs_its_two_columns():
    assert Catalogue(ITEMS).titles() == ["C", "B", "A", "D"]
    with pytest.raises(ValueError, match="items must have a column 'title'"):
        Catalogue(ITEMS.drop("title"))


def test_unknown_data_set_lists_names_and_the_nearest():
    with pytest.raises(DataError, match=r"got 'movielens-100k'"):
        load_dataset("movielens-100k")
    with pytest.raises(DataError, match="Did you mean 'ml-100k'"):
        named_dataset("ml100k")


def test_both_movielens_formats_give_one_data_set(tmp_path: Path):
    recbole, grouplens = tmp_path / "recbole", tmp_path / "grouplens"
    recbole.mkdir()
    grouplens.mkdir()
    rows = "1\t1\t5\t881250949\n1\t2\t3\t881250950\n2\t3\t1\t881250951\n2\t4\t1\t881250952\n"
    (recbole / "ml-100k.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + rows
    )
    (recbole / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tUsual Suspects, The\t1995\tCrime Thriller\n"
        "2\tHorseman on the Roof, The (Hussard sur le toit, Le)\t1995\tDrama\n"
        "3\tunkonwn\tunkonwn\tunknown\n"
        "4\tLand Before Time III (1995)\tV\tAnimation Children's\n"
    )
    (grouplens / "u.data").write_text(rows)

    def line(number: int, title: str, *genres: str) -> str:
        return "|".join([str(number), title, "", "", "", *(str(int(name in genres)) for name in _GENRES)])

    (grouplens / "u.item").write_text(
        "\n".join(
            [
                line(1, "Usual Suspects, The (1995)", "Crime", "Thriller"),
                line(2, "Horseman on the Roof, The (Hussard sur le toit, Le) (1995)", "Drama"),
                line(3, "unknown", "unknown"),
                line(4, "Land Before Time III (1995) (V)", "Animation", "Children's"),
            ]
        )
        + "\n",
        encoding="latin-1",
    )
    first, second = (build_dataset(*_read_ml_100k(folder)) for folder in (recbole, grouplens))
    assert first.catalogue.titles() == [
        "The Usual Suspects (1995)",
        "The Horseman on the Roof (Hussard sur le toit, Le) (1995)",
        "Unknown film",
        "Land Before Time III (1995)",
    ]
    assert first.checksum() == second.checksum()


def test_complete_journey_titles_are_brand_type_and_size(tmp_path: Path):
    pl.DataFrame(
        {
            "household_id": [1, 1, 2],
            "product_id": [10, 11, 11],
            "basket_id": [5, 5, 6],
            "quantity": [2, 0, 1],
            "sales_value": [3.0, 0.0, 0.5],
            "transaction_timestamp": ["2017-01-01", "2017-01-01", "2017-01-02"],
        }
    ).write_parquet(tmp_path / "transactions.parquet")
    pl.DataFrame(
        {
            "product_id": [10, 11],
            "manufacturer_id": [2, 69],
            "department": ["GROCERY", "PASTRY"],
            "brand": ["National", "Private"],
            "product_category": ["FRZN ICE", "BREAD"],
            "product_type": ["ICE - CRUSHED", None],
            "package_size": ["22 LB", None],
        }
    ).write_parquet(tmp_path / "products.parquet")
    log, catalogue = _read_complete_journey(tmp_path)
    assert catalogue.titles() == ["National brand Ice - Crushed, 22 LB", "Private brand Bread"]
    assert log.table.select("quantity", "price", "revenue").rows() == [(2.0, 1.5, 3.0), (1.0, 0.5, 0.5)]
    assert (log.n_rows_read, log.n_interactions) == (3, 2)
    assert log.notes == ("1 rows of quantity 0 left out: nothing was bought",)


@pytest.mark.realdata
def test_movielens_100k_is_what_its_readme_says(fetched):
    fetched("ml-100k")
    dataset = load_dataset("ml-100k", progress=False)
    assert (dataset.n_users, dataset.n_items, dataset.n_interactions) == (943, 1682, 100_000)
    assert dataset.catalogue.titles()[0] == "Toy Story (1995)"
    assert named_dataset("ml-100k").recommended_split.apply(dataset).n_test_targets == 943


@pytest.mark.realdata
def test_global_time_on_movielens_leaves_about_90_users_as_its_recommendation_says(fetched):
    fetched("ml-100k")
    split = split_by_time(load_dataset("ml-100k", progress=False))
    earlier = pl.concat([split.train, split.validation])["user_index"].unique()
    assert split.test["user_index"].unique().is_in(earlier.implode()).sum() == 90
    assert "about 90 users" in named_dataset("ml-100k").recommended_split.reason


@pytest.mark.realdata
def test_complete_journey_loads_with_money_and_its_recommended_split(fetched):
    fetched("completejourney")
    dataset = load_dataset("completejourney", progress=False)
    assert (dataset.n_users, dataset.n_items) == (2469, 92_331)
    assert {"quantity", "price", "revenue"} <= set(dataset.interactions.columns)
    assert np.isfinite(dataset.interactions["price"].to_numpy()).all()
    assert named_dataset("completejourney").recommended_split.apply(dataset).method == "global-time"


def test_every_named_data_set_is_a_registered_asset():
    from tailwise.assets import list_assets

    assert set(list_datasets()) <= {asset.name for asset in list_assets() if asset.kind == "dataset"}


@pytest.mark.parametrize("name", ["amazon14_beauty", "steam_100k", "uci_online_retail"])
def test_prepared_folders_load_with_no_change_of_code(name: str):
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs the shared data folder {folder}")
    dataset = build_dataset(load_interactions(folder), load_catalogue(folder), name=name)
    assert "split" in dataset.checks.ignored_interaction_columns
    split = split_leave_last_out(dataset)
    assert 0 < split.n_tied_test <= split.n_test_targets
