"""`headrace models block` and `approve`: decide by hand if a version may serve."""

from pathlib import Path

from headrace.commands.output import print_error, print_json
from online_models.versions import checkpoints, gate
from online_models.versions.checkpoints import DamagedCheckpoint
from stream.config import load


def block_version(version: str, reason: str, config: Path | None, as_json: bool = False) -> int:
    """Block a version from serving."""
    return _override_gate(version, reason, config, as_json)


def approve_version(version: str, config: Path | None, as_json: bool = False) -> int:
    """Allow a version to serve, overriding the guard."""
    return _override_gate(version, "", config, as_json)


def _override_gate(version: str, reason: str, config: Path | None, as_json: bool) -> int:
    folder = load(config).checkpoints
    try:
        checkpoints.check(folder, version)
    except (FileNotFoundError, ValueError, DamagedCheckpoint) as error:
        return print_error(error)
    gate.override(folder, version, reason)
    if as_json:
        print_json({"version": version, "blocked_reason": reason})
    else:
        print(f"Version {version} is blocked: {reason}" if reason else f"Version {version} may serve.")
    return 0
