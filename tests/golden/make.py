"""Write the bytes of every schema as this code encodes them; existing files stay."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from online_models.training.journal import Journal, OffsetRange, Rollback, Step
from online_models.training.updates import ModelUpdate, encode_update
from online_models.versions import checkpoints
from stream.logs import Records
from stream.records.decoding import decode_records
from stream.records.events import Limits
from stream.records.example_blocks import BlockRange, encode_examples
from stream.records.feature_codec import encode_features
from stream.records.item_ids import NO_ITEM_IDS, collect_ids
from stream.testing import MemoryStore
from stream.users.table import UserTable
from stream.worker.partition import build_examples

FOLDER = Path(__file__).parent
TS = 1_767_225_600_000
IMPRESSION_EVENT = {
    "event_id": "e1", "type": "impression", "ts": TS, "user_id": "u1", "session_id": "s1", "impression_id": "r1",
    "surface": "home", "items": ["a", "b"], "propensities": [0.75, 0.25], "sources": ["two_tower", "popular"],
    "model_version": "000001-000000007", "context": {"device": "mobile", "prices": [5, 2.5]},
    "features": encode_features(np.array([[1, 2], [3, 4]], np.float32)), "unknown": {"passes": ["through"]},
}  # fmt: skip
CLICK_EVENT = {
    "event_id": "e2", "type": "click", "ts": TS + 3_210, "user_id": "u1", "item_id": "b", "impression_id": "r1",
    "value": 1.5,
}  # fmt: skip


def make_event() -> bytes:
    return msgspec.json.encode(IMPRESSION_EVENT)


def _make_block(
    store: MemoryStore,
    click: Mapping[str, Any] = CLICK_EVENT,
    with_ids: bool = False,
    attributes: bytes = b'{"age":7}',
) -> bytes:
    """Encode the block of both events, and store their user."""
    values = [msgspec.json.encode(IMPRESSION_EVENT), msgspec.json.encode(click)]
    decoded = decode_records(Records(0, [40, 41], [b"u1"] * 2, values, [TS] * 2), Limits(0, 300))
    users = UserTable(store, 16)
    records = Records(0, [5], [b"u1"], [attributes], [TS])
    users.set_attributes(np.array([decoded.batch.user[0]]), ["u1"], records)
    queries = users.apply(decoded.batch, decoded.events).queries
    users.flush()
    block_range = BlockRange(
        partition=0, first_offset=40, next_offset=42, batch_next_offset=42, watermark=TS - 6_790, next_users_offset=6
    )
    ids = collect_ids(decoded.batch, decoded.events, np.zeros(2, np.bool_), (40, 42)) if with_ids else NO_ITEM_IDS
    return encode_examples(block_range, build_examples(decoded.batch, queries), ids)


def make_examples() -> bytes:
    return _make_block(MemoryStore(), CLICK_EVENT | {"producer": "p1"}, attributes=b"{}")


def make_examples_with_ids() -> bytes:
    return _make_block(MemoryStore(), CLICK_EVENT | {"producer": "p1"}, with_ids=True, attributes=b"{}")


def make_examples_with_user_keys() -> bytes:
    return _make_block(MemoryStore())


def make_user() -> bytes:
    store = MemoryStore()
    _make_block(store)
    [(_, value)] = store.scan()
    return value


def make_update() -> bytes:
    changes = {"items.rows": np.array([1], np.int32), "items.clicks": np.array([2.5], np.float32)}
    return encode_update(ModelUpdate(1, 7, "", items_offset=3, control_offset=1, offsets={"0": 42}, changes=changes))


def make_manifest() -> bytes:
    manifest = checkpoints.Manifest(
        version="000001-000000007", epoch=1, step=7, parent="000001-000000003", created=TS, code_version="0.1.0",
        example_offsets={"0": 9}, offsets={"0": 42}, skip={"0": [(3, 5)]}, items_offset=3, control_offset=1,
        updates_offset=7, watermark=TS - 6_790,
        config={"seed": 0}, metrics={"auc": 0.75},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        checkpoints.save(Path(folder), manifest, {"items.clicks": np.array([2.5], np.float32)})
        return (Path(folder) / manifest.version / "manifest.json").read_bytes()


def make_journal() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder))
        journal.append(Step(1, 8, [OffsetRange(0, 9, 11)], items_offset=3, control_offset=1))
        journal.append(Rollback(2, 7, "000001-000000007", {"0": 9}, {"0": 42}, {"0": [(50, 60)]}, control_offset=2))
        journal.close()
        [path] = Path(folder).iterdir()
        return path.read_bytes()


MAKERS: dict[str, Callable[[], bytes]] = {
    "event-1.json": make_event,
    "examples-1.block": make_examples,
    "examples-2.block": make_examples_with_ids,
    "examples-3.block": make_examples_with_user_keys,
    "user-4.record": make_user,
    "update-1.block": make_update,
    "manifest-1.json": make_manifest,
    "journal-1.jsonl": make_journal,
}

if __name__ == "__main__":
    for name, make in MAKERS.items():
        if not (FOLDER / name).exists():
            (FOLDER / name).write_bytes(make())
