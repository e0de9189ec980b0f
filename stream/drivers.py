"""Open the event log and the user store that a URL names."""

from stream.clock import Clock, SystemClock
from stream.logs import EventLog
from stream.stores import UserStore


def open_log(url: str, prefix: str = "", clock: Clock | None = None) -> EventLog:
    """Open `local:FOLDER` or `kafka://host:port,…`; `prefix` goes before every topic and group."""
    scheme, separator, _ = url.partition(":")
    if separator and scheme == "local":
        from stream.local.log import open_url as open_local

        return open_local(url, prefix, clock or SystemClock())
    if separator and scheme == "kafka":
        from stream.kafka.log import open_url as open_kafka

        return open_kafka(url, prefix, clock or SystemClock())
    raise ValueError(f"log url must be local:FOLDER or kafka://host:port,…, got {url!r}")


def open_store(url: str, prefix: str = "") -> UserStore:
    """Open `local:FOLDER` or `redis://…`; stores with different prefixes see nothing of each other."""
    scheme, separator, _ = url.partition(":")
    if separator and scheme == "local":
        from stream.local.store import open_url as open_local

        return open_local(url, prefix)
    if separator and scheme == "redis":
        from stream.redis.url import open_url as open_redis

        return open_redis(url, prefix)
    raise ValueError(f"store url must be local:FOLDER or redis://host:port/db, got {url!r}")
