"""Headrace: a recommender that learns while it serves. One verb per process."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

# One thread per process, said before numpy is imported: sums keep their order, and processes do not fight for cores.
for _library in ("OPENBLAS", "OMP", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

# Each verb imports what it needs inside, so that --help answers at once.

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=__doc__)
models = typer.Typer(
    no_args_is_help=True, help="Versions of what was learnt: list, show, diff, rollback, hold, resume, lineage."
)
quarantine = typer.Typer(no_args_is_help=True, help="Actions that were held back as poison: list, release, drop.")
replay = typer.Typer(no_args_is_help=True, help="The same machine on a recorded log: run, evaluate.")
app.add_typer(models, name="models")
app.add_typer(quarantine, name="quarantine")
app.add_typer(replay, name="replay")

Config = Annotated[Path | None, typer.Option("--config", help="Settings file; headrace.toml here if there is one.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Child = Annotated[
    bool, typer.Option("--child", hidden=True, help="Stop when the process that started this one is gone.")
]


@app.command()
def stream(config: Config = None, child: Child = False) -> None:
    """Turn events into user state and examples."""
    from stream.clock import SystemClock
    from stream.config import load
    from stream.drivers import open_store
    from stream.process import log_to_stderr, serve_metrics, stop_on_signals, stop_with_parent
    from stream.topics import open_topics
    from stream.worker.retention import Retention
    from stream.worker.worker import StreamWorker

    log_to_stderr("stream")
    settings = load(config)
    stop = stop_on_signals()
    if child:
        stop_with_parent(stop)
    serve_metrics(settings.stream.metrics_port, "HEADRACE_STREAM__METRICS_PORT")
    clock = SystemClock()
    log = open_topics(settings, clock)
    store = open_store(settings.store_url, settings.store.prefix)
    StreamWorker(log, store, settings, Retention(log, settings, clock)).run(stop)
    store.close()
    log.close()


@app.command()
def learn(config: Config = None, child: Child = False) -> None:
    """Turn examples into a better model, and keep its checkpoints."""
    from online_models.worker import LearnWorker
    from stream.clock import SystemClock
    from stream.config import load
    from stream.process import acquire_lock, log_to_stderr, serve_metrics, stop_on_signals, stop_with_parent
    from stream.topics import open_topics

    log_to_stderr("learn")
    settings = load(config)
    stop = stop_on_signals()
    if child:
        stop_with_parent(stop)
    serve_metrics(settings.learn.metrics_port, "HEADRACE_LEARN__METRICS_PORT")
    # A log that shares partitions out would let two learners in, and each would write the other's checkpoints.
    with acquire_lock(settings.checkpoints / "learn.lock"):
        log = open_topics(settings, SystemClock())
        LearnWorker(log, settings, SystemClock()).run(stop)
        log.close()


@app.command()
def serve(config: Config = None, child: Child = False) -> None:
    """Answer requests over HTTP."""
    from serving.server import serve_http
    from stream.config import load
    from stream.process import log_to_stderr, stop_on_signals, stop_with_parent

    log_to_stderr("serve")
    settings = load(config)
    stop = stop_on_signals()
    if child:
        stop_with_parent(stop)
    serve_http(settings, stop)


@app.command()
def up(config: Config = None) -> None:
    """Run stream, learn and serve on this machine, and restart one that died."""
    from headrace.supervisor import ProcessSupervisor
    from stream.config import load
    from stream.process import log_to_stderr, stop_on_signals

    log_to_stderr("up")
    stop = stop_on_signals()
    settings = load(config)
    with ProcessSupervisor(config, servers=settings.serve.processes) as supervisor:
        supervisor.run(stop)


@app.command()
def demo(
    seconds: Annotated[float | None, typer.Option(help="End by itself after so many seconds.")] = None,
    shoppers: Annotated[int, typer.Option(help="How many shoppers there are.")] = 400,
    items: Annotated[int, typer.Option(help="How many items the shop has.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the shoppers' tastes and moods.")] = 7,
    plain: Annotated[bool, typer.Option(help="Lines instead of a live view.")] = False,
) -> None:
    """Run everything on this machine with simulated shoppers, and watch it learn."""
    from headrace.demo.demo import run_demo

    raise typer.Exit(run_demo(seconds, shoppers, items, seed, plain))


@app.command()
def produce(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE…", help="JSON lines: .jsonl, .gz, .zst, or - for standard input.")
    ],
    speed: Annotated[
        float | None, typer.Option(help="Times the recorded speed; without it, as fast as it goes.")
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Write recorded events, items or users into the log."""
    from headrace.commands.produce import produce_files

    raise typer.Exit(produce_files(files, speed, config, json))


@app.command()
def check(config: Config = None, json: Json = False) -> None:
    """Say what is wrong with settings, connections, versions and disk, and how to mend it."""
    from headrace.commands.check import run_checks

    raise typer.Exit(run_checks(config, json))


@models.command("list")
def models_list(config: Config = None, json: Json = False) -> None:
    """All versions, oldest first, damaged ones too."""
    from headrace.commands.models import list_versions

    list_versions(config, json)


