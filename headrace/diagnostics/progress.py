"""Follow events through the log: which are read by stream, which are in the model."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from headrace.diagnostics.results import CheckResult, failed, format_count, format_seconds, passed
from online_models.training.updates import decode_update
from online_models.versions import checkpoints
from online_models.versions.checkpoints import DamagedCheckpoint
from stream.clock import Clock
from stream.config import Settings
from stream.logs import EventLog
from stream.topics import EVENTS, MODEL_UPDATES

_OBSERVATION_S = 5.0  # within which a process that has work must make progress
_POLL_S = 0.25
_LATE_S = 60.0  # age of the oldest unread event above which a backlog that does not shrink is a problem
_READ_PARTITIONS = 8  # read in one snapshot
_NEWEST = 5  # records read to find the newest one: a log can have gaps
NAME = "event flow"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Positions in the events topic, by partition, at one moment."""

    ends: Mapping[int, int]
    starts: Mapping[int, int]
    read: Mapping[int, int]  # next offset of stream
    trained: Mapping[int, int]  # next offset of the newest state of the model
    version: str = ""  # of that state
    updated_ms: int = 0  # time of its record
    read_age_s: float = 0.0  # age of the oldest event that stream has not read
    trained_age_s: float = 0.0  # the same for learn

    @property
    def unread(self) -> int:
        return self._count_between(self.read, self.ends)

    @property
    def untrained(self) -> int:
        """Events that stream has read and learn has not trained on."""
        return self._count_between(self.trained, self.read)

    def _count_between(self, positions: Mapping[int, int], ends: Mapping[int, int]) -> int:
        """Retained records from positions to ends."""
        return sum(max(0, end - max(positions.get(p, 0), self.starts.get(p, 0))) for p, end in ends.items())


@dataclass(frozen=True, slots=True)
class Observation:
    """Two snapshots, some seconds apart if there was work to do."""

    first: Snapshot
    last: Snapshot
    seconds: float

    @property
    def stream_moved(self) -> bool:
        return self.last.read != self.first.read

    @property
    def learn_moved(self) -> bool:
        return self.last.version != self.first.version or self.last.trained != self.first.trained


def take_snapshot(log: EventLog, settings: Settings, clock: Clock) -> Snapshot:
    """Read the positions of stream and of the model."""
    now_ms = clock.now_ms()
    version, trained, updated_ms = _read_newest_state(log, settings)
    read = {partition: position.offset for partition, position in log.committed(EVENTS, "stream").items()}
    ends = log.end_offsets(EVENTS)
    starts = {partition: log.start_offset(EVENTS, partition) for partition in ends}
    return Snapshot(
        ends, starts, read, trained, version, updated_ms,
        _age_of_oldest(log, starts, read, ends, now_ms), _age_of_oldest(log, starts, trained, read, now_ms),
    )  # fmt: skip


def _read_newest_state(log: EventLog, settings: Settings) -> tuple[str, dict[int, int], int]:
    """Version, offsets and time of the last model update, or else of the newest checkpoint."""
    end = log.end_offset(MODEL_UPDATES, 0)
    start = max(log.start_offset(MODEL_UPDATES, 0), end - _NEWEST)
    if end > start and len(records := log.read(MODEL_UPDATES, 0, start, _NEWEST)):
        update = decode_update(records.values[-1] or b"")
        return update.version, {int(p): offset for p, offset in update.offsets.items()}, records.times[-1]
    for version in reversed(checkpoints.list_version_names(settings.checkpoints)):
        try:
            manifest = checkpoints.read_manifest(settings.checkpoints, version)
        except (OSError, DamagedCheckpoint):
            continue
        return version, {int(p): offset for p, offset in manifest.offsets.items()}, manifest.created
    return "", {}, 0


