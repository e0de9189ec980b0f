"""Benchmarks leave nothing behind on shared services."""

import os

import numpy as np
from redis import Redis

from benchmarks.harness.brokers import Services, isolated_prefix
from stream.drivers import open_log, open_store
from stream.kafka.kafka_python.connections import create_admin_client
from stream.kafka.url import parse_url
from stream.logs import Position


def write_data(services: Services, prefix: str) -> None:
    """Create a topic, a consumer group and a user record."""
    log, store = open_log(services.kafka, prefix), open_store(services.redis, prefix)
    log.create("events", 2)
    log.append("events", 0, [(b"k", b"v")])
    source = log.open_source("events", "bench")
    source.commit({0: Position(1)})
    log.close()
    store.put_many(np.array([7], np.uint64), [b"a user"])
    store.close()


def list_data(services: Services, prefix: str) -> tuple[list[str], list[str], list[bytes]]:
    """List the topics, consumer groups and keys with a prefix."""
    client = create_admin_client(parse_url(services.kafka))
    topics = [name for name in client.list_topics() if name.startswith(prefix)]
    groups = [group["group_id"] for group in client.list_groups() if group["group_id"].startswith(prefix)]
    client.close()
    with Redis.from_url(services.redis) as redis:
        return topics, groups, list(redis.scan_iter(f"{prefix}*"))


def test_isolated_prefix_is_removed_without_others(kafka_url: str, redis_url: str) -> None:
    services = Services(kafka_url, redis_url, {})
    with isolated_prefix(services) as outer:
        write_data(services, outer)
        with isolated_prefix(services) as inner:
            write_data(services, inner)
            data = list_data(services, inner)

        assert [len(names) for names in data] == [1, 1, 1]
        assert [len(names) for names in list_data(services, outer)] == [1, 1, 1]
        assert list_data(services, inner) == ([], [], [])
    assert list_data(services, outer) == ([], [], [])


def test_cpu_usage_is_that_of_the_process() -> None:
    services = Services("kafka://a:1", "redis://a:1", {"this": os.getpid()})
    usage = services.cpu_usage()["this"]

    assert 0 < usage <= sum(os.times()[:2]) + 0.05
