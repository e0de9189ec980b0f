"""User store on Redis: one round trip per read, one transaction per flush."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from redis import exceptions
from redis.client import Pipeline

from stream.logs import validate_name
from stream.stores import StoreWatermark, ownership_lost_error, validate_keys, validate_values

_CHUNK_KEYS = 2_000  # keys per command: a long command blocks all other clients
_ATTEMPTS = 5  # of a write whose response was lost
_ANNOTATION = "of pipeline caused error: "  # redis-py puts the command, with the users' data, before it


class _Transaction(Pipeline):
    """Transaction that ends an open WATCH by closing its connection.

    UNWATCH would need a permission of its own.
    """

    def reset(self) -> Any:
        connection: Any = self.connection  # redis-py declares no types for it
        if self.watching and connection:
            connection.disconnect()
        self.watching = False
        super().reset()


class RedisStore:
    """`UserStore` on Redis, as durable as that Redis.

    Its watermarks show a loss of data, and the worker writes again. A user is the key `<prefix>user:<key in hex>`.
    `put_many` is one transaction, including the watermarks. With `ttl`, a user who was not written for that many
    seconds is deleted; a rebuild from the log would bring the user back. `scan` and `count` iterate over all keys of
    Redis: for `headrace check` and for replays, not for requests.
    """

    _key_pattern = "?" * 16  # glob for the part of a user's key after the prefix

    def __init__(self, client: Any, url: str, prefix: str, ttl: int) -> None:
        self._client = client  # redis-py types responses as text or bytes; here they are bytes
        self._url = url  # without secrets
        self._ttl = ttl
        self._user_prefix = validate_name("prefix", prefix + "user") + ":"
        self._watermark_prefix = prefix + "watermark:"

    def get(self, key: int) -> bytes | None:
        with self._translate_errors():
            value: bytes | None = self._client.get(self._user_key(key))
            return value

    def get_many(self, keys: np.ndarray) -> list[bytes | None]:
        names = self._user_keys(validate_keys(keys))
        values: list[bytes | None] = []
        with self._translate_errors():
            for first in range(0, len(names), _CHUNK_KEYS):
                values += self._client.mget(names[first : first + _CHUNK_KEYS])
        return values

    def put_many(self, keys: np.ndarray, values: Sequence[bytes], watermarks: Sequence[StoreWatermark] = ()) -> None:
        validate_values(keys, values)
        new = dict(zip(self._user_keys(keys), values, strict=True))
        if not new and not watermarks:
            return
        for attempts_left in reversed(range(_ATTEMPTS)):
            try:
                with self._translate_errors(), self._open_transaction() as pipe:
                    if watermarks and self._is_written(pipe, watermarks):
                        return
                    self._write(pipe, new)
                    if watermarks:
                        pipe.mset({self._watermark_key(mark.partition): mark.after for mark in watermarks})
                    pipe.execute()
                    return
            except ConnectionError:
                if attempts_left == 0:
                    raise
            except exceptions.WatchError:
                # A watermark moved, or the response was lost: the next attempt reads the watermarks to find out which.
                if attempts_left == 0:
                    message = "the write was interrupted repeatedly: see the log of Redis"
                    raise ConnectionError(errno.EAGAIN, message, self._url) from None

    def _is_written(self, pipe: Any, watermarks: Sequence[StoreWatermark]) -> bool:
        """Return True if an earlier attempt has succeeded.

        OwnershipLost if another worker has written, or Redis has lost data.
        """
        names = [self._watermark_key(watermark.partition) for watermark in watermarks]
        pipe.watch(*names)
        current = [(value or b"").decode() for value in pipe.mget(names)]
        pipe.multi()
        if current == [watermark.after for watermark in watermarks] != [watermark.before for watermark in watermarks]:
            return True
        for watermark, value in zip(watermarks, current, strict=True):
            if value != watermark.before:
                raise ownership_lost_error(watermark, value, self._url)
        return False

    def _open_transaction(self) -> Pipeline:
        return _Transaction(self._client.connection_pool, self._client.response_callbacks, True, None)

    def _write(self, pipe: Any, new: dict[str, bytes]) -> None:
        if self._ttl:
            for name, value in new.items():
                pipe.set(name, value, ex=self._ttl)
            return
        names = list(new)
        for first in range(0, len(names), _CHUNK_KEYS):
            pipe.mset({name: new[name] for name in names[first : first + _CHUNK_KEYS]})

    def watermark(self, partition: int) -> str:
        with self._translate_errors():
            value: bytes | None = self._client.get(self._watermark_key(partition))
            return (value or b"").decode()

    def claim(self, partition: int) -> str:
        return self.watermark(partition)

    def _watermark_key(self, partition: int) -> str:
        return f"{self._watermark_prefix}{partition}"

    def health_problem(self) -> str:
        for node in self._read_memory_info() or []:
            policy = node.get("maxmemory_policy", "noeviction")
            can_delete = policy.startswith("allkeys") or (policy.startswith("volatile") and self._ttl > 0)
            if int(node.get("maxmemory", 0)) and can_delete:
                return (
                    f"Redis deletes users when it is full (maxmemory-policy {policy}, maxmemory {node['maxmemory']}): "
                    "redis-cli CONFIG SET maxmemory-policy noeviction, in redis.conf as well"
                )
        return ""

    def unchecked_health(self) -> str:
        nodes = self._read_memory_info()
        if nodes and all("maxmemory_policy" in node for node in nodes):
            return ""
        return "maxmemory-policy is unknown, because this Redis does not answer INFO; it should be noeviction"

    def _read_memory_info(self) -> list[dict[str, Any]] | None:
        """Facts about the memory of each node; None if this Redis does not answer INFO."""
        try:
            info: Any = self._client.info("memory")
        except (exceptions.NoPermissionError, exceptions.ResponseError) as error:
            if not isinstance(error, exceptions.NoPermissionError) and "unknown command" not in str(error).lower():
                with self._translate_errors():
                    raise
            return None
        except exceptions.RedisError:
            with self._translate_errors():
                raise
        return [info] if "used_memory" in info else list(info.values())

    def delete_many(self, keys: np.ndarray) -> None:
        names = self._user_keys(validate_keys(keys))
        if names:
            with self._translate_errors(), self._client.pipeline() as pipe:
                for first in range(0, len(names), _CHUNK_KEYS):
                    pipe.unlink(*names[first : first + _CHUNK_KEYS])
                pipe.execute()

    def scan(self) -> Iterator[tuple[int, bytes]]:
        keys = np.sort(np.fromiter(self._keys(), np.uint64))
        for first in range(0, keys.size, _CHUNK_KEYS):
            chunk = keys[first : first + _CHUNK_KEYS]
            for key, value in zip(chunk.tolist(), self.get_many(chunk), strict=True):
                if value is not None:
                    yield key, value

    def count(self) -> int:
        return sum(1 for _ in self._keys())

    def _keys(self) -> Iterator[int]:
        """Every user key once; Redis can return a key twice while its table grows."""
        with self._translate_errors():
            names = set(self._client.scan_iter(self._user_prefix + self._key_pattern, count=5_000))
        return (int(name[-16:], 16) for name in names)

    def close(self) -> None:
        self._client.close()

    def _user_key(self, key: int) -> str:
        return f"{self._user_prefix}{key:016x}"

    def _user_keys(self, keys: np.ndarray) -> list[str]:
        return [f"{self._user_prefix}{key:016x}" for key in keys.tolist()]

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        with translate_errors(self._url):
            try:
                yield
            except exceptions.ReadOnlyError:
                self._disconnect()
                raise

    def _disconnect(self) -> None:
        """Close the connections to a former primary; the next ones may lead to another server."""
        self._client.connection_pool.disconnect()


@contextmanager
def translate_errors(url: str) -> Iterator[None]:
    """Translate an error of Redis into an OSError that names the server and the fix."""
    try:
        yield
    except exceptions.WatchError:
        raise
    except exceptions.RedisError as error:
        # Not `from error`: its text can contain the command, with the data of users.
        raise _to_os_error(error, url) from None


def _to_os_error(error: exceptions.RedisError, url: str) -> OSError:
    detail = str(error).rpartition(_ANNOTATION)[2]
    for redis_error, text, error_type, error_number, fix in _ERROR_FIXES:
        if isinstance(error, redis_error) and text in detail:
            return error_type(error_number, f"{detail}: {fix}", url)
    return OSError(errno.EIO, detail, url)


_URL_VARIABLE = "HEADRACE_STORE__URL"
_TLS_FIX = (
    f"correct ssl_cafile, ssl_certfile, ssl_keyfile and ssl_password in {_URL_VARIABLE}, or write redis:// for a port"
    " without TLS"
)
_CONNECTION_FIX = f"start it, or correct {_URL_VARIABLE} (rediss:// for a port with TLS)"
_TIMEOUT_FIX = f"it is overloaded or down, or a port without TLS; check {_URL_VARIABLE}"
_REPLICA_FIX = f"it is a replica; set {_URL_VARIABLE} to the primary"
_DISK_FIX = "it cannot save to its disk; free space there"
_MEMORY_FIX = "raise its maxmemory, and keep maxmemory-policy noeviction, so that no user is deleted silently"
_CLUSTER_FIX = f"it is a cluster; add ?cluster=true to {_URL_VARIABLE}"
_PERMISSION_FIX = (
    f"correct user and password in {_URL_VARIABLE} (redis://USER:PASSWORD@HOST:PORT/DB), or grant that user access"
)
_ERROR_FIXES: tuple[tuple[type[Exception], str, type[OSError], int, str], ...] = (
    (exceptions.AuthenticationError, "", PermissionError, errno.EACCES, _PERMISSION_FIX),
    (exceptions.ResponseError, "NOAUTH", PermissionError, errno.EACCES, _PERMISSION_FIX),
    (exceptions.NoPermissionError, "", PermissionError, errno.EACCES, _PERMISSION_FIX),
    (exceptions.ResponseError, "WRONGPASS", PermissionError, errno.EACCES, _PERMISSION_FIX),
    (exceptions.OutOfMemoryError, "", ConnectionError, errno.ENOSPC, _MEMORY_FIX),
    (exceptions.ResponseError, "OOM", ConnectionError, errno.ENOSPC, _MEMORY_FIX),
    (exceptions.ReadOnlyError, "", ConnectionError, errno.EROFS, _REPLICA_FIX),
    (exceptions.ResponseError, "MISCONF", ConnectionError, errno.ENOSPC, _DISK_FIX),
    (exceptions.ResponseError, "NOREPLICAS", ConnectionError, errno.EAGAIN, "its replicas are unreachable; start them"),
    (exceptions.ClusterDownError, "", ConnectionError, errno.EAGAIN, "some of its nodes are down; start them"),
    (exceptions.MovedError, "", OSError, errno.EREMCHG, _CLUSTER_FIX),
    (exceptions.ClusterCrossSlotError, "", OSError, errno.EREMCHG, _CLUSTER_FIX),
    (exceptions.RedisClusterException, "", ConnectionError, errno.EAGAIN, "some of its nodes are down; start them"),
    (exceptions.ConnectionError, "_ssl", PermissionError, errno.EACCES, _TLS_FIX),
    (exceptions.ConnectionError, "certificate", PermissionError, errno.EACCES, _TLS_FIX),
    (exceptions.ConnectionError, "", ConnectionError, errno.ECONNREFUSED, _CONNECTION_FIX),
    (exceptions.TimeoutError, "", ConnectionError, errno.ETIMEDOUT, _TIMEOUT_FIX),
)  # fmt: skip
