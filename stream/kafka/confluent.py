"""Client for confluent-kafka, an optional library, with error messages for operators."""

import errno
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from stream.kafka.diagnostics import describe_tls_error, describe_unreadable
from stream.kafka.kafka_python.connections import BATCH_BYTES, FETCH_BYTES, MAX_RECORD_BYTES, PREFETCH_BYTES, retry
from stream.kafka.url import KafkaSettings
from stream.logs import Fenced, OwnershipLost, Position, Record, Records

_message: Any = Message  # its types include records without an offset
# Security settings: kafka-python's name, and the name in this library.
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
_OWNERSHIP_LOST_ERRORS = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError._STATE,
    KafkaError._ASSIGNMENT_LOST,
}
_AUTH_ERRORS = {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}
_UNREADABLE_ERRORS = {KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError._NOT_IMPLEMENTED}
_CERTIFICATE_TEXT = "verif"  # part of the message about a certificate of another authority
_SIZE_ERRORS = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}
# Errors that a consumer receives between records and recovers from by itself.
_TRANSIENT_ERRORS = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError._MAX_POLL_EXCEEDED,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
}


def open_producer(settings: KafkaSettings) -> "ConfluentProducer":
    return ConfluentProducer(settings)


def open_consumer(
    settings: KafkaSettings, topic: str, group: str | None, instance_id: str | None
) -> "ConfluentConsumer":
    return ConfluentConsumer(settings, topic, group, instance_id)


