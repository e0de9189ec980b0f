"""The journal holds the path to every version, in complete lines."""

from pathlib import Path

import pytest

from online_models.training.journal import (
    Entry,
    EpochSegment,
    Journal,
    OffsetRange,
    Rollback,
    Step,
    epoch_path,
    newest_epoch,
    prune,
    read_entries,
    read_entries_after,
)


def step(epoch: int, number: int) -> Step:
    return Step(epoch, number, [OffsetRange(0, number, number + 1)], items_offset=number, control_offset=0)


def rollback(epoch: int, version: str) -> Rollback:
    return Rollback(epoch, int(version[7:]), version, {"0": 5}, {"0": 50}, {"0": [(1, 2)]}, control_offset=1)


TWICE_BACK: list[Entry] = [
    *(step(1, n) for n in range(1, 7)),
    rollback(2, "000001-000000004"),
    *(step(2, n) for n in range(5, 9)),
    rollback(3, "000001-000000002"),
    *(step(3, n) for n in range(3, 6)),
]


def write_journal(folder: Path, entries: list[Entry], every: int = 2) -> Path:
    """Write a journal that begins a new file after every few steps, and with each epoch."""
    journal = Journal(folder)
    for entry in entries:
        if isinstance(entry, Rollback):
            journal.rotate(entry.epoch, entry.step)
        journal.append(entry)
        if isinstance(entry, Step) and entry.step % every == 0:
            journal.rotate(entry.epoch, entry.step)
    journal.close()
    return folder


def test_entries_are_read_in_order(tmp_path: Path) -> None:
    assert list(read_entries(write_journal(tmp_path, TWICE_BACK))) == TWICE_BACK
    assert newest_epoch(tmp_path) == 3


@pytest.mark.parametrize("every", [1, 2, 100])
def test_a_path_leaves_out_steps_that_were_rolled_back(tmp_path: Path, every: int) -> None:
    folder = write_journal(tmp_path, TWICE_BACK, every)

    assert epoch_path(folder, 3) == [EpochSegment(3, None), EpochSegment(1, 2)]
    assert list(read_entries_after(folder, epoch_path(folder, 3), 1, 0)) == [*TWICE_BACK[:2], *TWICE_BACK[11:]]
    assert list(read_entries_after(folder, epoch_path(folder, 2, 6), 1, 0)) == [*TWICE_BACK[:4], *TWICE_BACK[6:9]]


@pytest.mark.parametrize(
    ("epoch", "number", "expected"),
    [(1, 1, TWICE_BACK[1:2] + TWICE_BACK[11:]), (1, 2, TWICE_BACK[11:]), (3, 2, TWICE_BACK[12:]), (3, 5, [])],
)
def test_entries_after_a_version_on_the_path_are_read(
    tmp_path: Path, epoch: int, number: int, expected: list[Entry]
) -> None:
    folder = write_journal(tmp_path, TWICE_BACK)

    assert list(read_entries_after(folder, epoch_path(folder, 3), epoch, number)) == expected


def test_a_version_that_was_rolled_back_is_not_on_the_path(tmp_path: Path) -> None:
    segments = epoch_path(write_journal(tmp_path, TWICE_BACK), 3)
    versions = ("000001-000000002", "000001-000000003", "000002-000000006", "000003-000000004")

    assert [any(segment.contains(version) for segment in segments) for version in versions] == [
        True,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_line_cut_off_by_a_crash_is_no_entry(tmp_path: Path, cut: int) -> None:
    folder = write_journal(tmp_path, [step(1, 1), step(1, 2), step(1, 3)], every=100)
    [path] = folder.glob("*.jsonl")
    path.write_bytes(path.read_bytes()[:-cut])

    assert list(read_entries(folder)) == [step(1, 1), step(1, 2)]

    journal = Journal(folder)
    journal.rotate(1, 1)
    journal.append(step(1, 3))

    assert list(read_entries(folder)) == [step(1, 1), step(1, 2), step(1, 3)]


def test_an_epoch_without_a_complete_entry_has_not_begun(tmp_path: Path) -> None:
    folder = write_journal(tmp_path, TWICE_BACK[:6])
    (folder / "000002-000000004.jsonl").write_bytes(b'{"type":"rollback","epoch":2')

    assert newest_epoch(folder) == 1


def test_an_invalid_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "000001-000000000.jsonl").write_bytes(b'{"type":"step"}\n')

    with pytest.raises(ValueError, match=r"journal .*000001-000000000.jsonl has an invalid line"):
        list(read_entries(tmp_path))


def test_an_empty_folder_starts_with_the_first_epoch(tmp_path: Path) -> None:
    assert newest_epoch(tmp_path) == 1
    assert list(read_entries_after(tmp_path, epoch_path(tmp_path, 1), 1, 0)) == []


def test_prune_removes_files_before_the_oldest_version(tmp_path: Path) -> None:
    folder = write_journal(tmp_path, TWICE_BACK)
    oldest = "000001-000000004"
    prune(folder, oldest, {0: 2})

    assert list(read_entries(folder)) == TWICE_BACK

    prune(folder, oldest, {0: 3})

    assert list(read_entries(folder)) == TWICE_BACK[2:]

    prune(folder, oldest, {0: 100})

    assert list(read_entries(folder)) == TWICE_BACK[4:]
    assert list(read_entries_after(folder, epoch_path(folder, 2), 1, 4)) == TWICE_BACK[6:11]
