"""Parse the URL of a Kafka cluster: `kafka://host:port,host:port?setting=value&…`."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from stream.process.secrets import mask_url

# Security settings: name in the URL, and kafka-python's name.
_SECURITY = {
    "security_protocol": "security_protocol",  # PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL
    "sasl_mechanism": "sasl_mechanism",  # PLAIN, SCRAM-SHA-256, SCRAM-SHA-512
    "sasl_username": "sasl_plain_username",
    "sasl_password": "sasl_plain_password",
    "ssl_cafile": "ssl_cafile",
    "ssl_certfile": "ssl_certfile",
    "ssl_keyfile": "ssl_keyfile",
    "ssl_password": "ssl_password",
}
_OPTIONS = ("client", "replication", "member", "session", "patience")
CLIENTS = ("kafka-python", "confluent")


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Settings for the connections of one process to a Kafka cluster."""

    servers: tuple[str, ...]
    security: Mapping[str, str] = field(default_factory=dict)
    client: str = CLIENTS[0]  # library that moves the records
    replication_factor: int = -1  # of new topics; -1: the broker's default
    instance_id: str = ""  # static name of this process in its groups; empty: a new one at each start
    session_timeout: float = 10.0  # seconds without a heartbeat after which a member loses its partitions
    retry_timeout: float = 30.0  # seconds for which requests to an unreachable broker are retried

    def __str__(self) -> str:
        """URL without secrets."""
        return f"kafka://{','.join(self.servers)}"


def parse_url(url: str) -> KafkaSettings:
    """Parse a URL; ValueError names the invalid part.

    >>> parse_url("kafka://a:9092,b:9092?replication=3").servers
    ('a:9092', 'b:9092')
    """
    hosts, _, query = url.removeprefix("kafka:").removeprefix("//").partition("?")
    servers = tuple(server for server in hosts.strip("/").split(",") if server)
    if not servers:
        raise ValueError(f"log URL must name a broker, as in kafka://host:9092, got {mask_url(url)!r}")
    if "@" in hosts:
        raise ValueError("user and password of the log URL must be parameters: sasl_username=…&sasl_password=…")
    for server in servers:
        host, _, port = server.rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError(
                "a broker in the log URL must be host:port, as in kafka://host:9092 or kafka://[::1]:9092, got "
                f"{mask_url('kafka://' + server).removeprefix('kafka://')!r}"
            )
    _check_form(query)
    params = dict(parse_qsl(query, keep_blank_values=True))
    _check_names(params)
    client = params.get("client", CLIENTS[0])
    if client not in CLIENTS:
        raise ValueError(f"client in the log URL must be {' or '.join(CLIENTS)}, got {client!r}")
    return KafkaSettings(
        servers,
        {_SECURITY[name]: value for name, value in params.items() if name in _SECURITY},
        client=client,
        replication_factor=int(_parse_number(params, "replication", -1)),
        instance_id=params.get("member", ""),
        session_timeout=_parse_number(params, "session", 10.0),
        retry_timeout=_parse_number(params, "patience", 30.0),
    )


def _check_form(query: str) -> None:
    """ValueError, without the text, for a part that is not name=value.

    It may be the end of a password.
    """
    for number, part in enumerate(query.split("&") if query else [], 1):
        if not part.partition("=")[0].isidentifier() or "=" not in part:
            raise ValueError(
                f"parameter {number} of the log URL is not name=value; write & and ? in a value as %26 and %3F"
            )


def _check_names(params: Mapping[str, str]) -> None:
    valid_names = [*_SECURITY, *_OPTIONS]
    for number, name in enumerate(params, 1):
        if name not in valid_names:
            nearest = difflib.get_close_matches(name, valid_names, 1, 0)[0]
            is_close = difflib.get_close_matches(name, [nearest])
            shown = (
                repr(name) if is_close else f"(parameter {number})"
            )  # it may be the end of a password with an & in it
            raise ValueError(f"the log URL has an unknown setting {shown}; the nearest valid name is {nearest!r}")


def _parse_number(params: Mapping[str, str], name: str, default: float) -> float:
    try:
        number = float(params.get(name, default))
    except ValueError:
        number = float("nan")
    if name in params and not 0 < number < float("inf"):
        raise ValueError(f"{name} in the log URL must be a number above 0, got {params[name]!r}")
    return number
