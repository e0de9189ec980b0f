"""The life of `headrace serve`: start → run → drain → stop."""

import asyncio
import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event as Signal

import uvicorn
import uvloop

from serving.http.app import create_app
from serving.service import Service
from stream.clock import SystemClock
from stream.config import ServeSettings, Settings
from stream.drivers import open_store
from stream.topics import open_topics

_SWITCH_INTERVAL = 0.0005  # seconds after which an answer lets the threads that read and write the log go on
_KEEP_ALIVE_TIMEOUT = (
    75  # seconds after which a connection without requests is closed: longer than a shop's backend keeps one
)
_DRAIN_TIMEOUT = 10  # seconds at most for what is under way when told to stop
_logger = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Stops when it is told to; the signals belong to whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve_http(settings: Settings, stop: Signal) -> None:
    """Answer until told to stop, then finish what is under way."""
    with _bind(settings.serve) as listener:
        sys.setswitchinterval(_SWITCH_INTERVAL)
        clock = SystemClock()
        log = open_topics(settings, clock)
        store = open_store(settings.store_url, settings.store.prefix)
        service = Service(log, store, settings, clock)
        uvloop.run(_serve(service, listener, stop))
        store.close()
        log.close()


def _bind(serve: ServeSettings) -> socket.socket:
    """The port, OSError if it is taken: requests to a server that shares it with a stranger would go astray."""
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
            "stop what listens there, or set HEADRACE_SERVE__PORT to a free port",
        ) from None
    return listener


async def _serve(service: Service, listener: socket.socket, stop: Signal) -> None:
    # What reads and writes the connections is the thread that answers: a request that comes meanwhile waits in the
    # socket, and none is handed from thread to thread.
    server = _Server(
        uvicorn.Config(
            create_app(service), http="httptools", ws="none", lifespan="on", log_config=None, log_level="error",
            access_log=False, proxy_headers=False, server_header=False, backlog=1024, timeout_keep_alive=_KEEP_ALIVE_TIMEOUT,
            timeout_graceful_shutdown=_DRAIN_TIMEOUT,
        )
    )  # fmt: skip
    stop_task = asyncio.create_task(_wait_for_stop(server, stop))
    _logger.info("answering on http://%s:%d", *listener.getsockname()[:2])
    await server.serve([listener])
    stop.set()
    await stop_task


async def _wait_for_stop(server: uvicorn.Server, stop: Signal) -> None:
    while not stop.is_set():
        await asyncio.sleep(0.05)
    server.should_exit = True
