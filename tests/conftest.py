"""Fixtures of real services, and settings of property tests."""

import os
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

import numba
import pytest
from hypothesis import settings
from xdist.remote import Producer

from tests.support.scheduling import GroupedScheduling, sort_longest_first
from tests.support.services import (
    ExternalService,
    Kafka,
    MissingProgram,
    Redis,
    RedisCluster,
    find_program,
    load_running_services,
)

listener_urls: dict[str, str] = {}  # further listeners of the running services
S = TypeVar("S", bound=ExternalService)

# A kernel that exceeds its arrays fails its test; processes that tests start run the kernels as shipped.
numba.config.BOUNDSCHECK = 1  # type: ignore[attr-defined]

# Without a deadline, because the first call of a kernel compiles it.
settings.register_profile("headrace", deadline=None, max_examples=50)
settings.load_profile("headrace")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupedScheduling:
    return GroupedScheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        sort_longest_first(items)


@pytest.fixture(scope="session")
def kafka_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Kafka broker; each test uses a prefix of its own."""
    yield from _provide_service("kafka", lambda: Kafka(tmp_path_factory.mktemp("kafka")))


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Redis server; each test uses a prefix of its own."""
    yield from _provide_service("redis", lambda: Redis(tmp_path_factory.mktemp("redis")))


@pytest.fixture(scope="session")
def redis_cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Redis Cluster; each test uses a prefix of its own."""
    yield from _provide_service("redis cluster", lambda: RedisCluster(tmp_path_factory.mktemp("cluster")))


def _provide_service(name: str, make: Callable[[], ExternalService]) -> Iterator[str]:
    if name in load_running_services():  # started by `make services`
        listener_urls.update({key: str(url) for key, url in load_running_services()[name].items()})
        yield str(load_running_services()[name]["url"])
        return
    service = create_or_skip(make)
    service.start()
    listener_urls.update({key: url for key, url in vars(service).items() if key.endswith("url")})
    yield service.url
    service.stop()


def create_or_skip(make: Callable[[], S]) -> S:
    """Create a service; without its programs the test is skipped.

    It fails instead where services are required.
    """
    try:
        return make()
    except MissingProgram as error:
        _skip_or_fail(error)


def find_program_or_skip(name: str, package: str) -> str:
    """Find a program; without it the test is skipped.

    It fails instead where services are required.
    """
    try:
        return find_program(name, package)
    except MissingProgram as error:
        _skip_or_fail(error)


def _skip_or_fail(error: MissingProgram) -> NoReturn:
    if os.environ.get("HEADRACE_REQUIRE_SERVICES"):
        pytest.fail(str(error))
    pytest.skip(str(error))
