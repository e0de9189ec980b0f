"""Checks of the event log and the user store."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headrace.diagnostics.results import CheckResult, failed, format_count, passed
from stream.clock import Clock
from stream.config import Settings
from stream.drivers import open_log, open_store
from stream.kafka.url import parse_url
from stream.logs import EventLog, TopicProblem
from stream.process.secrets import mask_url
from stream.records.topic_registry import registry_problems
from stream.stores import UserStore
from stream.topics import DEAD_LETTER, EVENTS, EXAMPLES, topic_specs
from stream.worker.store_position import count_missing, read_committed, read_store_positions

_PATIENCE_S = 5.0  # for which a Kafka client retries; below the time limit of a check, so that its error is shown
_TOPICS = tuple(spec.topic for spec in topic_specs())
_TOPIC_SETTINGS = "topic settings"


@dataclass(frozen=True, slots=True)
class LogAccess:
    """The event log, open for reading; topics can be missing, which the first process creates."""

    log: EventLog | None  # None: nothing exists yet
    url: str  # without secrets
    missing_topics: tuple[str, ...] = ()

    @property
    def complete_log(self) -> EventLog | None:
        """The log if it has every topic."""
        return None if self.missing_topics else self.log


def open_existing_log(settings: Settings, clock: Clock) -> LogAccess:
    """Open the log without creating anything."""
    url = mask_url(settings.log_url)
    if settings.log_url.startswith("local:") and not _local_path(settings.log_url).exists():
        return LogAccess(None, url, _TOPICS)
    log = open_log(_with_patience(settings.log_url), settings.log.prefix, clock)
    missing = tuple(topic for topic in _TOPICS if not _has_topic(log, topic))
    return LogAccess(log, url, missing)


def _has_topic(log: EventLog, topic: str) -> bool:
    try:
        return log.partitions(topic) > 0
    except ValueError:
        return False


def _local_path(url: str) -> Path:
    return Path(url.removeprefix("local:")).expanduser()


def _with_patience(url: str) -> str:
    """Shorten the time for retries in the URL of a Kafka log; other URLs stay.

    >>> _with_patience("kafka://a:9092?patience=30&session=6")
    'kafka://a:9092?session=6&patience=5.0'
    """
    if not url.startswith("kafka:"):
        return url
    patience_s = min(parse_url(url).retry_timeout, _PATIENCE_S)
    head, _, query = url.partition("?")
    options = [option for option in query.split("&") if option and not option.startswith("patience=")]
    return f"{head}?{'&'.join([*options, f'patience={patience_s}'])}"


def check_log(access: LogAccess) -> CheckResult:
    """Count the records of the log."""
    log = access.complete_log
    if log is None:
        is_empty = len(access.missing_topics) == len(_TOPICS)
        state = "is empty" if is_empty else f"has no topic {', '.join(access.missing_topics)}"
        return passed("event log", f"{access.url} {state} yet; the first process creates what is missing")
    events = sum(log.end_offsets(EVENTS).values())
    unread = events - sum(position.offset for position in log.committed(EVENTS, "stream").values())
    blocks, dead_letters = sum(log.end_offsets(EXAMPLES).values()), log.end_offset(DEAD_LETTER, 0)
    counts = f"{format_count(events, 'event')} ({unread:,} unread), {format_count(blocks, 'example block')}"
    return passed("event log", f"{access.url}: {counts}, {format_count(dead_letters, 'dead letter')}")


def check_topics(access: LogAccess, settings: Settings) -> CheckResult:
    """Check the settings of the topics that exist."""
    problems = list(_find_topic_problems(access, settings)) if access.log else []
    if problems:
        found = "; ".join(f"{problem.topic}: {problem.problem}" for problem in problems)
        return failed(_TOPIC_SETTINGS, found, "; ".join(dict.fromkeys(problem.fix for problem in problems)))
    partitions = format_count(settings.log.partitions, "partition")
    n_missing = len(access.missing_topics)
    missing = f"; the first process creates {format_count(n_missing, 'topic')}" if n_missing else ""
    return passed(_TOPIC_SETTINGS, f"{format_count(len(_TOPICS) - n_missing, 'topic')}, {partitions}{missing}")


def _find_topic_problems(access: LogAccess, settings: Settings) -> Iterator[TopicProblem]:
    """Problems that the log reports, and topics that the settings contradict."""
    log = access.log
    assert log is not None
    mismatches = []
    for spec in topic_specs(settings.log.partitions):
        if spec.topic in access.missing_topics:
            continue
        try:
            log.create(*spec)  # it exists: this compares it with the settings
        except ValueError as error:
            mismatches.append(TopicProblem(spec.topic, *_split_fix(str(error))))
    described = set[str]()
    for problems in (registry_problems(log), log.topic_problems(settings.log.retention), mismatches):
        yield from (problem for problem in problems if problem.topic not in described)
        described |= {problem.topic for problem in problems}


def _split_fix(message: str) -> tuple[str, str]:
    """Problem and fix of an error message."""
    problem, _, fix = message.partition(": ")
    return problem, fix or "set HEADRACE_LOG__PARTITIONS to the number of partitions that the topic has"


def check_store(settings: Settings, log: EventLog | None = None) -> CheckResult:
    """Count the users, and look at the configuration and the position of the store."""
    url = mask_url(settings.store_url)
    if settings.store_url.startswith("local:") and not _local_path(settings.store_url).exists():
        if log and (processed := sum(read_committed(log).values())):
            summary, _, fix = _describe_loss(processed).partition(": ")
            return failed("user store", f"{url} does not exist; {summary}", fix)
        return passed("user store", f"{url} is empty; the first process creates it")
    store = open_store(settings.store_url, settings.store.prefix)
    users, problem, unchecked = store.count(), store.health_problem(), store.unchecked_health()
    problem = (log and _find_wrong_position(log, store)) or problem
    store.close()
    detail = f"{url}: {format_count(users, 'user')}" + (f"; {unchecked}" if unchecked else "")
    summary, _, fix = problem.partition(": ")
    return failed("user store", f"{detail}; {summary}", fix) if problem else passed("user store", detail)


def _describe_loss(missing: int) -> str:
    return (
        f"it has lost {format_count(missing, 'event')} that stream had processed, so users are incomplete: "
        "headrace stream writes them again from the log, at once if it runs; start it if it does not"
    )


def _find_wrong_position(log: EventLog, store: UserStore) -> str:
    """Problem and fix of a store that lacks events or belongs to another log; empty if none."""
    if missing := sum(count_missing(read_committed(log), store).values()):
        return _describe_loss(missing)
    ends = log.end_offsets(EVENTS)
    for partition, position in read_store_positions(log, store).items():
        if position.next_offset > ends[partition]:
            return (
                f"it has partition {partition} up to offset {position.next_offset:,}, but the log ends at "
                f"{ends[partition]:,}: restore log and user store from the same backup, or choose another "
                "HEADRACE_STORE__PREFIX"
            )
    return ""
