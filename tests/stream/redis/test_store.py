"""What only Redis does: it is started again, runs full, asks for passwords, follows another one. See test_stores."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from headrace.commands.check import _store
from stream.config import Log, Settings, Store
from stream.drivers import open_store
from stream.logs import Overtaken
from stream.stores import Mark, UserStore
from tests.conftest import made
from tests.support.services import Redis, RedisCluster, free_ports


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


@pytest.mark.parametrize(
    "url", ["redis:", "redis://h:1/0?ttl=soon", "redis://h:x/0", "redis://h:1/0?nonsense=1", "redis://h:1?cluster=1"]
)
def test_a_url_that_is_not_understood_says_what_was_expected(url: str) -> None:
    with pytest.raises(ValueError, match="store url"):
        open_store(url).get(1)


# A cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    service = made(lambda: RedisCluster(tmp_path / "cluster"))
    service.start()
    yield service
    service.stop()


def test_users_lie_all_over_a_cluster(cluster: RedisCluster) -> None:
    store = open_store(cluster.url)
    many = np.random.default_rng(0).integers(1, 2**63, 3_000, dtype=np.uint64) * np.uint64(2)
    store.put_many(many, [b"x"] * many.size, [Mark(0, "", "1")])
    held = [int(order(node, "DBSIZE").strip(":\r\n")) for node in cluster.nodes]
    store.close()

    assert min(held) > 300


def test_who_comes_late_to_a_cluster_writes_nothing(cluster: RedisCluster) -> None:
    late, newer = open_store(cluster.url), open_store(cluster.url)
    late.claim(0)
    late.put_many(keys(1, 2**63), [b"a", b"a"], [Mark(0, "", "1")])
    assert newer.claim(0) == "1"

    for mark in (Mark(0, "1", "2"), Mark(0, "1", "1")):
        with pytest.raises(Overtaken, match="another worker has written"):
            late.put_many(keys(1, 2**63), [b"late", b"late"], [mark])
    newer.put_many(keys(2**63), [b"b"], [Mark(0, "1", "2")])
    assert newer.get_many(keys(1, 2**63)) == [b"a", b"b"]
    assert newer.mark(0) == "2"
    for store in (late, newer):
        store.close()


@pytest.mark.parametrize("restarted", [False, True], ids=["while the worker runs", "while it is away"])
def test_a_node_of_a_cluster_that_lost_its_users_shows(cluster: RedisCluster, restarted: bool) -> None:
    store = open_store(cluster.url)
    store.claim(3)
    many = np.arange(1, 65, dtype=np.uint64) << np.uint64(57)
    store.put_many(many, [b"x"] * many.size, [Mark(3, "", "1")])
    for node in cluster.nodes:
        if order(node, "EXISTS", "mark:{3}").startswith("-MOVED"):  # it has only users
            order(node, "FLUSHALL")
            break

    if restarted:
        store.close()
        store = open_store(cluster.url)
    else:
        with pytest.raises(Overtaken, match="has lost what was written"):
            store.put_many(many, [b"y"] * many.size, [Mark(3, "1", "2")])
    assert store.claim(3) == ""
    store.close()


def test_a_cluster_and_no_cluster_are_told_apart(cluster: RedisCluster, redis: Redis) -> None:
    with pytest.raises(ValueError, match="is no cluster: leave out cluster=true"):
        open_store(f"{redis.url}?cluster=true")
    store = open_store(cluster.nodes[0].url)
    with pytest.raises(OSError, match="cluster=true"):
        store.get_many(np.arange(1, 50, dtype=np.uint64))
    store.close()


# What an operator is told


@pytest.mark.parametrize(("policy", "fine"), [("allkeys-lru", False), ("volatile-ttl", False), ("noeviction", True)])
def test_a_redis_that_may_forget_people_is_told_with_its_mend(
    redis: Redis, store: UserStore, policy: str, fine: bool
) -> None:
    order(redis, "CONFIG", "SET", "maxmemory-policy", policy)
    unlimited = store.trouble()
    order(redis, "CONFIG", "SET", "maxmemory", "100000000")
    told = store.trouble()
    settings = Settings(log=Log(url="local:unused"), store=Store(url=redis.url))
    finding = _store(settings)

    assert unlimited == ""
    assert (told == "") is finding.fine is fine
    assert fine or (policy in finding.found and "CONFIG SET maxmemory-policy noeviction" in finding.mend)
