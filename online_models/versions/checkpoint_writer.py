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

_HOUR, _DAY = 3_600_000, 86_400_000  # ms
_HOURS, _DAYS = 24, 7  # for which one an hour is kept, and one a day


def thinned(created: Mapping[str, int], newest: int) -> set[str]:
    """The versions to keep, of those created at so many ms: the newest few, and the first of each hour and day.

    The first of a span stays what it is while the span lasts, so that what is kept today is there tomorrow. Time is
    that of the last version: a learner that stood still for a week loses none of them.

    >>> hourly = {f"v{n:02}": n * 1_800_000 for n in range(8)}
    >>> sorted(thinned(hourly, newest=2))
    ['v00', 'v02', 'v04', 'v06', 'v07']
    """
    versions = sorted(created, key=lambda version: (created[version], version))
    kept, now = set(versions[-newest:]), max(created.values(), default=0)
    for span, spans in ((_HOUR, _HOURS), (_DAY, _DAYS)):
        firsts = {created[version] // span: version for version in reversed(versions)}
        kept |= {version for number, version in firsts.items() if now // span - number <= spans}
    return kept


_logger = logging.getLogger(__name__)


class Keeper:
    """A forked child sees the state as it was at the fork and writes it, while the learner goes on.

    The learner stops for the fork alone: milliseconds for a gigabyte, since pages are copied only as they change.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder = folder
        self._keep = keep
        self._child: int | None = None

    def save(self, manifest: Manifest, state: State, spared: str | None = None) -> None:
        """Begin to write; waits first for one that is still being written.

        The version `spared` is kept however old, and so is the newest that may be served.
        """
        self.wait()
        started = time.perf_counter()
        child = os.fork()
        if child == 0:
            os._exit(self._write(manifest, state, spared))
        self._child = child
        metrics.checkpoint_pause_seconds.set(time.perf_counter() - started)

    def reap(self) -> None:
        """Take note of a checkpoint that has been written; does not wait."""
        self._reap(os.WNOHANG)

    def wait(self) -> None:
        """Return when nothing is being written any more."""
        self._reap(0)

    def _write(self, manifest: Manifest, state: State, spared: str | None) -> int:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # Held files stay with the parent: its group lock must be free the moment it dies.
        os.closerange(3, 65536)
        try:
            manifest.refused = manifest.refused or gate.unsound(state)
            checkpoints.save(self._folder, manifest, state)
            versions = checkpoints.created(self._folder)
            kept = thinned(versions, self._keep) | {spared, gate.newest(self._folder)}
            for version in versions.keys() - kept:
                checkpoints.drop(self._folder, version)
        except BaseException as error:
            os.write(2, f"checkpoint {manifest.version} not written: {error!r}\n".encode())
            return 1
        return 0

    def _reap(self, options: int) -> None:
        if self._child is None:
            return
        child, status = os.waitpid(self._child, options)
        if child == 0:
            return
        self._child = None
        if status:
            metrics.checkpoints_failed.inc()
            _logger.error("a checkpoint was not written; see above for why")
        else:
            metrics.checkpoints.inc()
