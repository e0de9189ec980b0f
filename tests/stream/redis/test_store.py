"""Restarts, full memory, passwords, replicas and clusters of Redis; see also test_stores.py."""

import socket
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from headrace.diagnostics.connections import check_store
from stream.config import LogSettings, Settings, StoreSettings
from stream.drivers import open_store
from stream.logs import OwnershipLost
from stream.stores import StoreWatermark, UserStore
from tests.conftest import create_or_skip
from tests.support.services import Redis, RedisCluster, free_ports


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    service = create_or_skip(lambda: Redis(tmp_path / "redis"))
    service.start()
    yield service
    service.stop()


@pytest.fixture
def store(redis: Redis) -> Iterator[UserStore]:
    user_store = open_store(redis.url)
    yield user_store
    user_store.close()


def make_keys(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint64)


def run_command(redis: Redis, *arguments: str) -> str:
    """Send an administrative command; returns the response."""
    with socket.create_connection(("127.0.0.1", redis.port), timeout=5) as connection:
        connection.sendall(" ".join(arguments).encode() + b"\r\n")
        return connection.recv(4096).decode()


def test_reads_succeed_after_a_restart(redis: Redis, store: UserStore) -> None:
    store.put_many(make_keys(1), [b"a"])
    redis.kill()
    redis.start()

    assert store.get(1) is None
    assert store.get_many(make_keys(1, 2)) == [None, None]


def test_data_loss_at_a_restart_fails_the_next_write(redis: Redis, store: UserStore) -> None:
    store.put_many(make_keys(1), [b"a"], [StoreWatermark(0, "", "1")])
    redis.kill()
    redis.start()

    with pytest.raises(OwnershipLost, match="has partition 0 at '', expected '1'"):
        store.put_many(make_keys(2), [b"b"], [StoreWatermark(0, "1", "2")])
    assert (store.watermark(0), store.count()) == ("", 0)


def test_retried_write_succeeds(store: UserStore) -> None:
    for _ in range(2):
        store.put_many(make_keys(1), [b"a"], [StoreWatermark(0, "", "1")])

    assert (store.get(1), store.watermark(0)) == (b"a", "1")


def test_unreachable_redis_error_shows_the_fix(redis: Redis, store: UserStore) -> None:
    redis.kill()
    start = time.monotonic()

    with pytest.raises(ConnectionError, match=rf"start it, or correct HEADRACE_STORE__URL.*:{redis.port}"):
        store.get(1)
    with pytest.raises(ConnectionError, match="start it"):
        store.put_many(make_keys(1), [b"a"], [StoreWatermark(0, "", "1")])
    assert time.monotonic() - start < 5


def test_full_redis_raises_an_error_and_keeps_its_data(redis: Redis, store: UserStore) -> None:
    store.put_many(make_keys(1), [b"a"], [StoreWatermark(0, "", "1")])
    run_command(redis, "CONFIG", "SET", "maxmemory", "1")

    with pytest.raises(OSError, match="raise its maxmemory"):
        store.put_many(make_keys(1), [b"b"], [StoreWatermark(0, "1", "2")])
    assert (store.get(1), store.watermark(0)) == (b"a", "1")


def test_write_to_a_replica_raises_an_error(redis: Redis, store: UserStore) -> None:
    (port,) = free_ports(1)
    run_command(redis, "REPLICAOF", "127.0.0.1", str(port))

    with pytest.raises(OSError, match="set HEADRACE_STORE__URL to the primary"):
        store.put_many(make_keys(1), [b"a"])


def test_wrong_password_error_hides_the_password(redis: Redis) -> None:
    run_command(redis, "CONFIG", "SET", "requirepass", "open-sesame")
    right = open_store(f"redis://:open-sesame@127.0.0.1:{redis.port}/0")
    wrong = open_store(f"redis://:guessed@127.0.0.1:{redis.port}/0")
    none = open_store(redis.url)

    assert right.get(1) is None
    for store in (wrong, none):
        with pytest.raises(PermissionError, match="correct user and password in HEADRACE_STORE__URL") as error_info:
            store.get(1)
        assert "guessed" not in str(error_info.value)
    for store in (right, wrong, none):
        store.close()


