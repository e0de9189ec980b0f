"""Example blocks carry the ids of the items that their events name."""

from typing import Any

import msgspec
import numpy as np

from stream.ids import hash_ids
from stream.logs import Records
from stream.records.decoding import DecodedBatch, decode_records
from stream.records.events import Limits
from stream.records.example_blocks import BlockRange, decode_examples, decode_item_ids, encode_examples
from stream.records.item_ids import ItemIds, collect_ids, encode_ids
from tests.golden.make import FOLDER

TS = 1_767_225_600_000


def decode(*events: dict[str, Any]) -> DecodedBatch:
    """Decode events with consecutive offsets from 10 on."""
    defaults = {"type": "click", "ts": TS, "user_id": "u1"}
    values = [msgspec.json.encode(defaults | {"event_id": f"e{n}"} | event) for n, event in enumerate(events)]
    offsets = list(range(10, 10 + len(values)))
    return decode_records(Records(0, offsets, [b"u1"] * len(values), values, [TS] * len(values)), Limits(0, 300))


def collect(decoded: DecodedBatch, first: int = 10, end: int = 99, held: tuple[int, ...] = ()) -> ItemIds:
    is_held = np.isin(np.arange(len(decoded.batch)), held)
    return collect_ids(decoded.batch, decoded.events, is_held, (first, end))


def list_names(ids: ItemIds) -> list[str]:
    spans = zip(ids.start[:-1].tolist(), ids.start[1:].tolist(), strict=True)
    names = [ids.text[first:end].tobytes().decode() for first, end in spans]

    assert hash_ids(names).tolist() == ids.key.tolist()
    return names


SLATE = {"type": "impression", "impression_id": "r1", "items": ["b", "c", "d"]}


def test_each_item_comes_once_in_order() -> None:
    decoded = decode({"item_id": "日本"}, SLATE, {"item_id": "c"}, {"item_id": "e"}, {"item_id": "日本"})

    assert list_names(collect(decoded)) == ["日本", "b", "c", "d", "e"]
    assert list_names(collect(decoded, 12, 14)) == ["c", "e"]
    assert list_names(collect(decoded, 15)) == []


def test_one_item_impressions_name_their_item() -> None:
    decoded = decode({"type": "impression", "impression_id": "r1", "item_id": "a"})

    assert list_names(collect(decoded)) == ["a"]


def test_quarantined_events_and_own_slates_are_left_out() -> None:
    decoded = decode({"item_id": "a"}, SLATE | {"model_version": "000001-000000007"}, {"item_id": "c"})

    assert list_names(collect(decoded, held=(0,))) == ["c"]


def test_ids_of_a_block_are_bounded() -> None:
    names = ["a" * 100, "b" * 100, "c" * 100]

    assert list_names(encode_ids(hash_ids(names), names, max_bytes=250)) == names[:2]
    assert list_names(encode_ids(hash_ids([]), [])) == []


def test_blocks_with_and_without_ids_decode() -> None:
    golden = (FOLDER / "examples-1.block").read_bytes()
    _, batch = decode_examples(golden)
    block_range = BlockRange(0, 40, 42, 42, TS, 6)
    value = encode_examples(block_range, batch, encode_ids(hash_ids(["a", "b"]), ["a", "b"]))

    assert list_names(decode_item_ids(golden)) == []
    assert list_names(decode_item_ids(value)) == ["a", "b"]
    assert decode_examples(value)[0] == block_range
