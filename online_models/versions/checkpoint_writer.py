"""Writes checkpoints beside the learning, and thins out the older ones."""

import logging
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from online_models import metrics
from online_models.versions import checkpoints, gate
from online_models.versions.checkpoints import Manifest, State

_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000  # ms
_HOURS_RETAINED, _DAYS_RETAINED = 24, 7  # for which one an hour is kept, and one a day


def retained_versions(created: Mapping[str, int], n_newest: int) -> set[str]:
    """The versions to keep, of those created at so many ms: the newest few, and the first of each hour and day.

    The first of a span stays what it is while the span lasts, so that what is kept today is there tomorrow. Time is
    that of the last version: a learner that stood still for a week loses none of them.

    >>> hourly = {f"v{n:02}": n * 1_800_000 for n in range(8)}
    >>> sorted(retained_versions(hourly, n_newest=2))
    ['v00', 'v02', 'v04', 'v06', 'v07']
    """
    versions = sorted(created, key=lambda version: (created[version], version))
    retained, now = set(versions[-n_newest:]), max(created.values(), default=0)
    for span, n_spans in ((_HOUR_MS, _HOURS_RETAINED), (_DAY_MS, _DAYS_RETAINED)):
        first_versions = {created[version] // span: version for version in reversed(versions)}
        retained |= {version for number, version in first_versions.items() if now // span - number <= n_spans}
    return retained


_logger = logging.getLogger(__name__)


class CheckpointWriter:
    """A forked child sees the state as it was at the fork and writes it, while the learner goes on.

    The learner stops for the fork alone: milliseconds for a gigabyte, since pages are copied only as they change.
    """

    def __init__(self, folder: Path, n_kept: int) -> None:
        self._folder = folder
        self._n_kept = n_kept
        self._child_pid: int | None = None

    def save(self, manifest: Manifest, state: State, protected_version: str | None = None) -> None:
        """Begin to write; waits first for one that is still being written.

        The version `spared` is kept however old, and so is the newest that may be served.
        """
        self.wait()
        started = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            os._exit(self._write(manifest, state, protected_version))
        self._child_pid = pid
        metrics.checkpoint_pause_seconds.set(time.perf_counter() - started)

    def poll(self) -> None:
        """Take note of a checkpoint that has been written; does not wait."""
        self._wait_for_child(os.WNOHANG)

    def wait(self) -> None:
        """Return when nothing is being written any more."""
        self._wait_for_child(0)

    def _write(self, manifest: Manifest, state: State, protected_version: str | None) -> int:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # Held files stay with the parent: its group lock must be free the moment it dies.
        os.closerange(3, 65536)
        try:
            manifest.blocked_reason = manifest.blocked_reason or gate.non_finite_arrays(state)
            checkpoints.save(self._folder, manifest, state)
            versions = checkpoints.creation_times(self._folder)
            retained = retained_versions(versions, self._n_kept) | {
                protected_version,
                gate.find_newest_servable(self._folder),
            }
            for version in versions.keys() - retained:
                checkpoints.drop(self._folder, version)
        except BaseException as error:
            os.write(2, f"checkpoint {manifest.version} not written: {error!r}\n".encode())
            return 1
        return 0

    def _wait_for_child(self, options: int) -> None:
        if self._child_pid is None:
            return
        pid, status = os.waitpid(self._child_pid, options)
        if pid == 0:
            return
        self._child_pid = None
        if status:
            metrics.checkpoints_failed.inc()
            _logger.error("a checkpoint was not written; see above for why")
        else:
            metrics.checkpoints.inc()
