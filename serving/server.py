"""The life of `headrace serve`: start → run → drain → stop."""

import asyncio
import logging
import socket
import sys
from threading import Event as Signal

from granian.constants import Interfaces
from granian.server.embed import Server

from serving.app import create_app
from serving.service import Service
from stream.clock import SystemClock
from stream.config import Settings
from stream.stores import open_store
from stream.topics import open_topics

_SWITCH = 0.0005  # seconds after which an answer lets the threads that read and write the log go on
_logger = logging.getLogger(__name__)


def serve_http(settings: Settings, stop: Signal) -> None:
    """Answer until told to stop, then finish what is under way."""
    if settings.serve.processes == 1:
        _demand_free(settings.serve.host, settings.serve.port)
    sys.setswitchinterval(_SWITCH)
    clock = SystemClock()
    log = open_topics(settings, clock)
    store = open_store(settings.store_url, settings.store.prefix)
    service = Service(log, store, settings, clock)
    asyncio.run(_serve(service, settings, stop))
    store.close()
    log.close()


def _demand_free(host: str, port: int) -> None:
    """OSError if somebody listens there: a server that shares its port would have its requests go astray."""
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, proto) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise OSError(
                f"port {port} of {host} cannot be used ({error.strerror}): "
                "stop what listens there, or set HEADRACE_SERVE__PORT to a free port",
            ) from None


async def _serve(service: Service, settings: Settings, stop: Signal) -> None:
    server = Server(
        create_app(service),
        address=settings.serve.host,
        port=settings.serve.port,
        interface=Interfaces.ASGI,
        log_enabled=False,
        backlog=1024,
    )
    asked = asyncio.create_task(_stop_when_told(server, stop))
    _logger.info("answering on http://%s:%d", settings.serve.host, settings.serve.port)
    await server.serve()
    stop.set()
    await asked


async def _stop_when_told(server: Server, stop: Signal) -> None:
    while not stop.is_set():
        await asyncio.sleep(0.05)
    server.stop()  # type: ignore[no-untyped-call]
