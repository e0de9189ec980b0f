"""Ranges of offsets that are left out of training, by partition."""

from collections.abc import Sequence

import numpy as np

from stream.records.batches import ExampleBatch, Kind

Ranges = dict[str, list[tuple[int, int]]]  # by partition, from and to
PartitionRanges = Sequence[tuple[int, int]]  # of offsets, from and to


def excluded_rows(
    batch: ExampleBatch, skip: PartitionRanges | None, skip_impressions: PartitionRanges | None
) -> np.ndarray:
    """Which rows, (n,) bool, are not to be learnt: of events at these offsets, or of slates shown there."""
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
    """Which offsets, (n,) bool, lie in one of the ranges, (r, 2) from and to, sorted; they may overlap."""
    last = np.searchsorted(ranges[:, 0], offsets, side="right") - 1
    max_ends = np.maximum.accumulate(ranges[:, 1])
    is_inside: np.ndarray = (last >= 0) & (offsets < max_ends[np.maximum(last, 0)])
    return is_inside


def merge_ranges(base: dict[int, list[tuple[int, int]]], *added: Ranges) -> Ranges:
    """All ranges of all; those that touch become one."""
    result: Ranges = {}
    for partition in sorted({str(p) for p in base}.union(*added)):
        runs = result.setdefault(partition, [])
        extra = (span for ranges in added for span in ranges.get(partition, ()))
        for start, end in sorted([*base.get(int(partition), ()), *extra]):
            if runs and start <= runs[-1][1]:
                runs[-1] = runs[-1][0], max(runs[-1][1], end)
            elif start < end:
                runs.append((start, end))
    return {partition: runs for partition, runs in result.items() if runs}


def _merge_ranges(before: Ranges, added: Ranges) -> Ranges:
    return {p: sorted({*before.get(p, []), *added.get(p, [])}) for p in sorted(before.keys() | added.keys())}
