"""Property tests: no deadline, since the first example of a kernel compiles it. Real services, where there are some."""

import os
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

import numba
import pytest
from hypothesis import settings
from xdist.remote import Producer

from tests.support.scheduling import Sharing, longest_first
from tests.support.services import Kafka, Missing, Redis, RedisCluster, Service, program, running

doors: dict[str, str] = {}  # other ways into the services that run
S = TypeVar("S", bound=Service)

# A kernel that reaches beyond its arrays fails its test; processes that tests start run kernels as they are shipped.
numba.config.BOUNDSCHECK = 1  # type: ignore[attr-defined]

settings.register_profile("headrace", deadline=None, max_examples=50)
settings.load_profile("headrace")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Sharing:
    return Sharing(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        longest_first(items)


@pytest.fixture(scope="session")
def kafka_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Kafka for tests: each keeps to a prefix of its own."""
    yield from _served("kafka", lambda: Kafka(tmp_path_factory.mktemp("kafka")))


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis for tests: each keeps to a prefix of its own."""
    yield from _served("redis", lambda: Redis(tmp_path_factory.mktemp("redis")))


@pytest.fixture(scope="session")
def redis_cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis Cluster for tests: each keeps to a prefix of its own."""
    yield from _served("redis cluster", lambda: RedisCluster(tmp_path_factory.mktemp("cluster")))


def _served(name: str, make: Callable[[], Service]) -> Iterator[str]:
    if name in running():  # make services
        doors.update({door: str(url) for door, url in running()[name].items()})
        yield str(running()[name]["url"])
        return
    service = made(make)
    service.start()
    doors.update({door: url for door, url in vars(service).items() if door.endswith("url")})
    yield service.url
    service.stop()


def made(make: Callable[[], S]) -> S:
    """A service for a test; without its programs the test is skipped, or fails where services are required."""
    try:
        return make()
    except Missing as error:
        _go_without(error)


def needed(name: str, package: str) -> str:
    """A program for a test; without it the test is skipped, or fails where services are required."""
    try:
        return program(name, package)
    except Missing as error:
        _go_without(error)


def _go_without(missing: Missing) -> NoReturn:
    if os.environ.get("HEADRACE_REQUIRE_SERVICES"):
        pytest.fail(str(missing))
    pytest.skip(str(missing))
