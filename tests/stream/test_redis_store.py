"""What only Redis does: it is started again, runs full, asks for passwords, follows another one. See test_stores."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stream.logs import Overtaken
from stream.stores import Mark, UserStore, open_store
from tests.conftest import made
from tests.services import Redis, free_ports


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    service = made(lambda: Redis(tmp_path / "redis"))
    service.start()
    yield service
    service.stop()


@pytest.fixture
def store(redis: Redis) -> Iterator[UserStore]:
    opened = open_store(redis.url)
    yield opened
    opened.close()


def keys(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint64)


def order(redis: Redis, *words: str) -> str:
    """What Redis answers to a command of an administrator."""
    with socket.create_connection(("127.0.0.1", redis.port), timeout=5) as talk:
        talk.sendall(" ".join(words).encode() + b"\r\n")
        return talk.recv(4096).decode()


def test_reading_goes_on_after_a_restart(redis: Redis, store: UserStore) -> None:
    store.put_many(keys(1), [b"a"])
    redis.kill()
    redis.start()

    assert store.get(1) is None
    assert store.get_many(keys(1, 2)) == [None, None]


def test_a_restart_that_lost_everything_shows_at_the_next_write(redis: Redis, store: UserStore) -> None:
    store.put_many(keys(1), [b"a"], [Mark(0, "", "1")])
    redis.kill()
    redis.start()

    with pytest.raises(Overtaken, match="has partition 0 at '', not at '1'"):
        store.put_many(keys(2), [b"b"], [Mark(0, "1", "2")])
    assert (store.mark(0), store.count()) == ("", 0)


def test_a_write_whose_answer_was_lost_is_not_taken_for_somebody_elses(store: UserStore) -> None:
    for _ in range(2):
        store.put_many(keys(1), [b"a"], [Mark(0, "", "1")])

    assert (store.get(1), store.mark(0)) == (b"a", "1")


def test_a_redis_that_is_away_is_named_with_its_mend(redis: Redis, store: UserStore) -> None:
    redis.kill()
    begin = time.monotonic()

    with pytest.raises(ConnectionError, match=rf"start it, or correct HEADRACE_STORE__URL.*:{redis.port}"):
        store.get(1)
    with pytest.raises(ConnectionError, match="start it"):
        store.put_many(keys(1), [b"a"], [Mark(0, "", "1")])
    assert time.monotonic() - begin < 5


def test_a_redis_that_is_full_says_so_and_keeps_what_it_has(redis: Redis, store: UserStore) -> None:
    store.put_many(keys(1), [b"a"], [Mark(0, "", "1")])
    order(redis, "CONFIG", "SET", "maxmemory", "1")

    with pytest.raises(OSError, match="raise its maxmemory"):
        store.put_many(keys(1), [b"b"], [Mark(0, "1", "2")])
    assert (store.get(1), store.mark(0)) == (b"a", "1")


def test_a_replica_is_named_as_one(redis: Redis, store: UserStore) -> None:
    (port,) = free_ports(1)
    order(redis, "REPLICAOF", "127.0.0.1", str(port))

    with pytest.raises(OSError, match="must name the primary"):
        store.put_many(keys(1), [b"a"])


def test_a_wrong_password_is_told_without_it(redis: Redis) -> None:
    order(redis, "CONFIG", "SET", "requirepass", "open-sesame")
    right = open_store(f"redis://:open-sesame@127.0.0.1:{redis.port}/0")
    wrong = open_store(f"redis://:guessed@127.0.0.1:{redis.port}/0")
    none = open_store(redis.url)

    assert right.get(1) is None
    for store in (wrong, none):
        with pytest.raises(PermissionError, match="correct user and password in HEADRACE_STORE__URL") as caught:
            store.get(1)
        assert "guessed" not in str(caught.value)
    for store in (right, wrong, none):
        store.close()


def test_a_time_to_live_forgets_those_who_stay_away(redis: Redis) -> None:
    store = open_store(f"{redis.url}?ttl=1")
    store.put_many(keys(1), [b"a"], [Mark(0, "", "1")])
    first = store.get(1)
    time.sleep(1.3)

    assert (first, store.get(1), store.mark(0)) == (b"a", None, "1")
    store.close()


@pytest.mark.parametrize("url", ["redis:", "redis://h:1/0?ttl=soon", "redis://h:x/0", "redis://h:1/0?nonsense=1"])
def test_a_url_that_is_not_understood_says_what_was_expected(url: str) -> None:
    with pytest.raises(ValueError, match="store url"):
        open_store(url).get(1)
