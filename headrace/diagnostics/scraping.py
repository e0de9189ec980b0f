"""Ask the processes for their metrics and their state."""

import re
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any, NamedTuple

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from headrace.ports import base_url
from stream.clock import Clock
from stream.config import Settings
from stream.process.errors import describe_error

PROCESSES = ("stream", "learn", "serve")
_HEARTBEAT = "headrace_heartbeat_timestamp_seconds"
_TIMEOUT_S = 2.0
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:/\s\[\]]+):\d{1,5}")
# Without the proxy of the environment: the processes are on this machine or near it.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class Address(NamedTuple):
    """Place at which a process is asked."""

    url: str  # empty: its port is disabled
    is_named: bool = False  # by somebody, instead of the settings


@dataclass(frozen=True, slots=True)
class ProcessReport:
    """Answer of a process, or the reason why there is none."""

    process: str
    url: str  # empty: its port is disabled
    error: str = ""
    is_listening: bool = False  # something accepts connections there
    samples: Mapping[tuple[str, str], float] = field(default_factory=dict)  # value by name and first label
    clock_offset_s: float = 0.0  # clock of the process minus that of this machine, exact to a second
    status: Mapping[str, Any] = field(default_factory=dict)  # answer of /readyz
    is_expected: bool = False  # somebody has named its address, so it must answer there

    @property
    def heartbeat_s(self) -> float | None:
        """Epoch time of the last heartbeat, 0 before the first; None for another program."""
        heartbeats = {label: value for (name, label), value in self.samples.items() if name == _HEARTBEAT}
        is_starting = not heartbeats and any(name == "headrace_build_info" for name, _ in self.samples)
        return 0.0 if is_starting else heartbeats.get(self.process)

    def total(self, name: str) -> float:
        """Sum of a metric over its series."""
        return sum(value for (sample, _), value in self.samples.items() if sample == name)


def find_addresses(settings: Settings, named: Mapping[str, str]) -> dict[str, Address]:
    """Address of each process: as named, else on this machine by the settings."""
    host = settings.serve.host
    ports = {"stream": settings.stream.metrics_port, "learn": settings.learn.metrics_port, "serve": settings.serve.port}
    local = {process: Address(base_url(host, port) if port else "") for process, port in ports.items()}
    return local | {process: Address(f"http://{address}", True) for process, address in named.items()}


def parse_addresses(values: Sequence[str]) -> dict[str, str]:
    """Parse `PROCESS=HOST:PORT`; ValueError for anything else.

    >>> parse_addresses(["stream=stream:9101", "serve=[::1]:8000"])
    {'stream': 'stream:9101', 'serve': '[::1]:8000'}
    """
    addresses = {}
    for value in values:
        process, _, address = value.partition("=")
        if process not in PROCESSES or not _ADDRESS.fullmatch(address):
            expected = f"expected PROCESS=HOST:PORT with one of {', '.join(PROCESSES)}, as in stream=stream:9101"
            raise ValueError(f"address {value!r} is not understood; {expected}")
        addresses[process] = address
    return addresses


def scrape(process: str, address: Address, clock: Clock) -> ProcessReport:
    """Ask a process; without an answer, the report has an error."""
    url, is_named = address
    if not url:
        return ProcessReport(process, "")
    try:
        text, date = _get(f"{url}/metrics")
        status = _get_status(url) if process == "serve" else {}
        samples = {
            (sample.name, next(iter(sample.labels.values()), "")): sample.value
            for family in text_string_to_metric_families(text.decode())
            for sample in family.samples
        }
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        detail = describe_error(reason) if isinstance(reason, BaseException) else str(reason)
        return ProcessReport(process, url, detail, _is_listening(reason), is_expected=is_named)
    offset_s = parsedate_to_datetime(date).timestamp() - clock.now_ms() / 1000 if date else 0.0
    return ProcessReport(process, url, "", True, samples, offset_s, status, is_named)


def _is_listening(reason: Any) -> bool:
    """Return True if the failure of a request shows that something accepts connections."""
    return not isinstance(reason, ConnectionRefusedError | socket.gaierror)


def _get(url: str) -> tuple[bytes, str]:
    """Body and date of a response; OSError without one."""
    with _open(url, timeout=_TIMEOUT_S) as response:
        return response.read(), response.headers.get("date", "")


def _get_status(url: str) -> Mapping[str, Any]:
    """Answer of /readyz, also if it is that serve is not ready."""
    try:
        body, _ = _get(f"{url}/readyz")
    except urllib.error.HTTPError as error:
        body = error.read()
    status = msgspec.json.decode(body)
    return status if isinstance(status, dict) else {}
