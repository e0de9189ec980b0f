"""Headrace: a recommender that learns while it serves. One verb per process."""

import os
import sys
from pathlib import Path
from threading import Event as Signal
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from stream.config import Settings

# One BLAS thread per process, set before numpy is imported: sums keep their order, and processes do not compete for
# cores.
for _library in ("OPENBLAS", "OMP", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

# Each verb imports its dependencies inside the function, so that --help responds at once.

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=__doc__)
models = typer.Typer(no_args_is_help=True, help="List, compare, roll back, block and pause model versions.")
quarantine = typer.Typer(no_args_is_help=True, help="List, release and drop quarantined actions.")
replay = typer.Typer(no_args_is_help=True, help="Run the live code on a recorded log: verify and evaluate.")
app.add_typer(models, name="models")
app.add_typer(quarantine, name="quarantine")
app.add_typer(replay, name="replay")

Config = Annotated[Path | None, typer.Option("--config", help="Settings file (default: ./headrace.toml if it exists).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Child = Annotated[bool, typer.Option("--child", hidden=True, help="Stop when the parent process ends.")]
Version = Annotated[str, typer.Argument(metavar="VERSION", help="Version, as shown by `headrace models list`.")]
EventIds = Annotated[list[str], typer.Argument(metavar="EVENT_ID…", help="Ids of quarantined events.")]


def _print_version(is_requested: bool) -> None:
    if is_requested:
        from importlib.metadata import version

        typer.echo(f"headrace {version('headrace')}")
        raise typer.Exit


@app.callback()
def headrace(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Headrace: a recommender that learns while it serves. One verb per process."""


def _start_process(name: str, config: Path | None, is_child: bool = False) -> "tuple[Settings, Signal]":
    """Start logging, read the settings, and return them with the signal that ends the process."""
    from stream.config import load
    from stream.process import log_to_stderr, stop_on_signals, stop_with_parent

    log_to_stderr(name)
    settings = load(config)
    stop = stop_on_signals()
    if is_child:
        stop_with_parent(stop)
    return settings, stop


@app.command()
def stream(config: Config = None, child: Child = False) -> None:
    """Turn events into user state and training examples."""
    from stream.clock import SystemClock
    from stream.drivers import open_store
    from stream.process import serve_metrics
    from stream.topics import open_topics
    from stream.worker.retention import Retention
    from stream.worker.worker import StreamWorker

    settings, stop = _start_process("stream", config, is_child=child)
    serve_metrics(settings.stream.metrics_port, "HEADRACE_STREAM__METRICS_PORT")
    clock = SystemClock()
    log = open_topics(settings, clock)
    store = open_store(settings.store_url, settings.store.prefix)
    StreamWorker(log, store, settings, Retention(log, settings, clock)).run(stop)
    store.close()
    log.close()


@app.command()
def learn(config: Config = None, child: Child = False) -> None:
    """Train the model on examples and write its checkpoints."""
    from online_models.worker import LearnWorker
    from stream.clock import SystemClock
    from stream.process import acquire_lock, serve_metrics
    from stream.topics import open_topics

    settings, stop = _start_process("learn", config, is_child=child)
    serve_metrics(settings.learn.metrics_port, "HEADRACE_LEARN__METRICS_PORT")
    # A log with consumer groups would admit two learners, and each would overwrite the other's checkpoints.
    with acquire_lock(settings.checkpoints / "learn.lock"):
        log = open_topics(settings, SystemClock())
        LearnWorker(log, settings, SystemClock()).run(stop)
        log.close()


@app.command()
def serve(config: Config = None, child: Child = False) -> None:
    """Serve recommendations and accept events over HTTP."""
    from serving.server import serve_http

    settings, stop = _start_process("serve", config, is_child=child)
    serve_http(settings, stop)


@app.command()
def up(config: Config = None) -> None:
    """Run stream, learn and serve on this machine; restart a process that dies."""
    from headrace.supervisor import ProcessSupervisor

    settings, stop = _start_process("up", config)
    with ProcessSupervisor(config, servers=settings.serve.processes) as supervisor:
        supervisor.run(stop)
        if name := supervisor.misconfigured():
            raise ChildProcessError(f"{name} rejected its settings: see its message above")


@app.command()
def demo(
    seconds: Annotated[float | None, typer.Option(min=0, help="Duration in seconds (default: until Ctrl-C).")] = None,
    shoppers: Annotated[int, typer.Option(help="Number of simulated shoppers.")] = 400,
    items: Annotated[int, typer.Option(help="Number of items in the catalog.")] = 1000,
    seed: Annotated[int, typer.Option(help="Random seed of the shop and the shoppers.")] = 7,
    plain: Annotated[bool, typer.Option(help="Print lines instead of a live view.")] = False,
) -> None:
    """Run all processes on this machine with simulated shoppers and show how the model improves."""
    from headrace.demo.demo import run_demo

    raise typer.Exit(run_demo(seconds, shoppers, items, seed, plain))


@app.command()
def produce(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE…", help="JSON lines: .jsonl, .gz, .zst, or - for standard input.")
    ],
    speed: Annotated[
        float | None, typer.Option(min=0.001, help="Multiple of the recorded speed (default: as fast as possible).")
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Write recorded events, items or users to the log."""
    from headrace.commands.produce import produce_files

    raise typer.Exit(produce_files(files, speed, config, json))


@app.command()
def check(config: Config = None, json: Json = False) -> None:
    """Check settings, connections, versions and disk; print how to fix each problem."""
    from headrace.commands.check import run_checks

    raise typer.Exit(run_checks(config, json))


@models.command("list")
def models_list(config: Config = None, json: Json = False) -> None:
    """List all versions, oldest first, including damaged ones."""
    from headrace.commands.models import list_versions

    list_versions(config, json)


@models.command("show")
def models_show(version: Version, config: Config = None, json: Json = False) -> None:
    """Show the manifest of a version."""
    from headrace.commands.models import show_version

    raise typer.Exit(show_version(version, config, json))


@models.command("diff")
def models_diff(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="Older version.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="Newer version.")],
    config: Config = None,
    json: Json = False,
) -> None:
    """Count the rows that changed between two versions, array by array."""
    from headrace.commands.models import diff_versions

    raise typer.Exit(diff_versions(before, after, config, json))


@models.command("lineage")
def models_lineage(version: Version, config: Config = None, json: Json = False) -> None:
    """Show a version and its ancestors with the events that trained each."""
    from headrace.commands.models import show_lineage

    raise typer.Exit(show_lineage(version, config, json))


@models.command("rollback")
def models_rollback(
    version: Version,
    skip: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PARTITION:FROM-TO",
            help="Exclude these events (TO is not included) and train on the others again. Repeatable.",
        ),
    ] = None,
    impressions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PARTITION:FROM-TO",
            help="Exclude these impressions and the actions on them, also from user histories; other actions still "
            "train the model. Repeatable.",
        ),
    ] = None,
    downstream: Annotated[
        bool, typer.Option(help="Also exclude impressions served by versions that the skipped events trained.")
    ] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Roll back to a version. Without --skip and --impressions, all later training is discarded."""
    from headrace.commands.models import ExcludedRanges, rollback

    raise typer.Exit(rollback(version, ExcludedRanges(skip or [], impressions or [], downstream), config, json))


@models.command("block")
def models_block(
    version: Version,
    reason: Annotated[str, typer.Option(help="Reason, shown by `headrace models list`.")] = "manual",
    config: Config = None,
) -> None:
    """Block a version from serving. A process that already serves it continues until a rollback."""
    from headrace.commands.models import block_version

    raise typer.Exit(block_version(version, reason or "manual", config))


@models.command("approve")
def models_approve(version: Version, config: Config = None) -> None:
    """Allow a version to serve, overriding the guard."""
    from headrace.commands.models import approve_version

    raise typer.Exit(approve_version(version, config))


@models.command("pause")
def models_pause(
    reason: Annotated[str, typer.Option(help="Reason, shown by `headrace models list`.")] = "", config: Config = None
) -> None:
    """Pause training until `headrace models resume`. Serving continues."""
    from headrace.commands.models import pause_learning

    pause_learning(reason, config)


@models.command("resume")
def models_resume(config: Config = None) -> None:
    """Resume training."""
    from headrace.commands.models import resume_learning

    resume_learning(config)


@quarantine.command("list")
def quarantine_list(config: Config = None, json: Json = False) -> None:
    """List quarantined actions with the detector and the reason."""
    from headrace.commands.quarantine import print_quarantine

    print_quarantine(config, json)


@quarantine.command("release")
def quarantine_release(events: EventIds, config: Config = None, json: Json = False) -> None:
    """Release events: the model trains on them as if they had just arrived."""
    from headrace.commands.quarantine import release_events

    raise typer.Exit(release_events(events, config, json))


@quarantine.command("drop")
def quarantine_drop(events: EventIds, config: Config = None, json: Json = False) -> None:
    """Drop events: they leave the quarantine and never train the model."""
    from headrace.commands.quarantine import drop_events

    raise typer.Exit(drop_events(events, config, json))


@replay.command("run")
def replay_run(config: Config = None, json: Json = False) -> None:
    """Replay the whole log through the live code and compare every bit with the live state."""
    from replay.verify import verify_log

    raise typer.Exit(verify_log(config, json))


@replay.command("evaluate")
def replay_evaluate(
    events: Annotated[
        list[str], typer.Argument(metavar="EVENTS…", help="Recorded events in time order; - for standard input.")
    ],
    items: Annotated[list[str] | None, typer.Option(metavar="FILE", help="Catalog of the log. Repeatable.")] = None,
    k: Annotated[int, typer.Option(min=1, max=1000, help="Length of the evaluated lists.")] = 10,
    repeats: Annotated[bool, typer.Option(help="Allow items that the user has already interacted with.")] = False,
    min_value: Annotated[float | None, typer.Option(help="Skip ratings below this value.")] = None,
    evaluate_from: Annotated[
        float,
        typer.Option(
            "--judge-from", min=0, max=1, help="Share of the events that only train, before evaluation starts."
        ),
    ] = 0.0,
    evaluate_every: Annotated[int, typer.Option("--judge-every", min=1, help="Evaluate every n-th action only.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Events per micro-batch.")] = 64,
    limit: Annotated[int | None, typer.Option(min=0, help="Maximum number of events.")] = None,
    json: Json = False,
) -> None:
    """Evaluate the live code on a recorded log: predict each batch, then train on it."""
    from replay.evaluation.evaluate import EvaluationOptions, evaluate_files

    options = EvaluationOptions(
        k=k, repeats=repeats, min_value=min_value, evaluate_from=evaluate_from, evaluate_every=evaluate_every,
        batch=batch, limit=limit,
    )  # fmt: skip
    raise typer.Exit(evaluate_files(events, items or [], options, as_json=json))


def main() -> None:
    """Run a verb. Exit code 1: the command failed; 2: the command line or settings are invalid."""
    try:
        app()
    except (OSError, ValueError) as error:
        print_error(error)
        raise SystemExit(2 if type(error).__name__ == "SettingsError" else 1) from None


def print_error(error: Any) -> None:
    print(f"headrace: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
