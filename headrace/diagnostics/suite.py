"""All checks, in the order in which one problem explains the next."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from headrace.diagnostics.alarms import check_alarms, read_context
from headrace.diagnostics.clocks import check_clocks
from headrace.diagnostics.connections import LogAccess, check_log, check_store, check_topics, open_existing_log
from headrace.diagnostics.dead_letters import check_dead_letters
from headrace.diagnostics.installation import check_codecs, check_folder, check_port, check_python, check_ranker
from headrace.diagnostics.processes import ProcessStates, check_processes
from headrace.diagnostics.progress import NAME as EVENT_FLOW
from headrace.diagnostics.progress import Observation, check_flow, observe, take_snapshot
from headrace.diagnostics.quarantine import check_quarantine, read_entries, resolved_events
from headrace.diagnostics.results import CheckResult, failed, passed
from headrace.diagnostics.runner import Runner
from headrace.diagnostics.scraping import Address, ProcessReport, find_addresses, scrape
from headrace.diagnostics.versions import check_checkpoints
from stream.clock import Clock
from stream.config import Settings
from stream.logs import EventLog
from stream.process.errors import describe_error

_LOG_FIX = "fix the event log first"


def run_suite(settings: Settings, named: Mapping[str, str], clock: Clock, runner: Runner) -> Iterator[CheckResult]:
    """Run every check; those that read the log fail where it is unreachable.

    `named`: HOST:PORT of processes that are not on this machine.
    """
    yield check_python()
    yield passed("settings", "valid")
    yield runner.check("data folder", lambda: check_folder(settings))
    yield runner.check("ranker", lambda: check_ranker(settings))
    yield runner.check("codecs", lambda: check_codecs(settings))
    access, log_result = _open_log(settings, clock, runner)
    yield log_result
    log = access.complete_log if access else None
    yield _check_with_log("topic settings", access, runner, lambda access: check_topics(access, settings))
    store_fix = "start the store, or correct HEADRACE_STORE__URL"
    yield runner.check("user store", lambda: check_store(settings, log), store_fix)
    yield runner.check("checkpoints", lambda: check_checkpoints(settings, log, clock.now_ms()))
    yield from _check_processes(settings, find_addresses(settings, named), clock, runner, access)
    yield from _check_findings(clock, runner, access)
    if access and access.log:
        access.log.close()


def _open_log(settings: Settings, clock: Clock, runner: Runner) -> tuple[LogAccess | None, CheckResult]:
    """Open the log; None if it is unreachable."""
    name = "event log"
    try:
        access = runner.call(name, lambda: open_existing_log(settings, clock))
        return access, runner.call(name, lambda: check_log(access))
    except (OSError, ValueError) as error:
        return None, failed(name, describe_error(error), "start the broker, or correct HEADRACE_LOG__URL")


def _check_with_log(
    name: str, access: LogAccess | None, runner: Runner, check: Callable[[LogAccess], CheckResult]
) -> CheckResult:
    if access is None:
        return failed(name, "not checked: the event log is unreachable", _LOG_FIX)
    return runner.check(name, lambda: check(access))


def _check_processes(
    settings: Settings, addresses: Mapping[str, Address], clock: Clock, runner: Runner, access: LogAccess | None
) -> Iterator[CheckResult]:
    """Rows of the processes, of their port, of the events between them, and of the clocks."""
    observation, problem = _observe(settings, clock, runner, access)
    reports = {process: _scrape(process, address, clock, runner) for process, address in addresses.items()}
    is_local = settings.log_url.startswith("local:")
    states = ProcessStates(reports, observation, is_local, clock.now_ms())
    yield check_port(settings, states.is_here("serve"), addresses["serve"].is_named)
    yield from check_processes(states, settings)
    if problem:
        yield problem
    elif observation:
        yield check_flow(observation, states.running, states.is_paused)
    else:
        yield passed(EVENT_FLOW, "no events yet")
    log = access.complete_log if access else None
    yield runner.check("clock", lambda: check_clocks(reports, log, clock.now_ms()))


def _scrape(process: str, address: Address, clock: Clock, runner: Runner) -> ProcessReport:
    try:
        return runner.call(process, partial(scrape, process, address, clock))
    except TimeoutError as error:
        return ProcessReport(process, address.url, str(error), is_listening=True)


def _observe(
    settings: Settings, clock: Clock, runner: Runner, access: LogAccess | None
) -> tuple[Observation | None, CheckResult | None]:
    """Observe the log for some seconds; a failed check instead if that is impossible."""
    if access is None:
        return None, failed(EVENT_FLOW, "not checked: the event log is unreachable", _LOG_FIX)
    if (log := access.complete_log) is None:
        return None, None
    try:
        return runner.call(EVENT_FLOW, lambda: observe(partial(take_snapshot, log, settings, clock))), None
    except (OSError, ValueError) as error:
        return None, failed(EVENT_FLOW, describe_error(error), "see the error message")


def _check_findings(clock: Clock, runner: Runner, access: LogAccess | None) -> Iterator[CheckResult]:
    """Rows of the alarms, the quarantine and the dead letters."""
    checks: dict[str, Callable[[EventLog], CheckResult]] = {
        "alarms": lambda log: _check_alarms(log, clock.now_ms()),
        "quarantine": lambda log: check_quarantine(read_entries(log), clock.now_ms()),
        "dead letters": lambda log: check_dead_letters(log, clock.now_ms()),
    }
    for name, check in checks.items():
        yield _check_with_log(name, access, runner, partial(_check_if_complete, name, check))


def _check_if_complete(name: str, check: Callable[[EventLog], CheckResult], access: LogAccess) -> CheckResult:
    return check(access.complete_log) if access.complete_log else passed(name, "none")


def _check_alarms(log: EventLog, now_ms: int) -> CheckResult:
    return check_alarms(log, read_context(log, resolved_events(read_entries(log))), now_ms)