def test_time_to_live_expires_inactive_users(redis: Redis) -> None:
    store = open_store(f"{redis.url}?ttl=1")
    store.put_many(make_keys(1), [b"a"], [StoreWatermark(0, "", "1")])
    first = store.get(1)
    deadline = time.monotonic() + 10
    while store.get(1) is not None:
        assert time.monotonic() < deadline, "the user never expired"
        time.sleep(0.05)

    assert (first, store.watermark(0)) == (b"a", "1")
    store.close()


@pytest.mark.parametrize(
    "url", ["redis:", "redis://h:1/0?ttl=soon", "redis://h:x/0", "redis://h:1/0?nonsense=1", "redis://h:1?cluster=1"]
)
def test_invalid_url_error_names_the_expected_form(url: str) -> None:
    with pytest.raises(ValueError, match="store URL"):
        open_store(url).get(1)


# A cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    service = create_or_skip(lambda: RedisCluster(tmp_path / "cluster"))
    service.start()
    yield service
    service.stop()


def test_users_are_spread_over_the_cluster(cluster: RedisCluster) -> None:
    store = open_store(cluster.url)
    user_keys = np.random.default_rng(0).integers(1, 2**63, 3_000, dtype=np.uint64) * np.uint64(2)
    store.put_many(user_keys, [b"x"] * user_keys.size, [StoreWatermark(0, "", "1")])
    node_sizes = [int(run_command(node, "DBSIZE").strip(":\r\n")) for node in cluster.nodes]
    store.close()

    assert min(node_sizes) > 300


def test_late_writer_to_a_cluster_writes_nothing(cluster: RedisCluster) -> None:
    late, newer = open_store(cluster.url), open_store(cluster.url)
    late.claim(0)
    late.put_many(make_keys(1, 2**63), [b"a", b"a"], [StoreWatermark(0, "", "1")])
    assert newer.claim(0) == "1"

    for watermark in (StoreWatermark(0, "1", "2"), StoreWatermark(0, "1", "1")):
        with pytest.raises(OwnershipLost, match="another worker has written"):
            late.put_many(make_keys(1, 2**63), [b"late", b"late"], [watermark])
    newer.put_many(make_keys(2**63), [b"b"], [StoreWatermark(0, "1", "2")])
    assert newer.get_many(make_keys(1, 2**63)) == [b"a", b"b"]
    assert newer.watermark(0) == "2"
    for store in (late, newer):
        store.close()


@pytest.mark.parametrize("restarted", [False, True], ids=["while the worker runs", "while it is away"])
def test_data_loss_of_a_cluster_node_is_detected(cluster: RedisCluster, restarted: bool) -> None:
    store = open_store(cluster.url)
    store.claim(3)
    user_keys = np.arange(1, 65, dtype=np.uint64) << np.uint64(57)
    store.put_many(user_keys, [b"x"] * user_keys.size, [StoreWatermark(3, "", "1")])
    for node in cluster.nodes:
        if run_command(node, "EXISTS", "watermark:{3}").startswith("-MOVED"):  # this node has only users
            run_command(node, "FLUSHALL")
            break
    assert store.watermark(3) == ""

    if restarted:
        store.close()
        store = open_store(cluster.url)
    else:
        with pytest.raises(OwnershipLost, match="the store has lost data"):
            store.put_many(user_keys, [b"y"] * user_keys.size, [StoreWatermark(3, "1", "2")])
    assert store.claim(3) == ""
    store.close()


