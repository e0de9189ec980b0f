"""Order and grouping of tests over parallel workers (`pytest -n 2`)."""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

_SYSTEM = "tests/system/"
_FIRST = "tests/system/test_console.py"  # starts every process, which compiles the kernels for the others


class GroupedScheduling(LoadScopeScheduling):  # type: ignore[misc, unused-ignore]  # the library has no types
    """Keep a file on one worker, and all system tests on one worker, one after another.

    A system test keeps more than one core busy, so two at once are slower than one after the other, and exceed their
    timeouts. While the first one compiles the kernels as shipped, another worker compiles those with bounds checks.
    Files run in the order of collection.
    """

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        config.option.loadscopereorder = False  # else files with one long test run last, on one worker alone
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return _SYSTEM if nodeid.startswith(_SYSTEM) else nodeid.split("::", 1)[0]


def sort_longest_first(items: list[pytest.Item]) -> None:
    """Sort system tests first, then files with slow tests; short files fill the gaps at the end."""
    slow = {_get_file(item) for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: _priority(_get_file(item), slow))


def _priority(file: str, slow: set[str]) -> int:
    if file.startswith(_SYSTEM):
        return 0 if file == _FIRST else 1
    return 2 if file in slow else 3


def _get_file(item: pytest.Item) -> str:
    return item.nodeid.split("::", 1)[0]
