"""Versions on disk as people and machines read them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from online_models.versions import gate
from online_models.versions.checkpoints import DamagedCheckpoint, Manifest, _fault, read_manifest, versions_in


@dataclass(frozen=True, slots=True)
class Listed:
    """A checkpoint as found on disk; without a manifest when that cannot be read."""

    version: str
    manifest: Manifest | None
    fault: str | None  # what is damaged, None when sound


def told(folder: Path, serving: str) -> list[dict[str, Any]]:
    """The checkpoints for people and machines, oldest first; `serving` is the one that answers have come from."""
    return [_told(folder, one, serving) for one in listing(folder)]


def _told(folder: Path, one: Listed, serving: str) -> dict[str, Any]:
    epoch, _, step = one.version.partition("-")
    manifest = one.manifest
    return {
        "version": one.version,
        "epoch": int(epoch),
        "step": int(step),
        "parent": manifest.parent if manifest else None,
        "created": manifest.created if manifest else None,
        "offsets": manifest.offsets if manifest else {},
        "skip": manifest.skip if manifest else {},
        "slates": manifest.slates if manifest else {},
        "metrics": manifest.metrics if manifest else {},
        "alarm": manifest.alarm if manifest else "",
        "refused": gate.refusal_or(folder, one.version, manifest.refused) if manifest else "",
        "serving": one.version == serving,
        "damaged": one.fault is not None,
        "fault": one.fault,
    }


def lineage(folder: Path, version: str) -> list[dict[str, Any]]:
    """A version and its forebears, newest first, as far as they are kept; FileNotFoundError for an unknown version."""
    known = {one.version: one for one in listing(folder)}
    if version not in known:
        read_manifest(folder, version)
    line = []
    at: str | None = version
    while at in known:
        line.append(_told(folder, known[at], ""))
        manifest = known[at].manifest
        at = manifest.parent if manifest else None
    return line


def listing(folder: Path) -> list[Listed]:
    """All checkpoints with what is wrong with them, oldest first."""
    listed = []
    for version in versions_in(folder):
        try:
            manifest = read_manifest(folder, version)
        except DamagedCheckpoint as error:
            listed.append(Listed(version, None, str(error)))
        else:
            listed.append(Listed(version, manifest, _fault(folder / version, manifest)))
    return listed
