"""A replay of the log finds the live run's bits, and says where they differ."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from online_models.versions.checkpoints import load_latest
from online_models.worker import LearnWorker
from replay.verify import verify_log
from stream.clock import ManualClock
from stream.config import Settings, load
from stream.drivers import open_store
from stream.ids import hash_ids, partition_for_id
from stream.logs import EventLog
from stream.stores import UserStore
from stream.topics import EVENTS, ITEMS, USERS, open_topics
from stream.users.profiles import EMPTY_PROFILE, encode_profile
from stream.worker.worker import StreamWorker
from tests.support.events import START, EventGenerator

SETTINGS = """
[log]
partitions = 2
[events]
max_age = 0
[stream]
batch = 40
attribution_window = 60
allowed_lateness = 4
"""


def _item(n: int) -> bytes:
    return msgspec.json.encode({"item_id": f"i{n}", "price": n, "categories": [f"c{n % 3}"]})


class Live:
    """A run on the embedded drivers that has ended."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "headrace.toml"
        self.config.write_text(f'[data]\nfolder = "{folder / "data"}"\n{SETTINGS}')
        self.settings: Settings = load(self.config, {})
        self.clock = ManualClock(START + 365 * 86_400_000)
        self.shoppers = EventGenerator(seed=9, partitions=2)

    def open(self) -> tuple[EventLog, UserStore]:
        return open_topics(self.settings, self.clock), open_store(self.settings.store_url)

    def go_on(self, events: int) -> None:
        """Both processes start, take what there is, and stop."""
        log, store = self.open()
        for n in range(9):
            log.append(ITEMS, 0, [(f"i{n}".encode(), _item(n))])
        for partition, records in self.shoppers.generate_records(events).items():
            log.append(EVENTS, partition, records)
        stream, learn = StreamWorker(log, store, self.settings), LearnWorker(log, self.settings, self.clock)
        stream.step(0)
        while stream.step(0):
            learn.step(0)
        while learn.step(0):
            pass
        stream.close()
        learn.close()
        store.close()
        log.close()

    def replay(self, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
        code = verify_log(self.config, as_json=True)
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        return code, told


@pytest.fixture
def live(tmp_path: Path) -> Live:
    live = Live(tmp_path)
    live.go_on(120)
    live.go_on(60)
    return live


def test_a_run_with_a_restart_is_equal_bit_for_bit(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = live.replay(capsys)

    assert (code, told["equal"]) == (0, True)
    assert told["events"] == 180
    assert told["users"] == 24
    assert told["steps"] >= 4
    assert told["arrays"] > 10


def test_what_became_of_the_categories_is_among_the_bits(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load_latest(live.settings.checkpoints)

    assert loaded is not None
    assert loaded[1]["bandit.keys"].size == 2 + 3
    assert loaded[1]["bandit.posterior"][2:, 1].all()
    assert live.replay(capsys)[1]["equal"]


def test_a_record_that_was_tampered_with_is_named(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    log, store = live.open()
    store.put_many(hash_ids(["u3"]), [encode_profile(EMPTY_PROFILE)])
    store.close()
    log.close()
    code, told = live.replay(capsys)

    assert (code, told["equal"]) == (1, False)
    assert told["users_different"] == ["u3"]


def test_a_person_who_was_forgotten_afterwards_has_moved_on(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    log, store = live.open()
    log.append(USERS, partition_for_id("u3", 2), [(b"u3", None)])
    worker = StreamWorker(log, store, live.settings)
    worker.step(0)
    worker.step(0)
    worker.close()
    store.close()
    log.close()
    code, told = live.replay(capsys)

    assert (code, told["users_moved_on"], told["users"]) == (0, 1, 23)


def test_people_are_told_in_words(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    code = verify_log(live.config, as_json=False)

    assert code == 0
    assert "equal, bit for bit" in capsys.readouterr().out
