"""Pinned files have the content of one moment, however long the copy takes."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.local.snapshot import pin_files
from stream.local.sqlite import SQLiteDatabase

SCHEMA = ("CREATE TABLE counters (value INTEGER)", "INSERT INTO counters VALUES (0)")


@pytest.fixture
def databases(tmp_path: Path) -> Iterator[list[SQLiteDatabase]]:
    databases = [SQLiteDatabase(tmp_path / f"{name}.db", SCHEMA, 1, 4096) for name in "ab"]
    yield databases
    for database in databases:
        database.close()


def increment(database: SQLiteDatabase) -> None:
    with database.write_transaction() as db:
        db.execute("UPDATE counters SET value = value + 1")


def read(path: Path) -> int:
    database = SQLiteDatabase(path, (), 1, 4096)
    ((value,),) = database.reader.fetch_all("SELECT value FROM counters")
    database.close()
    return int(value)


def test_copies_lack_what_is_written_after_the_moment(databases: list[SQLiteDatabase], tmp_path: Path) -> None:
    for database in databases:
        increment(database)
    with pin_files([database.path for database in databases], lambda: "inspected") as (pinned, inspection):
        for database in databases:
            increment(database)  # no lock is left
            pinned.copy(database.path, tmp_path / f"copy-{database.path.name}")

    assert inspection == "inspected"
    assert [read(tmp_path / f"copy-{name}.db") for name in "ab"] == [1, 1]
    assert [read(database.path) for database in databases] == [2, 2]
    assert not list(tmp_path.glob("copy-*-wal"))


def test_no_file_can_change_during_the_inspection(databases: list[SQLiteDatabase]) -> None:
    first, _ = databases
    writer = threading.Thread(target=increment, args=(first,))

    def inspect() -> bool:
        writer.start()
        writer.join(timeout=0.1)
        return writer.is_alive()

    with pin_files([database.path for database in databases], inspect) as (pinned, is_waiting):
        writer.join()

        assert is_waiting
        assert pinned.fetch_all(first.path, "SELECT value FROM counters") == [(0,)]


def test_files_written_in_turn_agree_in_every_snapshot(databases: list[SQLiteDatabase]) -> None:
    """A second file is written after the first one, so it is never ahead."""
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for database in databases:
                increment(database)

    writer = threading.Thread(target=write)
    writer.start()
    differences = set()
    for _ in range(50):
        with pin_files([database.path for database in databases], lambda: None) as (pinned, _):
            (a,), (b,) = (pinned.fetch_all(d.path, "SELECT value FROM counters")[0] for d in databases)
            differences.add(a - b)
    stop.set()
    writer.join()

    assert differences <= {0, 1}
