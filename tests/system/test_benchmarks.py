"""What benchmarks leave behind on services that others use too: nothing."""

import os

import numpy as np
from redis import Redis

from benchmarks.harness.brokers import Services, isolated_prefix
from stream.drivers import open_log, open_store
from stream.kafka.kafka_python.connections import create_admin_client
from stream.kafka.url import parse_url
from stream.logs import Position


def used(found: Services, prefix: str) -> None:
    """Leave a topic, a group and a person behind."""
    log, store = open_log(found.kafka, prefix), open_store(found.redis, prefix)
    log.create("events", 2)
    log.append("events", 0, [(b"k", b"v")])
    source = log.open_source("events", "bench")
    source.commit({0: Position(1)})
    log.close()
    store.put_many(np.array([7], np.uint64), [b"a person"])
    store.close()


def left(found: Services, prefix: str) -> tuple[list[str], list[str], list[bytes]]:
    """Topics, groups and keys that begin with a prefix."""
    client = create_admin_client(parse_url(found.kafka))
    topics = [name for name in client.list_topics() if name.startswith(prefix)]
    groups = [group["group_id"] for group in client.list_groups() if group["group_id"].startswith(prefix)]
    client.close()
    with Redis.from_url(found.redis) as redis:
        return topics, groups, list(redis.scan_iter(f"{prefix}*"))


def test_the_room_of_a_benchmark_is_cleared_and_its_neighbour_left_alone(kafka_url: str, redis_url: str) -> None:
    found = Services(kafka_url, redis_url, {})
    with isolated_prefix(found) as neighbour:
        used(found, neighbour)
        with isolated_prefix(found) as other:
            used(found, other)
            there = left(found, other)
        still = left(found, neighbour)

        assert list(map(len, there)) == list(map(len, still)) == [1, 1, 1]
        assert left(found, other) == ([], [], [])
    assert left(found, neighbour) == ([], [], [])


def test_the_cpu_of_a_process_is_its_own() -> None:
    found = Services("kafka://a:1", "redis://a:1", {"this": os.getpid()})
    before = found.cpu_usage()["this"]
    spent = sum(os.times()[:2])

    assert 0 < before <= spent + 0.05
