"""Kafka and Redis for benchmarks, with isolated prefixes that are removed afterwards."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from redis import Redis as Client

from benchmarks.harness.runs import temporary_folder
from stream.kafka.kafka_python.connections import create_admin_client
from stream.kafka.url import parse_url
from tests.support.services import Kafka, Redis, load_running_services

_KEYS_PER_CALL = 5_000


@dataclass(frozen=True, slots=True)
class Services:
    """Addresses and process ids of the services."""

    kafka: str  # url
    redis: str  # url
    pids: Mapping[str, int]  # by name

    def cpu_usage(self) -> dict[str, float]:
        """CPU seconds of each service so far."""
        return {name: read_cpu_seconds(pid) for name, pid in self.pids.items()}


@contextmanager
def open_services() -> Iterator[Services]:
    """Use the services of `make services`, or start a broker and a Redis for the block."""
    if running_services := load_running_services():
        pids = {name: int(service["pid"]) for name, service in running_services.items()}
        yield Services(str(running_services["kafka"]["url"]), str(running_services["redis"]["url"]), pids)
        return
    with temporary_folder() as folder, ExitStack() as exit_stack:
        kafka, redis = Kafka(Path(folder) / "kafka"), Redis(Path(folder) / "redis")
        for service in (redis, kafka):
            service.start()
            exit_stack.callback(service.stop)
        yield Services(kafka.url, redis.url, {"kafka": kafka.pid, "redis": redis.pid})


@contextmanager
def isolated_prefix(brokers: Services) -> Iterator[str]:
    """Yield a unique prefix; delete all topics, groups and keys with it after the block."""
    prefix = f"bench-{uuid4().hex}."
    try:
        yield prefix
    finally:
        _clear_kafka(brokers.kafka, prefix)
        _clear_redis(brokers.redis, prefix)


def _clear_kafka(url: str, prefix: str) -> None:
    client = create_admin_client(parse_url(url))
    try:
        if topics := [name for name in client.list_topics() if name.startswith(prefix)]:
            client.delete_topics(topics)
        groups = [group["group_id"] for group in client.list_groups() if group["group_id"].startswith(prefix)]
        if groups:
            client.delete_groups(groups)
    finally:
        client.close()


def _clear_redis(url: str, prefix: str) -> None:
    with Client.from_url(url) as client:
        keys = list(client.scan_iter(f"{prefix}*", count=_KEYS_PER_CALL))
        for first in range(0, len(keys), _KEYS_PER_CALL):
            client.unlink(*keys[first : first + _KEYS_PER_CALL])


def read_cpu_seconds(pid: int) -> float:
    """User and system CPU seconds of a process, all threads; see proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def read_memory_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def read_busy_seconds() -> float:
    """CPU seconds of all processes on this machine, including steal time; see proc(5)."""
    user, nice, system, _, _, irq, softirq, steal, *_ = map(
        int, Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
