"""Offset ranges on the command line: PARTITION:FROM-TO."""

import re

from headrace.commands.errors import UsageError
from online_models.control import Ranges
from stream.logs import EventLog

_PATTERN = re.compile(r"([0-9]{1,9}):([0-9]{1,30})-([0-9]{1,30})", re.ASCII)


def parse_ranges(option: str, texts: list[str]) -> Ranges:
    """Parse PARTITION:FROM-TO texts into {partition: [(from, to)]}."""
    ranges: Ranges = {}
    for text in texts:
        match = _PATTERN.fullmatch(text)
        if not match or int(match[2]) >= int(match[3]):
            raise UsageError(
                f"{option} {text!r} is invalid; expected PARTITION:FROM-TO with FROM < TO, such as 0:1200-1450"
            )
        ranges.setdefault(str(int(match[1])), []).append((int(match[2]), int(match[3])))
    return ranges


def check_ranges(log: EventLog, topic: str, option: str, ranges: Ranges) -> None:
    """ValueError if a range names a partition or offsets that the topic does not have."""
    ends = log.end_offsets(topic)
    for partition, spans in ranges.items():
        end = ends.get(int(partition))
        if end is None:
            raise ValueError(f"{option} names partition {partition}; expected one of {sorted(ends)}")
        for first, next_ in spans:
            if next_ > end:
                raise ValueError(
                    f"{option} {partition}:{first}-{next_} ends after the last event; expected TO of at most {end}"
                )
