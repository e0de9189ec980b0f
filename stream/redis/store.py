"""User store on Redis: one round trip per read, one transaction per flush."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
from redis import exceptions

from stream.logs import validate_name
from stream.stores import StoreWatermark, ownership_lost_error, validate_keys, validate_values

_CHUNK_KEYS = 2_000  # keys per command: a long command blocks all other clients
_ATTEMPTS = 5  # of a write whose response was lost


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
                with self._translate_errors(), self._client.pipeline() as pipe:
                    if watermarks and self._is_written(pipe, watermarks):
                        return
                    self._write(pipe, new)
                    if watermarks:
                        pipe.mset({self._watermark_key(mark.partition): mark.after for mark in watermarks})
                    pipe.execute()
                    return
            except (exceptions.WatchError, ConnectionError):
                # A watermark moved, or the response was lost: the next attempt reads the watermarks to find out which.
                if attempts_left == 0:
                    raise

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
        with self._translate_errors():
            info: Any = self._client.info("memory")
        nodes = [info] if "maxmemory" in info else list(info.values())
        for node in nodes:
            if int(node.get("maxmemory", 0)) and node.get("maxmemory_policy") != "noeviction":
                return (
                    f"Redis deletes users when it is full (maxmemory-policy {node['maxmemory_policy']}, maxmemory "
                    f"{node['maxmemory']}): redis-cli CONFIG SET maxmemory-policy noeviction, in redis.conf as well"
                )
        return ""

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

    def _translate_errors(self) -> AbstractContextManager[None]:
        return translate_errors(self._url)


@contextmanager
def translate_errors(url: str) -> Iterator[None]:
    """Translate an error of Redis into an OSError that names the server and the fix."""
    try:
        yield
    except exceptions.WatchError:
        raise
    except exceptions.RedisError as error:
        for redis_error, text, error_type, error_number, fix in _ERROR_FIXES:
            if isinstance(error, redis_error) and text in str(error):
                raise error_type(error_number, f"{error}: {fix}", url) from error
        raise OSError(errno.EIO, str(error), url) from error


_URL_VARIABLE = "HEADRACE_STORE__URL"
_MEMORY_FIX = "raise its maxmemory, and keep maxmemory-policy noeviction, so that no user is deleted silently"
_CLUSTER_FIX = f"it is a cluster; add ?cluster=true to {_URL_VARIABLE}"
_PERMISSION_FIX = (
    f"correct user and password in {_URL_VARIABLE} (redis://user:password@host:port/db), or grant that user access"
)
_ERROR_FIXES: tuple[tuple[type[Exception], str, type[OSError], int, str], ...] = (
    (exceptions.AuthenticationError, "", PermissionError, errno.EACCES, _PERMISSION_FIX),
    (exceptions.ResponseError, "NOAUTH", PermissionError, errno.EACCES, _PERMISSION_FIX),
    (exceptions.NoPermissionError, "", PermissionError, errno.EACCES, _PERMISSION_FIX),
    (exceptions.ResponseError, "WRONGPASS", PermissionError, errno.EACCES, _PERMISSION_FIX),
    (exceptions.OutOfMemoryError, "", OSError, errno.ENOSPC, _MEMORY_FIX),
    (exceptions.ResponseError, "OOM", OSError, errno.ENOSPC, _MEMORY_FIX),
    (exceptions.ReadOnlyError, "", OSError, errno.EROFS, f"it is a replica; set {_URL_VARIABLE} to the primary"),
    (exceptions.ResponseError, "MISCONF", OSError, errno.ENOSPC, "it cannot save to its disk; free space there"),
    (exceptions.ResponseError, "NOREPLICAS", ConnectionError, errno.EAGAIN, "its replicas are unreachable; start them"),
    (exceptions.ClusterDownError, "", ConnectionError, errno.EAGAIN, "some of its nodes are down; start them"),
    (exceptions.MovedError, "", OSError, errno.EREMCHG, _CLUSTER_FIX),
    (exceptions.ClusterCrossSlotError, "", OSError, errno.EREMCHG, _CLUSTER_FIX),
    (exceptions.RedisClusterException, "", ConnectionError, errno.EAGAIN, "some of its nodes are down; start them"),
    (exceptions.ConnectionError, "", ConnectionError, errno.ECONNREFUSED, f"start it, or correct {_URL_VARIABLE}"),
    (exceptions.TimeoutError, "", ConnectionError, errno.ETIMEDOUT, f"it is overloaded or down; check {_URL_VARIABLE}"),
)  # fmt: skip
