"""The journal: which offsets each step consumed, on disk before the step is taken."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from online_models.checkpoints import name_of


class Read(msgspec.Struct, frozen=True, array_like=True):
    """Examples of one partition: offsets [first, next)."""

    partition: int
    first: int
    next: int


class Step(msgspec.Struct, frozen=True, tag="step"):
    """One micro-batch: what was read, and how far the catalogue had been read by then."""

    epoch: int
    step: int
    reads: list[Read]
    items: int


class Rollback(msgspec.Struct, frozen=True, tag="rollback"):
    """A new epoch that goes on from an older version."""

    epoch: int
    step: int  # of the version gone back to
    version: str
    examples: dict[str, int]  # next offset of the examples topic from which it goes on, by partition
    skip: dict[str, list[tuple[int, int]]]  # offsets of events left out, by partition
    control: int  # next offset of the control topic


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
        os.write(self._file, msgspec.json.encode(entry) + b"\n")
        os.fdatasync(self._file)

    def rotate(self, epoch: int, step: int) -> None:
        """Go on in a new file that starts with this step."""
        self.close()
        path = self._folder / f"{name_of(epoch, step)}.jsonl"
        if path.exists():  # left by a process that died: a line it did not finish must not spoil the next one
            whole = path.read_bytes().rfind(b"\n") + 1
            os.truncate(path, whole)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        folder = os.open(self._folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def entries(folder: Path) -> Iterator[Entry]:
    """All entries in the order they were taken; a line cut off by a crash is no entry, since its step was never taken."""
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            try:
                yield _decoder.decode(line)
            except msgspec.DecodeError as error:
                raise ValueError(f"journal {path} has a line that is no entry: {error}: {line[:80]!r}") from None


def after(folder: Path, epoch: int, step: int) -> Iterator[Entry]:
    """The entries that lead on from a version: later steps of its epoch, or the newest epoch from its rollback on."""
    found = list(entries(folder))
    last = max((entry.epoch for entry in found), default=epoch)
    for entry in found:
        if entry.epoch == last and (last > epoch or entry.step > step):
            yield entry
