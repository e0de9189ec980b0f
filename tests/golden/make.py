"""Writes the bytes of every schema as this code writes them; what is there already was released, and stays."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from online_models.training.journal import Journal, Read, Rollback, Step
from online_models.training.updates import Update, encode_update
from online_models.versions import checkpoints
from stream.logs import Records
from stream.records.decoding import take_in
from stream.records.events import Limits
from stream.records.example_blocks import Reach, encode_examples
from stream.records.feature_codec import encode_features
from stream.testing import MemoryStore
from stream.users.profiles import text_of
from stream.users.table import UserTable
from stream.worker.partition import examples_of

FOLDER = Path(__file__).parent
TS = 1_767_225_600_000
SHOWN = {
    "event_id": "e1", "type": "impression", "ts": TS, "user_id": "u1", "session_id": "s1", "impression_id": "r1",
    "surface": "home", "items": ["a", "b"], "propensities": [0.75, 0.25], "sources": ["two_tower", "popular"],
    "model_version": "000001-000000007", "context": {"device": "mobile", "prices": [5, 2.5]},
    "features": encode_features(np.array([[1, 2], [3, 4]], np.float32)), "unknown": {"passes": ["through"]},
}  # fmt: skip
CLICKED = {
    "event_id": "e2", "type": "click", "ts": TS + 3_210, "user_id": "u1", "item_id": "b", "impression_id": "r1",
    "value": 1.5,
}  # fmt: skip


def event() -> bytes:
    return msgspec.json.encode(SHOWN)


def _table(store: MemoryStore, clicked: Mapping[str, Any] = CLICKED) -> bytes:
    """The block of both events, with the user they made in the store."""
    values = [msgspec.json.encode(SHOWN), msgspec.json.encode(clicked)]
    intake = take_in(Records(0, [40, 41], [b"u1"] * 2, values, [TS] * 2), Limits(0, 300))
    users = UserTable(store, 16)
    users.describe(np.array([intake.batch.user[0]]), ["u1"], [5], [b'{"age":7}'])
    questions = users.apply(intake.batch, [text_of(one) for one in intake.events], ["u1", "u1"]).questions
    users.flush()
    reach = Reach(partition=0, first=40, next=42, until=42, watermark=TS - 6_790, users=6)
    return encode_examples(reach, examples_of(intake.batch, questions))


def examples() -> bytes:
    return _table(MemoryStore())


def examples_of_a_producer() -> bytes:
    return _table(MemoryStore(), CLICKED | {"producer": "p1"})


def user() -> bytes:
    store = MemoryStore()
    _table(store)
    [(_, value)] = store.scan()
    return value


def update() -> bytes:
    changes = {"items.rows": np.array([1], np.int32), "items.clicks": np.array([2.5], np.float32)}
    return encode_update(Update(1, 7, "", items=3, control=1, offsets={"0": 42}, changes=changes))


def manifest() -> bytes:
    made = checkpoints.Manifest(
        version="000001-000000007", epoch=1, step=7, parent="000001-000000003", created=TS, code="0.1.0",
        examples={"0": 9}, offsets={"0": 42}, skip={"0": [(3, 5)]}, items=3, control=1, updates=7, watermark=TS - 6_790,
        config={"seed": 0}, metrics={"auc": 0.75},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        checkpoints.save(Path(folder), made, {"items.clicks": np.array([2.5], np.float32)})
        return (Path(folder) / made.version / "manifest.json").read_bytes()


def journal() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        written = Journal(Path(folder))
        written.append(Step(1, 8, [Read(0, 9, 11)], items=3, control=1))
        written.append(Rollback(2, 7, "000001-000000007", {"0": 9}, {"0": 42}, {"0": [(50, 60)]}, control=2))
        written.close()
        [path] = Path(folder).iterdir()
        return path.read_bytes()


MADE: dict[str, Callable[[], bytes]] = {
    "event-1.json": event,
    "examples-2.block": examples,
    "examples-3.block": examples_of_a_producer,
    "user-4.record": user,
    "update-1.block": update,
    "manifest-1.json": manifest,
    "journal-1.jsonl": journal,
}

if __name__ == "__main__":
    for name, make in MADE.items():
        if not (FOLDER / name).exists():
            (FOLDER / name).write_bytes(make())
