"""Candidates and scores from lists of items that a query's history leads to.

Covisitation and session k-NN share these kernels. Each query has sources, such as the items of its history or sessions
like its own, and each source has a list of items. The score c of an item is the sum of
`coefficient[source, c] * scale[source] * weight[source, item]` over the sources.
"""

from typing import NamedTuple

import numpy as np

from online_models.retrievers.candidates import CandidateFilter
from online_models.retrievers.top_k import top_k
from online_models.state.workspace import MASKED, mask, unmask
from stream.jit import kernel


class Sources(NamedTuple):
    """Sources of n queries: those of query i are entries [start[i], start[i + 1])."""

    start: np.ndarray  # (n + 1,) int64
    row: np.ndarray  # (s,) int32, rows of `SourceLists`
    scale: np.ndarray  # (s,) float32
    coefficient: np.ndarray  # (s, scores) float32


class SourceLists(NamedTuple):
    """One list of items per row."""

    item: np.ndarray  # (rows, width) int32 item rows, -1 after the last
    weight: np.ndarray  # (rows, width) float32


@kernel
def allocate_sources(n_queries: int, size: int, n_scores: int) -> Sources:
    """Return space for `size` sources; the caller fills all columns."""
    start, row, scale = np.zeros(n_queries + 1, np.int64), np.empty(size, np.int32), np.empty(size, np.float32)
    return Sources(start, row, scale, np.empty((size, n_scores), np.float32))


@kernel
def _scan(
    begin: int, end: int, sources: Sources, lists: SourceLists, entry_index: np.ndarray, add_new: bool,
    pool: np.ndarray, out: np.ndarray, columns: tuple[int, ...],
) -> int:  # fmt: skip
    """Add the lists of sources [begin, end) to the scores in `out`; return the size of `pool`.

    An item with an entry is scored in that row of `out`; with `add_new` any other takes the next free entry of `pool`.
    """
    _, source_row, scale, coefficient = sources
    list_item, list_weight = lists
    count = 0
    for s in range(begin, end):
        row, source_scale = source_row[s], scale[s]
        first, second, last = coefficient[s, 0], coefficient[s, 1], coefficient[s, len(columns) - 1]
        for j in range(list_item.shape[1]):
            item = list_item[row, j]
            if item < 0:
                break
            at = entry_index[item]
            if at < 0:
                if not add_new or at == MASKED or count >= pool.size:
                    continue
                at = count
                entry_index[item] = at
                pool[at] = item
                for c in range(len(columns)):
                    out[at, columns[c]] = 0.0
                count += 1
            value = list_weight[row, j] * source_scale
            if first != 0.0:
                out[at, columns[0]] += first * value
            out[at, columns[1]] += second * value
            if len(columns) > 2:
                out[at, columns[2]] += last * value
    return count


@kernel
def retrieve_from_sources(
    sources: Sources, lists: SourceLists, candidates: CandidateFilter, event_counts: np.ndarray, pool_size: int,
    columns: tuple[int, ...], result: np.ndarray,
) -> None:  # fmt: skip
    """Fill `result`, (n, k), with the items of the largest score 0 + score 1, then -1.

    The sum is divided by sqrt(1 + actions on the item) where `event_counts`, (items, types) int32, has rows. `columns`
    counts the scores: (0, 1) or (0, 1, 2).
    """
    eligible, exclusion_start, exclusion, entry_index = candidates
    source_start = sources.start
    pool, scores = np.empty(pool_size, np.int32), np.empty(pool_size, np.float32)
    sums = np.empty((pool_size, len(columns)), np.float32)
    top = np.empty(result.shape[1], np.int64)
    for i in range(result.shape[0]):
        excluded_rows = exclusion[exclusion_start[i] : exclusion_start[i + 1]]
        mask(excluded_rows, entry_index)
        n_found = _scan(source_start[i], source_start[i + 1], sources, lists, entry_index, True, pool, sums, columns)
        unmask(excluded_rows, entry_index)
        n_eligible = 0
        for j in range(n_found):
            item = pool[j]
            entry_index[item] = -1
            if eligible[item]:
                score = sums[j, 0] + sums[j, 1]
                if event_counts.shape[0]:
                    score = np.float32(score / np.sqrt(event_counts[item, 1:].sum() + 1.0))
                scores[n_eligible] = score
                pool[n_eligible] = item
                n_eligible += 1
        k = top_k(scores, n_eligible, top)
        for j in range(k):
            result[i, j] = pool[top[j]]
        result[i, k:] = -1


@kernel
def write_source_scores(
    sources: Sources, source_lists: SourceLists, start: np.ndarray, row: np.ndarray, entry_index: np.ndarray,
    out: np.ndarray, columns: tuple[int, ...],
) -> None:  # fmt: skip
    """Add the scores of listed items to `out`; of an item listed twice, to its last entry.

    `start` and `row` are those of `ItemLists`.
    """
    source_start = sources.start
    empty_pool = np.empty(0, np.int32)
    for i in range(start.size - 1):
        for m in range(start[i], start[i + 1]):
            if row[m] >= 0:
                entry_index[row[m]] = m
        begin, end = source_start[i], source_start[i + 1]
        _scan(begin, end, sources, source_lists, entry_index, False, empty_pool, out, columns)
        for m in range(start[i], start[i + 1]):
            if row[m] >= 0:
                entry_index[row[m]] = -1
