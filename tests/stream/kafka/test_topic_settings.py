"""Settings of topics that others have created."""

from uuid import uuid4

import pytest

from stream.drivers import open_log
from stream.kafka.kafka_python.connections import create_admin_client
from stream.kafka.topic_settings import TopicState, find_problems, topic_configs
from stream.kafka.url import parse_url
from stream.logs import TopicProblem

WEEK = 7 * 86400.0


def make_state(compacted: bool = False, replicas: int = 3, **configs: str) -> TopicState:
    changes = {name.replace("_", "."): value for name, value in configs.items()}
    return TopicState("events", "x.events", 2, compacted, 2, replicas, topic_configs(compacted, replicas) | changes)


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize("replicas", [1, 3])
def test_own_settings_have_no_problem(compacted: bool, replicas: int) -> None:
    assert list(find_problems(make_state(compacted, replicas), WEEK)) == []


@pytest.mark.parametrize(
    ("state", "problem", "fix"),
    [
        (make_state(message_timestamp_type="CreateTime"), "CreateTime", "message.timestamp.type=LogAppendTime"),
        (make_state(cleanup_policy="compact"), "expected delete", "cleanup.policy=delete"),
        (make_state(compacted=True, cleanup_policy="delete"), "expected compact", "cleanup.policy=compact"),
        (make_state(cleanup_policy="compact,delete"), "expected delete", "cleanup.policy=delete"),
        (make_state(retention_ms="3600000"), "deletes records after 3600 s", "retention.ms=-1"),
        (
            make_state(compacted=True, delete_retention_ms="86400000", min_compaction_lag_ms="0"),
            "for 86400 s",
            "delete.retention.ms=7776000000",
        ),
        (make_state(retention_bytes="1000"), "above 1000 bytes", "retention.bytes=-1"),
        (make_state(min_insync_replicas="1"), "lost when one broker fails", "min.insync.replicas=2"),
        (make_state(replicas=1, min_insync_replicas="2"), "no append succeeds", "kafka-reassign-partitions"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_problem_names_setting_and_fix(state: TopicState, problem: str, fix: str) -> None:
    (found,) = find_problems(state, WEEK)

    assert problem in found.problem
    assert fix in found.fix


def test_long_retention_of_the_broker_is_no_problem() -> None:
    assert list(find_problems(make_state(retention_ms=str(30 * 86_400_000)), WEEK)) == []


def test_topic_of_a_platform_team_is_reported(kafka_url: str) -> None:
    prefix = f"{uuid4()}."
    client = create_admin_client(parse_url(kafka_url))
    spec = {"num_partitions": 1, "replication_factor": 1, "configs": {"retention.ms": "60000"}}
    client.create_topics({f"{prefix}events": spec}, wait_for_metadata=True)
    client.close()
    log = open_log(kafka_url, prefix)
    log.create("events", 1)
    log.create("alarms", 1)
    problems = log.topic_problems(WEEK)
    log.close()

    assert {problem.topic for problem in problems} == {"events"}
    assert [problem.problem.split(" is ")[0] for problem in problems[:1]] == ["message.timestamp.type"]
    assert problems[1] == TopicProblem(
        "events",
        "the broker deletes records after 60 s, log.retention is 604800 s",
        f"run kafka-configs.sh --alter --entity-type topics --entity-name {prefix}events --add-config retention.ms=-1",
    )
