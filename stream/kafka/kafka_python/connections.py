"""The one door to kafka-python: its clients as this code wants them, and its errors as an operator wants them."""

import errno
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition, errors
from kafka.admin import ConfigResource
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from stream.kafka.diagnostics import why_refused
from stream.kafka.kafka_python.fast_decoding import unpack_fast
from stream.kafka.kafka_python.rejoin_patch import join_to_the_end
from stream.kafka.url import Brokers
from stream.logs import Fenced, Overtaken

_T = TypeVar("_T")
# What the other modules of this driver use; the library is entered here only.
At = TopicPartition
CommittedAt = OffsetAndMetadata
TopicConfig = ConfigResource
Consumer: TypeAlias = Any  # the library has no types
Producer: TypeAlias = Any
Admin: TypeAlias = Any
AlreadyThere = errors.TopicAlreadyExistsError
NoGroup = errors.GroupIdNotFoundError

MOST_BYTES = 32 << 20  # of one record
BATCH_BYTES = 8 << 20  # of the records of a partition that are sent, and taken, as one
FETCH_BYTES = 4 << 20  # of a partition that are asked for at once: more than a micro-batch of single events
AHEAD_BYTES = 16 << 20  # of all partitions that are fetched ahead
_QUIET = {"metrics_enabled": False, "allow_auto_create_topics": False}
_BACK_OFF = (0.1, 0.2, 0.5, 1.0, 2.0)  # seconds between tries
_LOST = (
    errors.CommitFailedError,
    errors.IllegalGenerationError,
    errors.UnknownMemberIdError,
    errors.RebalanceInProgressError,
)
_REFUSED = (
    errors.AuthorizationError,
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)
_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
logging.getLogger("kafka").setLevel(logging.ERROR)  # it tells each try to connect; what matters is told by `explained`


def producer(brokers: Brokers) -> Producer:
    """Idempotent, acks=all. It holds records back until they are flushed, so that a flush is one batch a partition."""
    return KafkaProducer(
        **_common(brokers),
        **_QUIET,
        acks="all",
        enable_idempotence=True,
        linger_ms=2_000,
        batch_size=2 * BATCH_BYTES,
        max_request_size=MOST_BYTES,
        delivery_timeout_ms=round(brokers.patience * 1000) + 18_000,  # more than a request and the lingering take
        max_block_ms=round(brokers.patience * 1000),
        retry_backoff_ms=100,
    )


def reader(brokers: Brokers) -> Consumer:
    """Reads what is asked for and answers at once: a broker serves a connection's requests one after the other."""
    client = KafkaConsumer(
        **_common(brokers),
        **_QUIET,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=0,
        max_partition_fetch_bytes=1 << 20,
    )
    return unpack_fast(client)


def member(brokers: Brokers, group: str | None, instance: str | None) -> Consumer:
    """Reads on and on, in a group or for itself.

    What is fetched ahead stays below `fetch_max_bytes`: nothing more is asked for a partition while records of it wait.
    """
    client = KafkaConsumer(
        **_common(brokers),
        **_QUIET,
        group_id=group,
        group_instance_id=instance,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_bytes=AHEAD_BYTES,
        max_partition_fetch_bytes=FETCH_BYTES,
        partition_assignment_strategy=[CooperativeStickyAssignor],
        session_timeout_ms=round(brokers.session * 1000),
        heartbeat_interval_ms=round(brokers.session * 250),
        max_poll_interval_ms=300_000,
    )
    return join_to_the_end(unpack_fast(client))


def admin(brokers: Brokers) -> Admin:
    return KafkaAdminClient(**_common(brokers))


def _common(brokers: Brokers) -> dict[str, Any]:
    return {
        "bootstrap_servers": list(brokers.servers),
        "bootstrap_timeout_ms": round(brokers.patience * 1000),
        "request_timeout_ms": 15_000,
        "reconnect_backoff_max_ms": 1_000,
        **brokers.security,
    }


@contextmanager
def explained(brokers: Brokers) -> Iterator[None]:
    """Turn what the client says into an error that names the cluster and how to mend it."""
    try:
        yield
    except errors.FencedInstanceIdError as error:
        raise Fenced(errno.ESTALE, _said(error), str(brokers)) from error
    except _LOST as error:
        raise Overtaken(errno.ESTALE, f"partitions have gone to another reader of the group ({error})") from error
    except _REFUSED as error:
        mend = "correct sasl_username and sasl_password in HEADRACE_LOG__URL, or the rights of that user"
        raise PermissionError(errno.EACCES, f"refused ({_said(error)}): {mend}", str(brokers)) from error
    except _TOO_LARGE as error:
        mend = f"records are at most {MOST_BYTES >> 20} MiB; raise max.message.bytes of the topic if it is lower"
        raise OSError(errno.EMSGSIZE, f"too large ({_said(error)}): {mend}", str(brokers)) from error
    except errors.KafkaError as error:
        if "bootstrap" in str(error) and (reason := why_refused(brokers)):
            raise PermissionError(errno.EACCES, reason, str(brokers)) from error
        if not getattr(error, "retriable", False):
            raise OSError(errno.EIO, _said(error), str(brokers)) from error
        mend = "start it, or correct HEADRACE_LOG__URL"
        told = f"no broker answered for {brokers.patience:.0f} s ({_said(error)}): {mend}"
        raise ConnectionError(errno.ECONNREFUSED, told, str(brokers)) from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"


def insist(brokers: Brokers, call: Callable[[], _T]) -> _T:
    """Call again while no broker answers, less and less often, until patience ends; only for what may be repeated."""
    deadline = time.monotonic() + brokers.patience
    tries = 0
    while True:
        try:
            with explained(brokers):
                return call()
        except ConnectionError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_BACK_OFF[min(tries, len(_BACK_OFF) - 1)])
        tries += 1
