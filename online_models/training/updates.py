"""Records of the model-updates topic: the changes of one step, which replicas apply."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from online_models.versions.checkpoints import version_name
from stream.records.column_blocks import decode_block, encode_block


@dataclass(frozen=True, slots=True)
class ModelUpdate:
    """The changes of a step, or, if `base` is set, a new epoch that continues from that version."""

    epoch: int
    step: int
    base: str
    items_offset: int  # next offset of the items topic
    control_offset: int  # next offset of the control topic
    offsets: dict[str, int]  # next offset of the events that the state covers, by partition
    changes: dict[str, np.ndarray]
    blocked_reason: str = ""  # why this state must not be served, "" if it may

    @property
    def version(self) -> str:
        return version_name(self.epoch, self.step)


_HEADER_FIELDS = ("epoch", "step", "base", "items_offset", "control_offset", "offsets")


def encode_update(update: ModelUpdate) -> bytes:
    blocked = {"blocked_reason": update.blocked_reason} if update.blocked_reason else {}
    return encode_block({name: getattr(update, name) for name in _HEADER_FIELDS} | blocked, update.changes)


def decode_update(value: bytes) -> ModelUpdate:
    """Decode an update; its columns are read-only views of `value`."""
    header, changes = decode_block(value)
    header_fields: dict[str, Any] = {name: header[name] for name in _HEADER_FIELDS}
    return ModelUpdate(**header_fields, changes=changes, blocked_reason=header.get("blocked_reason", ""))
