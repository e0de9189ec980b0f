"""Topics of a Kafka cluster: made as they should be, refused when they are not, trimmed."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from stream.kafka.kafka_python.connections import (
    MOST_BYTES,
    Admin,
    AlreadyThere,
    At,
    NoGroup,
    TopicConfig,
    admin,
    insist,
)
from stream.kafka.url import Brokers
from stream.logs import Position, checked_name

_REPLAYED_MS = 7 * 86_400_000  # for which what a key held before is kept: a replay asks for it
_POLICY = {True: "compact", False: "delete"}  # by whether the topic is compacted
_CHECKED = "cleanup.policy"


class KafkaTopics:
    """What an administrator does, and what the log needs to know of its topics. Any thread may ask."""

    def __init__(self, brokers: Brokers, prefix: str) -> None:
        self._brokers = brokers
        self._prefix = prefix
        self._lock = threading.Lock()
        self._client: Admin | None = None
        self._partitions: dict[str, int] = {}
        self._compacted: dict[str, bool] = {}

    def name(self, topic: str) -> str:
        """What the topic is called in the cluster."""
        checked_name("topic", topic)  # with a prefix before it, some would pass
        return checked_name("topic", self._prefix + topic)

    def group(self, topic: str, group: str) -> str:
        """A group has one place per topic, so it is one group of Kafka per topic."""
        return f"{checked_name('group', self._prefix + group)}.{topic}"

    def create(self, topic: str, partitions: int, compacted: bool) -> None:
        if partitions < 1:
            raise ValueError(f"partitions must be at least 1, got {partitions}")
        name = self.name(topic)
        if self._find(topic) is None:
            wanted = {
                "num_partitions": partitions,
                "replication_factor": self._brokers.replication,
                "configs": _configs(compacted, self._brokers.replication),
            }
            try:
                self._ask(lambda client: client.create_topics({name: wanted}, wait_for_metadata=True))
            except OSError as error:  # another process was faster
                if not isinstance(error.__cause__, AlreadyThere):
                    raise
            while self._find(topic) is None:
                pass
        self._check(topic, partitions, compacted)

    def _check(self, topic: str, partitions: int, compacted: bool) -> None:
        name, found = self.name(topic), self.partitions(topic)
        if found != partitions:
            raise ValueError(
                f"topic {topic!r} in {self._brokers} has {found} partitions, asked for {partitions}: "
                f"set HEADRACE_LOG__PARTITIONS to {found}, or choose another HEADRACE_LOG__PREFIX"
            )
        if self.is_compacted(topic) != compacted:
            raise ValueError(
                f"topic {topic!r} in {self._brokers} has another {_CHECKED} than {_POLICY[compacted]!r}: run "
                f"kafka-configs.sh --alter --entity-type topics --entity-name {name} "
                f"--add-config {_CHECKED}={_POLICY[compacted]}"
            )

    def partitions(self, topic: str) -> int:
        found = self._find(topic)
        if found is None:
            raise ValueError(f"topic {topic!r} is not in {self._brokers}: create it first")
        return found

    def _find(self, topic: str) -> int | None:
        """How many partitions a topic has, None if it is not there."""
        if topic not in self._partitions:
            name = self.name(topic)
            (found,) = self._ask(lambda client: client.describe_topics([name]))
            if found["error_code"] or not found["partitions"]:
                return None
            self._partitions[topic] = len(found["partitions"])
        return self._partitions[topic]

    def is_compacted(self, topic: str) -> bool:
        if topic not in self._compacted:
            asked = TopicConfig("topic", self.name(topic), {_CHECKED: None})
            told = self._ask(lambda client: client.describe_configs([asked], config_filter="all"))
            self._compacted[topic] = told["topic"][asked.name][_CHECKED]["value"] == _POLICY[True]
        return self._compacted[topic]

    def trim(self, topic: str, befores: Mapping[int, int]) -> None:
        """Delete the records below an offset, by partition."""
        wanted = {At(self.name(topic), partition): before for partition, before in befores.items()}
        if wanted:
            self._ask(lambda client: client.delete_records(wanted))

    def committed(self, topic: str, group: str) -> dict[int, Position]:
        """What a group has committed, by partition."""
        name = self.group(topic, group)
        try:
            told = self._ask(lambda client: client.list_group_offsets({name: None}))
        except OSError as error:
            if isinstance(error.__cause__, NoGroup):
                return {}
            raise
        return {
            at.partition: Position(found.offset, (found.metadata or "").rstrip("\0"))  # some clients add one
            for at, found in told[name].items()
            if at.topic == self.name(topic) and found.offset >= 0
        }

    def _ask(self, question: Callable[[Admin], Any]) -> Any:
        with self._lock:
            if self._client is None:
                self._client = insist(self._brokers, lambda: admin(self._brokers))
            client = self._client
            return insist(self._brokers, lambda: question(client))

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
            self._client = None


def _configs(compacted: bool, replication: int) -> dict[str, str]:
    """Times are those of the append; what is old goes when `Retention` says so, never by the broker's own clock."""
    configs = {
        _CHECKED: _POLICY[compacted],
        "retention.ms": "-1",
        "retention.bytes": "-1",
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(MOST_BYTES),
    }
    if compacted:
        configs |= {"min.cleanable.dirty.ratio": "0.3", "segment.ms": "3600000", "delete.retention.ms": "86400000"}
        configs["min.compaction.lag.ms"] = str(_REPLAYED_MS)
    if replication >= 3:
        configs["min.insync.replicas"] = "2"
    return configs
