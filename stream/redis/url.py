"""Open a store on Redis or Redis Cluster by URL."""

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis import Redis, RedisCluster, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from stream.redis.cluster_store import RedisClusterStore
from stream.redis.store import RedisStore, translate_errors


def open_url(url: str, prefix: str) -> RedisStore:
    """Open `redis://user:password@host:port/db`, or `rediss://…` for TLS.

    Options: `ttl`, `cluster` and those of redis-py.
    """
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError(f"store URL must be redis://host:port/db, got {url!r}")
    params = dict(parse_qsl(parts.query))
    ttl = params.pop("ttl", "0")
    if not ttl.isdecimal():
        raise ValueError(f"ttl in the store URL must be a whole number of seconds, got {ttl!r}")
    cluster = params.pop("cluster", "false")
    if cluster not in ("true", "false"):
        raise ValueError(f"cluster in the store URL must be true or false, got {cluster!r}")
    client_url = parts._replace(query=urlencode(params)).geturl()
    try:
        address = f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}"
        if cluster == "true":
            return RedisClusterStore(_connect_cluster(client_url, address), address, prefix, int(ttl))
        # One more attempt, on a new connection: a restart of Redis has closed those in the pool.
        client = Redis.from_url(
            client_url, **{"retry": Retry(NoBackoff(), 1), "socket_connect_timeout": 1.0, "socket_timeout": 10.0}
        )
        client.connection_pool.make_connection()  # validates the options without connecting
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"store URL is invalid ({error}); expected redis://user:password@host:port/db?name=value"
        ) from None
    return RedisStore(client, address, prefix, int(ttl))


def _connect_cluster(url: str, address: str) -> Any:
    """Connect to a cluster and read its slots."""
    with translate_errors(address):
        try:
            return RedisCluster.from_url(url, **{"socket_connect_timeout": 1.0, "socket_timeout": 10.0})
        except exceptions.RedisClusterException as error:
            if "cluster mode" in str(error).lower() or "cluster support disabled" in str(error).lower():
                raise ValueError(f"{address} is not a cluster: remove cluster=true from HEADRACE_STORE__URL") from error
            raise exceptions.ConnectionError(str(error)) from error