def _age_of_oldest(
    log: EventLog, starts: Mapping[int, int], positions: Mapping[int, int], ends: Mapping[int, int], now_ms: int
) -> float:
    """Age in seconds of the oldest record between positions and ends; 0 if there is none.

    It looks at the partitions with the most records: with many partitions, the others would take too long.
    """
    ages = [0.0]
    first = {partition: max(positions.get(partition, 0), starts[partition]) for partition in ends}
    for partition in sorted(ends, key=lambda partition: first[partition] - ends[partition])[:_READ_PARTITIONS]:
        position = first[partition]
        if position < ends[partition] and len(records := log.read(EVENTS, partition, position, 1)):
            ages.append((now_ms - records.times[0]) / 1000)
    return max(ages)


def observe(take: Callable[[], Snapshot], limit_s: float = _OBSERVATION_S) -> Observation:
    """Take snapshots until all work is done or moves, for at most some seconds."""
    started = time.monotonic()
    first = last = take()
    while first.unread or first.untrained:
        seconds = time.monotonic() - started
        observation = Observation(first, last, seconds)
        has_stream_news = observation.stream_moved or not last.unread
        has_learn_news = observation.learn_moved or not last.untrained
        if seconds >= limit_s or (has_stream_news and has_learn_news):
            break
        time.sleep(_POLL_S)
        last = take()
    return Observation(first, last, time.monotonic() - started)


def check_flow(observation: Observation, running: Mapping[str, bool], is_paused: bool) -> CheckResult:
    """Check that no event is lost or stuck between the log and the model.

    `running`: by process; `is_paused`: training is paused, so that untrained events are expected.
    """
    last, problems, fixes = observation.last, list[str](), list[str]()
    for problem, fix in (
        *_find_gaps(last),
        *_find_backlog("stream", last.unread, observation.stream_moved, observation, running),
        *(() if is_paused else _find_backlog("learn", last.untrained, observation.learn_moved, observation, running)),
    ):
        problems.append(problem)
        fixes.append(fix)
    events = format_count(sum(last.ends.values()), "event")
    detail = f"{last.unread:,} of {events} unread by stream, {last.untrained:,} untrained"
    if problems:
        return failed(NAME, "; ".join([detail, *problems]), "; ".join(dict.fromkeys(fixes)))
    return passed(NAME, detail)


def _find_gaps(last: Snapshot) -> list[tuple[str, str]]:
    """Events that stream can never read, and positions beyond the end of the topic."""
    found = []
    for partition, position in last.read.items():
        start, end = last.starts.get(partition, 0), last.ends.get(partition, 0)
        if position < start:
            lost = format_count(start - position, "event")
            fix = "produce them again from their source; raise HEADRACE_LOG__RETENTION above the longest outage"
            found.append((f"{lost} of partition {partition} were deleted before stream read them", fix))
        if position > end:
            problem = f"stream has read partition {partition} up to {position:,}, but it ends at {end:,}"
            found.append(
                (problem, "the topic was replaced or restored: restore the newer copy, or use a new log.prefix")
            )
    return found


def _find_backlog(
    process: str, count: int, has_moved: bool, observation: Observation, running: Mapping[str, bool]
) -> list[tuple[str, str]]:
    """Events that wait for a process which does not run, is stuck, or is too slow."""
    if not count:
        return []
    last, first = observation.last, observation.first
    age_s = last.read_age_s if process == "stream" else last.trained_age_s
    waiting = f"{format_count(count, 'event')} wait for {process}, the oldest for {format_seconds(age_s)}"
    if not has_moved and not running[process]:
        return [(f"{waiting}, which does not run", f"start headrace {process}")]
    if not has_moved:
        stuck = f"{waiting}, which made no progress in {observation.seconds:.0f} s"
        return [(stuck, f"read the log of {process} and restart it; if it stops there again, its log names the offset")]
    before = first.unread if process == "stream" else first.untrained
    if age_s > _LATE_S and count >= before:
        cause = (
            "start more headrace stream, up to one per partition" if process == "stream" else "give learn a faster core"
        )
        return [(f"{waiting}, and the backlog does not shrink", cause)]
    return []
