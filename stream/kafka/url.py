"""Where a Kafka is and how to be let in, out of one url: `kafka://host:port,host:port?setting=value&…`."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

# What the url may say of security, and what the client calls it.
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
    """A Kafka cluster as one process sees it."""

    servers: tuple[str, ...]
    security: Mapping[str, str] = field(default_factory=dict)
    client: str = CLIENTS[0]  # moves the records
    replication_factor: int = -1  # of topics that are made; -1: what the broker has as default
    instance_id: str = ""  # name of this process in its groups, kept over a restart; empty: a new one each time
    session_timeout: float = 10.0  # seconds without a sign of life after which a member's partitions go to others
    retry_timeout: float = 30.0  # seconds for which a broker that is away is asked again

    def __str__(self) -> str:
        """The url without its secrets."""
        return f"kafka://{','.join(self.servers)}"


def parse_url(url: str) -> KafkaSettings:
    """The cluster that a url names; ValueError says what is wrong with it.

    >>> parse_url("kafka://a:9092,b:9092?replication=3").servers
    ('a:9092', 'b:9092')
    """
    hosts, _, query = url.removeprefix("kafka:").removeprefix("//").partition("?")
    servers = tuple(server for server in hosts.strip("/").split(",") if server)
    if not servers:
        raise ValueError(f"log url must name a broker, as in kafka://host:9092, got {url!r}")
    for server in servers:
        host, _, port = server.rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError(f"a broker in the log url must be host:port, as in kafka://host:9092, got {server!r}")
    params = dict(parse_qsl(query, keep_blank_values=True))
    _check_names(params)
    client = params.get("client", CLIENTS[0])
    if client not in CLIENTS:
        raise ValueError(f"client in the log url must be {' or '.join(CLIENTS)}, got {client!r}")
    return KafkaSettings(
        servers,
        {_SECURITY[name]: value for name, value in params.items() if name in _SECURITY},
        client=client,
        replication_factor=int(_parse_number(params, "replication", -1)),
        instance_id=params.get("member", ""),
        session_timeout=_parse_number(params, "session", 10.0),
        retry_timeout=_parse_number(params, "patience", 30.0),
    )


def _check_names(params: Mapping[str, str]) -> None:
    valid_names = [*_SECURITY, *_OPTIONS]
    for name in params:
        if name not in valid_names:
            nearest = difflib.get_close_matches(name, valid_names, 1, 0)[0]
            raise ValueError(f"the log url has an unknown setting {name!r}; the nearest valid name is {nearest!r}")


def _parse_number(params: Mapping[str, str], name: str, default: float) -> float:
    try:
        number = float(params.get(name, default))
    except ValueError:
        number = float("nan")
    if name in params and not 0 < number < float("inf"):
        raise ValueError(f"{name} in the log url must be a number above 0, got {params[name]!r}")
    return number
