"""Lifecycle of `headrace serve`: bind → listen → load → run → lame duck → drain → stop.

It listens before it loads, so that a liveness probe is answered while kernels compile. Of several processes that share
a port, each listens once it is ready: the kernel would send it requests that another one can answer.
"""

import asyncio
import contextlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event as Signal
from typing import TYPE_CHECKING, Any, TypeVar

import uvicorn
import uvloop

from serving.http.gate import Gate
from stream.config import Settings
from stream.process.sockets import bind, format_address

if TYPE_CHECKING:
    from serving.service import Service

T = TypeVar("T")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Timeouts and buffers of the HTTP server."""

    switch_interval_s: float = 0.0005  # time that a request holds the interpreter before the log's threads may run
    keep_alive_timeout_s: int = 75  # longer than a client's connection pool keeps an idle connection
    drain_timeout_s: int = 10  # for running requests at shutdown
    thread_timeout_s: float = 3.0  # at shutdown, for a service that still loads, or for a log that does not answer
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
    serve = settings.serve
    with bind(serve.host, serve.port, is_shared=serve.processes > 1) as listener:
        sys.setswitchinterval(http.switch_interval_s)
        uvloop.run(_ServeProcess(settings, stop, http).run(listener))


class _ServeProcess:
    def __init__(self, settings: Settings, stop: Signal, http: HttpSettings) -> None:
        self._settings = settings
        self._stop = stop
        self._http = http
        self._gate = Gate()
        # One thread reads the connections and serves the requests. A request that arrives meanwhile waits in the
        # socket, and none is handed from thread to thread.
        self._server = _Server(
            uvicorn.Config(
                self._gate, http="httptools", ws="none", lifespan="off", log_config=None, log_level="error",
                access_log=False, proxy_headers=False, server_header=False, backlog=http.backlog,
                timeout_keep_alive=http.keep_alive_timeout_s, timeout_graceful_shutdown=http.drain_timeout_s,
            )
        )  # fmt: skip

    async def run(self, listener: socket.socket) -> None:
        """Run the whole life; raises the error of a service that cannot be loaded."""
        address = format_address(*listener.getsockname()[:2])
        loading = _run_in_thread(lambda: _open_service(self._settings))
        serving: asyncio.Task[None] | None = None
        if self._settings.serve.processes == 1:
            serving = asyncio.create_task(self._server.serve([listener]))
            _logger.info("listening on http://%s; loading", address)
        stopping = asyncio.create_task(self._wait_for_stop())
        first: list[asyncio.Future[Any]] = [loading, stopping]
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            await self._abandon(loading, serving)
            return
        try:
            service = await loading
            async with _running(service, self._gate):
                serving = serving or asyncio.create_task(self._server.serve([listener]))
                _logger.info("serving on http://%s", address)
                await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
                await self._leave()
                await serving
        finally:
            self._stop.set()
            self._server.should_exit = True
            await asyncio.gather(stopping, *([serving] if serving else []), return_exceptions=True)
        closing = _run_in_thread(lambda: _close(service))
        await asyncio.wait([closing], timeout=self._http.thread_timeout_s)
        _end_unless(closing)
        await closing

    async def _wait_for_stop(self) -> None:
        while not self._stop.is_set():
            await asyncio.sleep(self._http.stop_check_interval_s)

    async def _leave(self) -> None:
        """Answer requests until load balancers have turned away, then drain."""
        if self._settings.serve.lame_duck and not self._server.should_exit:
            _logger.info("stopping in %g s; /readyz gives 503", self._settings.serve.lame_duck)
            self._gate.leave()
            await asyncio.sleep(self._settings.serve.lame_duck)
        self._server.should_exit = True

    async def _abandon(self, loading: "asyncio.Future[Service]", serving: "asyncio.Task[None] | None") -> None:
        """End while the service loads; a thread that compiles kernels cannot be stopped."""
        self._server.should_exit = True
        with contextlib.suppress(Exception):
            await asyncio.wait([loading], timeout=self._http.thread_timeout_s)
            await asyncio.gather(*([serving] if serving else []))
        _end_unless(loading)


def _close(service: "Service") -> None:
    service.store.close()
    service.log.close()


def _end_unless(future: "asyncio.Future[Any]") -> None:
    """End the process at once unless a thread has finished; nothing can interrupt it."""
    if not future.done():
        _logger.warning("ending without waiting for a thread that compiles, or for a log that does not answer")
        logging.shutdown()
        os._exit(0)


def _open_service(settings: Settings) -> "Service":
    """Open log and store, load the model, and compile the kernels of a request."""
    from serving.service import Service
    from stream.clock import SystemClock
    from stream.drivers import open_store
    from stream.topics import open_topics

    started = time.monotonic()
    clock = SystemClock()
    service = Service(
        open_topics(settings, clock), open_store(settings.store_url, settings.store.prefix), settings, clock
    )
    service.warm_up()
    _logger.info("loaded in %.1f s", time.monotonic() - started)
    return service


@contextlib.asynccontextmanager
async def _running(service: "Service", gate: Gate) -> AsyncIterator[None]:
    """Run the application of a service, with its gate open."""
    from serving.http.app import create_app

    application = create_app(service)
    async with application.lifespan():
        gate.open(application)
        yield


def _run_in_thread(call: Callable[[], T]) -> "asyncio.Future[T]":
    """Run a call in a thread that does not keep the process alive."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def resolve(result: T | None, error: BaseException | None) -> None:
        if not future.done():
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = call()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(resolve, result, error)

    threading.Thread(target=run, name="load", daemon=True).start()
    return future
