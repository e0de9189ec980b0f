"""A Kafka and a Redis to measure on, and room in them that is cleared again."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from redis import Redis as Client

from benchmarks.harness.runs import temporary_folder
from stream.kafka.kafka_python.connections import admin
from stream.kafka.url import parse_url
from tests.support.services import Kafka, Redis, running

_AT_ONCE = 5_000  # keys


@dataclass(frozen=True, slots=True)
class Services:
    """Where they are."""

    kafka: str  # url
    redis: str  # url
    pids: Mapping[str, int]  # by name

    def cpu(self) -> dict[str, float]:
        """Seconds of CPU that each has had so far."""
        return {name: cpu_seconds(pid) for name, pid in self.pids.items()}


@contextmanager
def services() -> Iterator[Services]:
    """What `make services` left running, else a broker and a Redis for as long as the block runs."""
    if found := running():
        pids = {name: int(service["pid"]) for name, service in found.items()}
        yield Services(str(found["kafka"]["url"]), str(found["redis"]["url"]), pids)
        return
    with temporary_folder() as folder, ExitStack() as started:
        kafka, redis = Kafka(Path(folder) / "kafka"), Redis(Path(folder) / "redis")
        for service in (redis, kafka):
            service.start()
            started.callback(service.stop)
        yield Services(kafka.url, redis.url, {"kafka": kafka.pid, "redis": redis.pid})


@contextmanager
def room(found: Services) -> Iterator[str]:
    """A prefix that nobody else has: topics, groups and keys that begin with it are gone after the block."""
    prefix = f"bench-{uuid4().hex}."
    try:
        yield prefix
    finally:
        _clear_kafka(found.kafka, prefix)
        _clear_redis(found.redis, prefix)


def _clear_kafka(url: str, prefix: str) -> None:
    client = admin(parse_url(url))
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
        keys = list(client.scan_iter(f"{prefix}*", count=_AT_ONCE))
        for first in range(0, len(keys), _AT_ONCE):
            client.unlink(*keys[first : first + _AT_ONCE])


def cpu_seconds(pid: int) -> float:
    """What a process has had so far, all its threads, itself and the system for it; see proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_bytes(pid: int) -> int:
    """What a process has in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def busy_seconds() -> float:
    """What all processes of this machine have had, and what its host kept from it; see proc(5)."""
    user, nice, system, _, _, irq, softirq, steal, *_ = map(
        int, Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