@models.command("show")
def models_show(version: str, config: Config = None, json: Json = False) -> None:
    """What a version is, and what made it."""
    from headrace.commands.models import show_version

    raise typer.Exit(show_version(version, config, json))


@models.command("diff")
def models_diff(before: str, after: str, config: Config = None, json: Json = False) -> None:
    """What changed between two versions, array by array."""
    from headrace.commands.models import diff_versions

    raise typer.Exit(diff_versions(before, after, config, json))


@models.command("lineage")
def models_lineage(version: str, config: Config = None, json: Json = False) -> None:
    """A version and its forebears: which events taught each."""
    from headrace.commands.models import show_lineage

    raise typer.Exit(show_lineage(version, config, json))


@models.command("rollback")
def models_rollback(
    version: str,
    skip: Annotated[
        list[str] | None,
        typer.Option(
            help="Leave out events PARTITION:FROM-TO (TO not included) and learn the rest again; may be repeated."
        ),
    ] = None,
    impressions: Annotated[
        list[str] | None,
        typer.Option(
            help="Leave out slates PARTITION:FROM-TO and what was done with them, which leaves people's past as well; "
            "other actions teach as ever. May be repeated."
        ),
    ] = None,
    downstream: Annotated[
        bool, typer.Option(help="Leave out as well what came of the skipped events: slates of versions they taught.")
    ] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Go back to a version. Without --skip and --impressions, all that was learnt since is left out."""
    from headrace.commands.models import ExcludedRanges, rollback

    raise typer.Exit(rollback(version, ExcludedRanges(skip or [], impressions or [], downstream), config, json))


@models.command("block")
def models_block(version: str, reason: str = "manual", config: Config = None) -> None:
    """Keep a version from being served; a process that serves it already goes on until it is rolled back."""
    from headrace.commands.models import override_version

    raise typer.Exit(override_version(version, reason or "manual", config))


@models.command("approve")
def models_approve(version: str, config: Config = None) -> None:
    """Let a version be served whatever the guard said of it."""
    from headrace.commands.models import override_version

    raise typer.Exit(override_version(version, "", config))


@models.command("pause")
def models_pause(reason: str = "", config: Config = None) -> None:
    """Learn nothing until told to resume; answers go on."""
    from headrace.commands.models import pause_learning

    pause_learning(reason, config)


@models.command("resume")
def models_resume(config: Config = None) -> None:
    """Learn again."""
    from headrace.commands.models import resume_learning

    resume_learning(config)


@quarantine.command("list")
def quarantine_list(config: Config = None, json: Json = False) -> None:
    """What is held back, by which detector, and why."""
    from headrace.commands.quarantine import print_quarantine

    print_quarantine(config, json)


@quarantine.command("release")
def quarantine_release(
    events: Annotated[list[str], typer.Argument(metavar="EVENT_ID…")], config: Config = None, json: Json = False
) -> None:
    """Let events count after all: each is learnt as if it came now."""
    from headrace.commands.quarantine import release_events

    raise typer.Exit(release_events(events, config, json))


@quarantine.command("drop")
def quarantine_drop(
    events: Annotated[list[str], typer.Argument(metavar="EVENT_ID…")], config: Config = None, json: Json = False
) -> None:
    """Be done with events: they are listed no more, and never learnt from."""
    from headrace.commands.quarantine import drop_events

    raise typer.Exit(drop_events(events, config, json))


@replay.command("run")
def replay_run(config: Config = None, json: Json = False) -> None:
    """Run the whole log again through the live code, and compare the bits with the live state."""
    from replay.verify import verify_log

    raise typer.Exit(verify_log(config, json))


@replay.command("evaluate")
def replay_evaluate(
    events: Annotated[
        list[str], typer.Argument(metavar="EVENTS…", help="Recorded events, in time order; - for standard input.")
    ],
    items: Annotated[list[str] | None, typer.Option(help="Catalogue of the recorded log; may be repeated.")] = None,
    k: Annotated[int, typer.Option(min=1, max=1000, help="Length of the lists that are judged.")] = 10,
    repeats: Annotated[bool, typer.Option(help="Items that a person has met may be recommended again.")] = False,
    min_value: Annotated[float | None, typer.Option(help="Keep ratings of at least so much only.")] = None,
    judge_from: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the events that teach before judging begins.")
    ] = 0.0,
    batch: Annotated[int, typer.Option(min=1, help="Events in a micro-batch.")] = 64,
    limit: Annotated[int | None, typer.Option(help="Stop after so many events.")] = None,
    judge_every: Annotated[int, typer.Option(min=1, help="Judge every so many actions only.")] = 1,
    json: Json = False,
) -> None:
    """Test, then learn, over a recorded log through the live stream and learner code, in event time."""
    from replay.evaluation.evaluate import evaluate_files

    raise typer.Exit(
        evaluate_files(events, items or [], k, repeats, min_value, judge_from, batch, limit, json, judge_every)
    )


def main() -> None:
    """Run a verb. Exit code 1: it could not be done, and why; 2: it was asked for wrongly."""
    try:
        app()
    except (OSError, ValueError) as error:
        print_error(error)
        raise SystemExit(2 if type(error).__name__ == "SettingsError" else 1) from None


def print_error(error: Any) -> None:
    print(f"headrace: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
