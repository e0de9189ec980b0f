"""Records by confluent-kafka, the optional client, and its errors as an operator wants them: the one door to it."""

import errno
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from stream.kafka.diagnostics import no_tls
from stream.kafka.kafka_python.connections import AHEAD_BYTES, BATCH_BYTES, FETCH_BYTES, MOST_BYTES, insist
from stream.kafka.url import Brokers
from stream.logs import Fenced, Overtaken, Position, Record, Records

_message: Any = Message  # its types allow for a record without an offset
# What the url says of security, by the name that kafka-python has for it, and what this client calls it.
_SECURITY = {
    "security_protocol": "security.protocol",
    "sasl_mechanism": "sasl.mechanism",
    "sasl_plain_username": "sasl.username",
    "sasl_plain_password": "sasl.password",
    "ssl_cafile": "ssl.ca.location",
    "ssl_certfile": "ssl.certificate.location",
    "ssl_keyfile": "ssl.key.location",
    "ssl_password": "ssl.key.password",
}
_LOST = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError._STATE,
    KafkaError._ASSIGNMENT_LOST,
}
_REFUSED = {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}
_VERIFIED = "verif"  # in what is said of a broker whose certificate is not that of the authority named
_TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}
# What a consumer hears between records and gets over by itself.
_PASSING = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError._MAX_POLL_EXCEEDED,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
}


def open_sender(brokers: Brokers) -> "FastSender":
    return FastSender(brokers)


def open_member(brokers: Brokers, topic: str, group: str | None, instance: str | None) -> "FastMember":
    return FastMember(brokers, topic, group, instance)


class FastSender:
    """See `Sender`. Records wait in it until they are flushed, so that a flush is one batch a partition."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._refused: KafkaError | None = None
        self._client = Producer(
            {
                **_common(brokers),
                "error_cb": self._hear,
                "acks": "all",
                "enable.idempotence": True,
                "max.in.flight.requests.per.connection": 1,
                "linger.ms": 2_000,
                "batch.size": 2 * BATCH_BYTES,
                "batch.num.messages": 1_000_000,
                "queue.buffering.max.messages": 2_000_000,
                "queue.buffering.max.kbytes": 1 << 20,
                "message.max.bytes": MOST_BYTES,
                "message.timeout.ms": round(brokers.patience * 1000) + 18_000,
            }
        )

    def send(self, topic: str, batches: Sequence[tuple[int, Sequence[Record]]]) -> list[tuple[int, int]]:
        firsts: dict[int, int] = {}
        faults: list[KafkaError] = []

        def told(fault: KafkaError | None, sent: Any) -> None:
            if fault is not None:
                faults.append(fault)
            else:
                firsts.setdefault(sent.partition(), sent.offset())

        produce = self._client.produce
        with _explained(self._brokers):
            for partition, records in batches:
                for key, value in records:
                    produce(topic, value, key, partition, told)
            left = self._flush(self._brokers.patience + 20)
            if faults or left:
                raise KafkaException(self._refused or (faults[0] if faults else KafkaError(KafkaError._TIMED_OUT)))
        return list(firsts.items())

    def _flush(self, patience: float) -> int:
        """Wait until all has arrived, or the broker refuses us; returns how many records still wait.

        The library would go on knocking, and say in the end no more than that time is over.
        """
        self._refused = None
        deadline = time.monotonic() + patience
        while left := self._client.flush(0.5):
            if self._refused or time.monotonic() > deadline:
                break
        return int(left)

    def _hear(self, fault: KafkaError) -> None:
        if fault.code() in _REFUSED or (fault.code() == KafkaError._SSL and _VERIFIED in fault.str()):
            self._refused = fault

    def drop(self) -> None:
        self._client.purge()
        self._client.flush(1)

    def close(self) -> None:
        self._client.flush(5)


class FastMember:
    """See `Member`. The library's own threads fetch ahead, up to a limit, and keep the membership alive."""

    def __init__(self, brokers: Brokers, topic: str, group: str | None, instance: str | None) -> None:
        self._brokers = brokers
        self._topic = topic
        self._settled = False
        self._client = Consumer(
            {
                **_common(brokers),
                # It wants a group even of those that read for themselves; nothing is committed to this one.
                "group.id": group or f"alone-{uuid4()}",
                **({"group.instance.id": instance} if instance else {}),
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_uncommitted",
                "check.crcs": True,
                "fetch.max.bytes": MOST_BYTES,
                "message.max.bytes": MOST_BYTES,
                "max.partition.fetch.bytes": FETCH_BYTES,
                "queued.max.messages.kbytes": AHEAD_BYTES >> 10,
                "fetch.queue.backoff.ms": 5,  # by default nothing comes for a second after the queue was full
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": round(brokers.session * 1000),
                "heartbeat.interval.ms": round(brokers.session * 250),
                "max.poll.interval.ms": 300_000,
            }
        )

    def join(self) -> None:
        def assigned(*_: object) -> None:
            self._settled = True

        self._client.subscribe([self._topic], on_assign=assigned)

    def take(self, partitions: Sequence[int]) -> None:
        self._client.incremental_assign(self._at(partitions))

    def poll(self, limit: int, timeout: float) -> list[Records]:
        with _explained(self._brokers, Fenced):
            first = self._client.poll(timeout)
            if first is None:
                return []
            # What is there by now: with a time to wait it would wait for all that it may take.
            found = [first, *self._client.consume(limit - 1, 0)] if limit > 1 else [first]
            return _columns([one for one in found if one.error() is None or not _is_passing(one.error())])

    def held(self) -> frozenset[int]:
        with _explained(self._brokers, Fenced):
            return frozenset(at.partition for at in self._client.assignment())

    def is_settled(self) -> bool:
        return self._settled

    def seek(self, partition: int, offset: int) -> None:
        # Its own seek is refused until fetching has begun.
        with _explained(self._brokers, Fenced):
            self._client.incremental_unassign(self._at([partition]))
            self._client.incremental_assign([TopicPartition(self._topic, partition, offset)])

    def commit(self, positions: Mapping[int, Position]) -> None:
        wanted = [TopicPartition(self._topic, partition, at.offset, at.note) for partition, at in positions.items()]
        insist(self._brokers, lambda: self._commit(wanted))

    def _commit(self, wanted: list[Any]) -> None:
        with _explained(self._brokers, Fenced):
            for at in self._client.commit(offsets=wanted, asynchronous=False):
                if at.error:
                    raise KafkaException(at.error)

    def close(self) -> None:
        self._client.close()

    def _at(self, partitions: Sequence[int]) -> list[Any]:
        return [TopicPartition(self._topic, partition) for partition in partitions]


