"""Blocks of the examples topic: encode, decode, and skip damaged or repeated ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream.logs import Record, Records
from stream.records.batches import ExampleBatch, Lists, Questions
from stream.records.column_blocks import decode_block, encode_block


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a block of examples reaches: what its writer, or a reader after a crash, goes on from."""

    partition: int  # of the events
    first: int  # offset of the first event record it covers
    next: int  # offset of the first one it does not cover
    until: int  # the same of the micro-batch that it is a part of
    watermark: int  # ms, after the block
    users: int  # next offset of the users topic that was applied before the block


def encode_examples(reach: Reach, batch: ExampleBatch) -> bytes:
    """One block of the examples topic."""
    columns: dict[str, np.ndarray] = {}
    for prefix, part in (("", batch), ("questions.", batch.questions), ("lists.", batch.lists)):
        for name, value in part.arrays().items():
            if isinstance(value, np.ndarray):
                columns[prefix + name] = value
    if not batch.producer.any():  # mostly nobody names one
        del columns["producer"]
    header = {name: getattr(reach, name) for name in Reach.__slots__}
    return encode_block(header, columns)


def decode_examples(value: bytes) -> tuple[Reach, ExampleBatch]:
    """A block of the examples topic; columns that this code does not know are left out."""
    header, columns = decode_block(value)
    nested: dict[str, dict[str, Any]] = {"": {}, "questions": {}, "lists": {}}
    for name, array in columns.items():
        prefix, _, field = name.rpartition(".")
        nested[prefix][field] = array
    asked = nested["questions"]
    if "shown_start" not in asked:  # written before it was remembered what people were shown
        asked |= {"shown_start": np.zeros(asked["ts"].size + 1, np.int64), "shown_item": np.zeros(0, np.uint64)}
    nested[""].setdefault("producer", np.zeros(nested[""]["offset"].size, np.uint64))
    questions = Questions(**_known(Questions, asked))
    lists = Lists(**_known(Lists, nested["lists"]))
    batch = ExampleBatch(**_known(ExampleBatch, nested[""]), questions=questions, lists=lists)
    return Reach(**{name: header[name] for name in Reach.__slots__}), batch


def claims(first: int, blocks: Sequence[bytes]) -> list[Record]:
    """Blocks as records of the examples topic, each with the offset at which its writer means it to stand as key."""
    return [(b"%d" % (first + i), block) for i, block in enumerate(blocks)]


def sound_blocks(records: Records) -> list[bytes]:
    """The blocks that stand where their writer meant them to.

    One that stands elsewhere came from a writer that did not know of those before it: it counts for nobody, and the
    first offset of the append told its writer so. Records without a key were written before this was checked.
    """
    return [
        value
        for offset, key, value in zip(records.offsets, records.keys, records.values, strict=True)
        if value is not None and (key is None or key == b"%d" % offset)
    ]


def _known(kind: type, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value for name, value in columns.items() if name in kind.__dataclass_fields__}  # type: ignore[attr-defined]
