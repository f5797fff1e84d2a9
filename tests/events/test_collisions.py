"""Several workers that write the same rows at the same moment."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tailwise.events._database import COLLISIONS, TRIES, Database
from tailwise.events._insert import insert
from tailwise.events._rows import row_of_event, row_of_list
from tests.events.making import NOON, event, served, stored
from tests.postgres import PostgresServer


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.new_schema()


@pytest.fixture
def databases(url: str) -> Iterator[tuple[Database, Database]]:
    both = Database(url), Database(url)
    both[0].migrate()
    yield both
    for database in both:
        database.close()


def together(*works: Callable[[], None]) -> list[BaseException]:
    """Run each in a thread; what they raised."""
    raised: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return raised


def put(connection: Connection, names: Sequence[str], lists: Iterable[int] = ()) -> int:
    """Insert events and lists in this order; how many events were new."""
    events = [row_of_event(event(name), NOON) for name in names]
    return len(insert(connection, events, [row_of_list(served(number)) for number in lists]).fresh)


def wait_until_waiting(url: str, n: int) -> None:
    """Wait until so many transactions wait for another one's."""
    watcher = Database(url)
    last = time.monotonic() + 10
    with watcher.reading(None) as connection:
        while (
            connection.exec_driver_sql(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
            ).scalar_one()
            < n
        ):
            assert time.monotonic() < last
            time.sleep(0.01)
    watcher.close()


@pytest.mark.parametrize("kind", ["events", "lists"])
def test_two_workers_with_the_same_rows_in_opposite_orders_do_not_deadlock(
    databases: tuple[Database, Database], url: str, kind: str
) -> None:
    """Without a second try, so the order has to be enough; a third holds the middle row until both wait."""
    order = ["1", "2", "3"]

    def put_in(connection: Connection, names: list[str]) -> None:
        put(connection, names if kind == "events" else [], map(int, names) if kind == "lists" else ())

    def write(database: Database, names: list[str]) -> None:
        with database.writing() as connection:
            put_in(connection, names)

    def hold_the_middle_row() -> None:
        third = Database(url)
        with third.writing() as connection:
            put_in(connection, ["2"])
            is_held.set()
            wait_until_waiting(url, 2)
        third.close()

    is_held = threading.Event()

    def after_the_third(database: Database, names: list[str]) -> None:
        assert is_held.wait(10)
        write(database, names)

    raised = together(
        hold_the_middle_row,
        lambda: after_the_third(databases[0], order),
        lambda: after_the_third(databases[1], order[::-1]),
    )
    assert raised == []
    with databases[0].reading() as connection:
        assert connection.exec_driver_sql(f"SELECT count(*) FROM {kind}").scalar_one() == 3


def test_the_one_that_a_deadlock_ends_tries_again_and_both_succeed(
    databases: tuple[Database, Database], url: str
) -> None:
    meet = threading.Barrier(2)
    n_tries = {"a": 0, "b": 0}

    def write(database: Database, who: str, first: str, second: str) -> None:
        def work(connection: Connection) -> None:
            n_tries[who] += 1
            put(connection, [first])
            if n_tries[who] == 1:
                meet.wait(20)  # each holds what the other is about to ask for
            put(connection, [second])

        database.write(work)

    raised = together(
        lambda: write(databases[0], "a", "e1", "e2"), lambda: write(databases[1], "b", "e2", "e1")
    )
    assert raised == []
    assert sum(n_tries.values()) >= 3  # more where the one that was ended is quicker to come again
    assert sorted(stored(url)["event_id"]) == ["e1", "e2"]


@pytest.mark.parametrize("code", COLLISIONS)
def test_a_collision_that_never_ends_is_given_up(databases: tuple[Database, Database], code: str) -> None:
    n_tries = 0

    def work(connection: Connection) -> None:
        nonlocal n_tries
        n_tries += 1
        connection.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{code}'; END $$")

    with pytest.raises(sa.exc.DBAPIError):
        databases[0].write(work)
    assert n_tries == TRIES


def test_another_error_is_not_tried_again(databases: tuple[Database, Database]) -> None:
    n_tries = 0

    def work(connection: Connection) -> None:
        nonlocal n_tries
        n_tries += 1
        connection.exec_driver_sql("SELECT 1 / 0")

    with pytest.raises(sa.exc.DBAPIError):
        databases[0].write(work)
    assert n_tries == 1
