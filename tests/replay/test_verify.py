"""Replaying a log reproduces the bits of the live run and reports differences."""

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from online_models.control import RollbackCommand, encode_command
from online_models.versions import checkpoints
from online_models.versions.checkpoints import load_latest
from online_models.worker import LearnWorker
from replay.verify import verify_log
from stream.clock import DAY_MS, ManualClock
from stream.config import Settings, load
from stream.drivers import open_store
from stream.ids import hash_ids, partition_for_id
from stream.logs import EventLog
from stream.stores import UserStore
from stream.topics import CONTROL, EVENTS, ITEMS, USERS, open_topics
from stream.users.profiles import EMPTY_PROFILE
from stream.worker.worker import StreamWorker
from tests.support.events import START, EventGenerator
from tests.support.profiles import encode_profile

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


def make_item(n: int) -> bytes:
    return msgspec.json.encode({"item_id": f"i{n}", "price": n, "categories": [f"c{n % 3}"]})


class LiveRun:
    """A finished run on the embedded drivers."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "headrace.toml"
        self.config.write_text(f'[data]\nfolder = "{folder / "data"}"\n{SETTINGS}')
        self.settings: Settings = load(self.config, {})
        self.clock = ManualClock(START + 365 * DAY_MS)
        self.event_generator = EventGenerator(seed=9, partitions=2)

    def open(self) -> tuple[EventLog, UserStore]:
        return open_topics(self.settings, self.clock), open_store(self.settings.store_url)

    def run(self, events: int) -> None:
        """Start both processes, process all events, and stop."""
        log, store = self.open()
        for n in range(9):
            log.append(ITEMS, 0, [(f"i{n}".encode(), make_item(n))])
        for partition, records in self.event_generator.generate_records(events).items():
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
        code = verify_log(self.config, as_json=True, checkpoint_timeout_s=0)
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return code, result


@pytest.fixture
def live(tmp_path: Path) -> LiveRun:
    live = LiveRun(tmp_path)
    live.run(120)
    live.run(60)
    return live


def test_run_with_restart_is_equal_bit_for_bit(live: LiveRun, capsys: pytest.CaptureFixture[str]) -> None:
    code, result = live.replay(capsys)

    assert (code, result["equal"]) == (0, True)
    assert result["events"] == 180
    assert result["users"] == 23  # with accepted events
    assert result["steps"] >= 4
    assert result["arrays"] > 10


def test_run_with_a_ranker_switch_is_equal_bit_for_bit(live: LiveRun, capsys: pytest.CaptureFixture[str]) -> None:
    live.config.write_text(live.config.read_text() + '[learn]\nranker = "ftrl"\n')
    live.settings = load(live.config, {})
    live.run(60)
    code, result = live.replay(capsys)

    assert (code, result["differing_arrays"]) == (0, [])
    assert result["events"] == 240


def test_category_bandit_is_part_of_the_bits(live: LiveRun, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load_latest(live.settings.checkpoints)

    assert loaded is not None
    assert loaded[1]["bandit.keys"].size == 2 + 3
    assert loaded[1]["bandit.posterior"][2:, 1].all()
    assert live.replay(capsys)[1]["equal"]


def test_changed_user_record_is_reported(live: LiveRun, capsys: pytest.CaptureFixture[str]) -> None:
    log, store = live.open()
    store.put_many(hash_ids(["u3"]), [encode_profile(EMPTY_PROFILE)])
    store.close()
    log.close()
    code, result = live.replay(capsys)

    assert (code, result["equal"]) == (1, False)
    assert result["differing_users"] == ["u3"]


def test_user_forgotten_later_is_not_compared(live: LiveRun, capsys: pytest.CaptureFixture[str]) -> None:
    log, store = live.open()
    log.append(USERS, partition_for_id("u3", 2), [(b"u3", None)])
    worker = StreamWorker(log, store, live.settings)
    worker.step(0)
    worker.step(0)
    worker.close()
    store.close()
    log.close()
    code, result = live.replay(capsys)

    assert (code, result["users_updated_since"], result["users"]) == (0, 1, 22)


def test_text_output_says_equal(live: LiveRun, capsys: pytest.CaptureFixture[str]) -> None:
    code = verify_log(live.config, as_json=False)

    assert code == 0
    output = capsys.readouterr().out
    assert "of epoch 1: " in output
    assert "Equal, bit for bit." in output


def roll_back(live: LiveRun, is_checkpointed: bool) -> str:
    """Return to the first version, and stop with or without a checkpoint; returns the version."""
    log, store = live.open()
    version = checkpoints.list_version_names(live.settings.checkpoints)[0]
    log.append(CONTROL, 0, [(None, encode_command(RollbackCommand(version)))])
    learn = LearnWorker(log, live.settings, live.clock)
    learn.step(0)
    if is_checkpointed:
        learn.close()
    store.close()
    log.close()
    return version


@pytest.mark.parametrize("is_text", [False, True], ids=["json", "text"])
def test_discarded_epoch_is_not_called_equal(live: LiveRun, is_text: bool, capsys: pytest.CaptureFixture[str]) -> None:
    version = roll_back(live, is_checkpointed=False)
    code = verify_log(live.config, not is_text, checkpoint_timeout_s=0)
    output = " ".join(capsys.readouterr().out.split())

    assert code == 1
    assert f"epoch 2, which continues from {version} after a rollback, has no checkpoint yet" in output
    assert "Equal, bit for bit." not in output
    if not is_text:
        result = json.loads(output)
        assert (result["equal"], result["epoch"], result["version"], result["steps"]) == (False, 2, None, 0)
        assert not result["differing_users"]


def test_version_of_the_new_epoch_is_compared(live: LiveRun, capsys: pytest.CaptureFixture[str]) -> None:
    roll_back(live, is_checkpointed=True)
    code, result = live.replay(capsys)

    assert (code, result["equal"], result["epoch"]) == (0, True, 2)
    assert result["version"].startswith("000002-")
    assert result["blocks_since"] == 0


def test_run_without_a_checkpoint_is_not_called_equal(live: LiveRun, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(live.settings.checkpoints)
    code, result = live.replay(capsys)

    assert (code, result["equal"], result["version"]) == (1, False, None)
    assert "epoch 1 has no checkpoint yet" in result["problem"]
