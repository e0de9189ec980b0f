"""Commands that run processes: stream, learn, serve, up and demo."""

from pathlib import Path
from threading import Event as Signal
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.options import Child, Config

if TYPE_CHECKING:
    from stream.config import Settings

processes = typer.Typer()


def _start_process(name: str, config: Path | None, is_child: bool = False) -> "tuple[Settings, Signal]":
    """Start logging, read the settings, and return them with the signal that ends the process."""
    from stream.config import load
    from stream.process.log_lines import log_to_stderr
    from stream.process.signals import stop_on_signals, stop_with_parent

    log_to_stderr(name)
    settings = load(config)
    log_to_stderr(name, settings.logging.level, settings.logging.format)
    stop = stop_on_signals()
    if is_child:
        stop_with_parent(stop)
    return settings, stop


@processes.command()
def stream(config: Config = None, child: Child = False) -> None:
    """Turn events into user state and training examples."""
    settings, stop = _start_process("stream", config, is_child=child)

    from stream.clock import SystemClock
    from stream.drivers import open_store
    from stream.process.metrics_server import serve_metrics
    from stream.topics import open_topics
    from stream.worker.retention import Retention
    from stream.worker.worker import StreamWorker

    serve_metrics(settings.serve.host, settings.stream.metrics_port, "HEADRACE_STREAM__METRICS_PORT")
    clock = SystemClock()
    log = open_topics(settings, clock)
    store = open_store(settings.store_url, settings.store.prefix)
    StreamWorker(log, store, settings, Retention(log, settings, clock)).run(stop)
    store.close()
    log.close()


@processes.command()
def learn(config: Config = None, child: Child = False) -> None:
    """Train the model on examples and write its checkpoints."""
    settings, stop = _start_process("learn", config, is_child=child)

    from online_models.training.learner_identity import claim_log
    from online_models.worker import LearnWorker
    from stream.clock import SystemClock
    from stream.process.locks import acquire_lock
    from stream.process.metrics_server import serve_metrics
    from stream.topics import open_topics

    serve_metrics(settings.serve.host, settings.learn.metrics_port, "HEADRACE_LEARN__METRICS_PORT")
    # A log with consumer groups would admit two learners, and each would overwrite the other's checkpoints.
    with acquire_lock(settings.checkpoints / "learn.lock"):
        log = open_topics(settings, SystemClock())
        claim_log(log, settings.checkpoints)
        LearnWorker(log, settings, SystemClock()).run(stop)
        log.close()


@processes.command()
def serve(config: Config = None, child: Child = False) -> None:
    """Serve recommendations and accept events over HTTP."""
    settings, stop = _start_process("serve", config, is_child=child)
    if settings.serve.processes > 1 and settings.serve.port:
        from stream.process.shared_metrics import share_metrics

        live_file = share_metrics(settings.serve.port)
    else:
        live_file = None

    from serving.server import serve_http

    serve_http(settings, stop)
    if live_file:
        live_file.close()


@processes.command()
def up(config: Config = None) -> None:
    """Run stream, learn and serve on this machine; restart a process that dies."""
    from headrace.preflight import check_free_ports, claim_folder
    from headrace.supervisor import ProcessSupervisor, SupervisorSettings

    settings, stop = _start_process("up", config)
    times = SupervisorSettings(stop_timeout_s=SupervisorSettings().stop_timeout_s + settings.serve.lame_duck)
    with claim_folder(settings.data.folder):
        check_free_ports(settings)
        with ProcessSupervisor(config, servers=settings.serve.processes, settings=times) as supervisor:
            supervisor.run(stop)
            if name := supervisor.unable_to_start():
                raise ChildProcessError(f"{name} cannot start: see its message above")


@processes.command()
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
