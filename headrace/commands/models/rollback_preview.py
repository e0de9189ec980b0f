"""Consequences of a rollback, before anything changes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.commands.models.range_contents import RangeContents, read_contents
from headrace.commands.output import format_count
from online_models.control import Ranges
from online_models.training import journal
from online_models.training.journal import Step
from online_models.training.offset_ranges import merge_ranges
from online_models.training.updates import decode_update
from online_models.versions import listing
from online_models.versions.checkpoints import Manifest
from stream.clock import HOUR_MS
from stream.logs import EventLog
from stream.topics import EVENTS, MODEL_UPDATES


@dataclass(frozen=True, slots=True)
class LearnerState:
    """The newest published state of the learner."""

    epoch: int = 0
    step: int = 0
    offsets: Mapping[str, int] = field(default_factory=dict)  # next offset of the events, by partition


@dataclass(frozen=True, slots=True)
class RollbackPreview:
    """The version that would serve, and the training that would be discarded or repeated."""

    version: str
    epoch: int  # of the state that would serve
    steps_discarded: int
    events_left_out: int
    events_retrained: int
    hours: float  # between the first and the last of these events, as they were recorded
    ranges: list[RangeContents]

    def to_dict(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return fields | {"dry_run": True, "ranges": [contents.to_dict() for contents in self.ranges]}

    def describe(self) -> str:
        """One line for the version, for discarded and repeated training, and for each range."""
        lines = [
            f"{self.version} would serve, as epoch {self.epoch}.",
            f"Discarded: {format_count(self.steps_discarded, 'step')} over {self.hours:,.1f} hours.",
            f"Left out of training: {format_count(self.events_left_out, 'record')} of events; "
            f"trained on again: {self.events_retrained:,}.",
        ]
        return "\n".join([*lines, *(contents.describe() for contents in self.ranges)])


def preview_rollback(
    log: EventLog, folder: Path, manifest: Manifest, skip: Ranges, impressions: Ranges
) -> RollbackPreview:
    """Preview a rollback to a version without these ranges."""
    state = _read_state(log, folder)
    spans = {p: (manifest.offsets.get(p, 0), end) for p, end in state.offsets.items()}
    n_events = sum(max(0, end - start) for start, end in spans.values())
    is_discarded = not skip and not impressions
    left_out = n_events if is_discarded else _count_inside(merge_ranges(skip), spans)
    excluded = [("--skip", skip), ("--impressions", impressions)]
    return RollbackPreview(
        version=manifest.version,
        epoch=state.epoch + 1,
        steps_discarded=_count_steps(folder, state, manifest),
        events_left_out=left_out,
        events_retrained=n_events - left_out,
        hours=_measure_hours(log, spans),
        ranges=[contents for option, ranges in excluded for contents in read_contents(log, option, ranges)],
    )


def _read_state(log: EventLog, folder: Path) -> LearnerState:
    """State of the newest model update, or of the newest version if there is no update."""
    end = log.end_offset(MODEL_UPDATES, 0)
    records = log.read(MODEL_UPDATES, 0, max(0, end - 1), 1)
    if len(records) and records.values[0]:
        update = decode_update(records.values[0])
        return LearnerState(update.epoch, update.step, update.offsets)
    manifests = [info.manifest for info in listing.read_versions(folder) if info.manifest]
    if not manifests:
        return LearnerState()
    return LearnerState(manifests[-1].epoch, manifests[-1].step, manifests[-1].offsets)


def _count_steps(folder: Path, state: LearnerState, manifest: Manifest) -> int:
    path = journal.epoch_path(folder / "journal", state.epoch, state.step)
    entries = journal.read_entries_after(folder / "journal", path, manifest.epoch, manifest.step)
    return sum(isinstance(entry, Step) for entry in entries)


def _count_inside(ranges: Ranges, spans: Mapping[str, tuple[int, int]]) -> int:
    """Number of offsets of disjoint ranges inside the span of their partition."""
    return sum(
        max(0, min(next_, spans[p][1]) - max(first, spans[p][0]))
        for p, runs in ranges.items()
        if p in spans
        for first, next_ in runs
    )


def _measure_hours(log: EventLog, spans: Mapping[str, tuple[int, int]]) -> float:
    times = [
        log.read(EVENTS, int(p), offset, 1).times
        for p, (start, end) in spans.items()
        if end > start
        for offset in (start, end - 1)
    ]
    known = [time for column in times for time in column]
    return (max(known) - min(known)) / HOUR_MS if known else 0.0
