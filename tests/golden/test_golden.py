"""Bytes of every released schema are read as they were meant, and written so still."""

from pathlib import Path

import numpy as np
import pytest

from online_models.training.journal import Read, Rollback, Step, entries
from online_models.training.updates import decode_update
from online_models.versions import checkpoints
from stream.ids import key_of
from stream.records.events import Event, Limits, parse, screen
from stream.records.example_blocks import Reach, decode_examples
from stream.users.profiles import decode_profile, describe
from tests.golden.make import CLICKED, FOLDER, MADE, SHOWN, TS


def golden(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


@pytest.mark.parametrize("name", ["user-1.record", "user-2.record", "user-3.record", "user-4.record"])
def test_what_a_user_record_says_for_the_screen(name: str) -> None:
    profile = decode_profile(golden(name))
    newest = name in ("user-3.record", "user-4.record")

    assert profile.slates.tolist() == ([key_of("r1")] if newest else [])
    assert profile.pace.tolist() == ([1, 0, 0] if newest else [0, 0, 0])
    assert (profile.barred, profile.barred_item) == (0, 0)
    assert (profile.paced, profile.alarmed) == ((CLICKED["ts"], 0) if newest else (0, 0))


@pytest.mark.parametrize("name", [name for name in MADE if name != "manifest-1.json"])
def test_the_newest_schema_is_still_written_so(name: str) -> None:
    assert MADE[name]() == golden(name)


def test_an_event() -> None:
    event = parse(golden("event-1.json"))

    assert isinstance(event, Event)
    assert screen([event], [TS], Limits(0, 300)) == {}
    assert {name: getattr(event, name) for name in SHOWN if name != "unknown"} == {
        name: value for name, value in SHOWN.items() if name != "unknown"
    }


@pytest.mark.parametrize(
    ("name", "producer"), [("examples-1.block", 0), ("examples-2.block", 0), ("examples-3.block", key_of("p1"))]
)
def test_a_block_of_examples(name: str, producer: int) -> None:
    reach, batch = decode_examples(golden(name))

    assert reach == Reach(partition=0, first=40, next=42, until=42, watermark=TS - 6_790, users=6)
    assert batch.event.tolist() == [key_of("e1"), key_of("e2")]
    assert batch.lists.item.tolist() == [key_of("a"), key_of("b"), key_of("b")]
    assert batch.lists.propensity[:2].tolist() == [0.75, 0.25]
    assert batch.lists.price[:2].tolist() == [5, 2.5]
    assert batch.features.tolist() == [[1, 2], [3, 4]]
    assert batch.offset.tolist() == [40, 41]
    assert batch.questions.ts.tolist() == [TS, CLICKED["ts"]]
    assert batch.value.tolist()[1:] == [1.5]
    assert batch.producer.tolist() == [0, producer]


@pytest.mark.parametrize("name", ["user-1.record", "user-2.record", "user-3.record", "user-4.record"])
def test_a_user_record(name: str) -> None:
    profile = decode_profile(golden(name))

    assert (profile.offset, profile.users_offset) == (41, 5)
    assert profile.met.tolist() == [key_of("b")]
    told = describe(profile)

    assert told["history"] == [{"item_id": "b", "type": "click", "ts": CLICKED["ts"], "event_id": "e2"}]
    assert told["attributes"] == {"age": 7}
    assert {name: n for name, n in told["counts"].items() if n} == {"impression": 1, "click": 1}


def test_a_model_update() -> None:
    update = decode_update(golden("update-1.block"))

    assert (update.version, update.offsets, update.items, update.control) == ("000001-000000007", {"0": 42}, 3, 1)
    assert np.array_equal(update.changes["items.clicks"], np.array([2.5], np.float32))


def test_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "000001-000000007").mkdir()
    (tmp_path / "000001-000000007" / "manifest.json").write_bytes(golden("manifest-1.json"))
    manifest = checkpoints.read_manifest(tmp_path, "000001-000000007")

    assert (manifest.parent, manifest.schema, manifest.updates) == ("000001-000000003", 1, 7)
    assert manifest.skip == {"0": [(3, 5)]}
    assert list(manifest.files) == ["items.safetensors"]


def test_lines_of_a_journal(tmp_path: Path) -> None:
    (tmp_path / "000001-000000008.jsonl").write_bytes(golden("journal-1.jsonl"))

    assert list(entries(tmp_path)) == [
        Step(1, 8, [Read(0, 9, 11)], items=3, control=1),
        Rollback(2, 7, "000001-000000007", {"0": 9}, {"0": 42}, {"0": [(50, 60)]}, control=2),
    ]


def test_a_step_of_before_orders_were_counted(tmp_path: Path) -> None:
    (tmp_path / "000001-000000000.jsonl").write_bytes(
        b'{"type":"step","epoch":1,"step":1,"reads":[[0,0,2]],"items":4}\n'
    )

    assert list(entries(tmp_path)) == [Step(1, 1, [Read(0, 0, 2)], items=4, control=0)]
