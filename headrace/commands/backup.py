"""`headrace backup` and `headrace restore`."""

from pathlib import Path

from headrace.backup import BackupManifest, create_backup, restore_backup
from headrace.commands.output import format_count, format_time, print_json
from stream.clock import SystemClock
from stream.config import load


def run_backup(folder: Path, config: Path | None, as_json: bool) -> int:
    """Back up a running installation to a new folder."""
    manifest = create_backup(load(config), folder, SystemClock())
    _report("Backed up to", folder, manifest, as_json)
    return 0


def run_restore(folder: Path, config: Path | None, as_json: bool) -> int:
    """Restore a backup into the empty folders that the settings name."""
    settings = load(config)
    manifest = restore_backup(settings, folder)
    _report("Restored to", settings.data.folder, manifest, as_json)
    return 0


def _report(done: str, place: Path, manifest: BackupManifest, as_json: bool) -> None:
    n_bytes = sum(entry.bytes for entry in manifest.files.values())
    events = sum(manifest.end_offsets.get("events", {}).values())
    if as_json:
        fields = {"folder": str(place.resolve()), "created": manifest.created, "versions": manifest.versions}
        print_json(fields | {"files": len(manifest.files), "bytes": n_bytes, "end_offsets": manifest.end_offsets})
        return
    parts = [
        format_count(events, "event record") if manifest.has_log else "no log (it is on other machines)",
        "users" if manifest.has_store else "no users (the store is on other machines)",
        format_count(len(manifest.versions), "version"),
    ]
    created = format_time(manifest.created)
    print(f"{done} {place.resolve()}: {', '.join(parts)}, {n_bytes / 1e6:,.1f} MB, as of {created} UTC.")
