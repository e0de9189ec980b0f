"""The model-updates topic: what one step changed, for replicas to follow."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from online_models.versions.checkpoints import name_of
from stream.records.column_blocks import decode_block, encode_block


@dataclass(frozen=True, slots=True)
class Update:
    """A step's changes; or, where `base` is set, a new epoch that goes on from that version."""

    epoch: int
    step: int
    base: str
    items: int  # next offset of the items topic
    control: int  # next offset of the control topic
    offsets: dict[str, int]  # next offset of the events that the state covers, by partition
    changes: dict[str, np.ndarray]
    refused: str = ""  # why nobody is to answer from this state

    @property
    def version(self) -> str:
        return name_of(self.epoch, self.step)


_PLAIN = ("epoch", "step", "base", "items", "control", "offsets")


def encode_update(update: Update) -> bytes:
    refused = {"refused": update.refused} if update.refused else {}
    return encode_block({name: getattr(update, name) for name in _PLAIN} | refused, update.changes)


def decode_update(value: bytes) -> Update:
    """An update; its columns are read-only views of `value`."""
    header, changes = decode_block(value)
    plain: dict[str, Any] = {name: header[name] for name in _PLAIN}
    return Update(**plain, changes=changes, refused=header.get("refused", ""))
