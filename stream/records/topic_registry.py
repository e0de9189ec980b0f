"""Registry of the topics of a log, by which every process refuses a replaced topic."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from stream.logs import EventLog, TopicChanged, TopicIdentity, TopicProblem, describe_change

REGISTRY = "topics"
_READ_SIZE = 1000


class _Entry(msgspec.Struct, frozen=True):
    """Record of the registry: topics as some process has created or first seen them."""

    topics: dict[str, TopicIdentity]


_decoder = msgspec.json.Decoder(_Entry)


def read_registry(log: EventLog) -> Mapping[str, TopicIdentity]:
    """Registered topics; the first entry of each counts. Empty without a registry."""
    identities: dict[str, TopicIdentity] = {}
    try:
        offset = log.start_offset(REGISTRY, 0)
    except ValueError:
        return identities
    while len(records := log.read(REGISTRY, 0, offset, _READ_SIZE)):
        for value in records.values:
            identities = (_decoder.decode(value).topics if value else {}) | identities
        offset = records.offsets[-1] + 1
    return identities


def find_changes(log: EventLog, registered: Mapping[str, TopicIdentity]) -> Iterator[tuple[str, str]]:
    """Find registered topics that were deleted, replaced or extended: (topic, sentence)."""
    for topic, was in registered.items():
        try:
            now = TopicIdentity(log.topic_id(topic), log.partitions(topic))
        except ValueError:
            yield topic, describe_change(topic, was, None)
            continue
        if now.partitions != was.partitions or (now.id and was.id and now.id != was.id):
            yield topic, describe_change(topic, was, now)


def registry_problems(log: EventLog) -> list[TopicProblem]:
    """Return the same changes as problems; creates nothing."""
    changes = find_changes(log, read_registry(log))
    return [TopicProblem(topic, problem, fix) for topic, text in changes for problem, _, fix in [text.partition(": ")]]


def check_topics(log: EventLog, registered: Mapping[str, TopicIdentity]) -> None:
    """Raise TopicChanged unless each registered topic is the one that was registered."""
    for _, text in find_changes(log, registered):
        raise TopicChanged(text)


def register_topics(log: EventLog, topics: Sequence[str], registered: Mapping[str, TopicIdentity]) -> None:
    """Register the topics that are not registered yet."""
    identities = {
        topic: TopicIdentity(log.topic_id(topic), log.partitions(topic)) for topic in topics if topic not in registered
    }
    if identities:
        log.append(REGISTRY, 0, [(None, msgspec.json.encode(_Entry(identities)))])
