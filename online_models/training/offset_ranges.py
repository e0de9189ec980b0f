"""Ranges of event offsets that are excluded from training, by partition."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from online_models.control import Ranges
from stream.records.batches import ExampleBatch, Kind

PartitionRanges = Sequence[tuple[int, int]]  # offsets [from, to)


def excluded_rows(
    batch: ExampleBatch, skip: PartitionRanges | None, skip_impressions: PartitionRanges | None
) -> np.ndarray:
    """Mask of the rows, (n,) bool, whose events or impressions are excluded from training."""
    is_excluded = np.zeros(len(batch), np.bool_)
    if skip:
        is_excluded |= _in_ranges(batch, skip)
    if skip_impressions:
        is_excluded |= _in_ranges(batch, skip_impressions) & ~((batch.kind == Kind.action) & batch.organic)
    return is_excluded


def _in_ranges(batch: ExampleBatch, offset_ranges: PartitionRanges) -> np.ndarray:
    ranges = np.array(sorted(offset_ranges), np.int64)
    is_inside: np.ndarray = contains(ranges, batch.offset) | contains(ranges, batch.impression_offset)
    return is_inside


def contains(ranges: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Mask of the offsets, (n,) bool, inside sorted ranges, (r, 2), which may overlap."""
    last = np.searchsorted(ranges[:, 0], offsets, side="right") - 1
    max_ends = np.maximum.accumulate(ranges[:, 1])
    is_inside: np.ndarray = (last >= 0) & (offsets < max_ends[np.maximum(last, 0)])
    return is_inside


def merge_ranges(*parts: Mapping[int, PartitionRanges] | Mapping[str, PartitionRanges]) -> Ranges:
    """Union of ranges by partition, whose keys may be numbers; ranges that touch become one.

    >>> merge_ranges({0: [(5, 9)]}, {"0": [(1, 5), (20, 30)], "1": [(2, 2)]})
    {'0': [(1, 9), (20, 30)]}
    """
    ranges: Ranges = {}
    for part in parts:
        for partition, partition_ranges in part.items():
            ranges.setdefault(str(partition), []).extend(partition_ranges)
    merged = {partition: _coalesce(ranges[partition]) for partition in sorted(ranges)}
    return {partition: runs for partition, runs in merged.items() if runs}


def _coalesce(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if runs and start <= runs[-1][1]:
            runs[-1] = runs[-1][0], max(runs[-1][1], end)
        elif start < end:
            runs.append((start, end))
    return runs
