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
from stream.config import (
    DataSettings,
    EventsSettings,
    LearnSettings,
    LogSettings,
    ServeSettings,
    Settings,
    StoreSettings,
    StreamSettings,
)
from stream.stores import UserStore
from stream.testing import ManualClock, MemoryLog, MemoryStore
from stream.topics import ALARMS, CONTROL, DEAD_LETTER, EVENTS, EXAMPLES, ITEMS, MODEL_UPDATES, QUARANTINE, USERS
from stream.worker.worker import StreamWorker

NOW = 1_767_225_600_000
ADMIN = {"Authorization": "Bearer key"}
_numbers = count()


def make_event(**fields: Any) -> dict[str, Any]:
    """A click that nobody has seen before, but for the fields given; None leaves one out."""
    defaults = {"event_id": f"e{next(_numbers)}", "type": "click", "ts": NOW, "user_id": "u1", "item_id": "a"}
    return {name: value for name, value in (defaults | fields).items() if value is not None}


def make_impression(items: Sequence[str], **fields: Any) -> dict[str, Any]:
    """An impression of these items."""
    return make_event(**{"type": "impression", "item_id": None, "impression_id": "r1", "items": list(items)} | fields)


def make_settings(folder: Path, **serve: Any) -> Settings:
    return Settings(
        data=DataSettings(folder=folder), log=LogSettings(), store=StoreSettings(), events=EventsSettings(), stream=StreamSettings(), learn=LearnSettings(),
        serve=ServeSettings(**{"admin_key": "key", "seed": 1} | serve),
    )  # fmt: skip


def create_log(clock: ManualClock, partitions: int = 1) -> MemoryLog:
    log = MemoryLog(clock=clock)
    for topic in (EVENTS, EXAMPLES, USERS):
        log.create(topic, partitions)
    for topic in (ITEMS, MODEL_UPDATES, DEAD_LETTER, QUARANTINE, CONTROL, ALARMS):
        log.create(topic, 1)
    return log


class LiveLoop:
    """A context: HTTP answers inside it."""

    def __init__(self, folder: Path, store: UserStore | None = None, partitions: int = 1, **serve: Any) -> None:
        self.clock = ManualClock(NOW)
        self.log = create_log(self.clock, partitions)
        self.store = store or MemoryStore()
        self.settings = make_settings(folder, **serve)
        self.stream_worker = StreamWorker(self.log, self.store, self.settings)
        self.learn_worker = LearnWorker(self.log, self.settings, self.clock)
        self.start_serve()

    def start_serve(self) -> None:
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
        self.start_serve()
        self.http.__enter__()

    def send_events(self, *events: dict[str, Any]) -> dict[str, Any]:
        """Send events as one list."""
        response = self.http.post("/v1/events", json=list(events))
        assert response.status_code == 202, response.text
        result: dict[str, Any] = response.json()
        return result

    def put_items(self, *item_ids: str, **fields: Any) -> None:
        """Put items into the catalogue, and let all processes take note."""
        response = self.http.post("/v1/items", json=[{"item_id": item_id} | fields for item_id in item_ids])
        assert response.json() == {"accepted": len(item_ids), "refused": []}
        self.run_until_idle()

    def recommend(self, user: str = "u1", **fields: Any) -> dict[str, Any]:
        response = self.http.post("/v1/recommendations", json={"user_id": user} | fields)
        assert response.status_code == 200, response.text
        # An impression is written behind the answer; what is handed in now is written behind the impression.
        self.http.blocking_portal.call(self.service.writer.append, EVENTS, [])
        result: dict[str, Any] = response.json()
        return result

    def run_until_idle(self) -> None:
        """Step stream and learn until everything that was sent is in the answers."""
        for _ in range(1000):
            n_moved = self.stream_worker.step(0.0) + self.learn_worker.step(0.0)
            if not n_moved and self.lag == 0 and self.service.replica.step == self.learn_worker.progress.step:
                return
        raise AssertionError(
            f"lag stays at {self.lag}, step {self.service.replica.step} of {self.learn_worker.progress.step}"
        )

    @contextmanager
    def run_stream_worker(self) -> Iterator[None]:
        """Inside it, the stream worker runs by itself."""
        stop = Signal()

        def run() -> None:
            while not stop.is_set():
                self.stream_worker.step(0.01)

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

    def read_values(self, topic: str) -> list[bytes]:
        """What stands in a topic."""
        value_lists = (self.log.read(topic, p, 0, 100_000).values for p in range(self.log.partitions(topic)))
        return [value for values in value_lists for value in values if value is not None]


def list_item_ids(response: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in response["items"]]
