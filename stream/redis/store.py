"""The user store on Redis: one value per user, each answer one round trip, each write-behind one transaction."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
from redis import exceptions

from stream.logs import checked_name
from stream.stores import Mark, checked_keys, checked_values, overtaken

_AT_ONCE = 2_000  # keys of one command: a long one keeps everybody else waiting
_TRIES = 5  # of a write whose answer was lost


class RedisStore:
    """See `UserStore`. Durable as far as that Redis is: what it loses, its marks tell, and the worker writes again.

    A user is the key `<prefix>user:<key in hex>`. `put_many` is one transaction, so all or none, also with the marks;
    with `ttl` a user who was not written for so many seconds is forgotten, which a rebuild from the log would not do.
    `scan` and `count` walk all of Redis' keys: for `headrace check` and for replays, not for each request.
    """

    _every = "?" * 16  # what follows in the name of a user

    def __init__(self, client: Any, url: str, prefix: str, ttl: int) -> None:
        self._client = client  # redis-py's types allow for text; here all is bytes
        self._url = url  # without its secrets
        self._ttl = ttl
        self._user = checked_name("prefix", prefix + "user") + ":"
        self._mark = prefix + "mark:"

    def get(self, key: int) -> bytes | None:
        with self._explained():
            value: bytes | None = self._client.get(self._name(key))
            return value

    def get_many(self, keys: np.ndarray) -> list[bytes | None]:
        names = self._names(checked_keys(keys))
        values: list[bytes | None] = []
        with self._explained():
            for first in range(0, len(names), _AT_ONCE):
                values += self._client.mget(names[first : first + _AT_ONCE])
        return values

    def put_many(self, keys: np.ndarray, values: Sequence[bytes], marks: Sequence[Mark] = ()) -> None:
        checked_values(keys, values)
        new = dict(zip(self._names(keys), values, strict=True))
        if not new and not marks:
            return
        for last in reversed(range(_TRIES)):
            try:
                with self._explained(), self._client.pipeline() as pipe:
                    if marks and self._is_written(pipe, marks):
                        return
                    self._write(pipe, new)
                    if marks:
                        pipe.mset({self._mark_of(mark.partition): mark.after for mark in marks})
                    pipe.execute()
                    return
            except (exceptions.WatchError, ConnectionError):
                # A mark was moved meanwhile, or the answer was lost: the marks tell which, and whether it was written.
                if last == 0:
                    raise

    def _is_written(self, pipe: Any, marks: Sequence[Mark]) -> bool:
        """Whether an earlier try went through; Overtaken if somebody else has written, or Redis has forgotten."""
        names = [self._mark_of(mark.partition) for mark in marks]
        pipe.watch(*names)
        found = [(value or b"").decode() for value in pipe.mget(names)]
        pipe.multi()
        if found == [mark.after for mark in marks] != [mark.before for mark in marks]:
            return True
        for mark, value in zip(marks, found, strict=True):
            if value != mark.before:
                raise overtaken(mark, value, self._url)
        return False

    def _write(self, pipe: Any, new: dict[str, bytes]) -> None:
        if self._ttl:
            for name, value in new.items():
                pipe.set(name, value, ex=self._ttl)
            return
        names = list(new)
        for first in range(0, len(names), _AT_ONCE):
            pipe.mset({name: new[name] for name in names[first : first + _AT_ONCE]})

    def mark(self, partition: int) -> str:
        with self._explained():
            value: bytes | None = self._client.get(self._mark_of(partition))
            return (value or b"").decode()

    def claim(self, partition: int) -> str:
        return self.mark(partition)

    def _mark_of(self, partition: int) -> str:
        return f"{self._mark}{partition}"

    def trouble(self) -> str:
        with self._explained():
            told: Any = self._client.info("memory")
        nodes = [told] if "maxmemory" in told else list(told.values())
        for node in nodes:
            if int(node.get("maxmemory", 0)) and node.get("maxmemory_policy") != "noeviction":
                return (
                    f"it forgets people when it is full (maxmemory-policy {node['maxmemory_policy']}, maxmemory "
                    f"{node['maxmemory']}): redis-cli CONFIG SET maxmemory-policy noeviction, in redis.conf as well"
                )
        return ""

    def delete_many(self, keys: np.ndarray) -> None:
        names = self._names(checked_keys(keys))
        if names:
            with self._explained(), self._client.pipeline() as pipe:
                for first in range(0, len(names), _AT_ONCE):
                    pipe.unlink(*names[first : first + _AT_ONCE])
                pipe.execute()

    def scan(self) -> Iterator[tuple[int, bytes]]:
        keys = np.sort(np.fromiter(self._keys(), np.uint64))
        for first in range(0, keys.size, _AT_ONCE):
            some = keys[first : first + _AT_ONCE]
            for key, value in zip(some.tolist(), self.get_many(some), strict=True):
                if value is not None:
                    yield key, value

    def count(self) -> int:
        return sum(1 for _ in self._keys())

    def _keys(self) -> Iterator[int]:
        """Every key once; Redis may name one twice while its table grows."""
        with self._explained():
            names = set(self._client.scan_iter(self._user + self._every, count=5_000))
        return (int(name[-16:], 16) for name in names)

    def close(self) -> None:
        self._client.close()

    def _name(self, key: int) -> str:
        return f"{self._user}{key:016x}"

    def _names(self, keys: np.ndarray) -> list[str]:
        return [f"{self._user}{key:016x}" for key in keys.tolist()]

    def _explained(self) -> AbstractContextManager[None]:
        return explained(self._url)


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn what Redis says into an error that names it and how to mend it."""
    try:
        yield
    except exceptions.WatchError:
        raise
    except exceptions.RedisError as error:
        for kind, words, made, number, mend in _MENDS:
            if isinstance(error, kind) and words in str(error):
                raise made(number, f"{error}: {mend}", url) from error
        raise OSError(errno.EIO, str(error), url) from error


