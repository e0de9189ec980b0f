"""Registry of the topics and the learner of a log: every process refuses others."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from stream.logs import EventLog, TopicChanged, TopicIdentity, TopicProblem, describe_change

REGISTRY = "topics"
_READ_SIZE = 1000


class _Entry(msgspec.Struct, frozen=True):
    """Record of the registry: topics as a process first saw them, or the id of a learner."""

    topics: dict[str, TopicIdentity]
    learner: str = ""


_decoder = msgspec.json.Decoder(_Entry)


def read_registry(log: EventLog) -> Mapping[str, TopicIdentity]:
    """Registered topics; the first entry of each counts. Empty without a registry."""
    identities: dict[str, TopicIdentity] = {}
    for entry in _read_entries(log):
        identities = entry.topics | identities
    return identities


def read_learner(log: EventLog) -> str:
    """Id of the learner that registered first, "" if none has."""
    return next((entry.learner for entry in _read_entries(log) if entry.learner), "")


def register_learner(log: EventLog, id: str) -> str:
    """Register a learner unless another one is; return the id of the registered one."""
    if registered := read_learner(log):
        return registered
    log.append(REGISTRY, 0, [(None, msgspec.json.encode(_Entry({}, id)))])
    return read_learner(log)  # of two that start together, the first in the log


def _read_entries(log: EventLog) -> Iterator[_Entry]:
    try:
        offset = log.start_offset(REGISTRY, 0)
    except ValueError:  # no registry
        return
    while len(records := log.read(REGISTRY, 0, offset, _READ_SIZE)):
        yield from (_decoder.decode(value) for value in records.values if value)
        offset = records.offsets[-1] + 1


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
