"""Encode and decode blocks of the examples topic, and skip those of former owners."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream.logs import Record, Records
from stream.records.batches import CandidateLists, ExampleBatch, Queries
from stream.records.column_blocks import decode_block, encode_block
from stream.records.fields import N_USER_KEYS
from stream.records.item_ids import NO_ITEM_IDS, ItemIds, from_columns, to_columns
from stream.records.signs import type_signs


@dataclass(frozen=True, slots=True)
class BlockRange:
    """Range of events that a block of examples covers.

    A writer, or a recovery after a crash, continues from its end.
    """

    partition: int  # of the events
    first_offset: int  # offset of the first event record in the block
    next_offset: int  # offset of the first event record after the block
    batch_next_offset: int  # the same for the micro-batch that contains the block
    watermark: int  # ms, after the block
    next_users_offset: int  # next offset of the users topic that was applied before the block


def encode_examples(block_range: BlockRange, batch: ExampleBatch, item_ids: ItemIds = NO_ITEM_IDS) -> bytes:
    """Encode one block of the examples topic, with the ids of items that its events name."""
    columns: dict[str, np.ndarray] = {}
    for prefix, part in (("", batch), ("queries.", batch.queries), ("lists.", batch.lists)):
        for name, value in part.arrays().items():
            if isinstance(value, np.ndarray):
                columns[prefix + name] = value
    if not batch.producer.any():  # most producers do not name themselves
        del columns["producer"]
    if np.array_equal(batch.sign, type_signs(batch.type)):
        del columns["sign"]
    columns["queries.user_keys"] = _trim_columns(batch.queries.user_keys)
    if not columns["queries.user_keys"].size:  # most users have no attributes
        del columns["queries.user_keys"]
    header = {name: getattr(block_range, name) for name in BlockRange.__slots__}
    return encode_block(header, columns | to_columns(item_ids))


def decode_examples(value: bytes) -> tuple[BlockRange, ExampleBatch]:
    """Decode a block of the examples topic; unknown columns are ignored."""
    header, columns = decode_block(value)
    nested: dict[str, dict[str, Any]] = {"": {}, "queries": {}, "lists": {}}
    for name, array in columns.items():
        prefix, _, field = name.rpartition(".")
        nested[prefix][field] = array
    nested[""].setdefault("producer", np.zeros(nested[""]["offset"].size, np.uint64))
    nested[""].setdefault("sign", type_signs(nested[""]["type"]))
    if "user_keys" in nested["queries"]:
        nested["queries"]["user_keys"] = _widen_columns(nested["queries"]["user_keys"], N_USER_KEYS)
    queries = Queries(**_known_columns(Queries, nested["queries"]))
    lists = CandidateLists(**_known_columns(CandidateLists, nested["lists"]))
    batch = ExampleBatch(**_known_columns(ExampleBatch, nested[""]), queries=queries, lists=lists)
    return BlockRange(**{name: header[name] for name in BlockRange.__slots__}), batch


def decode_item_ids(value: bytes) -> ItemIds:
    """Decode the item ids of a block of the examples topic."""
    return from_columns(decode_block(value)[1])


def keyed_blocks(first: int, blocks: Sequence[bytes]) -> list[Record]:
    """Records of the examples topic, with the offset that the writer expects as key."""
    return [(b"%d" % (first + i), block) for i, block in enumerate(blocks)]


def valid_blocks(records: Records) -> list[bytes]:
    """Select the blocks that are at the offset that their writer expected.

    A block at another offset came from a writer that did not know of the blocks before it. Every reader ignores it,
    and its writer sees the unexpected offset when the append returns. Records without a key are valid.
    """
    return [
        value
        for offset, key, value in zip(records.offsets, records.keys, records.values, strict=True)
        if value is not None and (key is None or key == b"%d" % offset)
    ]


def _trim_columns(values: np.ndarray) -> np.ndarray:
    """Drop the last columns of (n, w) values that hold only zeros."""
    return values[:, : int(np.flatnonzero(values.any(axis=0)).max(initial=-1)) + 1]


def _widen_columns(values: np.ndarray, width: int) -> np.ndarray:
    """Add columns of zeros to (n, w) values, or drop those of a later release."""
    wide = np.zeros((values.shape[0], width), values.dtype)
    wide[:, : values.shape[1]] = values[:, :width]
    return wide


def _known_columns(record_type: type, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value for name, value in columns.items() if name in record_type.__dataclass_fields__}  # type: ignore[attr-defined]
