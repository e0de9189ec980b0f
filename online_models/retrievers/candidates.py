"""Which retriever found what: the union of all channels' candidates for each question."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from online_models.retrievers.top_k import MASKED, Exclusions, mask, unmask
from online_models.state.workspace import Workspace
from stream.jit import kernel


class Channel(IntEnum):
    """Who found a candidate: the bit of `Found.channels`. Only ever add, the numbers are logged."""

    history = 0
    covisit = 1
    sessions = 2
    two_tower = 3
    trending = 4
    popular = 5
    newest = 6
    fresh = 7


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidates of n questions: those of question i are entries [start[i], start[i + 1])."""

    start: np.ndarray  # (n + 1,) int64
    row: np.ndarray  # (m,) int32, item rows
    channels: np.ndarray  # (m,) uint16, bit c set: channel c found it

    def first_channels(self) -> np.ndarray:
        """The first channel that found each candidate, (m,) int64."""
        bits = (self.channels[:, None] >> np.arange(16, dtype=np.uint16)) & 1
        first: np.ndarray = bits.argmax(axis=1)
        return first


@kernel
def _merge(
    rows: np.ndarray,
    channel: np.ndarray,
    exclusion_start: np.ndarray,
    exclusions: np.ndarray,
    limit: int,
    entry_index: np.ndarray,
    out: np.ndarray,
    bits: np.ndarray,
    start: np.ndarray,
) -> None:
    """Union of each line's rows in order; what is hidden comes by the channel `history` only."""
    end = 0
    for i in range(rows.shape[0]):
        excluded_rows, count, last_channel = exclusions[exclusion_start[i] : exclusion_start[i + 1]], 0, -1
        for j in range(rows.shape[1]):
            if channel[j] != last_channel:
                last_channel, count = channel[j], 0
                if last_channel != 0:
                    mask(excluded_rows, entry_index)
            row = rows[i, j]
            if row < 0 or entry_index[row] == MASKED or count >= limit:
                continue
            count += 1
            if entry_index[row] < 0:
                entry_index[row] = end
                out[end] = row
                bits[end] = 0
                end += 1
            bits[entry_index[row]] |= np.uint16(1 << channel[j])
        unmask(excluded_rows, entry_index)
        for m in range(start[i], end):
            entry_index[out[m]] = -1
        start[i + 1] = end


def merge_candidates(
    channels: Mapping[Channel, np.ndarray], limit: int, exclusions: Exclusions, workspace: Workspace
) -> Candidates:
    """At most `most` candidates of each channel; its rows are (n, k), or (k,) when they are the same for all."""
    n = exclusions.start.size - 1
    channel_rows = [rows if rows.ndim == 2 else rows[None].repeat(n, axis=0) for rows in channels.values()]
    channel = np.repeat([int(name) for name in channels], [line.shape[1] for line in channel_rows])
    rows = np.ascontiguousarray(np.concatenate(channel_rows, axis=1))
    start = np.zeros(n + 1, np.int64)
    row, bits = np.empty(rows.size, np.int32), np.empty(rows.size, np.uint16)
    _merge(rows, channel, exclusions.start, exclusions.row, limit, workspace.entry_index, row, bits, start)
    return Candidates(start, row[: start[-1]], bits[: start[-1]])
