"""Wait for a condition of another thread."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    """Poll a condition until it is true; AssertionError after the timeout."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not true within {timeout_s} s"
        time.sleep(0.005)
