"""Which retriever found what: the union of all channels' candidates for each question."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from online_models.retrievers.top_k import HIDDEN, Hidden, hide, show
from online_models.state.workspace import Scratch
from stream.jit import kernel


class Channel(IntEnum):
    """Who found a candidate: the bit of `Found.channels`. Only ever add, the numbers are logged."""

    again = 0
    covisit = 1
    sessions = 2
    two_tower = 3
    trending = 4
    popular = 5
    newest = 6
    fresh = 7


@dataclass(frozen=True, slots=True)
class Found:
    """Candidates of n questions: those of question i are entries [start[i], start[i + 1])."""

    start: np.ndarray  # (n + 1,) int64
    row: np.ndarray  # (m,) int32, item rows
    channels: np.ndarray  # (m,) uint16, bit c set: channel c found it

    def first(self) -> np.ndarray:
        """The first channel that found each candidate, (m,) int64."""
        bits = (self.channels[:, None] >> np.arange(16, dtype=np.uint16)) & 1
        first: np.ndarray = bits.argmax(axis=1)
        return first


@kernel
def _merge(
    rows: np.ndarray,
    channel: np.ndarray,
    hidden_start: np.ndarray,
    hidden: np.ndarray,
    most: int,
    place: np.ndarray,
    out: np.ndarray,
    bits: np.ndarray,
    start: np.ndarray,
) -> None:
    """Union of each line's rows in order; what is hidden comes by the channel `again` only."""
    end = 0
    for i in range(rows.shape[0]):
        unwanted, taken, last = hidden[hidden_start[i] : hidden_start[i + 1]], 0, -1
        for j in range(rows.shape[1]):
            if channel[j] != last:
                last, taken = channel[j], 0
                if last != 0:
                    hide(unwanted, place)
            row = rows[i, j]
            if row < 0 or place[row] == HIDDEN or taken >= most:
                continue
            taken += 1
            if place[row] < 0:
                place[row] = end
                out[end] = row
                bits[end] = 0
                end += 1
            bits[place[row]] |= np.uint16(1 << channel[j])
        show(unwanted, place)
        for m in range(start[i], end):
            place[out[m]] = -1
        start[i + 1] = end


def merged(channels: Mapping[Channel, np.ndarray], most: int, hidden: Hidden, scratch: Scratch) -> Found:
    """At most `most` candidates of each channel; its rows are (n, k), or (k,) when they are the same for all."""
    n = hidden.start.size - 1
    lines = [rows if rows.ndim == 2 else rows[None].repeat(n, axis=0) for rows in channels.values()]
    channel = np.repeat([int(name) for name in channels], [line.shape[1] for line in lines])
    rows = np.ascontiguousarray(np.concatenate(lines, axis=1))
    start = np.zeros(n + 1, np.int64)
    row, bits = np.empty(rows.size, np.int32), np.empty(rows.size, np.uint16)
    _merge(rows, channel, hidden.start, hidden.row, most, scratch.place, row, bits, start)
    return Found(start, row[: start[-1]], bits[: start[-1]])
