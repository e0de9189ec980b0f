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
_OWN = ("client", "replication", "member", "session", "patience")
CLIENTS = ("kafka-python", "confluent")


@dataclass(frozen=True, slots=True)
class Brokers:
    """A Kafka cluster as one process sees it."""

    servers: tuple[str, ...]
    security: Mapping[str, str] = field(default_factory=dict)
    client: str = CLIENTS[0]  # moves the records
    replication: int = -1  # of topics that are made; -1: what the broker has as default
    member: str = ""  # name of this process in its groups, kept over a restart; empty: a new one each time
    session: float = 10.0  # seconds without a sign of life after which a member's partitions go to others
    patience: float = 30.0  # seconds for which a broker that is away is asked again

    def __str__(self) -> str:
        """The url without its secrets."""
        return f"kafka://{','.join(self.servers)}"


def parse_url(url: str) -> Brokers:
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
    asked = dict(parse_qsl(query, keep_blank_values=True))
    _check_names(asked)
    client = asked.get("client", CLIENTS[0])
    if client not in CLIENTS:
        raise ValueError(f"client in the log url must be {' or '.join(CLIENTS)}, got {client!r}")
    return Brokers(
        servers,
        {_SECURITY[name]: value for name, value in asked.items() if name in _SECURITY},
        client=client,
        replication=int(_number(asked, "replication", -1)),
        member=asked.get("member", ""),
        session=_number(asked, "session", 10.0),
        patience=_number(asked, "patience", 30.0),
    )


def _check_names(asked: Mapping[str, str]) -> None:
    known = [*_SECURITY, *_OWN]
    for name in asked:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 1, 0)[0]
            raise ValueError(f"the log url has an unknown setting {name!r}; the nearest valid name is {nearest!r}")


def _number(asked: Mapping[str, str], name: str, default: float) -> float:
    try:
        number = float(asked.get(name, default))
    except ValueError:
        number = float("nan")
    if name in asked and not 0 < number < float("inf"):
        raise ValueError(f"{name} in the log url must be a number above 0, got {asked[name]!r}")
    return number
