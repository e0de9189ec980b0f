"""The journal determines the bits of a learner, through crashes and damaged files."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from online_models.control import CheckpointCommand, PauseCommand, ResumeCommand, RollbackCommand, encode_command
from online_models.training import journal
from online_models.versions import checkpoints
from stream.logs import Record
from stream.topics import CONTROL, EXAMPLES, ITEMS, MODEL_UPDATES
from tests.support.faults import CrashInjector
from tests.support.learner_lab import Lab, find_differences, make_blocks, replay_bits

Blocks = dict[int, list[Record]]
SKIPPED = (20, 60)
SHORT = {(1, 1): CheckpointCommand(), (1, 2): RollbackCommand("000001-000000001", {"0": [SKIPPED]})}
LONG = {
    (1, 3): CheckpointCommand(),
    (1, 6): CheckpointCommand(),
    (1, 8): RollbackCommand("000001-000000003", {"0": [SKIPPED]}),
    (2, 5): CheckpointCommand(),
    (2, 7): RollbackCommand("000001-000000006"),
    (3, 9): CheckpointCommand(),
}


@pytest.fixture(scope="module")
def blocks() -> Blocks:
    return make_blocks()


@pytest.fixture
def lab(tmp_path: Path, blocks: Blocks) -> Lab:
    """A learner that has written two checkpoints and gone a few steps beyond the newest."""
    return Lab(tmp_path, blocks, {(1, 3): CheckpointCommand(), (1, 6): CheckpointCommand()}).finish()


def test_a_crash_at_any_moment_leaves_the_same_bits(tmp_path: Path, blocks: Blocks) -> None:
    few = {0: blocks[0][:3]}
    calm = Lab(tmp_path / "calm", few, SHORT).finish()
    assert (calm.start().progress.epoch, calm.start().progress.step) == (2, 3)
    for moment in range(calm.log.injector.ticks):
        lab = Lab(tmp_path / str(moment), few, SHORT, CrashInjector(moment)).finish()

        assert lab.crashes == 1
        assert lab.start().progress == calm.start().progress
        assert find_differences(lab.bits, calm.bits) == [], f"crash at moment {moment}"


def test_bits_follow_the_journal_across_rollbacks_and_crashes(tmp_path: Path, blocks: Blocks) -> None:
    calm = Lab(tmp_path / "calm", blocks, LONG).finish()
    rough = Lab(tmp_path / "rough", blocks, LONG, CrashInjector(*[11] * 20)).finish()
    progress = calm.start().progress

    assert progress.epoch == 3
    assert rough.crashes > 4
    assert rough.start().progress == progress
    assert find_differences(rough.bits, calm.bits) == []
    assert find_differences(calm.bits, replay_bits(calm, progress.epoch, progress.step)) == []


def test_records_that_arrive_during_downtime_join_no_old_step(tmp_path: Path, blocks: Blocks) -> None:
    lab = Lab(tmp_path, {0: blocks[0][:3]}, batch=2048)
    lab.step()
    bits = lab.bits
    lab.die()
    lab.log.write(EXAMPLES, 0, *blocks[0][3:])
    lab.log.write(ITEMS, 0, (b"late", b'{"item_id":"late"}'))

    assert find_differences(lab.bits, bits) == []
    assert lab.start().progress.step == 1


def test_blocks_published_twice_train_once(tmp_path: Path, blocks: Blocks) -> None:
    once = Lab(tmp_path / "once", {0: blocks[0][:4]}, batch=1).finish()
    twice = Lab(tmp_path / "twice", {0: [*blocks[0][:3], *blocks[0][1:4]]}, batch=1).finish()
    counters = {name for name in once.bits if name.startswith("items.counters")}

    assert not counters & set(find_differences(twice.bits, once.bits))
    assert twice.start().progress.offsets == once.start().progress.offsets


@pytest.mark.parametrize("left", [0, 1, 20])
def test_a_torn_last_journal_line_is_a_step_that_never_ran(lab: Lab, left: int) -> None:
    bits, step = lab.bits, lab.start().progress.step
    lab.die()
    newest = max((lab.settings.checkpoints / "journal").glob("*.jsonl"))
    *whole, last = newest.read_bytes().splitlines(keepends=True)
    newest.write_bytes(b"".join(whole) + last[:left])

    assert lab.start().progress.step == step - 1

    lab.finish()

    assert find_differences(lab.bits, bits) == []
    assert find_differences(bits, replay_bits(lab, 1, step)) == []


def flip(path: Path) -> None:
    data = bytearray((path / "items.counters.safetensors").read_bytes())
    data[-1] ^= 1
    (path / "items.counters.safetensors").write_bytes(data)


def truncate(path: Path) -> None:
    whole = (path / "covisitation.safetensors").read_bytes()
    (path / "covisitation.safetensors").write_bytes(whole[: len(whole) // 2])


def remove_file(path: Path) -> None:
    (path / "session_knn.store.safetensors").unlink()


def garble_manifest(path: Path) -> None:
    (path / "manifest.json").write_bytes(b"\x00\xff{")


def cut_manifest(path: Path) -> None:
    (path / "manifest.json").write_bytes((path / "manifest.json").read_bytes()[:-100])


def remove_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


DAMAGES = [flip, truncate, remove_file, garble_manifest, cut_manifest, remove_manifest, shutil.rmtree]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_recovery_around_a_damaged_checkpoint_has_the_same_bits(
    lab: Lab, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    bits = lab.bits
    lab.die()
    damage(lab.settings.checkpoints / "000001-000000006")
    worker = lab.start()

    assert find_differences(lab.bits, bits) == []
    assert worker.parent == "000001-000000003"
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert bool(errors) == (damage is not shutil.rmtree)
    assert all("000001-000000006 is damaged" in record.message for record in errors)


def test_recovery_from_the_journal_alone_has_the_same_bits(tmp_path: Path, blocks: Blocks) -> None:
    lab = Lab(tmp_path, blocks, LONG).finish()
    bits = lab.bits
    lab.die()
    for version in checkpoints.list_version_names(lab.settings.checkpoints):
        shutil.rmtree(lab.settings.checkpoints / version)

    assert find_differences(lab.bits, bits) == []


def test_a_step_missing_from_the_journal_stops_the_learner(lab: Lab) -> None:
    lab.die()
    newest = max((lab.settings.checkpoints / "journal").glob("*.jsonl"))
    lines = newest.read_bytes().splitlines(keepends=True)
    newest.write_bytes(b"".join(lines[1:]))

    with pytest.raises(ValueError, match="continues with step 000001-000000008 after 000001-000000006"):
        lab.start()


@pytest.mark.parametrize(
    "command",
    [
        b"no json",
        encode_command(RollbackCommand("000009-000000001")),
        encode_command(RollbackCommand("../../etc")),
        encode_command(RollbackCommand("000001-000000003", {"7": [(0, 5)]})),
        encode_command(RollbackCommand("000001-000000003", {"0": [(5, 5)]})),
        encode_command(RollbackCommand("000001-000000003", {"²": [(0, 5)]})),
    ],
)
def test_a_command_that_fails_changes_nothing(lab: Lab, command: bytes, caplog: pytest.LogCaptureFixture) -> None:
    bits, updates = lab.bits, lab.log.end_offset(MODEL_UPDATES, 0)
    lab.log.write(CONTROL, 0, (None, command))
    lab.finish()
    progress = lab.start().progress

    assert find_differences(lab.bits, bits) == []
    assert (progress.epoch, progress.control_offset) == (1, lab.log.end_offset(CONTROL, 0))
    assert lab.log.end_offset(MODEL_UPDATES, 0) == updates
    assert "of the control topic failed" in caplog.text


def test_a_rollback_beyond_the_log_retention_changes_nothing(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    bits = lab.bits
    lab.log.trim(EXAMPLES, 0, lab.start().progress.example_offsets[0])
    lab.log.write(CONTROL, 0, (None, encode_command(RollbackCommand("000001-000000003"))))
    lab.finish()

    assert find_differences(lab.bits, bits) == []
    assert lab.start().progress.epoch == 1
    assert "choose a newer version" in caplog.text


def test_a_rollback_to_a_damaged_version_changes_nothing(lab: Lab) -> None:
    bits = lab.bits
    flip(lab.settings.checkpoints / "000001-000000003")
    lab.log.write(CONTROL, 0, (None, encode_command(RollbackCommand("000001-000000003"))))
    lab.finish()

    assert find_differences(lab.bits, bits) == []
    assert lab.start().progress.epoch == 1


def test_a_rollback_leaves_out_the_skipped_events(tmp_path: Path, blocks: Blocks) -> None:
    commands = {(1, 2): CheckpointCommand(), (1, 12): RollbackCommand("000001-000000002", {"0": [SKIPPED]})}
    lab = Lab(tmp_path, blocks, commands).finish()
    full = Lab(tmp_path / "full", blocks).finish()
    count, full_count = (each.start().model.items.counters["total_counts"].sum() for each in (lab, full))

    assert lab.start().progress.epoch == 2
    assert lab.start().progress.offsets == full.start().progress.offsets
    assert 0 < full_count - count <= 5 * (SKIPPED[1] - SKIPPED[0])


def test_a_rollback_without_ranges_continues_with_new_examples(tmp_path: Path, blocks: Blocks) -> None:
    early, late = blocks[0][:8], blocks[0][8:]
    commands = {(1, 2): CheckpointCommand(), (1, 8): RollbackCommand("000001-000000002")}
    lab = Lab(tmp_path, {0: early}, commands, batch=1).finish()
    at_version = checkpoints.load(lab.settings.checkpoints, "000001-000000002")[1]
    before = lab.start().model.items.counters["total_counts"].sum()
    covered = lab.start().progress.offsets[0]
    lab.start().wait_for_checkpoint()
    lab.log.write(EXAMPLES, 0, *late)
    lab.finish()

    assert before == at_version["items.counters.total_counts"].sum()
    assert covered == checkpoints.read_manifest(lab.settings.checkpoints, "000001-000000008").offsets["0"]
    assert lab.start().model.items.counters["total_counts"].sum() > before


def test_the_base_version_of_an_epoch_is_retained_at_any_age(tmp_path: Path, blocks: Blocks) -> None:
    commands = {(1, step): CheckpointCommand() for step in range(1, 8)} | {
        (1, 8): RollbackCommand("000001-000000006"),
        **{(2, step): CheckpointCommand() for step in range(7, 12)},
    }
    lab = Lab(tmp_path, blocks, commands, checkpoints_kept=3).finish()
    retained = checkpoints.list_version_names(lab.settings.checkpoints)

    assert lab.start().progress.epoch == 2
    assert retained == [
        "000001-000000001",
        "000001-000000006",
        "000002-000000009",
        "000002-000000010",
        "000002-000000011",
    ]


def test_a_rollback_not_yet_in_the_journal_runs_after_a_restart(lab: Lab) -> None:
    lab.die()
    (lab.settings.checkpoints / "journal" / "000002-000000003.jsonl").write_bytes(b'{"type":"roll')
    lab.log.write(CONTROL, 0, (None, encode_command(RollbackCommand("000001-000000003"))))
    lab.finish()
    progress = lab.start().progress

    assert progress.epoch == 2
    assert find_differences(lab.bits, replay_bits(lab, 2, progress.step)) == []


def test_a_checkpoint_that_failed_is_written_again_without_a_step(lab: Lab) -> None:
    learner, folder = lab.start(), lab.settings.checkpoints
    parent, obstacle = learner.parent, folder / learner.version
    obstacle.touch()
    for _ in range(4):
        learner.save()
        learner.wait_for_checkpoint()

    assert learner.parent == parent
    assert lab.log.start_offset(MODEL_UPDATES, 0) == 0  # replicas start from the version before
    assert not list(folder.glob(f".{learner.version}.*"))

    obstacle.unlink()
    learner.save()
    learner.wait_for_checkpoint()

    assert learner.parent == learner.version
    assert checkpoints.read_manifest(folder, learner.version).parent == parent


def test_a_learner_removes_partial_checkpoints_of_a_crash(lab: Lab) -> None:
    lab.die()
    (lab.settings.checkpoints / ".000001-000000009.123").mkdir()
    lab.start()

    assert not list(lab.settings.checkpoints.glob(".*"))


def test_a_paused_learner_waits_for_resume_and_has_the_same_bits(tmp_path: Path, blocks: Blocks) -> None:
    calm = Lab(tmp_path / "calm", blocks).finish()
    lab = Lab(tmp_path / "paused", blocks, {(1, 5): PauseCommand("manual")})
    for _ in range(3):
        lab.finish()
        assert lab.start().progress.step == 5
        assert lab.start().pause == PauseCommand("manual")
        lab.die()
    lab.log.write(CONTROL, 0, (None, encode_command(ResumeCommand())))
    lab.finish()

    assert lab.start().progress.step == calm.start().progress.step
    assert find_differences(lab.bits, calm.bits) == []


def test_every_step_is_in_the_journal_once(lab: Lab) -> None:
    for _ in range(3):
        lab.die()
        lab.finish()
    entries = list(journal.read_entries(lab.settings.checkpoints / "journal"))

    assert [entry.step for entry in entries] == list(range(1, lab.start().progress.step + 1))
