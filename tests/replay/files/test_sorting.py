"""Events are sorted on disk, and equal times keep their order."""

import random

from replay.files.sorting import EventSorter


def test_chunks_are_merged_in_time_order() -> None:
    random_numbers = random.Random(1)
    times = [random_numbers.randrange(50) for _ in range(500)]
    sorter = EventSorter(chunk_events=64)
    sorter.add(times, [b"%d\t%d" % (i, ts) for i, ts in enumerate(times)], file=3)
    rows = list(sorter)

    assert rows == [(ts, 3, b"%d\t%d" % (i, ts)) for i, ts in sorted(enumerate(times), key=lambda row: row[1])]
