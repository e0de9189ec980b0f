"""`headrace produce`: write files to the log, with a progress bar and a summary."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from replay.file_loader import Loader, LoadResult, open_lines
from stream.clock import Clock, SystemClock
from stream.config import load
from stream.topics import open_topics


def produce_files(files: list[str], speed: float | None, config: Path | None, as_json: bool) -> int:
    """Load each file. Exit code 1 if a file has records and all of them are rejected."""
    settings = load(config)
    clock = SystemClock()
    log = open_topics(settings, clock)
    console = Console(stderr=True)
    results = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    loader = Loader(log, settings, clock)
    with Progress(*columns, console=console) as bars:
        for path in files:
            results[path] = _load(loader, path, speed, bars, clock)
    log.close()
    if as_json:
        print(json.dumps({path: _to_dict(result) for path, result in results.items()}))
    for path, result in results.items():
        _print_result(console, path, result)
    return 1 if any(result.rejected and not result.written for result in results.values()) else 0


def _load(loader: Loader, path: str, speed: float | None, bars: Progress, clock: Clock) -> LoadResult:
    lines, raw, size = open_lines(path)
    task = bars.add_task(Path(path).name, total=size or None, rate="")
    started = clock.now_ms()
    done = 0

    def advance(n: int) -> None:
        nonlocal done
        done += n
        rate = f"{done / max(0.001, (clock.now_ms() - started) / 1000):,.0f} records/s"
        bars.update(task, completed=raw.tell() if size else done, rate=rate)

    return loader.load(_read_lines(lines), speed, advance)


def _read_lines(lines: IO[bytes]) -> Iterator[bytes]:
    try:
        yield from lines
    except (EOFError, OSError) as error:
        raise OSError(
            f"the file is truncated or damaged: {error}; the records before this position are written"
        ) from None


def _to_dict(result: LoadResult) -> dict[str, object]:
    return {"topic": result.topic, "written": result.written, "rejected": result.rejected, "reasons": result.reasons}


def _print_result(console: Console, path: str, result: LoadResult) -> None:
    console.print(f"{path}: {result.written:,} records written to {result.topic or 'no topic'}", highlight=False)
    if result.rejected:
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in sorted(result.reasons.items()))
        details = f"{result.rejected:,} rejected and written to dead-letter ({reasons})"
        console.print(f"  {details}; first: {result.first_rejection}")
    if result.reasons.get("too_old"):
        console.print("  To accept events of any age, set HEADRACE_EVENTS__MAX_AGE=0 for this command and for `up`.")
