"""Blocks of the examples topic: encode, decode, and skip damaged or repeated ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream.logs import Record, Records
from stream.records.batches import CandidateLists, ExampleBatch, Queries
from stream.records.column_blocks import decode_block, encode_block


@dataclass(frozen=True, slots=True)
class BlockRange:
    """How far a block of examples reaches: what its writer, or a reader after a crash, goes on from."""

    partition: int  # of the events
    first_offset: int  # offset of the first event record it covers
    next_offset: int  # offset of the first one it does not cover
    batch_next_offset: int  # the same of the micro-batch that it is a part of
    watermark: int  # ms, after the block
    next_users_offset: int  # next offset of the users topic that was applied before the block


def encode_examples(block_range: BlockRange, batch: ExampleBatch) -> bytes:
    """One block of the examples topic."""
    columns: dict[str, np.ndarray] = {}
    for prefix, part in (("", batch), ("queries.", batch.queries), ("lists.", batch.lists)):
        for name, value in part.arrays().items():
            if isinstance(value, np.ndarray):
                columns[prefix + name] = value
    if not batch.producer.any():  # mostly nobody names one
        del columns["producer"]
    header = {name: getattr(block_range, name) for name in BlockRange.__slots__}
    return encode_block(header, columns)


def decode_examples(value: bytes) -> tuple[BlockRange, ExampleBatch]:
    """A block of the examples topic; columns that this code does not know are left out."""
    header, columns = decode_block(value)
    nested: dict[str, dict[str, Any]] = {"": {}, "queries": {}, "lists": {}}
    for name, array in columns.items():
        prefix, _, field = name.rpartition(".")
        nested[prefix][field] = array
    nested[""].setdefault("producer", np.zeros(nested[""]["offset"].size, np.uint64))
    queries = Queries(**_known_columns(Queries, nested["queries"]))
    lists = CandidateLists(**_known_columns(CandidateLists, nested["lists"]))
    batch = ExampleBatch(**_known_columns(ExampleBatch, nested[""]), queries=queries, lists=lists)
    return BlockRange(**{name: header[name] for name in BlockRange.__slots__}), batch


def keyed_blocks(first: int, blocks: Sequence[bytes]) -> list[Record]:
    """Blocks as records of the examples topic, each with the offset at which its writer means it to stand as key."""
    return [(b"%d" % (first + i), block) for i, block in enumerate(blocks)]


def valid_blocks(records: Records) -> list[bytes]:
    """The blocks that stand where their writer meant them to.

    One that stands elsewhere came from a writer that did not know of those before it: it counts for nobody, and the
    first offset of the append told its writer so. Records without a key were written before this was checked.
    """
    return [
        value
        for offset, key, value in zip(records.offsets, records.keys, records.values, strict=True)
        if value is not None and (key is None or key == b"%d" % offset)
    ]


def _known_columns(record_type: type, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value for name, value in columns.items() if name in record_type.__dataclass_fields__}  # type: ignore[attr-defined]
