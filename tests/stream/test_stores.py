"""Contract of every user store, and the local store among processes that die."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.drivers import open_store
from stream.logs import OwnershipLost
from stream.stores import StoreWatermark, UserStore
from stream.testing import MemoryStore

ROOT = Path(__file__).resolve().parents[2]
TOP = 2**64 - 1


@pytest.fixture(params=["local", "memory", "redis", "redis cluster"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[UserStore]:
    if request.param == "memory":
        user_store: UserStore = MemoryStore()
    elif request.param.startswith("redis"):
        url = request.getfixturevalue(f"{request.param.replace(' ', '_')}_url")
        user_store = open_store(url, f"{uuid4()}.")
    else:
        user_store = open_store(f"local:{tmp_path / 'store'}")
    yield user_store
    user_store.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def make_keys(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint64)


def test_stored_values_are_returned(store: UserStore) -> None:
    store.put_many(make_keys(1, 2**63, TOP), [b"a", b"", b"c" * 100_000])

    assert [store.get(key) for key in (1, 2**63, TOP, 7)] == [b"a", b"", b"c" * 100_000, None]


def test_get_many_keeps_the_order_of_the_keys(store: UserStore) -> None:
    store.put_many(make_keys(1, 2, 3), [b"a", b"b", b"c"])

    assert store.get_many(make_keys(3, 9, 1, 3)) == [b"c", None, b"a", b"c"]
    assert store.get_many(make_keys()) == []


def test_later_value_replaces_an_earlier_one(store: UserStore) -> None:
    store.put_many(make_keys(1, 1), [b"a", b"bb"])
    first = store.get(1)
    store.put_many(make_keys(1), [b""])

    assert (first, store.get(1), store.count()) == (b"bb", b"", 1)


def test_delete_many_removes_the_keys(store: UserStore) -> None:
    store.put_many(make_keys(1, 2, 3), [b"a", b"b", b"c"])
    store.delete_many(make_keys(2, 77, 0))
    store.delete_many(make_keys())

    assert (store.get(2), store.count(), [key for key, _ in store.scan()]) == (None, 2, [1, 3])


def test_deleted_key_can_be_stored_again(store: UserStore) -> None:
    store.put_many(make_keys(1), [b"a"])
    store.delete_many(make_keys(1))
    store.put_many(make_keys(1), [b"b"])

    assert (store.get(1), store.count()) == (b"b", 1)


def test_scan_returns_keys_in_order(store: UserStore) -> None:
    numbers = np.random.default_rng(0).integers(1, TOP, 12_000, dtype=np.uint64)
    store.put_many(numbers, [b"%d" % number for number in numbers.tolist()])

    assert list(store.scan()) == [(number, b"%d" % number) for number in sorted(numbers.tolist())]


def test_key_zero_is_rejected(store: UserStore) -> None:
    with pytest.raises(ValueError, match="key 0 means no id"):
        store.put_many(make_keys(1, 0), [b"a", b"b"])
    assert (store.count(), store.get(0)) == (0, None)


def test_each_key_needs_a_value(store: UserStore) -> None:
    with pytest.raises(ValueError, match="expected one value per key, got 2 keys and 1 values"):
        store.put_many(make_keys(1, 2), [b"a"])
    assert store.count() == 0


def test_watermarks_are_stored_together_with_the_values(store: UserStore) -> None:
    store.put_many(make_keys(1), [b"a"], [StoreWatermark(0, "", "10"), StoreWatermark(3, "", "7")])
    store.put_many(make_keys(), [], [StoreWatermark(0, "10", "20")])

    assert [store.watermark(partition) for partition in (0, 1, 3)] == ["20", "", "7"]
    assert (store.get(1), store.count(), [key for key, _ in store.scan()]) == (b"a", 1, [1])


@pytest.mark.parametrize("before", ["", "9", "20"])
def test_writer_that_lost_ownership_writes_nothing(store: UserStore, before: str) -> None:
    store.put_many(make_keys(1), [b"a"], [StoreWatermark(0, "", "5"), StoreWatermark(1, "", "10")])

    with pytest.raises(OwnershipLost, match="has partition 1 at '10', expected"):
        store.put_many(make_keys(1, 2), [b"b", b"b"], [StoreWatermark(0, "5", "6"), StoreWatermark(1, before, "20")])
    assert [store.watermark(partition) for partition in (0, 1)] == ["5", "10"]
    assert (store.get(1), store.count()) == (b"a", 1)


def test_keys_other_than_uint64_are_rejected(store: UserStore) -> None:
    with pytest.raises(TypeError, match="keys must be uint64, got int64"):
        store.put_many(np.array([1]), [b"a"])


@pytest.mark.parametrize("url", ["", "file:/x", "local:"])
def test_unknown_url_error_names_the_expected_form(url: str) -> None:
    with pytest.raises(ValueError, match="store URL must"):
        open_store(url)


PUT = st.dictionaries(st.integers(1, 12), st.binary(max_size=5), min_size=1)
STEPS = st.lists(PUT | st.frozensets(st.integers(1, 12), min_size=1), max_size=12)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_store_behaves_like_a_dictionary(store: UserStore, steps: list[dict[int, bytes] | frozenset[int]]) -> None:
    store.delete_many(make_keys(*range(1, 13)))
    expected: dict[int, bytes] = {}
    for step in steps:
        if isinstance(step, dict):
            store.put_many(make_keys(*step), list(step.values()))
            expected |= step
        else:
            store.delete_many(make_keys(*step))
            expected = {key: value for key, value in expected.items() if key not in step}

    assert dict(store.scan()) == expected
    assert store.count() == len(expected)


def test_threads_share_a_store(store: UserStore) -> None:
    def write(first: int) -> None:
        for i in range(30):
            store.put_many(make_keys(first, 1000 + i), [b"%d" % i, b"x"])

    writers = [threading.Thread(target=write, args=(first,)) for first in (1, 2, 3)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        store.get_many(make_keys(1, 2, 3, 1000))
    for writer in writers:
        writer.join()

    assert store.get_many(make_keys(1, 2, 3)) == [b"29"] * 3
    assert store.count() == 33


# The local driver


def test_stored_values_persist_after_reopening(folder: Path) -> None:
    first = open_store(f"local:{folder}")
    first.put_many(make_keys(1, 2), [b"a", b"b"])
    first.delete_many(make_keys(2))
    first.close()
    second = open_store(f"local:{folder}")

    assert list(second.scan()) == [(1, b"a")]
    second.close()


def test_prefixes_in_one_folder_are_isolated(folder: Path) -> None:
    stores = [open_store(f"local:{folder}", prefix) for prefix in ("", "b.")]
    stores[0].put_many(make_keys(1), [b"a"])

    assert [store.get(1) for store in stores] == [b"a", None]
    for store in stores:
        store.close()


def test_old_values_are_cleaned_and_other_readers_follow(folder: Path) -> None:
    writer, reader, late = (open_store(f"local:{folder}") for _ in range(3))
    cold = np.arange(1, 3001, dtype=np.uint64)
    hot = np.arange(10_000, 10_500, dtype=np.uint64)
    writer.put_many(cold, [b"%d" % key for key in cold.tolist()])
    writer.put_many(make_keys(5000, 5001), [b"to be deleted", b"stays"])
    assert late.count() == 3002
    writer.delete_many(make_keys(5000))
    for version in range(200):
        writer.put_many(hot, [b"%d" % version * 50] * 500)
        assert reader.get(10_007) == b"%d" % version * 50
    values = [b"%d" % key for key in cold.tolist()]

    assert (folder / "users.store.db").stat().st_size < 200 * 500 * 50
    for store in (writer, reader, late):
        assert (store.get(5000), store.get(5001), store.count()) == (None, b"stays", 3501)
        assert store.get_many(cold) == values
        store.close()


def test_store_file_that_is_replaced_while_in_use_is_refused(folder: Path) -> None:
    store, keys = open_store(f"local:{folder}"), np.array([7], np.uint64)
    store.put_many(keys, [b"old"])
    for path in folder.iterdir():
        path.unlink()
    open_store(f"local:{folder}").close()  # as another process does
    for use in (lambda: store.get(7), lambda: store.get_many(keys), lambda: store.watermark(0)):
        with pytest.raises(OSError, match="moved, deleted or replaced while it is in use"):
            use()
    store.close()


def test_two_writers_may_share_a_folder(folder: Path) -> None:
    stores = [open_store(f"local:{folder}") for _ in range(2)]
    for round_ in range(60):
        for writer, store in enumerate(stores):
            store.put_many(np.arange(1, 301, dtype=np.uint64), [b"%d-%d" % (round_, writer)] * 300)

    for store in stores:
        assert set(store.get_many(np.arange(1, 301, dtype=np.uint64))) == {b"59-1"}
        assert store.count() == 300
        store.close()


def test_kill_9_keeps_acknowledged_writes_and_no_partial_write(folder: Path) -> None:
    script = (
        "import sys\nimport numpy as np\nfrom stream.drivers import open_store\n"
        "store = open_store('local:' + sys.argv[1])\nkeys = np.arange(1, 2501, dtype=np.uint64)\n"
        "for i in range(int(sys.argv[2]), 10**6):\n"
        "    store.put_many(keys, [b'%d' % i] * 2500)\n    print(i, flush=True)\n"
    )
    last = 0
    for life in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", script, str(folder), str(last + 1)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as writer:
            assert writer.stdout is not None
            for _ in range(3 + 9 * life):
                line = writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)
            last = max([int(line), *(int(rest) for rest in writer.stdout if rest.endswith("\n"))])
        store = open_store(f"local:{folder}")
        (value,) = set(store.get_many(np.arange(1, 2501, dtype=np.uint64)))
        store.close()
        assert int(value or b"-1") in (last, last + 1)
        last += 1


def test_corrupt_store_error_shows_the_fix(folder: Path) -> None:
    folder.mkdir()
    (folder / "users.store.db").write_bytes(b"not a database" * 1000)

    with pytest.raises(OSError, match=r"damaged.*restore.*users\.store\.db"):
        open_store(f"local:{folder}")
