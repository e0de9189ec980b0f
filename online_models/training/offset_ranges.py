"""Ranges of offsets that are left out of training, by partition."""

from collections.abc import Sequence

import numpy as np

from stream.records.batches import ExampleBatch, Kind

Ranges = dict[str, list[tuple[int, int]]]  # by partition, from and to
Runs = Sequence[tuple[int, int]]  # of offsets, from and to


def left_out(batch: ExampleBatch, skip: Runs | None, slates: Runs | None) -> np.ndarray:
    """Which rows, (n,) bool, are not to be learnt: of events at these offsets, or of slates shown there."""
    out = np.zeros(len(batch), np.bool_)
    if skip:
        out |= _of(batch, skip)
    if slates:
        out |= _of(batch, slates) & ~((batch.kind == Kind.action) & batch.organic)
    return out


def _of(batch: ExampleBatch, runs: Runs) -> np.ndarray:
    ranges = np.array(sorted(runs), np.int64)
    inside_: np.ndarray = inside(ranges, batch.offset) | inside(ranges, batch.origin)
    return inside_


def inside(ranges: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Which offsets, (n,) bool, lie in one of the ranges, (r, 2) from and to, sorted; they may overlap."""
    last = np.searchsorted(ranges[:, 0], offsets, side="right") - 1
    reached = np.maximum.accumulate(ranges[:, 1])
    inside: np.ndarray = (last >= 0) & (offsets < reached[np.maximum(last, 0)])
    return inside


def together(before: dict[int, list[tuple[int, int]]], *added: Ranges) -> Ranges:
    """All ranges of all; those that touch become one."""
    joined: Ranges = {}
    for partition in sorted({str(p) for p in before}.union(*added)):
        runs = joined.setdefault(partition, [])
        more = (one for ranges in added for one in ranges.get(partition, ()))
        for first, next_ in sorted([*before.get(int(partition), ()), *more]):
            if runs and first <= runs[-1][1]:
                runs[-1] = runs[-1][0], max(runs[-1][1], next_)
            elif first < next_:
                runs.append((first, next_))
    return {partition: runs for partition, runs in joined.items() if runs}


def _together(before: Ranges, added: Ranges) -> Ranges:
    return {p: sorted({*before.get(p, []), *added.get(p, [])}) for p in sorted(before.keys() | added.keys())}
