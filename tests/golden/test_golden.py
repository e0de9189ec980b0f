"""Bytes of every released schema decode to the same values, and encode to the same bytes."""

from pathlib import Path

import numpy as np
import pytest

from online_models.training.journal import OffsetRange, Rollback, Step, read_entries
from online_models.training.updates import decode_update
from online_models.versions import checkpoints
from stream.ids import hash_id
from stream.records.events import Event, Limits, parse, validate
from stream.records.example_blocks import BlockRange, decode_examples, decode_item_ids
from stream.records.fields import user_field_keys
from stream.users.profiles import decode_profile, describe
from tests.golden.make import CLICK_EVENT, FOLDER, IMPRESSION_EVENT, MAKERS, TS


def read_golden(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def test_user_record_has_rate_limit_state() -> None:
    profile = decode_profile(read_golden("user-1.record"))

    assert profile.slates.tolist() == [hash_id("r1")]
    assert profile.minute_counts.tolist() == [1, 0, 0]
    assert (profile.ban_end_ts, profile.banned_item) == (0, 0)
    assert (profile.minute_counts_ts, profile.last_alarm_ts) == (CLICK_EVENT["ts"], 0)


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "manifest-1.json"])
def test_newest_schema_encodes_to_the_golden_bytes(name: str) -> None:
    assert MAKERS[name]() == read_golden(name)


def test_golden_event_decodes() -> None:
    event = parse(read_golden("event-1.json"))

    assert isinstance(event, Event)
    assert validate([event], [TS], Limits(0, 300)) == {}
    assert {name: getattr(event, name) for name in IMPRESSION_EVENT if name != "unknown"} == {
        name: value for name, value in IMPRESSION_EVENT.items() if name != "unknown"
    }


def test_golden_example_block_decodes() -> None:
    block_range, batch = decode_examples(read_golden("examples-1.block"))

    assert block_range == BlockRange(
        partition=0, first_offset=40, next_offset=42, batch_next_offset=42, watermark=TS - 6_790, next_users_offset=6
    )
    assert batch.event.tolist() == [hash_id("e1"), hash_id("e2")]
    assert batch.lists.item.tolist() == [hash_id("a"), hash_id("b"), hash_id("b")]
    assert batch.lists.propensity[:2].tolist() == [0.75, 0.25]
    assert batch.lists.price[:2].tolist() == [5, 2.5]
    assert batch.features.tolist() == [[1, 2], [3, 4]]
    assert batch.offset.tolist() == [40, 41]
    assert batch.queries.ts.tolist() == [TS, CLICK_EVENT["ts"]]
    assert batch.value.tolist()[1:] == [1.5]
    assert batch.producer.tolist() == [0, hash_id("p1")]


def test_golden_block_has_the_keys_of_users() -> None:
    _, batch = decode_examples(read_golden("examples-3.block"))

    assert batch.queries.user_keys.tolist() == 2 * [user_field_keys(b'{"age":7}').tolist()]
    assert not decode_examples(read_golden("examples-1.block"))[1].queries.user_keys.any()


def test_golden_block_has_the_ids_of_items() -> None:
    ids = decode_item_ids(read_golden("examples-2.block"))

    assert ids.key.tolist() == [hash_id("b")]  # the slate names the version that served it, so its ids are known
    assert ids.start.tolist() == [0, 1]
    assert ids.text.tobytes() == b"b"
    assert decode_item_ids(read_golden("examples-1.block")).key.size == 0


@pytest.mark.parametrize(("name", "partition"), [("user-1.record", -1), *((f"user-{n}.record", 0) for n in (2, 3, 4))])
def test_golden_user_record_decodes(name: str, partition: int) -> None:
    profile = decode_profile(read_golden(name))

    assert (profile.offset, profile.users_offset, profile.partition) == (41, 5, partition)
    assert profile.interacted.tolist() == [hash_id("b")]
    description = describe(profile)

    assert description["history"] == [{"item_id": "b", "type": "click", "ts": CLICK_EVENT["ts"], "event_id": "e2"}]
    assert description["attributes"] == {"age": 7}
    assert {name: n for name, n in description["counts"].items() if n} == {"impression": 1, "click": 1}


def test_golden_model_update_decodes() -> None:
    update = decode_update(read_golden("update-1.block"))

    assert (update.version, update.offsets, update.items_offset, update.control_offset) == (
        "000001-000000007",
        {"0": 42},
        3,
        1,
    )
    assert np.array_equal(update.changes["items.clicks"], np.array([2.5], np.float32))


def test_golden_manifest_decodes(tmp_path: Path) -> None:
    (tmp_path / "000001-000000007").mkdir()
    (tmp_path / "000001-000000007" / "manifest.json").write_bytes(read_golden("manifest-1.json"))
    manifest = checkpoints.read_manifest(tmp_path, "000001-000000007")

    assert (manifest.parent, manifest.schema, manifest.updates_offset) == ("000001-000000003", 1, 7)
    assert manifest.skip == {"0": [(3, 5)]}
    assert list(manifest.files) == ["items.safetensors"]


def test_golden_journal_decodes(tmp_path: Path) -> None:
    (tmp_path / "000001-000000008.jsonl").write_bytes(read_golden("journal-1.jsonl"))

    assert list(read_entries(tmp_path)) == [
        Step(1, 8, [OffsetRange(0, 9, 11)], items_offset=3, control_offset=1),
        Rollback(2, 7, "000001-000000007", {"0": 9}, {"0": 42}, {"0": [(50, 60)]}, control_offset=2),
    ]


def test_journal_step_without_control_offset_decodes(tmp_path: Path) -> None:
    (tmp_path / "000001-000000000.jsonl").write_bytes(
        b'{"type":"step","epoch":1,"step":1,"ranges":[[0,0,2]],"items_offset":4}\n'
    )

    assert list(read_entries(tmp_path)) == [Step(1, 1, [OffsetRange(0, 0, 2)], items_offset=4, control_offset=0)]
