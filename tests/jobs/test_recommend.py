"""`tailwise recommend`: lists of every user of a finished run, whatever interrupts it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tailwise import cli, jobs
from tailwise.errors import ConfigError, DataError
from tailwise.evaluation import Rankings, check_lists, encode_lists, evaluate_variant, read_lists
from tailwise.interactions import training_histories
from tailwise.jobs import _list_parts, _recommend
from tailwise.jobs._run_data import load_run_data
from tailwise.recommenders import ItemKNN, MostPopular, load_recommender, recommend
from tailwise.reports import read_metrics
from tailwise.segments import segment_items

from .builders import tiny_config

pytestmark = pytest.mark.usefixtures("tailwise_cache")

SETTINGS = ("variants=[{name='adamw'}]", "training.max_epochs=1", "training.checkpoint_seconds=60")
VARIANTS = {"most-popular": "most-popular", "item-knn": "item-knn", "adamw": "adamw/seed-0"}


@pytest.fixture(scope="module")
def run(tiny_log, tiny_model, session_cache, tmp_path_factory) -> Path:
    """A finished run under global time: some users have no training row, some no test row."""
    out = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAILWISE_CACHE", str(session_cache))
        jobs.run(tiny_config(tiny_log.interactions, tiny_log.items, tiny_model, *SETTINGS), out, quiet=True)
    return out


@pytest.fixture(scope="module")
def data(run):
    return load_run_data(run / "data")


@pytest.fixture(scope="module")
def recommenders(run, data):
    return {
        "most-popular": MostPopular(data.counts),
        "item-knn": ItemKNN(data.training_histories(), data.n_items),
        "adamw": load_recommender(run / "adamw" / "seed-0" / "model"),
    }


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(_recommend, "PART_USERS", 16)  # 60 users: four parts


def histories_of(data, history="all"):
    """user_id -> items, oldest first, from whole tables."""
    parts = {
        "all": ("train", "validation", "test"),
        "before-test": ("train", "validation"),
        "train": ("train",),
    }
    tables = [getattr(data.split, part) for part in parts[history]]
    found = {}
    for user, item in pl.concat(tables).select("user_id", "item_index").iter_rows():
        found.setdefault(user, []).append(item)
    return dict(sorted(found.items()))


def make(run, out, variant="most-popular", **arguments):
    return jobs.recommend(run, variant, out, **({"k": 5, "quiet": True} | arguments))


def lists_of(file):
    rows = pl.read_parquet(file).group_by("user_id", maintain_order=True).agg("item_id", "rank", "score")
    return {user: (items, ranks, scores) for user, items, ranks, scores in rows.iter_rows()}


@pytest.mark.parametrize(
    ("history", "batch_size"), [("all", 1), ("all", 256), ("before-test", 7), ("train", 256)]
)
def test_lists_are_those_of_recommend_user_by_user(run, recommenders, tmp_path, history, batch_size):
    made = make(run, tmp_path / "l.parquet", "adamw", batch_size=batch_size, history=history)
    data = load_run_data(run / "data")
    ids = data.catalogue.items["item_id"].to_list()
    expected = histories_of(data, history)
    found = lists_of(made.path)
    assert list(found) == list(expected)  # every user with a history, in order
    for user, items in expected.items():
        (best,) = recommend(recommenders["adamw"], [items], k=5)
        listed, ranks, _ = found[user]
        assert listed == [ids[i] for i in best]
        assert ranks == [1, 2, 3, 4, 5]


def test_columns_are_text_rank_and_the_models_own_scores(run, data, recommenders, tmp_path):
    table = pl.read_parquet(make(run, tmp_path / "l.parquet", "adamw").path)
    assert table.schema == {
        "user_id": pl.String,
        "item_id": pl.String,
        "rank": pl.Int32,
        "score": pl.Float32,
    }
    index = {item: i for i, item in enumerate(data.catalogue.items["item_id"])}
    for user, items in list(histories_of(data).items())[:10]:
        scores = recommenders["adamw"].scores([items])[0]
        for item, score in table.filter(pl.col("user_id") == user).select("item_id", "score").iter_rows():
            assert score == pytest.approx(
                float(scores[index[item]]), rel=1e-5
            )  # sums in batches of other sizes


@pytest.mark.parametrize("variant", ["most-popular", "item-knn"])
def test_lists_of_references_are_those_of_recommend_up_to_the_order_of_equal_scores(
    run, data, recommenders, tmp_path, variant
):
    made = make(run, tmp_path / "l.parquet", variant, k=30)
    index = {item: i for i, item in enumerate(data.catalogue.items["item_id"])}
    for user, (listed, _, scores) in lists_of(made.path).items():
        history = histories_of(data)[user]
        (best,) = recommend(recommenders[variant], [history], k=30)
        own = recommenders[variant].scores([history])[0]
        assert scores == own[best].tolist()
        assert own[[index[item] for item in listed]].tolist() == scores
        assert len(set(listed)) == len(best)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.usefixtures("small_parts")
def test_lists_read_back_give_the_metrics_of_the_run(run, data, tmp_path, variant):
    made = make(run, tmp_path / "l.parquet", variant, k=data.n_items, history="before-test")
    segments = segment_items(data.counts, trained=data.counts > 0)
    (measured,) = [v for v in read_metrics(run / "metrics.json")["variants"] if v["name"] == variant]
    own = Rankings.load(run / VARIANTS[variant] / "rankings")

    def read_back(lists):
        return encode_lists(lists, data.catalogue, data.split, users="evaluated", list_length=50)

    rankings, checks = read_back(read_lists(made.path))
    assert rankings.lists.equals(own.lists)
    found = evaluate_variant(rankings, segments, n_resamples=100)
    # pop_reo alone looks at hits, and of equal scores the run counts the mean over orders.
    without_hits = [row for row in measured["exposure"] if row["metric"] != "pop_reo"]
    assert [row for row in found["exposure"] if row["metric"] != "pop_reo"] == without_hits
    assert found["exposure_deciles"] == measured["exposure_deciles"]
    assert (checks.n_seen_slots, checks.exclude_seen) == (0, True)
    # Scores alone leave equal ones tied, as the run's own measurement does; lists are complete here.
    by_score, _ = read_back(check_lists(pl.read_parquet(made.path).drop("rank")))
    assert by_score.lists.equals(own.lists)
    assert by_score.targets.equals(own.targets)
    found = evaluate_variant(by_score, segments, n_resamples=100)
    assert found["accuracy"] == measured["accuracy"]
    assert found["exposure"] == measured["exposure"]


def test_short_lists_give_the_exposure_of_the_run_up_to_their_length(run, data, tmp_path):
    made = make(run, tmp_path / "l.parquet", "adamw", k=10, history="before-test")
    rankings, _ = encode_lists(read_lists(made.path), data.catalogue, data.split, users="evaluated")
    segments = segment_items(data.counts, trained=data.counts > 0)
    found = evaluate_variant(rankings, segments, ks=(5, 10), n_resamples=100)["exposure"]
    (measured,) = [v for v in read_metrics(run / "metrics.json")["variants"] if v["name"] == "adamw"]
    assert found
    key = ("metric", "k", "segment", "value")
    values = [[row[name] for name in key] for row in measured["exposure"]]
    assert all([row[name] for name in key] in values for row in found)


def test_lists_made_with_everything_are_refused_for_accuracy(run, data, tmp_path):
    lists = read_lists(make(run, tmp_path / "l.parquet").path)
    with pytest.raises(DataError, match=r"(?s)got history='all'.*--history before-test"):
        encode_lists(lists, data.catalogue, data.split)
    rankings, checks = encode_lists(lists, data.catalogue, data.split, part=None)
    assert rankings.n_users == checks.n_users
    assert checks.n_seen_slots == 0


@pytest.mark.parametrize("history", ["before-test", "train"])
def test_users_without_a_history_get_no_list_and_are_counted(run, data, tmp_path, history):
    everyone, known = histories_of(data), histories_of(data, history)
    assert len(known) < len(everyone)
    made = make(run, tmp_path / "l.parquet", history=history)
    assert made.made_with["n_users_without_history"] == len(everyone) - len(known)
    assert made.made_with["n_users"] == len(known) == pl.read_parquet(made.path)["user_id"].n_unique()


def test_seen_items_are_left_out_unless_asked_for(run, data, tmp_path):
    index = {item: i for i, item in enumerate(data.catalogue.items["item_id"])}
    histories = histories_of(data)

    def n_seen(file):
        rows = pl.read_parquet(file).select("user_id", "item_id").iter_rows()
        return sum(index[item] in histories[user] for user, item in rows)

    assert n_seen(make(run, tmp_path / "a.parquet").path) == 0
    made = make(run, tmp_path / "b.parquet", include_seen=True)
    assert n_seen(made.path) > 0
    assert made.made_with["exclude_seen"] is False


def test_where_the_run_keeps_repeats_seen_items_are_recommended_as_it_measures(run, tmp_path):
    again = tmp_path / "run"
    shutil.copytree(run, again)
    config = json.loads((again / "config.json").read_text())
    config["data"]["repeats"] = "keep"
    (again / "config.json").write_text(json.dumps(config))
    assert make(again, tmp_path / "a.parquet").made_with["exclude_seen"] is False
    assert make(again, tmp_path / "b.parquet", include_seen=False).made_with["exclude_seen"] is True


def test_a_list_is_shorter_where_a_user_has_seen_the_rest(run, data, tmp_path):
    made = make(run, tmp_path / "l.parquet", k=data.n_items)
    found = lists_of(made.path)
    for user, history in histories_of(data).items():
        items, ranks, _ = found[user]
        assert len(items) == data.n_items - len(set(history))
        assert ranks == list(range(1, len(items) + 1))


def test_lists_can_be_made_for_some_users_alone(run, tmp_path):
    everyone = lists_of(make(run, tmp_path / "all.parquet", "adamw").path)
    chosen = list(everyone)[5::7]
    for name, write in (("csv", "write_csv"), ("parquet", "write_parquet")):
        table = pl.DataFrame({"user_id": [*chosen[::-1], chosen[0]], "why": "asked"})
        getattr(table, write)(tmp_path / f"users.{name}")
        made = make(run, tmp_path / f"{name}.parquet", "adamw", users=tmp_path / f"users.{name}")
        found = lists_of(made.path)
        assert list(found) == chosen
        assert {user: items for user, (items, _, _) in found.items()} == {
            user: everyone[user][0] for user in chosen
        }
        assert made.made_with["n_users"] == len(chosen)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("user_id\nu01\neve\nmallory\n", r"got 2 others among 3 \(first: 'eve', 'mallory'\)"),
        ("user_id\n", "--users must name a user; got none in"),
        ("user\nu01\n", r"must have a column 'user_id'"),
        (None, "--users must be 'all' or a file; got"),
    ],
)
def test_users_who_are_not_in_the_run_are_refused_by_name(run, tmp_path, content, message):
    if content is not None:
        (tmp_path / "users.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        make(run, tmp_path / "l.parquet", users=tmp_path / "users.csv")
    assert not (tmp_path / "l.parquet.parts").exists()


def test_a_model_wants_some_user_with_a_history(run, data, tmp_path):
    late = set(histories_of(data)) - set(histories_of(data, "train"))
    pl.DataFrame({"user_id": sorted(late)}).write_csv(tmp_path / "users.csv")
    with pytest.raises(DataError, match=rf"got none among {len(late)} in train"):
        make(run, tmp_path / "l.parquet", users=tmp_path / "users.csv", history="train")


def test_the_file_says_how_it_was_made(run, tmp_path):
    made = make(run, tmp_path / "l.parquet", "adamw", history="train", k=3)
    told = read_lists(made.path).made_with
    assert told == made.made_with
    wanted = {"variant": "adamw", "seed": 0, "history": "train", "k": 3, "exclude_seen": True, "users": "all"}
    assert {name: told[name] for name in wanted} == wanted
    assert told["n_rows"] == pl.read_parquet(made.path).height
    assert told["data_checksum"] == read_metrics(run / "metrics.json")["data"]["checksum"]
    assert told["model"] is not None
    assert told["run"] == "run"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"variant": "eisma"}, ConfigError, "--variant must be one of the run's adamw, .*; got 'eisma'"),
        ({"variant": "adamw", "seed": 3}, ConfigError, "--seed must be one of the run's 0; got 3"),
        ({"seed": 0}, ConfigError, "--seed must be left out for most-popular, which has none; got 0"),
        ({"k": 0}, ConfigError, r"--k must be in 1\.\.40, the size of the catalogue; got 0"),
        ({"k": 41}, ConfigError, r"--k must be in 1\.\.40, the size of the catalogue; got 41"),
        ({"batch_size": 0}, ConfigError, "--batch-size must be >= 1; got 0"),
        ({"history": "test"}, ConfigError, "--history must be one of all, before-test, train; got 'test'"),
        ({"device": "tpu"}, Exception, "tpu"),
    ],
)
def test_an_argument_that_does_not_fit_the_run_is_refused_by_name(run, tmp_path, arguments, error, message):
    variant = arguments.pop("variant", "most-popular")
    with pytest.raises(error, match=message):
        make(run, tmp_path / "l.parquet", variant, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_where_lists_cannot_go_is_refused(run, tmp_path):
    with pytest.raises(ConfigError, match=r"--out must end in \.parquet; got '.*lists\.csv'"):
        make(run, tmp_path / "lists.csv")
    (tmp_path / "l.parquet").mkdir()
    with pytest.raises(ConfigError, match=r"--out must be a file; got '.*l\.parquet', which is a folder"):
        make(run, tmp_path / "l.parquet")


def test_an_unfinished_variant_and_a_folder_without_a_run_are_refused(run, tmp_path):
    again = tmp_path / "run"
    shutil.copytree(run, again)
    (again / "adamw" / "seed-0" / "record.json").unlink()
    with pytest.raises(DataError, match=r"(?s)variant must be finished; got 'adamw', seed 0.*--resume"):
        make(again, tmp_path / "l.parquet", "adamw")
    make(again, tmp_path / "l.parquet", "most-popular")
    (again / "data" / "summary.json").unlink()
    with pytest.raises(DataError, match="run must hold its data"):
        make(again, tmp_path / "m.parquet")
    with pytest.raises(DataError, match="run must be a folder that `tailwise run --out` made"):
        make(tmp_path, tmp_path / "l.parquet")


def test_the_first_seed_is_taken_unless_another_is_named(run, tmp_path):
    again = tmp_path / "run"
    shutil.copytree(run, again)
    config = json.loads((again / "config.json").read_text())
    (again / "config.json").write_text(json.dumps(config | {"seeds": [4, 0]}))
    shutil.copytree(again / "adamw" / "seed-0", again / "adamw" / "seed-4")
    assert make(again, tmp_path / "a.parquet", "adamw").made_with["seed"] == 4
    assert make(again, tmp_path / "b.parquet", "adamw", seed=0).made_with["seed"] == 0


# What is there already


def test_the_same_call_again_does_nothing(run, tmp_path, monkeypatch):
    first = make(run, tmp_path / "l.parquet", "adamw")
    before = (tmp_path / "l.parquet").stat().st_mtime_ns
    monkeypatch.setattr(_recommend, "load_finished", None)
    again = make(run, tmp_path / "l.parquet", "adamw", batch_size=3)  # decides nothing
    assert (first.is_new, again.is_new) == (True, False)
    assert again.made_with == first.made_with
    assert (tmp_path / "l.parquet").stat().st_mtime_ns == before
    assert [p.name for p in tmp_path.iterdir()] == ["l.parquet"]


def test_other_lists_and_other_files_are_replaced_on_request_alone(run, tmp_path):
    make(run, tmp_path / "l.parquet", k=5)
    with pytest.raises(ConfigError, match=r"which holds lists of other k, variant\. Pass --overwrite"):
        make(run, tmp_path / "l.parquet", "item-knn", k=4)
    assert make(run, tmp_path / "l.parquet", "item-knn", k=4, overwrite=True).made_with["k"] == 4
    (tmp_path / "t.parquet").write_text("a thesis")
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "other.parquet")
    for name in ("t.parquet", "other.parquet"):
        with pytest.raises(ConfigError, match=r"which holds something else\. Pass --overwrite"):
            make(run, tmp_path / name)
        assert make(run, tmp_path / name, overwrite=True).is_new


def test_lists_of_another_model_of_the_same_name_are_other_lists(run, tmp_path):
    again = tmp_path / "run"
    shutil.copytree(run, again)
    make(again, tmp_path / "l.parquet", "adamw")
    weights = again / "adamw" / "seed-0" / "model" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ConfigError, match="which holds lists of other model"):
        make(again, tmp_path / "l.parquet", "adamw")


# Interruptions


class Killed(BaseException):
    """Stands for a SIGKILL at a moment of our choice: nothing catches it."""


def kill_at(monkeypatch, call, moment):
    """Die at the ``call``-th file that is put into its place: before, with half of it written, or after."""
    original, calls = _list_parts._replace, []

    def replace(temporary, file, write):
        calls.append(file.name)
        if len(calls) != call:
            return original(temporary, file, write)
        if moment == "half":
            write(temporary)
            temporary.write_bytes(temporary.read_bytes()[: temporary.stat().st_size // 2])
        if moment == "after":
            original(temporary, file, write)
        raise Killed

    monkeypatch.setattr(_list_parts, "_replace", replace)
    return calls


@pytest.mark.parametrize("moment", ["before", "half", "after"])
@pytest.mark.parametrize("call", range(1, 6))
@pytest.mark.usefixtures("small_parts")
def test_killed_at_any_file_it_goes_on_and_ends_bitwise_alike(run, tmp_path, monkeypatch, call, moment):
    whole = make(run, tmp_path / "whole.parquet").path
    with monkeypatch.context() as patch:
        kill_at(patch, call, moment)
        with pytest.raises(Killed):
            make(run, tmp_path / "l.parquet")
    with monkeypatch.context() as patch:
        written = kill_at(patch, -1, "never")
        made = make(run, tmp_path / "l.parquet")
    n_kept = call if moment == "after" else call - 1
    assert len(written) == 5 - n_kept  # four parts and the whole; what was finished is not made again
    assert made.is_new is (n_kept < 5)
    assert made.path.read_bytes() == whole.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["l.parquet", "whole.parquet"]


def test_killed_again_and_again_a_models_lists_end_bitwise_alike(run, tmp_path, monkeypatch):
    monkeypatch.setattr(_recommend, "PART_USERS", 7)
    whole = make(run, tmp_path / "whole.parquet", "adamw").path
    for moment in ("half", "after", "before", "half"):
        with monkeypatch.context() as patch:
            kill_at(patch, 2, moment)
            with pytest.raises(Killed):
                make(run, tmp_path / "l.parquet", "adamw", batch_size=256)
    assert make(run, tmp_path / "l.parquet", "adamw").path.read_bytes() == whole.read_bytes()


_KILLED = """
import os, signal, sys
from tailwise import cli
from tailwise.jobs import _recommend
_recommend.PART_USERS = 16
flush, calls = os.fsync, []
def die(file):
    calls.append(file)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)  # the third part is written and not yet in its place
    flush(file)
