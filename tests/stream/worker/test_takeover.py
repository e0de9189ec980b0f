"""Two workers that both believe to have a partition, and stores that lose what they had: nothing goes wrong."""

import pytest

from stream.config import Settings
from stream.logs import Overtaken
from stream.topics import EVENTS, EXAMPLES
from stream.worker.worker import StreamWorker
from tests.stream.worker.test_worker import PARTITIONS, World, live, settings_of, told
from tests.support.faults import Fuse


class Stall(Fuse):
    """At one moment the worker stops, and another one takes everything over and goes on; then the first wakes up."""

    def __init__(self, moment: int) -> None:
        super().__init__()
        self.moment = moment
        self.world: World | None = None

    def burn(self) -> None:
        self.burnt += 1
        if self.burnt == self.moment and self.world:
            late, self.world.worker = self.world.worker, None
            self.world.log.leave(EVENTS, "stream")
            self.world.catch_up()
            self.world.worker = late


class Contested(World):
    """A world whose worker is set aside once it has been late."""

    def __init__(self, settings: Settings, fuse: Fuse | None = None) -> None:
        super().__init__(settings, fuse)
        if isinstance(self.fuse, Stall):
            self.fuse.world = self

    def catch_up(self) -> None:
        left = 2
        while left:
            try:
                self.worker = self.worker or StreamWorker(self.log, self.store, self.settings)
                left = 2 if self.worker.step(timeout=0) else left - 1
            except Overtaken:
                self.crashes += 1
                self.restart()
                left = 2


@pytest.fixture(scope="module")
def calm() -> World:
    """A run with one worker from beginning to end."""
    return live(settings_of(), Fuse(), phases=2, records=50)


def test_a_worker_that_wakes_up_late_changes_nothing(calm: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.stream.worker.test_worker.World", Contested)
    overtaken = void = 0
    for moment in range(1, calm.fuse.burnt):
        world = live(settings_of(), Stall(moment), phases=2, records=50)
        overtaken += world.crashes
        void += sum(world.log.end(EXAMPLES, p) - len(world.blocks(p)) for p in range(PARTITIONS)) > 0
        rows, users, letters = told(world)

        assert (rows, users) == told(calm)[:2], f"late at moment {moment}"
        assert set(letters) == set(told(calm)[2]), f"late at moment {moment}"
    assert overtaken > 10
    assert void > 10


@pytest.mark.parametrize("running", [True, False], ids=["while it runs", "while it is away"])
def test_a_store_that_lost_everything_is_made_once_more(
    calm: World, monkeypatch: pytest.MonkeyPatch, running: bool
) -> None:
    monkeypatch.setattr("tests.stream.worker.test_worker.World", Contested)
    world = live(settings_of(), Fuse(), phases=2, records=50)
    world.store._values.clear()
    world.store._marks.clear()
    if not running:
        world.restart()
    shown = {
        p: [(b"u", b'{"event_id":"last","type":"click","ts":1767225600000,"user_id":"late","item_id":"a"}')]
        for p in range(1)
    }
    world.write(shown)
    calm_too = live(settings_of(), Fuse(), phases=2, records=50)
    calm_too.write(shown)
    for one in (world, calm_too):
        one.catch_up()
        one.restart()
        one.catch_up()

    assert world.users() == calm_too.users()


def test_a_store_that_lost_its_last_writes_catches_up() -> None:
    world = Contested(settings_of(), Fuse())
    before: list[tuple[dict[int, bytes], dict[int, str]]] = []
    calm_ = live(settings_of(), Fuse(), phases=2, records=50)
    for partition in range(PARTITIONS):
        for records in [calm_.log.read(EVENTS, partition, 0, 10_000)]:
            world.write({partition: list(zip(records.keys, records.values, strict=True))})
    worker = StreamWorker(world.log, world.store, world.settings)
    while worker.step(timeout=0) or len(before) < 3:
        before.append((dict(world.store._values), dict(world.store._marks)))
    expected = world.users()
    world.store._values, world.store._marks = before[len(before) // 2]
    world.restart()
    world.catch_up()

    assert world.users() == expected