def _columns(found: Sequence[Any]) -> list[Records]:
    """What the client gives, as columns of one partition each."""
    parted: dict[int, list[Any]] = {}
    for partition, some in groupby(found, _message.partition):
        parted.setdefault(partition, []).extend(some)
    return [
        Records(
            partition,
            list(map(_message.offset, some)),
            list(map(_message.key, some)),
            list(map(_message.value, some)),
            [ts for _, ts in map(_message.timestamp, some)],
        )
        for partition, some in parted.items()
    ]


def _is_passing(error: KafkaError | None) -> bool:
    """Whether this is no record but a fault that passes; one that does not is raised."""
    if error is None:
        return False
    if error.code() in _PASSING or error.retriable():
        return True
    raise KafkaException(error)


def _common(brokers: Brokers) -> dict[str, Any]:
    return {
        "bootstrap.servers": ",".join(brokers.servers),
        "allow.auto.create.topics": False,
        "socket.timeout.ms": 15_000,
        "reconnect.backoff.max.ms": 1_000,
        "log_level": 0,  # it tells each try to connect; what matters is told by `_explained`
        **{_SECURITY[name]: value for name, value in brokers.security.items()},
    }


@contextmanager
def _explained(brokers: Brokers, fatal: type[OSError] = OSError) -> Iterator[None]:
    """Turn what the client says into an error that names the cluster and how to mend it.

    What is fatal to a consumer is that another one has taken its name.
    """
    try:
        yield
    except KafkaException as error:
        raise _error_of(error.args[0], brokers, fatal) from error
    except BufferError as error:
        raise ConnectionError(
            errno.ENOBUFS, "records wait for a broker that does not take them", str(brokers)
        ) from error


def _error_of(fault: Any, brokers: Brokers, fatal: type[OSError]) -> OSError:
    told = f"{fault.name()}: {fault.str()[:300]}"
    if fault.code() == KafkaError.FENCED_INSTANCE_ID:
        return Fenced(errno.ESTALE, told, str(brokers))
    if fault.code() == KafkaError._FATAL:
        return fatal(errno.EIO, told, str(brokers))
    if fault.code() in _LOST:
        return Overtaken(errno.ESTALE, f"partitions have gone to another reader of the group ({told})")
    if fault.code() in _REFUSED:
        mend = "correct sasl_username and sasl_password in HEADRACE_LOG__URL, or the rights of that user"
        return PermissionError(errno.EACCES, f"refused ({told}): {mend}", str(brokers))
    if fault.code() == KafkaError._SSL:
        return PermissionError(errno.EACCES, no_tls(told), str(brokers))
    if fault.code() in _TOO_LARGE:
        mend = f"records are at most {MOST_BYTES >> 20} MiB; raise max.message.bytes of the topic if it is lower"
        return OSError(errno.EMSGSIZE, f"too large ({told}): {mend}", str(brokers))
    if fault.code() in _PASSING or fault.retriable() or fault.code() == KafkaError._MSG_TIMED_OUT:
        mend = "start it, or correct HEADRACE_LOG__URL"
        said = f"no broker answered for {brokers.patience:.0f} s ({told}): {mend}"
        return ConnectionError(errno.ECONNREFUSED, said, str(brokers))
    return OSError(errno.EIO, told, str(brokers))
