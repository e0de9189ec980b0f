"""User store on a Redis Cluster, which has transactions only within one hash slot."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import numpy as np

from stream.redis.store import RedisStore
from stream.stores import StoreWatermark, ownership_lost_error, validate_keys, validate_values

_SHARDS = 64  # of the users; each is in one slot, so a cluster can have up to 64 primaries
_CHUNK_KEYS = 1_000  # keys per command
# Keys: the owner of the shard for each partition, then users. Arguments: number of owners, writer, time to live in
# seconds, values. The script writes nothing unless this writer owns the shard for each partition. It then returns the
# index of the first partition with another owner, negated if there is no owner because the node has lost its data.
_PUT_SCRIPT = """
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
_ADVANCE_SCRIPT = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
return 1
"""


class RedisClusterStore(RedisStore):
    """`UserStore` on a Redis Cluster.

    Users are in many slots and a transaction stays in one, so `put_many` writes

    1. shard by shard, each all or none, and only while this store is the last to claim the partitions;
    2. then the watermarks, which say that all users are written.

    After a crash in between, some users are ahead of the watermark. Events that are applied to them again change
    nothing, because each user stores the offset of its last event. A late writer finds that another has claimed each
    shard. A shard without an owner was lost with its node: the watermarks are deleted and the worker rebuilds the
    users.
    """

    _key_pattern = "{??}:" + "?" * 16

    def __init__(self, client: Any, url: str, prefix: str, ttl: int) -> None:
        super().__init__(client, url, prefix, ttl)
        self._owner_prefix = prefix + "owner:"
        self._writer_id = uuid4().hex
        self._claims: set[int] = set()

    def get_many(self, keys: np.ndarray) -> list[bytes | None]:
        names = self._user_keys(validate_keys(keys))
        values: list[bytes | None] = []
        with self._translate_errors():
            for first in range(0, len(names), _CHUNK_KEYS * 8):
                values += self._client.mget_nonatomic(names[first : first + _CHUNK_KEYS * 8])
        return values

    def claim(self, partition: int) -> str:
        with self._translate_errors():
            owners = [
                self._client.set(self._owner_key(shard, partition), self._writer_id, get=True)
                for shard in range(_SHARDS)
            ]
            self._client.set(f"{self._owner_prefix}{{{partition}}}", self._writer_id)
            self._claims.add(partition)
            if None in owners and self._client.delete(self._watermark_key(partition)):
                return ""  # a node has lost its data
        return self._read_watermark(partition)

    def watermark(self, partition: int) -> str:
        """Current watermark of a partition; empty also if a node has lost its users."""
        names = [self._owner_key(shard, partition) for shard in range(_SHARDS)]
        with self._translate_errors():
            owners = self._client.mget_nonatomic(names)
        return "" if None in owners else self._read_watermark(partition)

    def _read_watermark(self, partition: int) -> str:
        return super().watermark(partition)

    def put_many(self, keys: np.ndarray, values: Sequence[bytes], watermarks: Sequence[StoreWatermark] = ()) -> None:
        validate_values(keys, values)
        for watermark in watermarks:
            if watermark.partition not in self._claims:
                self.claim(watermark.partition)
        current = [self._read_watermark(watermark.partition) for watermark in watermarks]
        if current and current == [watermark.after for watermark in watermarks] != [
            watermark.before for watermark in watermarks
        ]:
            return
        for watermark, value in zip(watermarks, current, strict=True):
            if value != watermark.before:
                raise ownership_lost_error(watermark, value, self._url)
        new = dict(zip(keys.tolist(), values, strict=True))
        for shard in range(_SHARDS):
            shard_keys = [key for key in new if key >> 58 == shard]
            for first in range(0, len(shard_keys), _CHUNK_KEYS):
                chunk = shard_keys[first : first + _CHUNK_KEYS]
                self._put(shard, chunk, [new[key] for key in chunk], watermarks)
        for watermark in watermarks:
            self._advance_watermark(watermark)

    def _put(
        self, shard: int, keys: Sequence[int], values: Sequence[bytes], watermarks: Sequence[StoreWatermark]
    ) -> None:
        names = [self._owner_key(shard, watermark.partition) for watermark in watermarks] + [
            self._user_key(key) for key in keys
        ]
        with self._translate_errors():
            failed = self._client.eval(
                _PUT_SCRIPT, len(names), *names, len(watermarks), self._writer_id, self._ttl, *values
            )
        if failed:
            watermark = watermarks[abs(failed) - 1]
            if failed < 0:
                with self._translate_errors():
                    self._client.delete(*(self._watermark_key(other.partition) for other in watermarks))
            raise ownership_lost_error(watermark, self._read_watermark(watermark.partition), self._url)

    def _advance_watermark(self, watermark: StoreWatermark) -> None:
        names = (f"{self._owner_prefix}{{{watermark.partition}}}", self._watermark_key(watermark.partition))
        with self._translate_errors():
            if not self._client.eval(_ADVANCE_SCRIPT, 2, *names, self._writer_id, watermark.after):
                raise ownership_lost_error(watermark, self._read_watermark(watermark.partition), self._url)

    def _disconnect(self) -> None:
        """Do nothing: the client finds the primaries of a cluster itself."""

    def _owner_key(self, shard: int, partition: int) -> str:
        return f"{self._owner_prefix}{{{shard:02x}}}:{partition}"

    def _watermark_key(self, partition: int) -> str:
        return f"{self._watermark_prefix}{{{partition}}}"

    def delete_many(self, keys: np.ndarray) -> None:
        names = self._user_keys(validate_keys(keys))
        with self._translate_errors():
            for first in range(0, len(names), _CHUNK_KEYS):
                self._client.unlink(*names[first : first + _CHUNK_KEYS])

    def _user_key(self, key: int) -> str:
        return f"{self._user_prefix}{{{key >> 58:02x}}}:{key:016x}"

    def _user_keys(self, keys: np.ndarray) -> list[str]:
        return [self._user_key(key) for key in keys.tolist()]