os.fsync = die
cli.main(sys.argv[1:])
"""


@pytest.mark.usefixtures("small_parts")
def test_a_killed_process_leaves_whole_parts_and_the_next_one_goes_on(run, tmp_path, monkeypatch):
    arguments = ["recommend", str(run), "--variant=most-popular", "--k=5", "--quiet"]
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", _KILLED, *arguments, f"--out={tmp_path / 'l.parquet'}"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == -signal.SIGKILL, finished.stderr[-2000:]
    left = sorted(p.name for p in (tmp_path / "l.parquet.parts").iterdir())
    assert left == [
        ".lock",
        ".part-00002.parquet.tmp",
        "part-00000.parquet",
        "part-00001.parquet",
        "settings.json",
    ]
    assert not (tmp_path / "l.parquet").exists()
    written = kill_at(monkeypatch, -1, "never")
    made = make(run, tmp_path / "l.parquet")
    assert written == ["part-00002.parquet", "part-00003.parquet", "l.parquet"]
    assert made.path.read_bytes() == make(run, tmp_path / "whole.parquet").path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["l.parquet", "whole.parquet"]


@pytest.fixture
def unfinished(run, tmp_path, monkeypatch):
    monkeypatch.setattr(_recommend, "PART_USERS", 16)
    with monkeypatch.context() as patch:
        kill_at(patch, 3, "before")
        with pytest.raises(Killed):
            make(run, tmp_path / "l.parquet")
    return tmp_path / "l.parquet"


def test_parts_of_other_settings_are_refused_by_name_and_dropped_on_request(run, unfinished, tmp_path):
    with pytest.raises(ConfigError, match=r"got other values of k\. Repeat that command to finish them"):
        make(run, unfinished, k=6)
    whole = make(run, tmp_path / "whole.parquet", k=6).path
    assert make(run, unfinished, k=6, overwrite=True).path.read_bytes() == whole.read_bytes()
    assert not unfinished.with_name("l.parquet.parts").exists()


def test_parts_without_settings_are_not_trusted(run, unfinished, monkeypatch):
    (unfinished.with_name("l.parquet.parts") / "settings.json").unlink()
    written = kill_at(monkeypatch, -1, "never")
    make(run, unfinished)
    assert len(written) == 5


def test_refused_settings_leave_the_unfinished_parts_alone(run, unfinished, monkeypatch):
    with pytest.raises(ConfigError):
        make(run, unfinished, "item-knn")
    written = kill_at(monkeypatch, -1, "never")
    make(run, unfinished)
    assert len(written) == 3


def test_a_run_that_was_moved_is_the_same_run(run, unfinished, tmp_path, monkeypatch):
    moved = shutil.copytree(run, tmp_path / "elsewhere")
    written = kill_at(monkeypatch, -1, "never")
    assert make(moved, unfinished).made_with["run"] == "elsewhere"
    assert len(written) == 3


def test_a_damaged_part_is_made_again(run, unfinished, tmp_path):
    part = unfinished.with_name("l.parquet.parts") / "part-00001.parquet"
    part.write_bytes(part.read_bytes()[:-9])
    whole = make(run, tmp_path / "whole.parquet").path
    assert make(run, unfinished).path.read_bytes() == whole.read_bytes()


def test_files_of_others_among_the_parts_are_refused_and_stay(run, unfinished):
    other = unfinished.with_name("l.parquet.parts") / "part-time.txt"
    other.write_text("mine")
    with pytest.raises(ConfigError, match=r"must hold parts of lists alone; got 'part-time\.txt'"):
        make(run, unfinished)
    assert other.read_text() == "mine"


def test_a_file_that_another_process_makes_is_refused(run, unfinished):
    from filelock import FileLock

    with (
        FileLock(unfinished.with_name("l.parquet.parts") / ".lock"),
        pytest.raises(ConfigError, match=r"--out must be free; got .* another process is at work"),
    ):
        make(run, unfinished)


def test_scores_that_are_no_numbers_end_the_job_with_the_users_place(run, tmp_path, monkeypatch):
    nan = MostPopular(np.zeros(40))
    nan._scores[3] = float("nan")
    monkeypatch.setattr(_recommend, "load_finished", lambda *_: nan)
    with pytest.raises(DataError, match="scores must be finite or -inf; got 1 NaN"):
        make(run, tmp_path / "l.parquet")


# The command


@pytest.fixture
def command(capsys):
    def call(*arguments):
        status = 0
        try:
            cli.main([str(a) for a in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, " ".join(captured.err.split())

    return call


def test_the_command_prints_the_file_and_tells_what_histories_were_used(run, tmp_path, command):
    out = tmp_path / "new" / "l.parquet"
    flags = ["--variant=most-popular", "--k=3", "--history=before-test", f"--out={out}"]
    status, text, told = command("recommend", run, *flags)
    assert (status, "".join(text.split())) == (0, str(out))
    assert "histories: train + validation; their items: left out" in told
    assert "users without a history get no list" in told
    assert command("recommend", run, *flags, "--quiet") == (0, f"{out}\n", "")
    status, _, told = command("recommend", run, *flags)
    assert "holds these lists already" in told
    flags[1] = "--k=4"
    status, _, error = command("recommend", run, *flags)
    assert status == 1
    assert error.startswith("ConfigError: --out must be a new file")
    assert command("recommend", run, *flags, "--overwrite", "--include-seen", "--quiet")[0] == 0
    assert read_lists(out).made_with["exclude_seen"] is False


def test_ctrl_c_ends_with_the_shells_status_and_says_that_the_same_command_goes_on(
    run, tmp_path, command, monkeypatch
):
    monkeypatch.setattr(_recommend, "PART_USERS", 16)
    original, calls = _list_parts.ListParts.write, []

    def stop(*arguments):
        original(*arguments)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    flags = ["--variant=most-popular", f"--out={tmp_path / 'l.parquet'}", "--quiet"]
    with monkeypatch.context() as patch:
        patch.setattr(_list_parts.ListParts, "write", stop)
        status, text, error = command("recommend", run, *flags)
    assert (status, text) == (130, "")
    assert "stopped; the lists of 32 of 60 users are kept" in error
    assert error.endswith("Go on with the same command.")
    assert command("recommend", run, *flags)[0] == 0


def test_histories_read_by_parts_are_those_of_the_split(run, data):
    from tailwise.jobs._run_folder import RunFolder
    from tailwise.jobs._stored_histories import StoredData

    stored = StoredData.of(RunFolder(run), "train")
    users, expected = training_histories(data.split)
    found = [stored.read_users(range(start, min(start + 9, 60))) for start in range(0, 60, 9)]
    assert np.concatenate([part.indices for part in found]).tolist() == users.tolist()
    assert all(
        np.array_equal(a, b)
        for a, b in zip((h for part in found for h in part.histories), expected, strict=True)
    )
