"""Folders of an installation, and their names in a backup."""

from pathlib import Path

from stream.config import Settings

LOG, STORE, CHECKPOINTS = "log", "users", "checkpoints"


def find_folders(settings: Settings) -> dict[str, Path]:
    """The folders that are on this machine, by their name in a backup."""
    places = {LOG: settings.log_url, STORE: settings.store_url}
    local = {name: url.removeprefix("local:") for name, url in places.items() if url.startswith("local:")}
    return {name: Path(path).expanduser() for name, path in local.items()} | {CHECKPOINTS: settings.checkpoints}
