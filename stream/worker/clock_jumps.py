"""Handle records whose append times fall, because a clock that was ahead has been corrected.

Events that were accepted while the clock was ahead can have moved the watermark by days. It would close every later
impression at once. So a new micro-batch starts where the time falls, and the watermark returns to that time.
"""

from itertools import pairwise

import numpy as np

from stream.clock import HOUR_MS
from stream.logs import Records

MAX_TIME_FALL_MS = HOUR_MS  # smaller falls are differences between clocks of brokers or producers


def split_at_time_falls(records: Records) -> list[Records]:
    """Split records where their time falls by more than an hour; usually all stay together."""
    if len(records) < 2 or max(records.times) - min(records.times) <= MAX_TIME_FALL_MS:
        return [records]
    falls = np.flatnonzero(np.diff(np.array(records.times, np.int64)) < -MAX_TIME_FALL_MS) + 1
    bounds = [0, *falls.tolist(), len(records)]
    return [records.part(start, end) for start, end in pairwise(bounds)]
