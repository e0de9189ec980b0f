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

from stream.kafka.diagnostics import diagnose
from stream.kafka.kafka_python.fast_decoding import patch_decoding
from stream.kafka.kafka_python.rejoin_patch import patch_rejoin
from stream.kafka.url import KafkaSettings
from stream.logs import Fenced, OwnershipLost

_T = TypeVar("_T")
# What the other modules of this driver use; the library is entered here only.
TopicAndPartition = TopicPartition
CommittedOffset = OffsetAndMetadata
TopicConfig = ConfigResource
RawConsumer: TypeAlias = Any  # the library has no types
RawProducer: TypeAlias = Any
RawAdminClient: TypeAlias = Any
TopicAlreadyExists = errors.TopicAlreadyExistsError
GroupNotFound = errors.GroupIdNotFoundError

MAX_RECORD_BYTES = 32 << 20  # of one record
BATCH_BYTES = 8 << 20  # of the records of a partition that are sent, and taken, as one
FETCH_BYTES = 4 << 20  # of a partition that are asked for at once: more than a micro-batch of single events
PREFETCH_BYTES = 16 << 20  # of all partitions that are fetched ahead
_COMMON_OPTIONS = {"metrics_enabled": False, "allow_auto_create_topics": False}
_BACK_OFF = (0.1, 0.2, 0.5, 1.0, 2.0)  # seconds between tries
_OWNERSHIP_LOST_ERRORS = (
    errors.CommitFailedError,
    errors.IllegalGenerationError,
    errors.UnknownMemberIdError,
    errors.RebalanceInProgressError,
)
_AUTH_ERRORS = (
    errors.AuthorizationError,
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)
_SIZE_ERRORS = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
logging.getLogger("kafka").setLevel(logging.ERROR)  # it tells each try to connect; what matters is told by `explained`


def create_producer(settings: KafkaSettings) -> RawProducer:
    """Idempotent, acks=all. It holds records back until they are flushed, so that a flush is one batch a partition."""
    return KafkaProducer(
        **_connection_options(settings),
        **_COMMON_OPTIONS,
        acks="all",
        enable_idempotence=True,
        linger_ms=2_000,
        batch_size=2 * BATCH_BYTES,
        max_request_size=MAX_RECORD_BYTES,
        delivery_timeout_ms=round(settings.retry_timeout * 1000) + 18_000,  # more than a request and the lingering take
        max_block_ms=round(settings.retry_timeout * 1000),
        retry_backoff_ms=100,
    )


def create_reader(settings: KafkaSettings) -> RawConsumer:
    """Reads what is asked for and answers at once: a broker serves a connection's requests one after the other."""
    client = KafkaConsumer(
        **_connection_options(settings),
        **_COMMON_OPTIONS,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=0,
        max_partition_fetch_bytes=1 << 20,
    )
    return patch_decoding(client)


def create_consumer(settings: KafkaSettings, group: str | None, instance_id: str | None) -> RawConsumer:
    """Reads on and on, in a group or for itself.

    What is fetched ahead stays below `fetch_max_bytes`: nothing more is asked for a partition while records of it wait.
    """
    client = KafkaConsumer(
        **_connection_options(settings),
        **_COMMON_OPTIONS,
        group_id=group,
        group_instance_id=instance_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_bytes=PREFETCH_BYTES,
        max_partition_fetch_bytes=FETCH_BYTES,
        partition_assignment_strategy=[CooperativeStickyAssignor],
        session_timeout_ms=round(settings.session_timeout * 1000),
        heartbeat_interval_ms=round(settings.session_timeout * 250),
        max_poll_interval_ms=300_000,
    )
    return patch_rejoin(patch_decoding(client))


def create_admin_client(settings: KafkaSettings) -> RawAdminClient:
    return KafkaAdminClient(**_connection_options(settings))


def _connection_options(settings: KafkaSettings) -> dict[str, Any]:
    return {
        "bootstrap_servers": list(settings.servers),
        "bootstrap_timeout_ms": round(settings.retry_timeout * 1000),
        "request_timeout_ms": 15_000,
        "reconnect_backoff_max_ms": 1_000,
        **settings.security,
    }


@contextmanager
def translate_errors(settings: KafkaSettings) -> Iterator[None]:
    """Turn what the client says into an error that names the cluster and how to mend it."""
    try:
        yield
    except errors.FencedInstanceIdError as error:
        raise Fenced(errno.ESTALE, _describe_error(error), str(settings)) from error
    except _OWNERSHIP_LOST_ERRORS as error:
        raise OwnershipLost(errno.ESTALE, f"partitions have gone to another reader of the group ({error})") from error
    except _AUTH_ERRORS as error:
        fix = "correct sasl_username and sasl_password in HEADRACE_LOG__URL, or the rights of that user"
        raise PermissionError(errno.EACCES, f"refused ({_describe_error(error)}): {fix}", str(settings)) from error
    except _SIZE_ERRORS as error:
        fix = f"records are at most {MAX_RECORD_BYTES >> 20} MiB; raise max.message.bytes of the topic if it is lower"
        raise OSError(errno.EMSGSIZE, f"too large ({_describe_error(error)}): {fix}", str(settings)) from error
    except errors.KafkaError as error:
        if "bootstrap" in str(error) and (reason := diagnose(settings)):
            raise PermissionError(errno.EACCES, reason, str(settings)) from error
        if not getattr(error, "retriable", False):
            raise OSError(errno.EIO, _describe_error(error), str(settings)) from error
        fix = "start it, or correct HEADRACE_LOG__URL"
        message = f"no broker answered for {settings.retry_timeout:.0f} s ({_describe_error(error)}): {fix}"
        raise ConnectionError(errno.ECONNREFUSED, message, str(settings)) from error


def _describe_error(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"


def retry(settings: KafkaSettings, call: Callable[[], _T]) -> _T:
    """Call again while no broker answers, less and less often, until patience ends; only for what may be repeated."""
    deadline = time.monotonic() + settings.retry_timeout
    attempts = 0
    while True:
        try:
            with translate_errors(settings):
                return call()
        except ConnectionError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_BACK_OFF[min(attempts, len(_BACK_OFF) - 1)])
        attempts += 1
