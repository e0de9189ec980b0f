"""`headrace replay evaluate`: recorded logs in, measures out, with a progress bar and a table for people."""

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import zstandard
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from replay.evaluation.live_pipeline import Pipeline
from replay.evaluation.progressive import Judging, Progressive
from replay.file_loader import open_lines
from stream.clock import Clock, SystemClock
from stream.config import Settings, load

_TABLES = {
    "recommendations, judged by what was done next": ("recall", "ndcg", "mrr", "hr", "coverage", "events_per_second"),
    "lists that were shown": ("impression_auc", "impression_mrr", "auc", "log_loss", "calibration"),
}


class _Valued(msgspec.Struct):
    type: str | None = None
    value: float | None = None


def evaluate_files(
    events: list[str],
    items: list[str],
    k: int,
    repeats: bool,
    min_value: float | None,
    judge_from: float,
    batch: int,
    limit: int | None,
    as_json: bool,
    judge_every: int = 1,
) -> int:
    """Exit code 0; a file that is missing, damaged or holds no event is an OSError or ValueError that says so."""
    clock = SystemClock()
    pipeline = Pipeline(_settings(batch), k, clock)
    catalogue = [line for line in read_lines(items, lambda done, size: None) if line.strip()]
    pipeline.describe(catalogue)
    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), rate, TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("read", total=None, rate="")
        read = read_lines(events, lambda done, size: bars.update(task, completed=done, total=size))
        lines = recorded(read, min_value, limit)
        first = 0
        if judge_from > 0:  # a share asks for the total, so the events are held in memory
            held = list(lines)
            first, lines = int(judge_from * len(held)), iter(held)
            bars.reset(task, total=len(held))
        race = Progressive(pipeline, Judging(k, repeats, first, judge_every))
        bars.update(task, description="test, then learn")
        counts = judge_from > 0
        _run(race, lines, batch, clock, lambda n, told: bars.update(task, advance=n * counts, rate=told))
    if race.tally.events == 0:
        refused = pipeline.refused.total()
        why = f"; the first of {refused} refusals: {pipeline.first_refusal}" if refused else ""
        raise ValueError(f"{', '.join(events)}: there is no event in it{why}")
    protocol = {
        "k": k, "repeats": repeats, "min_value": min_value, "judge_from": judge_from, "judge_every": judge_every,
        "batch": batch, "limit": limit, "files": events, "catalogue": len(catalogue), **_told(race, pipeline),
    }  # fmt: skip
    _print(race.values(), protocol, as_json)
    return 0


def _settings(batch: int) -> Settings:
    """The live settings, but events may be of any age and a micro-batch is as asked for."""
    settings = load()
    return settings.model_copy(
        update={
            "events": settings.events.model_copy(update={"max_age": 0.0}),
            "stream": settings.stream.model_copy(update={"batch": batch}),
        }
    )


def read_lines(paths: Sequence[str], progress: Callable[[int, int | None], None]) -> Iterator[bytes]:
    """Lines of files, one file after another; `progress` is told the bytes read and their total, None = unknown."""
    sizes = [0 if path == "-" else Path(path).stat().st_size for path in paths]
    total = sum(sizes) if all(sizes) else None
    for i, path in enumerate(paths):
        lines, raw, size = open_lines(path)
        try:
            for n, line in enumerate(lines):
                if n % 1024 == 0 and size:
                    progress(sum(sizes[:i]) + raw.tell(), total)
                yield line
        except (EOFError, OSError, zlib.error, zstandard.ZstdError) as error:
            raise OSError(f"{path} ends early or is damaged: {error}") from None
        finally:
            if path != "-":
                lines.close()
                raw.close()


def recorded(lines: Iterator[bytes], min_value: float | None, limit: int | None) -> Iterator[bytes]:
    """The events as they are streamed, without ratings below `min_value`, and `limit` of them at most."""
    sound = (as_streamed(line.strip(), min_value) for line in lines)
    return islice((line for line in sound if line), limit)


def as_streamed(line: bytes, min_value: float | None) -> bytes:
    """One line of a recorded log as the stream takes it, a like of −1 as a dislike; empty: it is left out.

    >>> as_streamed(b'{"type":"rating","value":3}', min_value=4)
    b''
    """
    if min_value is None and b'"like"' not in line:
        return line
    try:
        event = msgspec.json.decode(line, type=_Valued)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return line  # the stream says what is wrong with it
    if event.type == "like" and event.value == -1:
        return msgspec.json.encode(msgspec.json.decode(line) | {"type": "dislike", "value": None})
    low = event.type == "rating" and min_value is not None and (event.value is None or event.value < min_value)
    return b"" if low else line


def _run(
    race: Progressive, lines: Iterator[bytes], batch: int, clock: Clock, progress: Callable[[int, str], None]
) -> None:
    done, started = 0, clock.now_ms()
    while taken := list(islice(lines, batch)):
        race.step(taken)
        done += len(taken)
        progress(len(taken), f"{done / max(0.001, (clock.now_ms() - started) / 1000):,.0f} events/s")
    race.finish()


def _told(race: Progressive, pipeline: Pipeline) -> dict[str, Any]:
    tally = race.tally
    return {
        "events": tally.events,
        "impressions": tally.impressions,
        "judged_actions": tally.actions,
        "judged_unseen_items": tally.unseen,
        "judged_met_items": tally.met,
        "refused": dict(sorted(pipeline.refused.items())),
        "first_refusal": pipeline.first_refusal or None,
    }


def _print(models: dict[str, dict[str, Any]], protocol: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"models": models, "protocol": protocol}))
        return
    console = Console()
    for title, columns in _TABLES.items():
        if any(values[columns[0]] is not None for values in models.values()):
            console.print(_table(title, columns, models))
    counted = f"{protocol['events']:,} events, {protocol['judged_actions']:,} actions judged at k = {protocol['k']}"
    console.print(f"{counted}, of which {protocol['judged_unseen_items']:,} on items nobody had seen", highlight=False)
    if refused := protocol["refused"]:
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in refused.items())
        told = f"{sum(refused.values()):,} refused ({reasons}); the first: {protocol['first_refusal']}"
        console.print(told, highlight=False, markup=False)


def _table(title: str, columns: Sequence[str], models: dict[str, dict[str, Any]]) -> Table:
    """The models that have the first of these measures."""
    table = Table("model", *(name.replace("_", " ") for name in columns), title=title)
    for name, values in models.items():
        if values[columns[0]] is not None:
            table.add_row(name, *(_short(values[column]) for column in columns))
    return table


def _short(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 10 else f"{value:.4f}"
