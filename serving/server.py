"""Lifecycle of `headrace serve`: start → run → drain → stop."""

import asyncio
import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event as Signal

import uvicorn
import uvloop

from serving.http.app import create_app
from serving.service import Service
from stream.clock import SystemClock
from stream.config import ServeSettings, Settings
from stream.drivers import open_store
from stream.topics import open_topics

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Timeouts and buffers of the HTTP server."""

    switch_interval_s: float = 0.0005  # time that a request holds the interpreter before the log's threads may run
    keep_alive_timeout_s: int = 75  # longer than a client's connection pool keeps an idle connection
    drain_timeout_s: int = 10  # for running requests at shutdown
    backlog: int = 1024
    stop_check_interval_s: float = 0.05


class _Server(uvicorn.Server):
    """Server without signal handlers: `serve_http` receives a stop signal instead."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve_http(settings: Settings, stop: Signal, http: HttpSettings | None = None) -> None:
    """Serve until `stop` is set, then finish the running requests."""
    http = http or HttpSettings()
    with _bind(settings.serve) as listener:
        sys.setswitchinterval(http.switch_interval_s)
        clock = SystemClock()
        log = open_topics(settings, clock)
        store = open_store(settings.store_url, settings.store.prefix)
        service = Service(log, store, settings, clock)
        uvloop.run(_serve(service, listener, stop, http))
        store.close()
        log.close()


def _bind(serve: ServeSettings) -> socket.socket:
    """Bind the port; OSError if another process uses it.

    On a shared port, requests could reach the wrong server.
    """
    family, kind, proto, _, address = socket.getaddrinfo(serve.host, serve.port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, proto)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, serve.processes > 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise OSError(
            f"port {serve.port} of {serve.host} cannot be used ({error.strerror}): "
            "stop the process that listens there, or set HEADRACE_SERVE__PORT to a free port",
        ) from None
    return listener


async def _serve(service: Service, listener: socket.socket, stop: Signal, http: HttpSettings) -> None:
    # One thread reads the connections and serves the requests. A request that arrives meanwhile waits in the socket,
    # and none is handed from thread to thread.
    server = _Server(
        uvicorn.Config(
            create_app(service), http="httptools", ws="none", lifespan="on", log_config=None, log_level="error",
            access_log=False, proxy_headers=False, server_header=False, backlog=http.backlog,
            timeout_keep_alive=http.keep_alive_timeout_s, timeout_graceful_shutdown=http.drain_timeout_s,
        )
    )  # fmt: skip
    stop_task = asyncio.create_task(_wait_for_stop(server, stop, http.stop_check_interval_s))
    _logger.info("serving on http://%s:%d", *listener.getsockname()[:2])
    await server.serve([listener])
    stop.set()
    await stop_task


async def _wait_for_stop(server: uvicorn.Server, stop: Signal, interval_s: float) -> None:
    while not stop.is_set():
        await asyncio.sleep(interval_s)
    server.should_exit = True