class ConfluentProducer:
    """`Producer`. Records wait until a flush, so that a flush sends one batch per partition."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._auth_error: KafkaError | None = None
        self._client = Producer(
            {
                **_connection_options(settings),
                "error_cb": self._on_error,
                "acks": "all",
                "enable.idempotence": True,
                "max.in.flight.requests.per.connection": 1,
                "linger.ms": 2_000,
                "batch.size": 2 * BATCH_BYTES,
                "batch.num.messages": 1_000_000,
                "queue.buffering.max.messages": 2_000_000,
                "queue.buffering.max.kbytes": 1 << 20,
                "message.max.bytes": MAX_RECORD_BYTES,
                "message.timeout.ms": round(settings.retry_timeout * 1000) + 18_000,
            }
        )

    def send(self, topic: str, batches: Sequence[tuple[int, Sequence[Record]]]) -> list[tuple[int, int]]:
        first_offsets: dict[int, int] = {}
        errors: list[KafkaError] = []

        def on_delivery(error: KafkaError | None, message: Any) -> None:
            if error is not None:
                errors.append(error)
            else:
                first_offsets.setdefault(message.partition(), message.offset())

        produce = self._client.produce
        with _translate_errors(self._settings):
            for partition, records in batches:
                for key, value in records:
                    produce(topic, value, key, partition, on_delivery)
            n_left = self._flush(self._settings.retry_timeout + 20)
            if errors or n_left:
                raise KafkaException(self._auth_error or (errors[0] if errors else KafkaError(KafkaError._TIMED_OUT)))
        return list(first_offsets.items())

    def _flush(self, timeout: float) -> int:
        """Wait until all records are delivered or the login is rejected; returns the number left.

        The library would retry a rejected login, and report no more than a timeout in the end.
        """
        self._auth_error = None
        deadline = time.monotonic() + timeout
        while n_left := self._client.flush(0.5):
            if self._auth_error or time.monotonic() > deadline:
                break
        return int(n_left)

    def _on_error(self, error: KafkaError) -> None:
        if error.code() in _AUTH_ERRORS or (error.code() == KafkaError._SSL and _CERTIFICATE_TEXT in error.str()):
            self._auth_error = error

    def abort(self) -> None:
        self._client.purge()
        self._client.flush(1)

    def close(self) -> None:
        self._client.flush(5)


class ConfluentConsumer:
    """`Consumer`. Threads of the library prefetch up to a limit, and send heartbeats."""

    def __init__(self, settings: KafkaSettings, topic: str, group: str | None, instance_id: str | None) -> None:
        self._settings = settings
        self._topic = topic
        self._has_assignment = False
        self._client = Consumer(
            {
                **_connection_options(settings),
                # The library requires a group id from plain readers too; nothing is committed to this one.
                "group.id": group or f"alone-{uuid4()}",
                **({"group.instance.id": instance_id} if instance_id else {}),
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "check.crcs": True,
                "fetch.max.bytes": MAX_RECORD_BYTES,
                "message.max.bytes": MAX_RECORD_BYTES,
                "max.partition.fetch.bytes": FETCH_BYTES,
                "queued.max.messages.kbytes": PREFETCH_BYTES >> 10,
                "fetch.queue.backoff.ms": 5,  # the default stops for a second after the queue is full
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": round(settings.session_timeout * 1000),
                "heartbeat.interval.ms": round(settings.session_timeout * 250),
                "max.poll.interval.ms": 300_000,
            }
        )

    def join(self) -> None:
        def on_assign(*_: object) -> None:
            self._has_assignment = True

        self._client.subscribe([self._topic], on_assign=on_assign)

    def assign(self, partitions: Sequence[int]) -> None:
        self._client.incremental_assign(self._topic_partitions(partitions))

    def poll(self, limit: int, timeout: float) -> list[Records]:
        with _translate_errors(self._settings, Fenced):
            first = self._client.poll(timeout)
            if first is None:
                return []
            # Only what has arrived: with a timeout it would wait for the full number.
            messages = [first, *self._client.consume(limit - 1, 0)] if limit > 1 else [first]
            return _group_by_partition(
                [message for message in messages if message.error() is None or not _is_transient(message.error())]
            )

    def assignment(self) -> frozenset[int]:
        with _translate_errors(self._settings, Fenced):
            return frozenset(topic_partition.partition for topic_partition in self._client.assignment())

    def has_assignment(self) -> bool:
        return self._has_assignment

    def seek(self, partition: int, offset: int) -> None:
        # The seek of the library fails until fetching has started.
        with _translate_errors(self._settings, Fenced):
            self._client.incremental_unassign(self._topic_partitions([partition]))
            self._client.incremental_assign([TopicPartition(self._topic, partition, offset)])

    def commit(self, positions: Mapping[int, Position]) -> None:
        offsets = [
            TopicPartition(self._topic, partition, position.offset, position.metadata)
            for partition, position in positions.items()
        ]
        retry(self._settings, lambda: self._commit(offsets))

    def _commit(self, offsets: list[Any]) -> None:
        with _translate_errors(self._settings, Fenced):
            for topic_partition in self._client.commit(offsets=offsets, asynchronous=False):
                if topic_partition.error:
                    raise KafkaException(topic_partition.error)

    def close(self) -> None:
        self._client.close()

    def _topic_partitions(self, partitions: Sequence[int]) -> list[Any]:
        return [TopicPartition(self._topic, partition) for partition in partitions]


def _group_by_partition(messages: Sequence[Any]) -> list[Records]:
    """Group messages into columns by partition."""
    by_partition: dict[int, list[Any]] = {}
    for partition, group in groupby(messages, _message.partition):
        by_partition.setdefault(partition, []).extend(group)
    return [
        Records(
            partition,
            list(map(_message.offset, group)),
            list(map(_message.key, group)),
            list(map(_message.value, group)),
            [ts for _, ts in map(_message.timestamp, group)],
        )
        for partition, group in by_partition.items()
    ]


def _is_transient(error: KafkaError | None) -> bool:
    """Return True for a transient error; raise any other error."""
    if error is None:
        return False
    if error.code() in _TRANSIENT_ERRORS or error.retriable():
        return True
    raise KafkaException(error)


def _connection_options(settings: KafkaSettings) -> dict[str, Any]:
    return {
        "bootstrap.servers": ",".join(settings.servers),
        "allow.auto.create.topics": False,
        "socket.timeout.ms": 15_000,
        "reconnect.backoff.max.ms": 1_000,
        "log_level": 0,  # it logs each attempt to connect; `_translate_errors` reports what matters
        **{_SECURITY[name]: value for name, value in settings.security.items()},
    }


@contextmanager
def _translate_errors(settings: KafkaSettings, fatal: type[OSError] = OSError) -> Iterator[None]:
    """Translate an error of the library into an OSError that names the cluster and the fix.

    For a consumer, a fatal error means that another one has taken its name.
    """
    try:
        yield
    except KafkaException as error:
        raise _to_os_error(error.args[0], settings, fatal) from error
    except BufferError as error:
        message = "the queue of unsent records is full: start the broker, or correct HEADRACE_LOG__URL"
        raise ConnectionError(errno.ENOBUFS, message, str(settings)) from error


def _to_os_error(error: Any, settings: KafkaSettings, fatal: type[OSError]) -> OSError:
    detail = f"{error.name()}: {error.str()[:300]}"
    if error.code() == KafkaError.FENCED_INSTANCE_ID:
        return Fenced(errno.ESTALE, detail, str(settings))
    if error.code() == KafkaError._FATAL:
        return fatal(errno.EIO, detail, str(settings))
    if error.code() in _OWNERSHIP_LOST_ERRORS:
        return OwnershipLost(errno.ESTALE, f"partitions were assigned to another member of the group ({detail})")
    if error.code() in _AUTH_ERRORS:
        fix = "correct sasl_username and sasl_password in HEADRACE_LOG__URL, or grant that user access"
        return PermissionError(errno.EACCES, f"access denied ({detail}): {fix}", str(settings))
    if error.code() in _UNREADABLE_ERRORS:
        return OSError(errno.EIO, describe_unreadable("the position of the consumer", detail), str(settings))
    if error.code() == KafkaError._SSL:
        return PermissionError(errno.EACCES, describe_tls_error(detail), str(settings))
    if error.code() in _SIZE_ERRORS:
        fix = f"the maximum is {MAX_RECORD_BYTES >> 20} MiB; raise max.message.bytes of the topic if it is lower"
        return OSError(errno.EMSGSIZE, f"record too large ({detail}): {fix}", str(settings))
    if error.code() in _TRANSIENT_ERRORS or error.retriable() or error.code() == KafkaError._MSG_TIMED_OUT:
        fix = "start it, or correct HEADRACE_LOG__URL"
        message = f"no broker answered for {settings.retry_timeout:.0f} s ({detail}): {fix}"
        return ConnectionError(errno.ECONNREFUSED, message, str(settings))
    return OSError(errno.EIO, detail, str(settings))
