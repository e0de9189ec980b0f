"""Which tests stay together, and which come first, where workers share them out (`pytest -n 2`)."""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

_SYSTEM = "tests/system/"
_FIRST = "tests/system/test_console.py"  # one of each process, which compile all that the processes of others need


class GroupedScheduling(LoadScopeScheduling):
    """A file stays with one worker, for the sake of its fixtures, and whole systems with one after another.

    Each of those keeps more than one core busy: two at once are slower than one after the other, and run out of
    patience; and while the first of them compiles kernels as they are shipped, another worker compiles those that are
    checked. Files come in the order in which they were collected.
    """

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        config.option.loadscopereorder = False  # else files of one long test come last, and a worker ends alone
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return _SYSTEM if nodeid.startswith(_SYSTEM) else nodeid.split("::", 1)[0]


def sort_longest_first(items: list[pytest.Item]) -> None:
    """Whole systems, then files with slow tests, then those without: the short ones fill the gaps at the end."""
    slow = {_get_file(item) for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: _priority(_get_file(item), slow))


def _priority(file: str, slow: set[str]) -> int:
    if file.startswith(_SYSTEM):
        return 0 if file == _FIRST else 1
    return 2 if file in slow else 3


def _get_file(item: pytest.Item) -> str:
    return item.nodeid.split("::", 1)[0]
