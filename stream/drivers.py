"""Open the event log and the user store by URL."""

from stream.clock import Clock, SystemClock
from stream.logs import EventLog
from stream.process.secrets import mask_url
from stream.stores import UserStore


def open_log(url: str, prefix: str = "", clock: Clock | None = None) -> EventLog:
    """Open `local:FOLDER` or `kafka://host:port,…`; `prefix` precedes topic and group names."""
    scheme, separator, _ = url.partition(":")
    if separator and scheme == "local":
        from stream.local.log import open_url as open_local

        return open_local(url, prefix, clock or SystemClock())
    if separator and scheme == "kafka":
        from stream.kafka.log import open_url as open_kafka

        return open_kafka(url, prefix, clock or SystemClock())
    raise ValueError(f"log URL must be local:FOLDER or kafka://HOST:PORT,…, got {mask_url(url)!r}")


def open_store(url: str, prefix: str = "") -> UserStore:
    """Open `local:FOLDER`, `redis://…` or `rediss://…`; different prefixes are isolated."""
    scheme, separator, _ = url.partition(":")
    if separator and scheme == "local":
        from stream.local.store import open_url as open_local

        return open_local(url, prefix)
    if separator and scheme in ("redis", "rediss"):
        from stream.redis.url import open_url as open_redis

        return open_redis(url, prefix)
    expected = "local:FOLDER, redis://HOST:PORT/DB or rediss://HOST:PORT/DB"
    raise ValueError(f"store URL must be {expected}, got {mask_url(url)!r}")
