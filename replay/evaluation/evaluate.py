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
from replay.evaluation.progressive import EvaluationSettings, ProgressiveEvaluator
from replay.file_loader import open_lines
from stream.clock import Clock, SystemClock
from stream.config import Settings, load

_TABLES = {
    "recommendations, judged by what was done next": ("recall", "ndcg", "mrr", "hr", "coverage", "events_per_second"),
    "lists that were shown": ("impression_auc", "impression_mrr", "auc", "log_loss", "calibration"),
}


class _RatingFields(msgspec.Struct):
    type: str | None = None
    value: float | None = None


def evaluate_files(
    events: list[str],
    items: list[str],
    k: int,
    repeats: bool,
    min_value: float | None,
    evaluate_from: float,
    batch: int,
    limit: int | None,
    as_json: bool,
    evaluate_every: int = 1,
) -> int:
    """Exit code 0; a file that is missing, damaged or holds no event is an OSError or ValueError that says so."""
    clock = SystemClock()
    pipeline = Pipeline(_load_settings(batch), k, clock)
    catalog_lines = [line for line in read_lines(items, lambda done, size: None) if line.strip()]
    pipeline.set_catalog(catalog_lines)
    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), rate, TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("read", total=None, rate="")
        read = read_lines(events, lambda done, size: bars.update(task, completed=done, total=size))
        lines = filter_events(read, min_value, limit)
        first_evaluated = 0
        if evaluate_from > 0:  # a share asks for the total, so the events are held in memory
            all_lines = list(lines)
            first_evaluated, lines = int(evaluate_from * len(all_lines)), iter(all_lines)
            bars.reset(task, total=len(all_lines))
        evaluator = ProgressiveEvaluator(pipeline, EvaluationSettings(k, repeats, first_evaluated, evaluate_every))
        bars.update(task, description="test, then learn")
        has_total = evaluate_from > 0
        _run(evaluator, lines, batch, clock, lambda n, speed: bars.update(task, advance=n * has_total, rate=speed))
    if evaluator.counts.events == 0:
        rejected = pipeline.rejected.total()
        reason = f"; the first of {rejected} refusals: {pipeline.first_rejection}" if rejected else ""
        raise ValueError(f"{', '.join(events)}: there is no event in it{reason}")
    protocol = {
        "k": k, "repeats": repeats, "min_value": min_value, "evaluate_from": evaluate_from, "evaluate_every": evaluate_every,
        "batch": batch, "limit": limit, "files": events, "catalog": len(catalog_lines), **_describe_run(evaluator, pipeline),
    }  # fmt: skip
    _print_results(evaluator.values(), protocol, as_json)
    return 0


def _load_settings(batch: int) -> Settings:
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


def filter_events(lines: Iterator[bytes], min_value: float | None, limit: int | None) -> Iterator[bytes]:
    """The events as they are streamed, without ratings below `min_value`, and `limit` of them at most."""
    converted = (normalize_line(line.strip(), min_value) for line in lines)
    return islice((line for line in converted if line), limit)


def normalize_line(line: bytes, min_value: float | None) -> bytes:
    """One line of a recorded log as the stream takes it, a like of −1 as a dislike; empty: it is left out.

    >>> normalize_line(b'{"type":"rating","value":3}', min_value=4)
    b''
    """
    if min_value is None and b'"like"' not in line:
        return line
    try:
        event = msgspec.json.decode(line, type=_RatingFields)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return line  # the stream says what is wrong with it
    if event.type == "like" and event.value == -1:
        return msgspec.json.encode(msgspec.json.decode(line) | {"type": "dislike", "value": None})
    is_low = event.type == "rating" and min_value is not None and (event.value is None or event.value < min_value)
    return b"" if is_low else line


def _run(
    evaluator: ProgressiveEvaluator,
    lines: Iterator[bytes],
    batch: int,
    clock: Clock,
    progress: Callable[[int, str], None],
) -> None:
    done, started = 0, clock.now_ms()
    while chunk := list(islice(lines, batch)):
        evaluator.step(chunk)
        done += len(chunk)
        progress(len(chunk), f"{done / max(0.001, (clock.now_ms() - started) / 1000):,.0f} events/s")
    evaluator.finish()


def _describe_run(evaluator: ProgressiveEvaluator, pipeline: Pipeline) -> dict[str, Any]:
    counts = evaluator.counts
    return {
        "events": counts.events,
        "impressions": counts.impressions,
        "evaluated_actions": counts.actions,
        "evaluated_unseen_items": counts.unseen_targets,
        "evaluated_repeat_items": counts.repeat_targets,
        "rejected": dict(sorted(pipeline.rejected.items())),
        "first_rejection": pipeline.first_rejection or None,
    }


def _print_results(models: dict[str, dict[str, Any]], protocol: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"models": models, "protocol": protocol}))
        return
    console = Console()
    for title, columns in _TABLES.items():
        if any(values[columns[0]] is not None for values in models.values()):
            console.print(_build_table(title, columns, models))
    summary = f"{protocol['events']:,} events, {protocol['evaluated_actions']:,} actions judged at k = {protocol['k']}"
    console.print(
        f"{summary}, of which {protocol['evaluated_unseen_items']:,} on items nobody had seen", highlight=False
    )
    if rejected := protocol["rejected"]:
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in rejected.items())
        text = f"{sum(rejected.values()):,} refused ({reasons}); the first: {protocol['first_rejection']}"
        console.print(text, highlight=False, markup=False)


def _build_table(title: str, columns: Sequence[str], models: dict[str, dict[str, Any]]) -> Table:
    """The models that have the first of these measures."""
    table = Table("model", *(name.replace("_", " ") for name in columns), title=title)
    for name, values in models.items():
        if values[columns[0]] is not None:
            table.add_row(name, *(_format_value(values[column]) for column in columns))
    return table


def _format_value(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 10 else f"{value:.4f}"
