"""`headrace replay evaluate`: evaluate the live code on recorded logs."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from replay.evaluation.event_files import EventFiles, Refusals, read_catalog
from replay.evaluation.live_pipeline import Pipeline
from replay.evaluation.progressive import EvaluationSettings, ProgressiveEvaluator
from replay.files.options import ReadOptions
from stream.clock import Clock, SystemClock
from stream.config import Settings, load

_TABLES = {
    "recommendations, evaluated on the next action": (
        "recall",
        "recall_interval",
        "ndcg",
        "mrr",
        "coverage",
        "events_per_second",
    ),
    "shown lists": ("impression_auc", "impression_mrr", "auc", "log_loss", "calibration"),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """Options of the command."""

    k: int = 10  # length of the evaluated lists
    repeats: bool = False  # allow items that the user has already interacted with
    min_value: float | None = None  # skip ratings below
    evaluate_from: float = 0.0  # share of the events that only train
    evaluate_every: int = 1  # evaluate every n-th action
    batch: int = 64  # events per micro-batch
    limit: int | None = None  # maximum number of events
    read: ReadOptions = field(default_factory=ReadOptions)


def evaluate_files(events: list[str], items: list[str], options: EvaluationOptions, *, as_json: bool) -> int:
    """Evaluate event files with catalog files `items`, and print the metrics. Exit code 0.

    OSError or ValueError: a file is missing, damaged or without events.
    """
    clock = SystemClock()
    pipeline = Pipeline(_load_settings(options.batch), options.k, clock)
    files = EventFiles(events, options.read, options.min_value)
    catalog = read_catalog(items, files.refusals)
    pipeline.set_catalog(catalog)
    evaluator = _evaluate(files, pipeline, options, clock)
    rejections = _add_rejections(files.refusals, pipeline)
    if evaluator.counts.events == 0:
        reason = f"; first of {rejections.reasons.total()} rejections: {rejections.first}" if rejections.reasons else ""
        raise ValueError(f"{', '.join(events)}: no events{reason}")
    protocol = asdict(options) | {"files": events, "catalog": len(catalog), **_describe_run(evaluator, rejections)}
    _print_results(evaluator.values(), protocol, as_json)
    return 0


def _evaluate(files: EventFiles, pipeline: Pipeline, options: EvaluationOptions, clock: Clock) -> ProgressiveEvaluator:
    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), rate, TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("read", total=None, rate="")

        def show(done: int, size: int | None) -> None:
            bars.update(task, completed=done, total=size)

        n_events, read_lines = files.count(show) if options.evaluate_from else (0, files.read_lines)
        first_evaluated = int(options.evaluate_from * min(n_events, options.limit or n_events))
        settings = EvaluationSettings(options.k, options.repeats, first_evaluated, options.evaluate_every)
        evaluator = ProgressiveEvaluator(pipeline, settings)
        bars.update(task, description="predict, then train")
        lines = islice(read_lines(show), options.limit)
        _run(evaluator, lines, options.batch, clock, lambda speed: bars.update(task, rate=speed))
    return evaluator


def _load_settings(batch: int) -> Settings:
    """Load the live settings, with events of any age and the given micro-batch size."""
    settings = load()
    return settings.model_copy(
        update={
            "events": settings.events.model_copy(update={"max_age": 0.0}),
            "stream": settings.stream.model_copy(update={"batch": batch}),
        }
    )


def _run(
    evaluator: ProgressiveEvaluator,
    lines: Iterator[bytes],
    batch: int,
    clock: Clock,
    progress: Callable[[str], None],
) -> None:
    done, started = 0, clock.now_ms()
    while chunk := list(islice(lines, batch)):
        evaluator.step(chunk)
        done += len(chunk)
        progress(f"{done / max(0.001, (clock.now_ms() - started) / 1000):,.0f} events/s")
    evaluator.finish()


def _add_rejections(refusals: Refusals, pipeline: Pipeline) -> Refusals:
    """Return the records that the reader refused and those that the stream rejected."""
    return Refusals(refusals.reasons + pipeline.rejected, refusals.first or pipeline.first_rejection)


def _describe_run(evaluator: ProgressiveEvaluator, rejections: Refusals) -> dict[str, Any]:
    counts = evaluator.counts
    return {
        "events": counts.events,
        "impressions": counts.impressions,
        "evaluated_actions": counts.actions,
        "evaluated_unseen_items": counts.unseen_targets,
        "evaluated_repeat_items": counts.repeat_targets,
        "rejected": dict(sorted(rejections.reasons.items())),
        "first_rejection": rejections.first or None,
    }


def _print_results(models: dict[str, dict[str, Any]], protocol: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"models": models, "protocol": protocol}))
        return
    console = Console()
    for title, columns in _TABLES.items():
        if any(values[columns[0]] is not None for values in models.values()):
            console.print(_build_table(title, columns, models))
    evaluated = f"{protocol['evaluated_actions']:,} actions evaluated at k = {protocol['k']}"
    unseen = f"{protocol['evaluated_unseen_items']:,} of them on items without earlier events"
    console.print(f"{protocol['events']:,} events, {evaluated}, {unseen}", highlight=False)
    if rejected := protocol["rejected"]:
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in rejected.items())
        text = f"{sum(rejected.values()):,} events rejected ({reasons}); first: {protocol['first_rejection']}"
        console.print(text, highlight=False, markup=False)


def _build_table(title: str, columns: Sequence[str], models: dict[str, dict[str, Any]]) -> Table:
    """Build a table of the models that have the first of these metrics."""
    heads = (name.replace("recall_interval", "95 %").replace("_", " ") for name in columns)
    table = Table("model", *heads, title=title)
    for name, values in models.items():
        if values[columns[0]] is not None:
            table.add_row(name, *(_format_value(values[column]) for column in columns))
    return table


def _format_value(value: float | list[float] | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return f"±{(value[1] - value[0]) / 2:.4f}"
    return f"{value:,.0f}" if value >= 10 else f"{value:.4f}"
