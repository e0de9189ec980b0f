"""A data folder that stream and learn have processed, for tests of commands."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event as Signal
from threading import Thread

import msgspec

from online_models.control import CheckpointCommand, Command, encode_command
from online_models.worker import LearnWorker
from stream.clock import SystemClock
from stream.config import DataSettings, EventsSettings, LearnSettings, LogSettings, ServeSettings, Settings
from stream.drivers import open_store
from stream.logs import EventLog, Record
from stream.topics import CONTROL, EVENTS, ITEMS, open_topics
from stream.worker.worker import StreamWorker
from tests.support.events import START, EventGenerator
from tests.support.services import free_ports

PARTITIONS = 2


class LiveFolder:
    """Feed events to the workers step by step, on the embedded drivers of one data folder."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(
            data=DataSettings(folder=folder),
            log=LogSettings(partitions=PARTITIONS),
            events=EventsSettings(max_age=0),
            learn=LearnSettings(batch=512, checkpoint_every=1e9),
            serve=ServeSettings(port=free_ports(1)[0]),
        )
        self.log: EventLog = open_topics(self.settings, SystemClock())
        self._store = open_store(self.settings.store_url)
        self._events = EventGenerator(seed=3, partitions=PARTITIONS, misplaced_ratio=0)
        if not self.log.end_offset(ITEMS, 0):
            self._write_items()
        self.stream = StreamWorker(self.log, self._store, self.settings)
        self.learn = LearnWorker(self.log, self.settings, SystemClock())

    def _write_items(self) -> None:
        items = [{"item_id": f"i{n}", "created_ts": START, "price": float(n)} for n in range(12)]
        self.log.append(ITEMS, 0, [(str(item["item_id"]).encode(), msgspec.json.encode(item)) for item in items])

    @property
    def environ(self) -> dict[str, str]:
        """Settings of a command in this folder."""
        return {
            "HEADRACE_DATA__FOLDER": str(self.settings.data.folder),
            "HEADRACE_LOG__PARTITIONS": str(PARTITIONS),
            "HEADRACE_EVENTS__MAX_AGE": "0",
            "HEADRACE_SERVE__PORT": str(self.settings.serve.port),
        }

    def write_events(self, count: int) -> None:
        """Append generated events and process them."""
        for partition, records in self._events.generate_records(count).items():
            self.write(partition, records)
        self.process()

    def write(self, partition: int, records: Sequence[Record]) -> None:
        self.log.append(EVENTS, partition, records)

    def process(self) -> None:
        """Step both workers until nothing is left."""
        self.stream.step(0)
        while self.stream.step(0) + self.learn.step(0):
            pass

    def send(self, *commands: Command) -> None:
        """Send commands to the learner and let it take them."""
        self.log.append(CONTROL, 0, [(None, encode_command(command)) for command in commands])
        self.process()

    def save_version(self) -> str:
        """Write a version and return its name."""
        self.send(CheckpointCommand())
        self.learn.wait_for_checkpoint()
        return self.learn.version

    @contextmanager
    def run_learner(self) -> Iterator[None]:
        """Run the learner in a thread inside a `with` block."""
        stop = Signal()

        def run() -> None:
            while not stop.is_set():
                self.learn.step(0.01)

        thread = Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def close(self) -> None:
        """Write a last version, and close everything."""
        self.learn.close()
        self._store.close()
        self.log.close()
