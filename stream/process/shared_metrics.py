"""One set of metrics for the processes that share a port.

Prometheus scrapes the port and reaches any of them. Each writes its values into files of a common folder
(`prometheus_client`'s multiprocess mode), so each scrape has the sums over all of them. The counts of a process that
has ended stay in the sums, or a counter would fall; its gauges go.
"""

import fcntl
import logging
import os
import resource
import stat
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from stream.clock import SystemClock

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # read when prometheus_client is imported
_USAGE_INTERVAL_S = 1.0
_logger = logging.getLogger(__name__)


def share_metrics(port: int) -> "IO[bytes] | None":
    """Share the metrics of this process with all processes that serve the same port.

    Call it before `prometheus_client` is imported. The returned file shows that this process lives. None if the folder
    of temporary files is not writable; each process then has metrics of its own.
    """
    folder = Path(tempfile.gettempdir()) / f"headrace-metrics-{os.geteuid()}-{port}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.stat()
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise PermissionError(f"{folder} belongs to another user")
        with _locked(folder):
            if not any(_is_alive(path) for path in folder.glob("*.live")):
                for path in folder.glob("*.*"):
                    path.unlink()
            live_file = (folder / f"{os.getpid()}.live").open("wb")
            fcntl.flock(live_file, fcntl.LOCK_EX)
    except OSError as error:
        _logger.warning("each process has metrics of its own, because they cannot be shared: %s", error)
        return None
    os.environ[_VARIABLE] = str(folder)
    threading.Thread(target=_report_usage, name="usage", daemon=True).start()
    return live_file


def render_metrics() -> tuple[bytes, str]:
    """Metrics of all sharing processes in the Prometheus text format, and the content type."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    with _open_registry() as registry:
        return generate_latest(registry), CONTENT_TYPE_LATEST


def read_samples(prefix: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Name, labels and value of each series whose name has a prefix, over all sharing processes."""
    with _open_registry() as registry:
        for metric in registry.collect():
            for sample in metric.samples:
                if sample.name.startswith(prefix):
                    yield sample.name, sample.labels, sample.value


@contextmanager
def _open_registry() -> Iterator[Any]:
    from prometheus_client import REGISTRY

    if _VARIABLE not in os.environ:
        yield REGISTRY
        return
    folder = Path(os.environ[_VARIABLE])
    with _locked(folder):
        for path in folder.glob("*.live"):
            if not _is_alive(path):
                _bury(folder, path)
        yield _SharedRegistry(folder)


class _SharedRegistry:
    """Metrics of all processes, without gauges that are declared for one process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Any]:
        from prometheus_client.multiprocess import MultiProcessCollector

        collector: Any = MultiProcessCollector
        metrics = collector(None, str(self._folder)).collect()
        return [metric for metric in metrics if not any("pid" in sample.labels for sample in metric.samples)]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time read all files or change those of others."""
    with (folder / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_alive(path: Path) -> bool:
    """Return True if the process that created a live file still holds its lock."""
    if path.stem == str(os.getpid()):
        return True
    with path.open("rb") as live_file:
        try:
            fcntl.flock(live_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _bury(folder: Path, live_path: Path) -> None:
    """Add the counts of a process that has ended to those of earlier ones, and delete its files."""
    from prometheus_client.mmap_dict import MmapedDict

    mapped_file: Any = MmapedDict
    for path in folder.glob(f"*_{live_path.stem}.db"):
        kind = path.name.partition("_")[0]
        if kind in ("counter", "histogram", "summary"):
            totals = mapped_file(str(folder / f"{kind}_0.db"))
            for key, value, _, _ in mapped_file.read_all_values_from_file(str(path)):
                totals.write_value(key, totals.read_value(key)[0] + value, 0.0)
            totals.close()
        path.unlink()
    live_path.unlink()


def _report_usage() -> None:
    """Report processor time, memory and start, which prometheus_client does not share."""
    from prometheus_client import Counter, Gauge

    start = Gauge(
        "process_start_time_seconds", "Start of the newest process", registry=None, multiprocess_mode="livemax"
    )
    memory = Gauge("process_resident_memory_bytes", "Resident memory", registry=None, multiprocess_mode="livesum")
    processor = Counter("process_cpu_seconds", "Processor time in user and system mode", registry=None)
    start.set(SystemClock().now_ms() / 1000)
    page_size, reported_s = resource.getpagesize(), 0.0
    while True:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        processor.inc(usage.ru_utime + usage.ru_stime - reported_s)
        reported_s = usage.ru_utime + usage.ru_stime
        memory.set(int(Path("/proc/self/statm").read_text().split()[1]) * page_size)
        threading.Event().wait(_USAGE_INTERVAL_S)
