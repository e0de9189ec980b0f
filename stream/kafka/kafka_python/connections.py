"""Clients of kafka-python with this driver's settings, and errors for operators."""

import errno
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition, errors
from kafka import codec as codecs
from kafka.admin import ConfigResource
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from stream.kafka.diagnostics import connection_outage, diagnose
from stream.kafka.kafka_python.fast_decoding import patch_decoding
from stream.kafka.kafka_python.rejoin_patch import patch_rejoin
from stream.kafka.url import KafkaSettings
from stream.logs import Fenced, OwnershipLost

_T = TypeVar("_T")
# Names for the other modules of this driver, which do not import the library.
TopicAndPartition = TopicPartition
CommittedOffset = OffsetAndMetadata
TopicConfig = ConfigResource
RawConsumer: TypeAlias = Any  # the library has no types
RawProducer: TypeAlias = Any
RawAdminClient: TypeAlias = Any
TopicAlreadyExists = errors.TopicAlreadyExistsError
GroupNotFound = errors.GroupIdNotFoundError

MAX_RECORD_BYTES = 32 << 20
BATCH_BYTES = 8 << 20  # records of one partition that are sent, and appended, as one batch
FETCH_BYTES = 4 << 20  # per partition and fetch: more than a micro-batch of single events
PREFETCH_BYTES = 16 << 20  # of all partitions
_CONSUMER_OPTIONS = {"isolation_level": "read_committed", "enable_auto_commit": False, "auto_offset_reset": "earliest"}
_COMMON_OPTIONS = {"metrics_enabled": False, "allow_auto_create_topics": False}
_TRANSIENT_S = 1.0  # for which an error is no outage: a new broker elects its coordinators
_BACK_OFF = (0.1, 0.2, 0.5, 1.0, 2.0)  # seconds between attempts
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
# It logs every attempt to connect; `connection_outage` and `translate_errors` report what matters.
logging.getLogger("kafka").setLevel(logging.CRITICAL)


def create_producer(settings: KafkaSettings) -> RawProducer:
    """Create an idempotent producer, acks=all, that sends one batch per partition at each flush."""
    return KafkaProducer(
        **_connection_options(settings),
        **_COMMON_OPTIONS,
        acks="all",
        enable_idempotence=True,
        linger_ms=2_000,
        batch_size=2 * BATCH_BYTES,
        max_request_size=MAX_RECORD_BYTES,
        delivery_timeout_ms=round(settings.retry_timeout * 1000) + 18_000,  # longer than request and linger
        max_block_ms=round(settings.retry_timeout * 1000),
        retry_backoff_ms=100,
    )


def create_reader(settings: KafkaSettings) -> RawConsumer:
    """Create a consumer for random access.

    It fetches without waiting, because a broker serves the requests of a connection in order.
    """
    client = KafkaConsumer(
        **_connection_options(settings),
        **_COMMON_OPTIONS,
        **_CONSUMER_OPTIONS,
        group_id=None,
        fetch_max_wait_ms=0,
        max_partition_fetch_bytes=1 << 20,
    )
    return patch_decoding(client)


def create_consumer(settings: KafkaSettings, group: str | None, instance_id: str | None) -> RawConsumer:
    """Create a consumer for continuous reads, in a group or alone.

    Prefetched records stay below `fetch_max_bytes`: the client fetches a partition only when it has none of it left.
    """
    client = KafkaConsumer(
        **_connection_options(settings),
        **_COMMON_OPTIONS,
        **_CONSUMER_OPTIONS,
        group_id=group,
        group_instance_id=instance_id,
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


def is_codec_available(codec: str) -> bool:
    """Return True if a package that reads batches of this codec is installed."""
    check: Callable[[], bool] | None = getattr(codecs, f"has_{codec}", None)
    return check is None or check()


@contextmanager
def translate_errors(settings: KafkaSettings) -> Iterator[None]:
    """Translate an error of the library into an OSError that names the cluster and the fix."""
    try:
        yield
    except errors.FencedInstanceIdError as error:
        raise Fenced(errno.ESTALE, _describe_error(error), str(settings)) from error
    except _OWNERSHIP_LOST_ERRORS as error:
        message = f"partitions were assigned to another member of the group ({error})"
        raise OwnershipLost(errno.ESTALE, message) from error
    except _AUTH_ERRORS as error:
        fix = "correct sasl_username and sasl_password in HEADRACE_LOG__URL, or grant that user access"
        raise PermissionError(
            errno.EACCES, f"access denied ({_describe_error(error)}): {fix}", str(settings)
        ) from error
        raise PermissionError(errno.EACCES, message, str(settings)) from error
    except _SIZE_ERRORS as error:
        fix = f"the maximum is {MAX_RECORD_BYTES >> 20} MiB; raise max.message.bytes of the topic if it is lower"
        raise OSError(errno.EMSGSIZE, f"record too large ({_describe_error(error)}): {fix}", str(settings)) from error
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
    """Call an idempotent function, with back-off, until it succeeds or `retry_timeout` passes."""
    started = time.monotonic()
    deadline = started + settings.retry_timeout
    outage = connection_outage(str(settings))
    attempts = 0
    while True:
        try:
            with translate_errors(settings):
                result = call()
        except ConnectionError as error:
            if time.monotonic() > started + _TRANSIENT_S:
                outage.report(error.strerror or error)
            if time.monotonic() >= deadline:
                raise
        else:
            outage.end()
            return result
        time.sleep(_BACK_OFF[min(attempts, len(_BACK_OFF) - 1)])
        attempts += 1
