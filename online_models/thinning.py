"""Which checkpoints are kept: all of the last minutes, some of the last day, a few of the last week."""

from collections.abc import Mapping

_HOUR, _DAY = 3_600_000, 86_400_000  # ms
_HOURS, _DAYS = 24, 7  # for which one an hour is kept, and one a day


def thinned(created: Mapping[str, int], newest: int) -> set[str]:
    """The versions to keep, of those created at so many ms: the newest few, and the first of each hour and day.

    The first of a span stays what it is while the span lasts, so that what is kept today is there tomorrow. Time is
    that of the last version: a learner that stood still for a week loses none of them.

    >>> hourly = {f"v{n:02}": n * 1_800_000 for n in range(8)}
    >>> sorted(thinned(hourly, newest=2))
    ['v00', 'v02', 'v04', 'v06', 'v07']
    """
    versions = sorted(created, key=lambda version: (created[version], version))
    kept, now = set(versions[-newest:]), max(created.values(), default=0)
    for span, spans in ((_HOUR, _HOURS), (_DAY, _DAYS)):
        firsts = {created[version] // span: version for version in reversed(versions)}
        kept |= {version for number, version in firsts.items() if now // span - number <= spans}
    return kept
