"""A backup is complete, checked before it is restored, and overwrites nothing."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs

from headrace.backup import BackupManifest, create_backup, restore_backup
from headrace.backup.checkpoint_files import copy_files, list_files
from headrace.backup.manifest import write_manifest
from online_models.versions import checkpoints
from online_models.worker import LearnWorker
from stream.clock import ManualClock, SystemClock
from stream.config import DataSettings, LogSettings, Settings
from stream.drivers import open_store
from stream.process.locks import acquire_lock
from stream.topics import EVENTS, MODEL_UPDATES, open_topics
from stream.worker.worker import StreamWorker
from tests.support.live_folder import LiveFolder

CLOCK = ManualClock(1_767_225_600_000)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveFolder]:
    live = LiveFolder(tmp_path / "live")
    live.write_events(100)
    live.save_version()
    live.write_events(100)  # steps behind the newest version, in the journal only
    yield live
    live.close()


def target_settings(live: LiveFolder, folder: Path) -> Settings:
    return live.settings.model_copy(update={"data": DataSettings(folder=folder)})


def back_up(live: LiveFolder, tmp_path: Path) -> BackupManifest:
    return create_backup(live.settings, tmp_path / "backup", CLOCK)


def test_restored_learner_has_the_state_of_the_backup(live: LiveFolder, tmp_path: Path) -> None:
    manifest = back_up(live, tmp_path)
    version, ends = live.learn.version, live.log.end_offsets(EVENTS)
    live.write_events(50)  # not in the backup
    settings = target_settings(live, tmp_path / "restored")
    restore_backup(settings, tmp_path / "backup")
    log = open_topics(settings, SystemClock())
    learner = LearnWorker(log, settings, SystemClock())

    assert learner.version == version
    assert log.end_offsets(EVENTS) == ends == {int(p): end for p, end in manifest.end_offsets[EVENTS].items()}
    assert manifest.versions == checkpoints.list_version_names(settings.checkpoints)

    learner.close()
    log.close()


def test_backup_needs_a_new_folder(live: LiveFolder, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()

    with pytest.raises(FileExistsError, match="name a new folder"):
        back_up(live, tmp_path)


def test_folder_without_an_installation_has_no_backup(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="HEADRACE_DATA__FOLDER"):
        create_backup(Settings(data=DataSettings(folder=tmp_path / "none")), tmp_path / "backup", CLOCK)
    assert list(tmp_path.iterdir()) == []


def test_restore_overwrites_nothing(live: LiveFolder, tmp_path: Path) -> None:
    back_up(live, tmp_path)

    with pytest.raises(FileExistsError, match="is not empty"):
        restore_backup(live.settings, tmp_path / "backup")


def test_restore_beside_a_running_learner_is_refused(live: LiveFolder, tmp_path: Path) -> None:
    back_up(live, tmp_path)
    settings = target_settings(live, tmp_path / "restored")
    with acquire_lock(settings.checkpoints / "learn.lock"), pytest.raises(BlockingIOError, match="holds it"):
        restore_backup(settings, tmp_path / "backup")


def damage(folder: Path) -> None:
    with (folder / "log" / "events.topic.db").open("ab") as file:
        file.write(b"x")


def remove_file(folder: Path) -> None:
    next(folder.glob("checkpoints/journal/*")).unlink()


def remove_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def cut_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"{")


def replace_folder(folder: Path) -> None:
    """Put a file in the place of the folder."""
    folder.rename(folder.with_name("moved"))
    folder.touch()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage, "log/events.topic.db differs from the file that was written"),
        (remove_file, "lacks the file checkpoints/journal"),
        (remove_manifest, "is no backup: it has no manifest.json"),
        (cut_manifest, "manifest.json is damaged"),
        (replace_folder, "is no backup: it has no manifest.json"),
    ],
)
def test_incomplete_backup_is_refused(
    live: LiveFolder, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    back_up(live, tmp_path)
    change(tmp_path / "backup")
    settings = target_settings(live, tmp_path / "restored")

    with pytest.raises(ValueError, match=message):
        restore_backup(settings, tmp_path / "backup")
    assert not settings.data.folder.exists()


def test_plain_copy_of_a_live_folder_is_no_backup(live: LiveFolder, tmp_path: Path) -> None:
    shutil.copytree(live.settings.data.folder, tmp_path / "copy")

    with pytest.raises(ValueError, match="A plain copy of a running installation is torn"):
        restore_backup(target_settings(live, tmp_path / "restored"), tmp_path / "copy")


def test_torn_copy_is_refused_when_it_starts(live: LiveFolder, tmp_path: Path) -> None:
    torn = tmp_path / "torn"
    shutil.copytree(live.settings.data.folder, torn)
    live.write_events(200)
    shutil.copytree(live.settings.data.folder / "users", torn / "users", dirs_exist_ok=True)  # newer than the log
    settings = target_settings(live, torn)
    log, store = open_topics(settings, SystemClock()), open_store(settings.store_url)

    with pytest.raises(ValueError, match="but the log ends at"):
        StreamWorker(log, store, settings).step(0)
    store.close()
    log.close()


def test_other_prefix_is_refused(live: LiveFolder, tmp_path: Path) -> None:
    back_up(live, tmp_path)
    settings = target_settings(live, tmp_path / "restored").model_copy(update={"log": LogSettings(prefix="shop.")})

    with pytest.raises(ValueError, match=r"log.prefix is 'shop.'; the backup was made with ''"):
        restore_backup(settings, tmp_path / "backup")


def test_version_deleted_during_the_copy_is_left_out(live: LiveFolder, tmp_path: Path) -> None:
    first = checkpoints.list_version_names(live.settings.checkpoints)[0]
    last = live.save_version()
    files = list_files(live.settings.checkpoints)
    checkpoints.drop(live.settings.checkpoints, first)

    assert copy_files(live.settings.checkpoints, files, tmp_path / "copy") == [last]
    assert checkpoints.list_version_names(tmp_path / "copy") == [last]


def test_backup_beside_kafka_records_offsets_and_checks_them(live: LiveFolder, tmp_path: Path, kafka_url: str) -> None:
    log_settings = LogSettings(url=kafka_url, prefix=f"backup-{tmp_path.name}.")
    settings = live.settings.model_copy(update={"log": log_settings})
    with closing(open_topics(settings, SystemClock())) as log:
        log.append(EVENTS, 0, [(b"u1", b"{}")] * 3)
        log.append(MODEL_UPDATES, 0, [(None, b"newer than the backup")])
        manifest = create_backup(settings, tmp_path / "backup", CLOCK)
        target = target_settings(live, tmp_path / "restored").model_copy(update={"log": log_settings})
        restore_backup(target, tmp_path / "backup")
        n_updates = log.end_offset(MODEL_UPDATES, 0) - log.start_offset(MODEL_UPDATES, 0)

    assert (manifest.has_log, manifest.has_store, manifest.end_offsets[EVENTS]) == (False, True, {"0": 3})
    assert n_updates == 0
    assert checkpoints.list_version_names(target.checkpoints) == manifest.versions

    write_manifest(tmp_path / "backup", structs.replace(manifest, end_offsets={EVENTS: {"0": 4}}))
    target = target_settings(live, tmp_path / "other").model_copy(update={"log": log_settings})
    with pytest.raises(ValueError, match="restore the log first, to that offset or a later one"):
        restore_backup(target, tmp_path / "backup")
