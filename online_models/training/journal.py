"""The journal: which offsets each step consumed, on disk before the step is taken."""

import errno
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec

from online_models.versions.checkpoints import version_name


class OffsetRange(msgspec.Struct, frozen=True, array_like=True):
    """Examples of one partition: offsets [first, next)."""

    partition: int
    first: int
    next: int


class Step(msgspec.Struct, frozen=True, tag="step"):
    """One micro-batch: what was read, and how far the catalogue had been read by then."""

    epoch: int
    step: int
    ranges: list[OffsetRange]
    items_offset: int
    control_offset: int = 0  # next offset of the control topic: how far people's orders had been read


class Rollback(msgspec.Struct, frozen=True, tag="rollback", omit_defaults=True):
    """A new epoch that goes on from an older version."""

    epoch: int
    step: int  # of the version gone back to
    version: str
    example_offsets: dict[str, int]  # next offset of the examples topic from which it goes on, by partition
    offsets: dict[str, int]  # next offset of the events, learnt or left out by then, by partition
    skip: dict[str, list[tuple[int, int]]]  # offsets of events left out, by partition
    control_offset: int  # next offset of the control topic
    reason: str = ""  # id of the alarm that it remedies, or what a person says
    skip_impressions: dict[
        str, list[tuple[int, int]]
    ] = {}  # offsets of which slates and their answers alone are left out


Entry = Step | Rollback
_decoder = msgspec.json.Decoder(Entry)


class Journal:
    """Lines of JSON in one file per checkpoint interval, each line durable before its step changes anything."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._file: int | None = None

    def append(self, entry: Entry) -> None:
        """Durable when this returns."""
        if self._file is None:
            self.rotate(entry.epoch, entry.step)
        assert self._file is not None
        line = msgspec.json.encode(entry) + b"\n"
        if os.write(self._file, line) != len(line):
            raise OSError(errno.ENOSPC, "the journal cannot grow: free some space", str(self._folder))
        os.fdatasync(self._file)

    def rotate(self, epoch: int, step: int) -> None:
        """Go on in a new file that starts with this step."""
        self.close()
        path = self._folder / f"{version_name(epoch, step)}.jsonl"
        if path.exists():  # left by a process that died: a line it did not finish must not spoil the next one
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
    """A part of the way to a version: the steps of one epoch, up to the one that a rollback went back to."""

    epoch: int
    last_step: int | None  # step, None = as far as the journal goes

    def contains(self, version: str) -> bool:
        epoch, _, step = version.partition("-")
        return int(epoch) == self.epoch and (self.last_step is None or int(step) <= self.last_step)


def epoch_path(folder: Path, epoch: int, last_step: int | None = None) -> list[EpochSegment]:
    """How a version came about: its own epoch, the one that this was built on, and so on, newest first."""
    segments = [EpochSegment(epoch, last_step)]
    while (base := _base_version(folder, segments[-1].epoch)) is not None:
        base_epoch, _, step = base.partition("-")
        segments.append(EpochSegment(int(base_epoch), int(step)))
    return segments


def read_entries_after(folder: Path, segments: list[EpochSegment], epoch: int, step: int) -> Iterator[Entry]:
    """The entries that lead on from a version along a way that it is on, in the order they were taken."""
    for segment in reversed([segment for segment in segments if segment.epoch >= epoch]):
        start = step if segment.epoch == epoch else -1
        for entry in _read_epoch(folder, segment.epoch, start):
            if entry.step > start and (segment.last_step is None or entry.step <= segment.last_step):
                yield entry


def prune(folder: Path, oldest: str, starts: Mapping[int, int]) -> None:
    """Remove what leads to no version that is kept, `oldest` being the first, once its examples have gone from the log.

    `starts`: the first offset that the examples topic still holds, by partition.
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
    """The last epoch that has begun, 1 if none has; a file without a whole line is no beginning."""
    epochs = {int(path.stem.partition("-")[0]) for path in folder.glob("*-*.jsonl")}
    return max((epoch for epoch in epochs if any(_read_epoch(folder, epoch, -1))), default=1)


def read_entries(folder: Path) -> Iterator[Entry]:
    """All entries in the order they were taken."""
    for path in sorted(folder.glob("*-*.jsonl")):
        yield from _read_lines(path)


def _read_epoch(folder: Path, epoch: int, step: int) -> Iterator[Entry]:
    """The entries of an epoch; files that have none after a step are not read."""
    paths = sorted(folder.glob(f"{epoch:06d}-*.jsonl"))
    needed = [path for path, next_ in pairwise(paths) if int(next_.stem.partition("-")[2]) > step]
    for path in (*needed, *paths[-1:]):
        yield from _read_lines(path)


def _base_version(folder: Path, epoch: int) -> str | None:
    """The version that an epoch goes on from, None for the first one: its journal begins with the rollback."""
    first = next(_read_epoch(folder, epoch, -1), None)
    return first.version if isinstance(first, Rollback) else None


def _read_lines(path: Path) -> Iterator[Entry]:
    """A line cut off by a crash is no entry, since its step was never taken."""
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            yield _decoder.decode(line)
        except msgspec.DecodeError as error:
            raise ValueError(f"journal {path} has a line that is no entry: {error}: {line[:80]!r}") from None
