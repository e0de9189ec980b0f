"""Settings of new Kafka topics, and problems of topics that others have created."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stream.clock import DAY_MS
from stream.kafka.kafka_python.connections import MAX_RECORD_BYTES, is_codec_available
from stream.logs import TopicProblem

POLICY_KEY = "cleanup.policy"
_MIN_COMPACTION_LAG_MS = 7 * DAY_MS  # a replay of this time reads the former values of a key
_TOMBSTONE_RETENTION_MS = 90 * DAY_MS  # longer than most logs: state that is rebuilt from one lacks what was deleted
_POLICY = {True: "compact", False: "delete"}  # by whether the topic is compacted
_TIMESTAMP_KEY, _COMPRESSION_KEY, _MIN_REPLICAS_KEY, _TOMBSTONE_KEY, _COMPACTION_LAG_KEY = (
    "message.timestamp.type",
    "compression.type",
    "min.insync.replicas",
    "delete.retention.ms",
    "min.compaction.lag.ms",
)
_BROKER_CODECS = ("producer", "uncompressed")  # the broker keeps what the producer sends, or decompresses it


@dataclass(frozen=True, slots=True)
class TopicState:
    """Topic as the broker describes it, and as Headrace needs it."""

    topic: str
    name: str  # in the cluster, with the prefix
    expected_partitions: int
    is_compacted: bool
    partitions: int
    replicas: int
    configs: Mapping[str, str]


def policy_name(compacted: bool) -> str:
    """Cleanup policy of a topic."""
    return _POLICY[compacted]


def topic_configs(compacted: bool, replication: int) -> dict[str, str]:
    """Configuration of a new topic: append times; only `Retention` deletes, never the broker."""
    configs = {
        POLICY_KEY: _POLICY[compacted],
        "retention.ms": "-1",
        "retention.bytes": "-1",
        _TIMESTAMP_KEY: "LogAppendTime",
        "max.message.bytes": str(MAX_RECORD_BYTES),
    }
    if compacted:
        configs |= {"min.cleanable.dirty.ratio": "0.3", "segment.ms": "3600000"}
        configs[_TOMBSTONE_KEY] = str(_TOMBSTONE_RETENTION_MS)
        configs[_COMPACTION_LAG_KEY] = str(_MIN_COMPACTION_LAG_MS)
    if replication >= 3:
        configs[_MIN_REPLICAS_KEY] = "2"
    return configs


def topic_state(
    topic: str, name: str, expected: tuple[int, bool], description: Mapping[str, Any], configs: Mapping[str, str]
) -> TopicState:
    """Combine the descriptions of a topic; `expected`: partitions, compacted."""
    partitions = description["partitions"]
    replicas = min((len(partition["replica_nodes"]) for partition in partitions), default=0)
    return TopicState(topic, name, *expected, len(partitions), replicas, configs)


def alter_command(name: str, setting: str, value: str) -> str:
    """Command that corrects a setting of a topic."""
    return f"kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config {setting}={value}"


def find_problems(state: TopicState, retention: float) -> Iterator[TopicProblem]:
    """Problems of one topic; `retention`: seconds for which records must stay."""
    if state.partitions != state.expected_partitions:
        yield TopicProblem(
            state.topic,
            f"it has {state.partitions} partitions, expected {state.expected_partitions}",
            "the number cannot change: see docs/kafka.md, section Partitions",
        )
    for setting, problem, value in _wrong_settings(state, retention):
        yield TopicProblem(state.topic, problem, f"run {alter_command(state.name, setting, value)}")
    codec = state.configs.get(_COMPRESSION_KEY, "producer")
    if codec not in _BROKER_CODECS and not is_codec_available(codec):
        problem = f"{_COMPRESSION_KEY} is {codec}, and this process has no package that reads it"
        yield TopicProblem(state.topic, problem, "install Headrace again with all of its dependencies")
    min_replicas = int(state.configs.get(_MIN_REPLICAS_KEY, "1"))
    if min_replicas > state.replicas:
        problem = f"{_MIN_REPLICAS_KEY} is {min_replicas}, but there are {state.replicas} replicas: no append succeeds"
        yield TopicProblem(state.topic, problem, "add replicas with kafka-reassign-partitions.sh")


def _wrong_settings(state: TopicState, retention: float) -> Iterator[tuple[str, str, str]]:
    """Settings to change: name, problem, value to set."""
    configs, policy = state.configs, _POLICY[state.is_compacted]
    if configs.get(_TIMESTAMP_KEY, "LogAppendTime") != "LogAppendTime":
        problem = f"{_TIMESTAMP_KEY} is {configs[_TIMESTAMP_KEY]}: a producer decides how old an event is"
        yield _TIMESTAMP_KEY, problem, "LogAppendTime"
    if configs.get(POLICY_KEY, policy) != policy:
        yield POLICY_KEY, f"{POLICY_KEY} is {configs[POLICY_KEY]}, expected {policy}", policy
    if state.is_compacted:
        kept_ms = int(configs.get(_COMPACTION_LAG_KEY, "0")) + int(configs.get(_TOMBSTONE_KEY, str(DAY_MS)))
        if kept_ms < retention * 1000:
            problem = (
                f"the broker keeps a deletion for {kept_ms / 1000:.0f} s, log.retention is {retention:.0f} s: "
                "what was deleted can come back when state is rebuilt from the log"
            )
            yield _TOMBSTONE_KEY, problem, str(max(_TOMBSTONE_RETENTION_MS, round(retention * 1000)))
    else:
        kept_ms = int(configs.get("retention.ms", "-1"))
        if 0 <= kept_ms < retention * 1000:
            problem = f"the broker deletes records after {kept_ms / 1000:.0f} s, log.retention is {retention:.0f} s"
            yield "retention.ms", problem, "-1"
        if configs.get("retention.bytes", "-1") != "-1":
            problem = f"the broker deletes records above {configs['retention.bytes']} bytes, read or not"
            yield "retention.bytes", problem, "-1"
    if state.replicas >= 3 and configs.get(_MIN_REPLICAS_KEY, "1") == "1":
        problem = f"{_MIN_REPLICAS_KEY} is 1: an acknowledged record is lost when one broker fails"
        yield _MIN_REPLICAS_KEY, problem, "2"
