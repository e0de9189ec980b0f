"""Load files with a progress bar, wait for the stream, and print the summary."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as Signal

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from headrace.commands.output import format_count
from headrace.produce.outcome import StreamWatch
from headrace.produce.preview import keep_first, print_rows
from headrace.produce.summary import FileReport, print_report, to_dict
from replay.file_loader import Interrupted, Loader, LoadResult, NothingAccepted
from replay.files.options import ReadOptions
from replay.files.reading import RecordReader
from replay.files.sources.compression import DamagedFile
from stream.clock import Clock, SystemClock
from stream.config import Settings, load
from stream.logs import EventLog
from stream.process.errors import describe_error
from stream.records.catalog import read_items
from stream.topics import ITEMS, open_topics

_WAIT_INTERRUPTED = "interrupted while the stream read the events; all are written, and count once it has read them"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProduceOptions:
    """Options of the command."""

    read: ReadOptions = field(default_factory=ReadOptions)
    speed: float | None = None  # multiple of the recorded speed
    dry_run: bool = False
    replace: bool = False  # delete the items that the files do not have
    wait: bool = True  # for the stream


def produce_files(
    files: list[str], options: ProduceOptions, config: Path | None, as_json: bool, stop: Signal | None = None
) -> int:
    """Load files, until `stop` is set.

    Exit code 1 if a record was refused, or a file was not read to its end.
    """
    settings, clock = load(config), SystemClock()
    log = None if options.dry_run else open_topics(settings, clock)
    console = Console(stderr=True)
    command = _Command(log, settings, clock, options, console, stop or Signal())
    reports = command.run(files)
    if log:
        log.close()
    if as_json:
        print(json.dumps({report.path: to_dict(report) for report in reports}))
    for report in reports:
        print_report(console, report, options.dry_run)
    if options.dry_run and not as_json:
        print_rows(Console(), command.first_rows)
    return 1 if any(report.has_failed for report in reports) else 0


class _UnreadableFile(Exception):
    """A file cannot be opened; errors of the log are other ones and end the command."""


class _Command:
    """One run of the command."""

    def __init__(
        self,
        log: EventLog | None,
        settings: Settings,
        clock: Clock,
        options: ProduceOptions,
        console: Console,
        stop: Signal,
    ) -> None:
        self._stop = stop
        self._log = log
        self._clock = clock
        self._options = options
        self._console = console
        self._loader = Loader(log, settings, clock, stop)
        self.first_rows: list[bytes] = []

    def run(self, files: list[str]) -> list[FileReport]:
        """Load the files; a file that cannot be read does not stop the others."""
        watch = StreamWatch(self._log) if self._log and self._options.wait else None
        known_items = _read_item_ids(self._log) if self._log and self._options.replace else set()
        if self._options.read.sort:
            self._loader.sort()
        reports = [FileReport(path, LoadResult()) for path in files]
        with self._progress() as bars:
            for number, report in enumerate(reports):
                self._load(report, number, bars)
        self._flush(reports)
        if self._log and self._options.replace:
            _delete_missing(self._log, known_items, reports)
        if watch:
            self._wait(watch, reports)
        return reports

    def _flush(self, reports: list[FileReport]) -> None:
        """Write the sorted events."""
        try:
            self._loader.flush()
        except Interrupted:
            for report in reports:
                report.result.error = report.result.error or _describe_interruption(report.result)

    @contextmanager
    def _progress(self) -> Iterator[Progress]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console) as bars:
            yield bars

    def _load(self, report: FileReport, number: int, bars: Progress) -> None:
        result = report.result
        try:
            reader = self._open(report.path)
            report.plan, result.unit = reader.plan, reader.unit
            batches = keep_first(reader.batches(), self.first_rows)
            task = bars.add_task(Path(report.path).name, total=reader.file.size or None, rate="")
            started, done = self._clock.now_ms(), 0

            def advance(n: int) -> None:
                nonlocal done
                done += n
                rate = f"{done / max(0.001, (self._clock.now_ms() - started) / 1000):,.0f} records/s"
                bars.update(task, completed=reader.file.position if reader.file.size else done, rate=rate)

            self._loader.load(batches, result, number, self._options.speed, advance)
        except Interrupted:
            pass
        except NothingAccepted as error:
            result.error = f"{error}; nothing was written. Correct the mapping; --dry-run shows the records"
        except DamagedFile as error:
            result.error = f"{error}. {result.written.total():,} records before it are written; get the file again"
        except FileNotFoundError as error:
            result.error = describe_error(error)
        except (_UnreadableFile, ValueError) as error:
            result.error = str(error)
        if self._stop.is_set():  # also an error: standard input may end within a record
            result.error = _describe_interruption(result)

    def _open(self, path: str) -> RecordReader:
        try:
            return RecordReader(path, self._options.read)
        except DamagedFile:
            raise
        except OSError as error:
            raise _UnreadableFile(describe_error(error)) from None

    def _wait(self, watch: StreamWatch, reports: list[FileReport]) -> None:
        spans = self._loader.spans
        if not spans:
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._console, transient=True) as bars:
            total = sum(span.end - span.first for span in spans)
            task = bars.add_task("read by stream", total=total)
            outcomes = watch.wait(spans, lambda n_read: bars.update(task, completed=n_read), self._stop)
        for number, outcome in outcomes.items():
            reports[number].outcome = outcome
            if outcome.waiting and self._stop.is_set():
                reports[number].result.error = reports[number].result.error or _WAIT_INTERRUPTED


def _describe_interruption(result: LoadResult) -> str:
    n_written = format_count(result.written.total(), "record")
    return f"interrupted after {n_written}. Run the same command again: what is written already counts once"


def _read_item_ids(log: EventLog) -> set[str]:
    """Ids of the items in the catalog."""
    ids: dict[int, str] = {}  # by key: a deletion has no more
    for _, changes in read_items(log, log.start_offset(ITEMS, 0), log.end_offset(ITEMS, 0)):
        for change in changes:
            if change.item is None:
                ids.pop(change.key, None)
            else:
                ids[change.key] = change.item.item_id
    return set(ids.values())


def _delete_missing(log: EventLog, known: set[str], reports: list[FileReport]) -> None:
    """Delete the items that were known before and that no file has.

    A file that was not read whole deletes nothing.
    """
    if any(report.result.error or report.result.refused for report in reports):
        reports[0].result.error = (
            reports[0].result.error or "no item was deleted, because not all records were accepted"
        )
        return
    present = set[str]().union(*(report.result.item_ids for report in reports))
    if not present:
        reports[
            0
        ].result.error = "no item was deleted, because the files have no items; --replace needs a whole catalog"
        return
    missing = sorted(known - present)
    if missing:
        log.append(ITEMS, 0, [(item_id.encode(), None) for item_id in missing])
    reports[0].deleted = len(missing)
