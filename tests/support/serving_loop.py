"""Run the whole loop in one process, step by step: HTTP → stream → learn → responses."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Event as Signal
from threading import Thread
from types import TracebackType
from typing import Any, Self

import httpx
from litestar import Litestar
from litestar.testing import TestClient

from online_models.worker import LearnWorker
from serving.http.app import create_app
from serving.service import Service
from stream.config import DataSettings, EventsSettings, ItemsSettings, ServeSettings, Settings
from stream.stores import UserStore
from stream.testing import ManualClock, memory_system
from stream.topics import EVENTS
from stream.worker.worker import StreamWorker

NOW = 1_767_225_600_000  # ms
ADMIN = {"Authorization": "Bearer key"}
JSON = {"content-type": "application/json"}
_numbers = count()


def make_event(**fields: Any) -> dict[str, Any]:
    """A click with a new event_id, updated by these fields; None removes a field."""
    defaults = {"event_id": f"e{next(_numbers)}", "type": "click", "ts": NOW, "user_id": "u1", "item_id": "a"}
    return {name: value for name, value in (defaults | fields).items() if value is not None}


def make_impression(items: Sequence[str], **fields: Any) -> dict[str, Any]:
    """An impression of these items, updated by these fields."""
    return make_event(**{"type": "impression", "item_id": None, "impression_id": "r1", "items": list(items)} | fields)


def make_settings(
    folder: Path, events: EventsSettings | None = None, items: ItemsSettings | None = None, **serve: Any
) -> Settings:
    serve_settings = ServeSettings(**{"admin_key": "key", "seed": 1, "log_timeout": 20} | serve)
    return Settings(
        data=DataSettings(folder=folder), events=events or EventsSettings(), items=items or ItemsSettings(),
        serve=serve_settings,
    )  # fmt: skip


class LiveLoop:
    """Respond to HTTP requests inside a `with` block."""

    def __init__(self, folder: Path, store: UserStore | None = None, partitions: int = 1, **serve: Any) -> None:
        self.log, memory_store, self.clock = memory_system(partitions=partitions, clock=ManualClock(NOW))
        self.store = store or memory_store
        self.settings = make_settings(folder, **serve)
        self.stream_worker = StreamWorker(self.log, self.store, self.settings)
        self.learn_worker = LearnWorker(self.log, self.settings, self.clock)
        self.start_serve()

    def start_serve(self) -> None:
        """Replace the serve process by a new one."""
        self.service = Service(self.log, self.store, self.settings, self.clock)
        self.http: TestClient[Litestar] = TestClient(create_app(self.service))

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
        """Put items into the catalog of all processes."""
        response = self.http.post("/v1/items", json=[{"item_id": item_id} | fields for item_id in item_ids])
        assert response.json() == {"accepted": len(item_ids), "refused": [], "status": "accepted"}
        self.run_until_idle()

    def recommend(self, user: str | None = "u1", **fields: Any) -> dict[str, Any]:
        """Request a slate; its impression is in the log when this returns."""
        response = self.http.post("/v1/recommendations", json={"user_id": user} | fields)
        assert response.status_code == 200, response.text
        # The impression is written after the response; an append waits for the records before it.
        self.http.blocking_portal.call(self.service.writer.append, EVENTS, [])
        result: dict[str, Any] = response.json()
        return result

    def run_until_idle(self) -> None:
        """Step stream and learn until the replica reflects all events."""
        for _ in range(1000):
            n_moved = self.stream_worker.step(0.0) + self.learn_worker.step(0.0)
            if not n_moved and self.lag == 0 and self.service.replica.step == self.learn_worker.progress.step:
                return
        raise AssertionError(
            f"lag stays at {self.lag}, step {self.service.replica.step} of {self.learn_worker.progress.step}"
        )

    @contextmanager
    def run_stream_worker(self) -> Iterator[None]:
        """Run the stream worker in a thread inside a `with` block."""
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
        """Values of all records of a topic, partition by partition."""
        value_lists = (self.log.read(topic, p, 0, 100_000).values for p in range(self.log.partitions(topic)))
        return [value for values in value_lists for value in values if value is not None]


def assert_problem(response: httpx.Response, status: int) -> None:
    """Check that the response is a problem document (RFC 9457) with this status."""
    assert response.status_code == status
    assert response.headers["content-type"].startswith("application/problem+json")
    assert response.json()["status"] == status
    assert {"type", "title", "detail"} <= response.json().keys()


def list_item_ids(response: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in response["items"]]
