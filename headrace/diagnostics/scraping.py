"""Ask the processes of this machine for their metrics and their state."""

import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from headrace.ports import base_url
from stream.clock import Clock
from stream.config import Settings

_TIMEOUT_S = 2.0
# Without the proxy of the environment: the processes are on this machine.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


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

    @property
    def heartbeat_s(self) -> float | None:
        """Epoch time of the last heartbeat, 0 before the first; None for another program."""
        return self.samples.get(("headrace_heartbeat_timestamp_seconds", self.process))

    def total(self, name: str) -> float:
        """Sum of a metric over its series."""
        return sum(value for (sample, _), value in self.samples.items() if sample == name)


def scrape(process: str, settings: Settings, clock: Clock) -> ProcessReport:
    """Ask a process of this machine; without an answer, the report has an error."""
    ports = {"stream": settings.stream.metrics_port, "learn": settings.learn.metrics_port, "serve": settings.serve.port}
    if not ports[process]:
        return ProcessReport(process, "")
    url = base_url(settings.serve.host, ports[process])
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
        return ProcessReport(process, url, str(reason), not isinstance(reason, ConnectionRefusedError))
    offset_s = parsedate_to_datetime(date).timestamp() - clock.now_ms() / 1000 if date else 0.0
    return ProcessReport(process, url, "", True, samples, offset_s, status)


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
