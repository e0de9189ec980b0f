"""Ranges of offsets are merged, and found by binary search."""

import numpy as np
import pytest

from online_models.control import Ranges
from online_models.training.offset_ranges import contains, merge_ranges


@pytest.mark.parametrize(
    ("parts", "merged"),
    [
        ([], {}),
        ([{0: [(5, 9)]}, {"0": [(9, 12)]}], {"0": [(5, 12)]}),
        ([{"0": [(1, 3), (2, 6)]}, {"0": [(8, 9)]}], {"0": [(1, 6), (8, 9)]}),
        ([{"1": [(4, 5)]}, {"0": [(1, 2)]}], {"0": [(1, 2)], "1": [(4, 5)]}),
        ([{"0": [(3, 3)]}], {}),
    ],
    ids=["none", "touching", "overlapping", "partitions", "empty"],
)
def test_ranges_are_merged_by_partition(parts: list[Ranges], merged: Ranges) -> None:
    assert merge_ranges(*parts) == merged


def test_merging_leaves_its_arguments_alone() -> None:
    skip = {"0": [(1, 2)]}
    merge_ranges(skip, {"0": [(2, 3)]})

    assert skip == {"0": [(1, 2)]}


def test_offsets_inside_overlapping_ranges_are_found() -> None:
    ranges = np.array([(0, 10), (2, 3), (20, 21)])

    assert contains(ranges, np.array([-1, 0, 5, 9, 10, 20, 21])).tolist() == [
        False,
        True,
        True,
        True,
        False,
        True,
        False,
    ]
