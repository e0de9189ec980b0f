"""A small shop whose data no test changes."""

from collections.abc import Iterator

import pytest

from stream.clock import DAY_MS
from tests.support.serving_loop import NOW, LiveLoop, make_event


@pytest.fixture(scope="package")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveLoop]:
    """Twelve items, some of them clicked; u1 has clicked the first two. No test changes it."""
    with LiveLoop(tmp_path_factory.mktemp("shop")) as loop:
        for n in range(12):
            item_id, category = f"item{n:02}", "food" if n % 2 else "toys"
            loop.put_items(item_id, categories=[category], price=n + 0.99, created_ts=NOW - n * DAY_MS)
        loop.send_events(*(make_event(user_id=f"p{n}", item_id=f"item{n % 5:02}") for n in range(40)))
        loop.send_events(*(make_event(user_id="u1", item_id=f"item{n:02}") for n in range(2)))
        loop.run_until_idle()
        yield loop