_URL = "HEADRACE_STORE__URL"
_MEMORY = "raise its maxmemory, and keep maxmemory-policy noeviction: no user may go unseen"
_FLAG = f"it is a cluster; add ?cluster=true to {_URL}"
_RIGHTS = f"correct user and password in {_URL} (redis://user:password@host:port/db), or the rights of that user"
_MENDS: tuple[tuple[type[Exception], str, type[OSError], int, str], ...] = (
    (exceptions.AuthenticationError, "", PermissionError, errno.EACCES, _RIGHTS),
    (exceptions.ResponseError, "NOAUTH", PermissionError, errno.EACCES, _RIGHTS),
    (exceptions.NoPermissionError, "", PermissionError, errno.EACCES, _RIGHTS),
    (exceptions.ResponseError, "WRONGPASS", PermissionError, errno.EACCES, _RIGHTS),
    (exceptions.OutOfMemoryError, "", OSError, errno.ENOSPC, _MEMORY),
    (exceptions.ResponseError, "OOM", OSError, errno.ENOSPC, _MEMORY),
    (exceptions.ReadOnlyError, "", OSError, errno.EROFS, f"it is a replica; {_URL} must name the primary"),
    (exceptions.ResponseError, "MISCONF", OSError, errno.ENOSPC, "it cannot save to its disk; free space there"),
    (exceptions.ResponseError, "NOREPLICAS", ConnectionError, errno.EAGAIN, "its replicas are away; start them"),
    (exceptions.ClusterDownError, "", ConnectionError, errno.EAGAIN, "a part of the cluster is away; start its nodes"),
    (exceptions.MovedError, "", OSError, errno.EREMCHG, _FLAG),
    (exceptions.ClusterCrossSlotError, "", OSError, errno.EREMCHG, _FLAG),
    (exceptions.RedisClusterException, "", ConnectionError, errno.EAGAIN, "a part of the cluster is away; start it"),
    (exceptions.ConnectionError, "", ConnectionError, errno.ECONNREFUSED, f"start it, or correct {_URL}"),
    (exceptions.TimeoutError, "", ConnectionError, errno.ETIMEDOUT, f"it is overloaded or away; see {_URL}"),
)  # fmt: skip
