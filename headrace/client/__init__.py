"""Typed clients of `headrace serve`, with retries and buffered events."""

from headrace.client.asynchronous import AsyncClient
from headrace.client.blocking import Client
from headrace.client.buffers import AsyncEventBuffer, EventBuffer
from headrace.client.errors import BufferFull, ClientError, EventsNotSent, RequestRejected, ServerUnreachable
from headrace.client.pending_events import BufferCounts, BufferSettings
from headrace.client.transport import ClientSettings

__all__ = [
    "AsyncClient",
    "AsyncEventBuffer",
    "BufferCounts",
    "BufferFull",
    "BufferSettings",
    "Client",
    "ClientError",
    "ClientSettings",
    "EventBuffer",
    "EventsNotSent",
    "RequestRejected",
    "ServerUnreachable",
]
