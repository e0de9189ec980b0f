"""Keep a replica below the versions that must not serve."""

import logging
from pathlib import Path

from online_models.training.updates import ModelUpdate
from online_models.versions import checkpoints, gate
from serving import metrics

_logger = logging.getLogger(__name__)


class UpdateGate:
    """Block model updates that lead to a version that must not serve.

    1. `reset`: a checkpoint was loaded. The gate opens and notes the oldest blocked version ahead in that epoch.
    2. `admits`: an update is blocked for its own reason, or because it leads to that version or past it.
    3. While the gate is blocked, `find_servable` lists newer checkpoints to load instead.
    4. `open`: an update was applied, so the replica follows the learner again.
    """

    def __init__(self, checkpoints_folder: Path) -> None:
        self._folder = checkpoints_folder
        self.reason = ""  # reason that a newer state does not serve, "" while the gate is open
        self._blocked_version = ""  # oldest blocked version ahead of the loaded state
        self._blocked_version_reason = ""
        self._newer_versions: list[str] = []
        self._servable_versions: list[str] = []
        self._last_attempt: list[str] = []

    def reset(self, epoch: int, version: str) -> None:
        """Open the gate for a state of this epoch, and find the oldest blocked version ahead of it."""
        self.open()
        self._blocked_version, self._blocked_version_reason = "", ""
        for blocked, reason in gate.list_blocked(self._folder).items():
            if blocked.startswith(f"{max(1, epoch):06d}-") and blocked > version:
                self._blocked_version, self._blocked_version_reason = blocked, f"{blocked} is blocked: {reason}"
                return

    def report_blocked_version(self) -> None:
        """Report the blocked version ahead at startup, before its updates arrive."""
        self._set_reason(self._blocked_version_reason)

    def admits(self, update: ModelUpdate, version: str) -> bool:
        """Return True if the update may be applied to `version`; otherwise block the gate."""
        reason = update.blocked_reason
        if not reason and self._blocked_version and update.version >= self._blocked_version:
            reason = self._blocked_version_reason
        if not reason:
            return True
        if reason != self.reason:
            _logger.warning("serving stays at %s; updates to %s are blocked: %s", version, update.version, reason)
        self._set_reason(reason)
        return False

    def open(self) -> None:
        """Follow updates again."""
        self._set_reason("")

    def find_servable(self, epoch: int, version: str) -> list[str]:
        """Versions of an epoch that are newer than `version` and may serve, oldest first.

        A list of newer versions that has not changed is not read again: the check runs for each blocked update.
        """
        prefix = f"{epoch:06d}-"
        newer = [name for name in checkpoints.list_version_names(self._folder) if name > version]
        newer = [name for name in newer if name.startswith(prefix)]
        if newer != self._newer_versions:
            blocked = gate.list_blocked(self._folder) if newer else {}
            self._newer_versions, self._servable_versions = newer, [name for name in newer if name not in blocked]
        return self._servable_versions

    def is_new_attempt(self, version: str, servable: list[str]) -> bool:
        """Return True unless the last attempt was from `version` to the same newest version."""
        attempt = [version, *servable[-1:]]
        is_new, self._last_attempt = attempt != self._last_attempt, attempt
        return is_new

    def _set_reason(self, reason: str) -> None:
        self.reason = reason
        metrics.update_blocked.set(bool(reason))
