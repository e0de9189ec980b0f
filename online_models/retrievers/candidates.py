"""Candidates of queries: the union of all channels, with the items that a query excludes."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from online_models.state.item_table import ItemTable
from online_models.state.workspace import MASKED, Workspace, mask, unmask
from stream.jit import as_tuple, kernel


class Channel(IntEnum):
    """Retriever that found a candidate, as its bit in `Candidates.channels`.

    Only append members: the numbers are logged.
    """

    history = 0
    covisit = 1
    sessions = 2
    two_tower = 3
    trending = 4
    popular = 5
    newest = 6
    fresh = 7
    ease = 8


class Exclusions(NamedTuple):
    """Items that must not become candidates; those of query i are [start[i], start[i + 1])."""

    start: np.ndarray  # (n + 1,) int64
    row: np.ndarray  # (h,) int32, -1 = an item that the table does not know

    @property
    def max_count(self) -> int:
        """Largest number of one query."""
        if self.start.size <= 2:
            return int(self.row.size)
        return int((self.start[1:] - self.start[:-1]).max())


def empty_exclusions(n_queries: int) -> Exclusions:
    return Exclusions(np.zeros(n_queries + 1, np.int64), np.zeros(0, np.int32))


class CandidateFilter(NamedTuple):
    """Items that n queries may find, for kernels."""

    eligible: np.ndarray  # (≥ items,) uint8 by item row
    exclusion_start: np.ndarray  # (n + 1,) int64
    exclusion: np.ndarray  # (h,) int32
    entry_index: np.ndarray  # scratch by item row, see `Workspace`


def make_filter(
    items: ItemTable, workspace: Workspace, n_queries: int, eligible: np.ndarray | None, exclusions: Exclusions | None
) -> CandidateFilter:
    """Return the filter of n queries as a plain tuple; None: all items, no exclusions."""
    entry_index = workspace.reserve(len(items))
    start, row = exclusions or empty_exclusions(n_queries)
    eligible = workspace.all_eligible if eligible is None else eligible
    return as_tuple(CandidateFilter(eligible, start, row, entry_index))


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidates of n queries: those of query i are entries [start[i], start[i + 1])."""

    start: np.ndarray  # (n + 1,) int64
    row: np.ndarray  # (m,) int32, item rows
    channels: np.ndarray  # (m,) uint16, bit c set: channel c found it


@kernel
def _merge(
    rows: np.ndarray, channels: np.ndarray, widths: np.ndarray, exclusions: Exclusions, limit: int,
    entry_index: np.ndarray, start: np.ndarray, out: np.ndarray, bits: np.ndarray,
) -> None:  # fmt: skip
    """Write the union of each query's rows; only `history` may offer excluded items.

    The first widths[0] columns of `rows` are from channels[0], the next widths[1] from channels[1], and so on.
    """
    exclusion_start, exclusion = exclusions
    end = 0
    for i in range(rows.shape[0]):
        excluded_rows, column = exclusion[exclusion_start[i] : exclusion_start[i + 1]], 0
        for c in range(channels.size):
            count, bit = 0, np.uint16(1 << channels[c])
            if channels[c] != 0:
                mask(excluded_rows, entry_index)
            for j in range(column, column + widths[c]):
                row = rows[i, j]
                if row < 0 or entry_index[row] == MASKED or count >= limit:
                    continue
                count += 1
                if entry_index[row] < 0:
                    entry_index[row] = end
                    out[end] = row
                    bits[end] = 0
                    end += 1
                bits[entry_index[row]] |= bit
            column += widths[c]
        unmask(excluded_rows, entry_index)
        for m in range(start[i], end):
            entry_index[out[m]] = -1
        start[i + 1] = end


def merge_candidates(
    channels: Mapping[Channel, np.ndarray], limit: int, exclusions: Exclusions, workspace: Workspace
) -> Candidates:
    """Merge at most `limit` candidates of each channel, (n, k) int32 item rows, in order."""
    rows = np.concatenate(list(channels.values()), axis=1)
    numbers = np.array(list(channels), np.int64)
    widths = np.array([part.shape[1] for part in channels.values()], np.int64)
    start = np.zeros(rows.shape[0] + 1, np.int64)
    row, bits = np.empty(rows.size, np.int32), np.empty(rows.size, np.uint16)
    _merge(rows, numbers, widths, as_tuple(exclusions), limit, workspace.entry_index, start, row, bits)
    return Candidates(start, row[: start[-1]], bits[: start[-1]])
