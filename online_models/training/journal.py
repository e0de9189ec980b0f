"""Journal of the offsets that each step consumes, on disk before the step changes anything."""

import errno
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec

from online_models.control import Ranges
from online_models.versions.checkpoints import version_name
from stream.process.folders import make_folder


class OffsetRange(msgspec.Struct, frozen=True, array_like=True):
    """Offsets [first, next) of the examples of one partition."""

    partition: int
    first: int
    next: int


class Step(msgspec.Struct, frozen=True, tag="step"):
    """One micro-batch: the offsets that it consumes of the examples, items and control topics."""

    epoch: int
    step: int
    ranges: list[OffsetRange]
    items_offset: int  # next offset of the items topic
    control_offset: int = 0  # next offset of the control topic
    ranker: str = "listnet"  # name of the ranker that the step trained


class Rollback(msgspec.Struct, frozen=True, tag="rollback", omit_defaults=True):
    """A new epoch that continues from an older version."""

    epoch: int
    step: int  # of the older version
    version: str
    example_offsets: dict[str, int]  # next offset of the examples topic, by partition
    offsets: dict[str, int]  # next offset of the events, trained on or excluded, by partition
    skip: Ranges  # excluded events
    control_offset: int  # next offset of the control topic
    reason: str = ""  # id of the alarm that it remedies, or an operator's text
    skip_impressions: Ranges = {}  # offsets of which only impressions, and the actions on them, are excluded


Entry = Step | Rollback
_decoder = msgspec.json.Decoder(Entry)


class Journal:
    """JSON lines in one file per checkpoint interval; a line is durable before its step runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        make_folder(folder)
        self._file: int | None = None

    def append(self, entry: Entry) -> None:
        """Write an entry; it is durable when this returns."""
        if self._file is None:
            self.rotate(entry.epoch, entry.step)
        assert self._file is not None
        line = msgspec.json.encode(entry) + b"\n"
        try:
            if os.write(self._file, line) != len(line):
                raise OSError(errno.ENOSPC, "the disk is full; free some space")
            os.fdatasync(self._file)
        except OSError as error:
            raise OSError(error.errno, f"the journal cannot grow: {error.strerror}", str(self._folder)) from None

    def rotate(self, epoch: int, step: int) -> None:
        """Continue in a new file that starts with this step."""
        self.close()
        path = self._folder / f"{version_name(epoch, step)}.jsonl"
        if path.exists():  # left by a crash: its unfinished line must not corrupt the next one
            complete_bytes = path.read_bytes().rfind(b"\n") + 1
            os.truncate(path, complete_bytes)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        folder = os.open(self._folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


@dataclass(frozen=True, slots=True)
class EpochSegment:
    """Steps of one epoch on the path to a version, up to the step that a rollback returned to."""

    epoch: int
    last_step: int | None  # None: up to the end of the journal

    def contains(self, version: str) -> bool:
        epoch, _, step = version.partition("-")
        return int(epoch) == self.epoch and (self.last_step is None or int(step) <= self.last_step)


def epoch_path(folder: Path, epoch: int, last_step: int | None = None) -> list[EpochSegment]:
    """Path to a version: its own epoch, then the epoch that this one continues, and so on."""
    segments = [EpochSegment(epoch, last_step)]
    while (base := _base_version(folder, segments[-1].epoch)) is not None:
        base_epoch, _, step = base.partition("-")
        segments.append(EpochSegment(int(base_epoch), int(step)))
    return segments


def read_entries_after(folder: Path, segments: list[EpochSegment], epoch: int, step: int) -> Iterator[Entry]:
    """Read the entries after a version along the path that it lies on, in order."""
    for segment in reversed([segment for segment in segments if segment.epoch >= epoch]):
        start = step if segment.epoch == epoch else -1
        for entry in _read_epoch(folder, segment.epoch, start):
            if entry.step > start and (segment.last_step is None or entry.step <= segment.last_step):
                yield entry


def prune(folder: Path, oldest: str, starts: Mapping[int, int]) -> None:
    """Remove files that lead to no retained version and whose examples the log has deleted.

    `oldest`: the oldest retained version. `starts`: the first offset of the examples topic, by partition.
    """
    for path, next_path in pairwise(sorted(folder.glob("*-*.jsonl"))):
        ranges = [
            offset_range for entry in _read_lines(path) if isinstance(entry, Step) for offset_range in entry.ranges
        ]
        if next_path.stem > oldest or any(
            offset_range.next > starts[offset_range.partition] for offset_range in ranges
        ):
            return
        path.unlink()


def newest_epoch(folder: Path) -> int:
    """The latest epoch that has a complete entry; 1 if there is none."""
    epochs = {int(path.stem.partition("-")[0]) for path in folder.glob("*-*.jsonl")}
    return max((epoch for epoch in epochs if any(_read_epoch(folder, epoch, -1))), default=1)


def read_entries(folder: Path) -> Iterator[Entry]:
    """Read all entries in order."""
    for path in sorted(folder.glob("*-*.jsonl")):
        yield from _read_lines(path)


def _read_epoch(folder: Path, epoch: int, step: int) -> Iterator[Entry]:
    """Read the entries of an epoch, except files that end at or before a step."""
    paths = sorted(folder.glob(f"{epoch:06d}-*.jsonl"))
    needed = [path for path, next_ in pairwise(paths) if int(next_.stem.partition("-")[2]) > step]
    for path in (*needed, *paths[-1:]):
        yield from _read_lines(path)


def _base_version(folder: Path, epoch: int) -> str | None:
    """The version that an epoch continues, from the rollback that begins it; None: first epoch."""
    first = next(_read_epoch(folder, epoch, -1), None)
    return first.version if isinstance(first, Rollback) else None


def _read_lines(path: Path) -> Iterator[Entry]:
    """Read the complete lines: the step of a line cut off by a crash never ran."""
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            yield _decoder.decode(line)
        except msgspec.DecodeError as error:
            raise ValueError(f"journal {path} has an invalid line: {error}: {line[:80]!r}") from None
