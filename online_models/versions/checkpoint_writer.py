"""Write checkpoints in a forked process while training goes on, and thin out old ones."""

import logging
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from online_models import metrics
from online_models.versions import checkpoints, gate
from online_models.versions.checkpoints import Manifest, State
from stream.clock import DAY_MS, HOUR_MS

_HOURS_RETAINED, _DAYS_RETAINED = 24, 7  # with one checkpoint kept per hour, and one per day
_logger = logging.getLogger(__name__)


def retained_versions(created: Mapping[str, int], n_newest: int) -> set[str]:
    """The versions to keep: the newest few, and the first of each recent hour and day.

    `created`: creation times, ms. The first of a span never changes, so a version that is kept today is still there
    tomorrow. Ages are measured from the last version: a learner that paused for a week loses none.

    >>> hourly = {f"v{n:02}": n * 1_800_000 for n in range(8)}
    >>> sorted(retained_versions(hourly, n_newest=2))
    ['v00', 'v02', 'v04', 'v06', 'v07']
    """
    versions = sorted(created, key=lambda version: (created[version], version))
    retained, now = set(versions[-n_newest:]), max(created.values(), default=0)
    for span, n_spans in ((HOUR_MS, _HOURS_RETAINED), (DAY_MS, _DAYS_RETAINED)):
        first_versions = {created[version] // span: version for version in reversed(versions)}
        retained |= {version for number, version in first_versions.items() if now // span - number <= n_spans}
    return retained


class CheckpointWriter:
    """Fork a child that sees the state as of the fork and writes it, while the learner goes on.

    The learner pauses for the fork alone: milliseconds for a gigabyte, since pages are copied only as they change.
    """

    def __init__(self, folder: Path, n_kept: int, trained_parts: tuple[str, ...] = ()) -> None:
        """Parts named in `trained_parts` must be finite, or the version is blocked."""
        self._folder = folder
        self._n_kept = n_kept
        self._trained_parts = trained_parts
        self._child_pid: int | None = None

    def save(self, manifest: Manifest, state: State, protected_version: str | None = None) -> None:
        """Start writing, after waiting for a checkpoint that is still being written.

        `protected_version` is kept however old it is, and so is the newest version that may be served.
        """
        self.wait()
        started = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            os._exit(self._write(manifest, state, protected_version))
        self._child_pid = pid
        metrics.checkpoint_pause_seconds.set(time.perf_counter() - started)

    def poll(self) -> bool | None:
        """Report a checkpoint that has been finished, without waiting.

        False if it failed; None if none has been finished since the last report.
        """
        return self._wait_for_child(os.WNOHANG)

    def wait(self) -> bool | None:
        """Wait until no checkpoint is being written; returns the same as `poll`."""
        return self._wait_for_child(0)

    def _write(self, manifest: Manifest, state: State, protected_version: str | None) -> int:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # The parent alone keeps files open: its lock must be free the moment it dies.
        os.closerange(3, 65536)
        try:
            manifest.blocked_reason = manifest.blocked_reason or gate.describe_non_finite(state, self._trained_parts)
            checkpoints.save(self._folder, manifest, state)
            versions = checkpoints.creation_times(self._folder)
            protected = {protected_version, gate.find_newest_servable(self._folder)}
            for version in versions.keys() - retained_versions(versions, self._n_kept) - protected:
                checkpoints.drop(self._folder, version)
        except BaseException as error:
            os.write(2, f"checkpoint {manifest.version} not written: {error!r}\n".encode())
            return 1
        return 0

    def _wait_for_child(self, options: int) -> bool | None:
        if self._child_pid is None:
            return None
        pid, status = os.waitpid(self._child_pid, options)
        if pid == 0:
            return None
        self._child_pid = None
        metrics.checkpoint_failing.set(status != 0)
        if status:
            metrics.checkpoints_failed.inc()
            _logger.error("a checkpoint was not written: see the error above; training goes on, and it is tried again")
        else:
            metrics.checkpoints.inc()
        return status == 0
