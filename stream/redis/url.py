"""Open a store on Redis or Redis Cluster by URL."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

from redis import Redis, RedisCluster, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from stream.process.secrets import mask_url
from stream.redis.cluster_store import RedisClusterStore
from stream.redis.parameters import parse_parameters
from stream.redis.store import RedisStore, translate_errors

_FORM = "redis://USER:PASSWORD@HOST:PORT/DB?NAME=VALUE"
_TIMEOUTS = {"socket_connect_timeout": 1.0, "socket_timeout": 10.0}
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def open_url(url: str, prefix: str) -> RedisStore:
    """Open `redis://user:password@host:port/db`, or `rediss://…` for TLS.

    Parameters: `ttl`, `cluster`, the files of TLS, and those of redis-py.
    """
    parts = _split(url)
    parameters = parse_parameters(parts.query)
    ttl, cluster = parameters.pop("ttl", "0"), parameters.pop("cluster", "false")
    if not ttl.isdecimal():
        raise ValueError(f"ttl in the store URL must be a whole number of seconds, got {ttl!r}")
    if cluster not in ("true", "false"):
        raise ValueError(f"cluster in the store URL must be true or false, got {cluster!r}")
    _check_tls(parts.scheme, parameters)
    client_url = parts._replace(query=urlencode(parameters)).geturl()
    address = f"{parts.scheme}://{_host(parts)}:{parts.port or 6379}"
    try:
        client = _connect_cluster(client_url, address) if cluster == "true" else _connect(client_url)
    except TypeError:  # names the parameter, which may be the end of a password with an & in it
        raise ValueError(f"store URL {mask_url(url)!r} has an unknown parameter; expected {_FORM}") from None
    except ValueError as error:
        raise ValueError(f"store URL is invalid ({error}); expected {_FORM}") from None
    return (RedisClusterStore if cluster == "true" else RedisStore)(client, address, prefix, int(ttl))


def _split(url: str) -> SplitResult:
    """Split a URL; ValueError, without secrets, for one that redis-py would misread."""
    try:
        parts = urlsplit(url)
        valid = bool(parts.hostname) and (parts.port is None or 0 < parts.port < 65_536)
    except ValueError:  # the port is no number, or a bracket is missing
        valid = False
    if not valid or parts.fragment or not (parts.path in ("", "/") or parts.path[1:].isdecimal()):
        hint = "write @ : / ? # % in a password as %40 %3A %2F %3F %23 %25"
        raise ValueError(f"store URL must be {_FORM}, got {mask_url(url)!r}; {hint}")
    return parts


def _host(parts: SplitResult) -> str:
    return f"[{parts.hostname}]" if ":" in (parts.hostname or "") else str(parts.hostname)


def _check_tls(scheme: str, parameters: Mapping[str, str]) -> None:
    """Check that the files of TLS can be read, and that the scheme asks for TLS."""
    tls_parameters = [name for name in parameters if name.startswith("ssl_")]
    if tls_parameters and scheme != "rediss":
        raise ValueError("the ssl_… parameters of the store URL need TLS: write rediss:// instead of redis://")
    for name in _FILES:
        if name in parameters:
            try:
                Path(parameters[name]).read_bytes()
            except OSError as error:
                url_name = "ssl_cafile" if name == "ssl_ca_certs" else name
                message = f"{url_name} in the store URL cannot be read ({error.strerror}): correct HEADRACE_STORE__URL"
                raise OSError(error.errno, message, parameters[name]) from None


def _connect(url: str) -> Any:
    """Client that makes one more attempt on a new connection.

    A restart of Redis has closed those in the pool.
    """
    options: dict[str, Any] = {"retry": Retry(NoBackoff(), 1), **_TIMEOUTS}
    client = Redis.from_url(url, **options)
    client.connection_pool.make_connection()  # validates the options without connecting
    return client


def _connect_cluster(url: str, address: str) -> Any:
    """Connect to a cluster and read its slots."""
    with translate_errors(address):
        try:
            return RedisCluster.from_url(url, **_TIMEOUTS)
        except exceptions.RedisClusterException as error:
            if "cluster mode" in str(error).lower() or "cluster support disabled" in str(error).lower():
                raise ValueError(f"{address} is not a cluster: remove cluster=true from HEADRACE_STORE__URL") from error
            raise exceptions.ConnectionError(str(error)) from error
