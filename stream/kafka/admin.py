"""Create, check and trim the topics of a Kafka cluster."""

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from stream.kafka.kafka_python.connections import (
    GroupNotFound,
    RawAdminClient,
    TopicAlreadyExists,
    TopicAndPartition,
    TopicConfig,
    create_admin_client,
    retry,
)
from stream.kafka.topic_settings import (
    POLICY_KEY,
    alter_command,
    find_problems,
    policy_name,
    topic_configs,
    topic_state,
)
from stream.kafka.url import KafkaSettings
from stream.logs import Position, TopicChanged, TopicIdentity, TopicProblem, describe_change, validate_name

_WATCH_INTERVAL_S = 3.0
_UNKNOWN_TOPIC_ERROR = 3


class KafkaAdmin:
    """Administrative requests, and facts about topics, for several threads."""

    def __init__(self, settings: KafkaSettings, prefix: str) -> None:
        self._settings = settings
        self._prefix = prefix
        self._lock = threading.Lock()
        self._client: RawAdminClient | None = None
        self._partitions: dict[str, int] = {}
        self._ids: dict[str, str] = {}
        self._compacted: dict[str, bool] = {}
        self._change = ""  # sentence about a topic that has changed since this object saw it first
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None
        self._expected: dict[str, tuple[int, bool]] = {}  # partitions and compaction, by topic

    def topic_name(self, topic: str) -> str:
        """Name of the topic in the cluster."""
        validate_name("topic", topic)  # the prefix could make an invalid name valid
        return validate_name("topic", self._prefix + topic)

    def group_name(self, topic: str, group: str) -> str:
        """Name of the Kafka group; one per topic, because each topic has its own readers."""
        return f"{validate_name('group', self._prefix + group)}.{topic}"

    def create(self, topic: str, partitions: int, compacted: bool) -> None:
        if partitions < 1:
            raise ValueError(f"partitions must be at least 1, got {partitions}")
        name = self.topic_name(topic)
        self._expected[topic] = partitions, compacted
        if self._find_partition_count(topic) is None:
            spec = {
                "num_partitions": partitions,
                "replication_factor": self._settings.replication_factor,
                "configs": topic_configs(compacted, self._settings.replication_factor),
            }
            try:
                self._call(lambda client: client.create_topics({name: spec}, wait_for_metadata=True))
            except OSError as error:  # another process has created it
                if not isinstance(error.__cause__, TopicAlreadyExists):
                    raise
            while self._find_partition_count(topic) is None:
                pass
        self._check(topic, partitions, compacted)

    def _check(self, topic: str, partitions: int, compacted: bool) -> None:
        name, count = self.topic_name(topic), self.partitions(topic)
        if count != partitions:
            raise ValueError(
                f"topic {topic!r} in {self._settings} has {count} partitions, expected {partitions}: "
                f"set HEADRACE_LOG__PARTITIONS to {count}, or choose another HEADRACE_LOG__PREFIX"
            )
        if self.is_compacted(topic) != compacted:
            raise ValueError(
                f"topic {topic!r} in {self._settings} has another {POLICY_KEY} than {policy_name(compacted)!r}: run "
                f"{alter_command(name, POLICY_KEY, policy_name(compacted))}"
            )

    def partitions(self, topic: str) -> int:
        count = self._find_partition_count(topic)
        if count is None:
            raise ValueError(f"topic {topic!r} does not exist in {self._settings}: create it first")
        return count

    def topic_id(self, topic: str) -> str:
        self._find_partition_count(topic)
        return self._ids.get(topic, "")

    def _find_partition_count(self, topic: str) -> int | None:
        """Number of partitions of a topic; None if it does not exist."""
        if topic not in self._partitions:
            name = self.topic_name(topic)
            (description,) = self._call(lambda client: client.describe_topics([name]))
            if description["error_code"] or not description["partitions"]:
                return None
            self._ids[topic] = description["topic_id"] or ""
            self._partitions[topic] = len(description["partitions"])
        return self._partitions[topic]

    def check_unchanged(self) -> None:
        """Raise TopicChanged if a topic was deleted, replaced or extended since the start.

        A thread asks the broker every few seconds, so that this takes no time.
        """
        if self._change:
            raise TopicChanged(self._change)
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, name="kafka-topics", daemon=True)
            self._watcher.start()

    def _watch(self) -> None:
        while not self._closed.wait(_WATCH_INTERVAL_S) and not self._change:
            with contextlib.suppress(OSError):  # the broker is away: nothing has changed that matters now
                self._change = self._find_change()

    def _find_change(self) -> str:
        """Sentence about the first topic that is not as it was; empty if all are."""
        known = dict(self._partitions)
        names = {self.topic_name(topic): topic for topic in known}
        for entry in self._call(lambda client: client.describe_topics(list(names))):
            topic = names[entry["name"]]
            was = TopicIdentity(self._ids[topic], known[topic])
            if entry["error_code"] == _UNKNOWN_TOPIC_ERROR:
                return describe_change(topic, was, None)
            now = TopicIdentity(entry["topic_id"] or "", len(entry["partitions"]))
            if not entry["error_code"] and now != was:
                return describe_change(topic, was, now)
        return ""

    def is_compacted(self, topic: str) -> bool:
        if topic not in self._compacted:
            resource = TopicConfig("topic", self.topic_name(topic), {POLICY_KEY: None})
            response = self._call(lambda client: client.describe_configs([resource], config_filter="all"))
            self._compacted[topic] = response["topic"][resource.name][POLICY_KEY]["value"] == policy_name(True)
        return self._compacted[topic]

    def topic_problems(self, retention: float) -> list[TopicProblem]:
        """Problems of the topics that `create` was called for."""
        names = {topic: self.topic_name(topic) for topic in self._expected}
        if not names:
            return []
        descriptions = {
            entry["name"]: entry
            for entry in self._call(lambda client: client.describe_topics(list(names.values())))
            if entry["partitions"]
        }
        resources = [TopicConfig("topic", name) for name in descriptions]
        response = self._call(lambda client: client.describe_configs(resources, config_filter="all")["topic"])
        return [
            problem
            for topic, name in names.items()
            if name in descriptions
            for problem in find_problems(
                topic_state(
                    topic, name, self._expected[topic], descriptions[name],
                    {key: entry["value"] for key, entry in response[name].items()},
                ),
                retention,
            )
        ]  # fmt: skip

    def trim(self, topic: str, before_offsets: Mapping[int, int]) -> None:
        """Delete the records below an offset, by partition."""
        offsets = {
            TopicAndPartition(self.topic_name(topic), partition): before for partition, before in before_offsets.items()
        }
        if offsets:
            self._call(lambda client: client.delete_records(offsets))

    def committed(self, topic: str, group: str) -> dict[int, Position]:
        """Committed positions of a group, by partition."""
        name = self.group_name(topic, group)
        try:
            response = self._call(lambda client: client.list_group_offsets({name: None}))
        except OSError as error:
            if isinstance(error.__cause__, GroupNotFound):
                return {}
            raise
        return {
            key.partition: Position(entry.offset, (entry.metadata or "").rstrip("\0"))  # some clients add NUL
            for key, entry in response[name].items()
            if key.topic == self.topic_name(topic) and entry.offset >= 0
        }

    def _call(self, operation: Callable[[RawAdminClient], Any]) -> Any:
        with self._lock:
            if self._client is None:
                self._client = retry(self._settings, lambda: create_admin_client(self._settings))
            client = self._client
            return retry(self._settings, lambda: operation(client))

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            if self._client is not None:
                self._client.close()
            self._client = None
