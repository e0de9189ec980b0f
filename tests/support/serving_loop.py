"""The whole loop in one process, stepped by hand: HTTP → stream → learn → answers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Event as Signal
from threading import Thread
from types import TracebackType
from typing import Any, Self

from litestar.testing import TestClient

from online_models.worker import LearnWorker
from serving.http.app import create_app
from serving.service import Service
from stream.config import Data, Events, Learn, Log, Serve, Settings, Store, Stream
from stream.stores import UserStore
from stream.testing import ManualClock, MemoryLog, MemoryStore
from stream.topics import ALARMS, CONTROL, DEAD_LETTER, EVENTS, EXAMPLES, ITEMS, MODEL_UPDATES, QUARANTINE, USERS
from stream.worker.worker import StreamWorker

NOW = 1_767_225_600_000
ADMIN = {"Authorization": "Bearer key"}
_numbers = count()


def event(**fields: Any) -> dict[str, Any]:
    """A click that nobody has seen before, but for the fields given; None leaves one out."""
    plain = {"event_id": f"e{next(_numbers)}", "type": "click", "ts": NOW, "user_id": "u1", "item_id": "a"}
    return {name: value for name, value in (plain | fields).items() if value is not None}


def shown(items: Sequence[str], **fields: Any) -> dict[str, Any]:
    """An impression of these items."""
    return event(**{"type": "impression", "item_id": None, "impression_id": "r1", "items": list(items)} | fields)


def settings_of(folder: Path, **serve: Any) -> Settings:
    return Settings(
        data=Data(folder=folder), log=Log(), store=Store(), events=Events(), stream=Stream(), learn=Learn(),
        serve=Serve(**{"admin_key": "key", "seed": 1} | serve),
    )  # fmt: skip


def empty_log(clock: ManualClock, partitions: int = 1) -> MemoryLog:
    log = MemoryLog(clock=clock)
    for topic in (EVENTS, EXAMPLES, USERS):
        log.create(topic, partitions)
    for topic in (ITEMS, MODEL_UPDATES, DEAD_LETTER, QUARANTINE, CONTROL, ALARMS):
        log.create(topic, 1)
    return log


class Loop:
    """A context: HTTP answers inside it."""

    def __init__(self, folder: Path, store: UserStore | None = None, partitions: int = 1, **serve: Any) -> None:
        self.clock = ManualClock(NOW)
        self.log = empty_log(self.clock, partitions)
        self.store = store or MemoryStore()
        self.settings = settings_of(folder, **serve)
        self.stream = StreamWorker(self.log, self.store, self.settings)
        self.learn = LearnWorker(self.log, self.settings, self.clock)
        self.start()

    def start(self) -> None:
        """A new serve process, in the place of the one before."""
        self.service = Service(self.log, self.store, self.settings, self.clock)
        self.http = TestClient(create_app(self.service))

    def __enter__(self) -> Self:
        self.http.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.__exit__(kind, error, trace)

    def restart_serve(self) -> None:
        self.http.__exit__()
        self.start()
        self.http.__enter__()

    def send(self, *events: dict[str, Any]) -> dict[str, Any]:
        """Send events as one list."""
        answer = self.http.post("/v1/events", json=list(events))
        assert answer.status_code == 202, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def put(self, *names: str, **fields: Any) -> None:
        """Put items into the catalogue, and let all processes take note."""
        answer = self.http.post("/v1/items", json=[{"item_id": name} | fields for name in names])
        assert answer.json() == {"accepted": len(names), "refused": []}
        self.settle()

    def ask(self, user: str = "u1", **fields: Any) -> dict[str, Any]:
        answer = self.http.post("/v1/recommendations", json={"user_id": user} | fields)
        assert answer.status_code == 200, answer.text
        # An impression is written behind the answer; what is handed in now is written behind the impression.
        self.http.blocking_portal.call(self.service.appender.append, EVENTS, [])
        told: dict[str, Any] = answer.json()
        return told

    def settle(self) -> None:
        """Step stream and learn until everything that was sent is in the answers."""
        for _ in range(1000):
            moved = self.stream.step(0.0) + self.learn.step(0.0)
            if not moved and self.lag == 0 and self.service.replica.step == self.learn.progress.step:
                return
        raise AssertionError(f"lag stays at {self.lag}, step {self.service.replica.step} of {self.learn.progress.step}")

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Inside it, the stream worker runs by itself."""
        stop = Signal()

        def run() -> None:
            while not stop.is_set():
                self.stream.step(0.01)

        thread = Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    @property
    def lag(self) -> int:
        events: int = self.http.get("/v1/lag").json()["events"]
        return events

    def values(self, topic: str) -> list[bytes]:
        """What stands in a topic."""
        every = (self.log.read(topic, p, 0, 100_000).values for p in range(self.log.partitions(topic)))
        return [value for values in every for value in values if value is not None]


def slate(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]
