"""List the versions on disk, for the command line and for HTTP."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from online_models.versions import gate
from online_models.versions.checkpoints import (
    DamagedCheckpoint,
    Manifest,
    find_damage,
    list_version_names,
    read_manifest,
)


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """A checkpoint as found on disk; without a manifest if that cannot be read."""

    version: str
    manifest: Manifest | None
    error: str | None  # the damage, None if valid


def describe_versions(folder: Path, serving: str) -> list[dict[str, Any]]:
    """All checkpoints as JSON objects, oldest first; `serving` is the version that serves."""
    return [_describe_version(folder, info, serving) for info in read_versions(folder)]


def _describe_version(folder: Path, info: VersionInfo, serving: str) -> dict[str, Any]:
    epoch, _, step = info.version.partition("-")
    manifest = info.manifest
    return {
        "version": info.version,
        "epoch": int(epoch),
        "step": int(step),
        "parent": manifest.parent if manifest else None,
        "created": manifest.created if manifest else None,
        "offsets": manifest.offsets if manifest else {},
        "skip": manifest.skip if manifest else {},
        "skip_impressions": manifest.skip_impressions if manifest else {},
        "metrics": manifest.metrics if manifest else {},
        "open_alarm": manifest.open_alarm if manifest else "",
        "blocked_reason": gate.apply_override(folder, info.version, manifest.blocked_reason) if manifest else "",
        "serving": info.version == serving,
        "damaged": info.error is not None,
        "error": info.error,
    }


def lineage(folder: Path, version: str) -> list[dict[str, Any]]:
    """A version and its ancestors, newest first, as far as they are kept.

    Raises FileNotFoundError for an unknown version.
    """
    infos = {info.version: info for info in read_versions(folder)}
    if version not in infos:
        read_manifest(folder, version)
    ancestors = []
    current: str | None = version
    while current in infos:
        ancestors.append(_describe_version(folder, infos[current], ""))
        manifest = infos[current].manifest
        current = manifest.parent if manifest else None
    return ancestors


def read_versions(folder: Path) -> list[VersionInfo]:
    """All checkpoints with their damage, oldest first."""
    infos = []
    for version in list_version_names(folder):
        try:
            manifest = read_manifest(folder, version)
        except DamagedCheckpoint as error:
            infos.append(VersionInfo(version, None, str(error)))
        else:
            infos.append(VersionInfo(version, manifest, find_damage(folder / version, manifest)))
    return infos