def test_cluster_setting_must_match_the_server(cluster: RedisCluster, redis: Redis) -> None:
    with pytest.raises(ValueError, match="is not a cluster: remove cluster=true"):
        open_store(f"{redis.url}?cluster=true")
    store = open_store(cluster.nodes[0].url)
    with pytest.raises(OSError, match="cluster=true"):
        store.get_many(np.arange(1, 50, dtype=np.uint64))
    store.close()


# Health


@pytest.mark.parametrize(
    ("policy", "parameters", "ok"),
    [
        ("allkeys-lru", "", False),
        ("volatile-ttl", "?ttl=60", False),
        ("volatile-lru", "", True),  # deletes only keys with a time to live
        ("noeviction", "?ttl=60", True),
    ],
)
def test_eviction_policy_problem_shows_the_fix(redis: Redis, policy: str, parameters: str, ok: bool) -> None:
    store = open_store(redis.url + parameters)
    run_command(redis, "CONFIG", "SET", "maxmemory-policy", policy)
    problem_without_limit = store.health_problem()
    run_command(redis, "CONFIG", "SET", "maxmemory", "100000000")
    problem = store.health_problem()
    store.close()
    settings = Settings(log=LogSettings(url="local:unused"), store=StoreSettings(url=redis.url + parameters))
    finding = check_store(settings)

    assert problem_without_limit == ""
    assert (problem == "") is finding.ok is ok
    assert ok or (policy in finding.detail and "CONFIG SET maxmemory-policy noeviction" in finding.fix)


def test_redis_that_hides_its_configuration_raises_no_false_alarm(redis: Redis) -> None:
    run_command(redis, "ACL", "SETUSER", "shop", "on", ">open-sesame", "~*", "+@all", "-@dangerous")
    url = f"redis://shop:open-sesame@127.0.0.1:{redis.port}/0"
    finding = check_store(Settings(log=LogSettings(url="local:unused"), store=StoreSettings(url=url)))

    assert finding.ok
    assert "0 users; maxmemory-policy is unknown" in finding.detail
    assert "open-sesame" not in finding.detail


def test_listed_commands_are_enough(redis: Redis) -> None:
    commands = ["get", "mget", "set", "mset", "watch", "multi", "exec", "unlink", "scan", "select"]
    allowed = [f"+{command}" for command in commands]
    run_command(redis, "ACL", "SETUSER", "shop", "on", ">open-sesame", "~*", *allowed)
    store = open_store(f"redis://shop:open-sesame@127.0.0.1:{redis.port}/0")
    store.put_many(make_keys(1), [b"a"], [StoreWatermark(0, "", "1")])
    store.put_many(make_keys(1), [b"a"], [StoreWatermark(0, "", "1")])  # again, after a lost response
    with pytest.raises(OwnershipLost):
        store.put_many(make_keys(1), [b"b"], [StoreWatermark(0, "", "2")])
    values = dict(store.scan())
    store.delete_many(make_keys(1))
    store.close()

    assert values == {1: b"a"}


# Failover


def test_error_of_a_write_hides_the_record(redis: Redis, store: UserStore) -> None:
    (port,) = free_ports(1)
    run_command(redis, "REPLICAOF", "127.0.0.1", str(port))
    record = b"secret".hex().encode()

    with pytest.raises(ConnectionError, match="it is a replica") as error_info:
        store.put_many(make_keys(1), [record], [StoreWatermark(0, "", "1")])
    text = "".join(traceback.format_exception(error_info.value))
    assert record.decode() not in text


def test_store_heals_when_the_replica_is_promoted(redis: Redis, store: UserStore) -> None:
    (port,) = free_ports(1)
    run_command(redis, "REPLICAOF", "127.0.0.1", str(port))
    with pytest.raises(ConnectionError, match="it is a replica"):
        store.put_many(make_keys(1), [b"a"], [StoreWatermark(0, "", "1")])
    run_command(redis, "REPLICAOF", "NO", "ONE")
    store.put_many(make_keys(1), [b"a"], [StoreWatermark(0, "", "1")])

    assert (store.get(1), store.watermark(0)) == (b"a", "1")
