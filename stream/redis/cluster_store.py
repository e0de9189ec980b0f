"""The user store on a Redis Cluster, where what is to change together must lie together."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import numpy as np

from stream.redis.store import RedisStore
from stream.stores import Mark, checked_keys, checked_values, overtaken

_PARTS = 64  # of the users; each lies in one slot, so a cluster may have as many primaries
_AT_ONCE = 1_000  # keys of one command
# Keys: the part's owner by partition, then users; arguments: how many owners, who writes, seconds to live, values.
# Unless this writer owns the part for each partition, nothing is written: the answer is the place of the first that it
# does not own, below 0 if nobody does, as the node that has the part has lost what it had.
_PUT = """
for i = 1, ARGV[1] do
  local owner = redis.call('GET', KEYS[i])
  if not owner then return -i end
  if owner ~= ARGV[2] then return i end
end
for i = ARGV[1] + 1, #KEYS do
  local value = ARGV[i - ARGV[1] + 3]
  if ARGV[3] == '0' then redis.call('SET', KEYS[i], value)
  else redis.call('SET', KEYS[i], value, 'EX', ARGV[3]) end
end
return 0
"""
_MOVE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
return 1
"""


class RedisClusterStore(RedisStore):
    """See `UserStore`. A transaction of a cluster stays within a slot, and users lie in many: so `put_many` goes

    1. part by part, each all or none, and only while this store is the last that claimed the partitions;
    2. then the marks: they say that all users are there, never the other way round.

    After a crash between, some users are further than the mark says; events that are applied to them again change
    nothing, as each holds the offset of its last one. A writer that comes late finds each part claimed by another. A
    part that nobody owns was lost with its node: the marks go, and the worker makes the users once more.
    """

    _every = "{??}:" + "?" * 16

    def __init__(self, client: Any, url: str, prefix: str, ttl: int) -> None:
        super().__init__(client, url, prefix, ttl)
        self._owner = prefix + "owner:"
        self._me = uuid4().hex
        self._claimed: set[int] = set()

    def get_many(self, keys: np.ndarray) -> list[bytes | None]:
        names = self._names(checked_keys(keys))
        values: list[bytes | None] = []
        with self._explained():
            for first in range(0, len(names), _AT_ONCE * 8):
                values += self._client.mget_nonatomic(names[first : first + _AT_ONCE * 8])
        return values

    def claim(self, partition: int) -> str:
        with self._explained():
            before = [self._client.set(self._owner_of(part, partition), self._me, get=True) for part in range(_PARTS)]
            self._client.set(f"{self._owner}{{{partition}}}", self._me)
            self._claimed.add(partition)
            if None in before and self._client.delete(self._mark_of(partition)):
                return ""  # a node has lost its users
        return self.mark(partition)

    def put_many(self, keys: np.ndarray, values: Sequence[bytes], marks: Sequence[Mark] = ()) -> None:
        checked_values(keys, values)
        for mark in marks:
            if mark.partition not in self._claimed:
                self.claim(mark.partition)
        found = [self.mark(mark.partition) for mark in marks]
        if found and found == [mark.after for mark in marks] != [mark.before for mark in marks]:
            return
        for mark, now in zip(marks, found, strict=True):
            if now != mark.before:
                raise overtaken(mark, now, self._url)
        new = dict(zip(keys.tolist(), values, strict=True))
        for part in range(_PARTS):
            chosen = [key for key in new if key >> 58 == part]
            for first in range(0, len(chosen), _AT_ONCE):
                some = chosen[first : first + _AT_ONCE]
                self._put(part, some, [new[key] for key in some], marks)
        for mark in marks:
            self._move(mark)

    def _put(self, part: int, keys: Sequence[int], values: Sequence[bytes], marks: Sequence[Mark]) -> None:
        names = [self._owner_of(part, mark.partition) for mark in marks] + [self._name(key) for key in keys]
        with self._explained():
            refused = self._client.eval(_PUT, len(names), *names, len(marks), self._me, self._ttl, *values)
        if refused:
            mark = marks[abs(refused) - 1]
            if refused < 0:
                with self._explained():
                    self._client.delete(*(self._mark_of(one.partition) for one in marks))
            raise overtaken(mark, self.mark(mark.partition), self._url)

    def _move(self, mark: Mark) -> None:
        names = (f"{self._owner}{{{mark.partition}}}", self._mark_of(mark.partition))
        with self._explained():
            if not self._client.eval(_MOVE, 2, *names, self._me, mark.after):
                raise overtaken(mark, self.mark(mark.partition), self._url)

    def _owner_of(self, part: int, partition: int) -> str:
        return f"{self._owner}{{{part:02x}}}:{partition}"

    def _mark_of(self, partition: int) -> str:
        return f"{self._mark}{{{partition}}}"

    def delete_many(self, keys: np.ndarray) -> None:
        names = self._names(checked_keys(keys))
        with self._explained():
            for first in range(0, len(names), _AT_ONCE):
                self._client.unlink(*names[first : first + _AT_ONCE])

    def _name(self, key: int) -> str:
        return f"{self._user}{{{key >> 58:02x}}}:{key:016x}"

    def _names(self, keys: np.ndarray) -> list[str]:
        return [self._name(key) for key in keys.tolist()]
