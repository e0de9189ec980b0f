"""Checks of the processes: running, alive, and how far they are."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from headrace.diagnostics.progress import Observation
from headrace.diagnostics.results import CheckResult, failed, format_seconds, passed
from headrace.diagnostics.scraping import PROCESSES, ProcessReport
from stream.config import Settings, variable_name

_MAX_SILENCE_S = 30.0  # between two heartbeats
_PORT_SETTINGS = {"stream": "stream.metrics_port", "learn": "learn.metrics_port", "serve": "serve.port"}
_AT = "headrace check --at {}=HOST:PORT asks it there"
_START_FIX = "wait and check again: the first start compiles kernels for about a minute; else read the log of {}"


@dataclass(frozen=True, slots=True)
class ProcessStates:
    """Reports of the processes, and the movement that the log shows."""

    reports: Mapping[str, ProcessReport]
    observation: Observation | None  # None: the log is empty, or unreachable
    is_local: bool  # every process is on this machine
    now_ms: int

    def is_here(self, process: str) -> bool:
        """Return True if the process answers on this machine."""
        return self.reports[process].heartbeat_s is not None

    def is_elsewhere(self, process: str) -> bool:
        """Return True if the log shows that the process runs, maybe on another machine."""
        if self.observation is None:
            return False
        if process == "stream":
            return self.observation.stream_moved
        return process == "learn" and self.observation.learn_moved

    def is_running(self, process: str) -> bool:
        return self.is_here(process) or self.is_elsewhere(process)

    @property
    def running(self) -> dict[str, bool]:
        return {process: self.is_running(process) for process in PROCESSES}

    @property
    def is_paused(self) -> bool:
        return self.reports["learn"].total("headrace_learn_paused") > 0


def check_processes(states: ProcessStates, settings: Settings) -> Iterable[CheckResult]:
    """One row per process."""
    for process in PROCESSES:
        if states.is_here(process):
            yield _check_running(process, states)
        else:
            yield _check_absent(process, states, settings)


def _check_running(process: str, states: ProcessStates) -> CheckResult:
    report = states.reports[process]
    process_now_s = states.now_ms / 1000 + report.clock_offset_s
    if not report.heartbeat_s:
        age_s = process_now_s - report.total("process_start_time_seconds")
        return failed(process, f"starting for {format_seconds(age_s)} at {report.url}", _START_FIX.format(process))
    silence_s = process_now_s - report.heartbeat_s
    detail = f"running at {report.url}, last round {format_seconds(silence_s)} ago"
    if silence_s > _MAX_SILENCE_S:
        fix = (
            f"read the log of {process}: it hangs, or retries something that is away; restart it if it does not recover"
        )
        return failed(process, f"{detail}: it hangs", fix)
    return {"stream": _check_stream, "learn": _check_learn, "serve": _check_serve}[process](detail, states)


def _check_stream(detail: str, states: ProcessStates) -> CheckResult:
    return passed("stream", f"{detail}, {_describe_lag('stream', states)}")


def _check_learn(detail: str, states: ProcessStates) -> CheckResult:
    report, version = states.reports["learn"], ""
    if states.observation and (last := states.observation.last).version:
        version = f", step {last.version} {format_seconds((states.now_ms - last.updated_ms) / 1000)} ago"
    detail = f"{detail}{version}, {_describe_lag('learn', states)}"
    if states.is_paused:
        fix = "headrace models list shows the reason; headrace models resume continues"
        return failed("learn", f"{detail}; training is paused", fix)
    if n_failed := int(report.total("headrace_checkpoints_failed_total")):
        detail = f"{detail}; {n_failed} checkpoints could not be written since its start"
        if report.total("headrace_checkpoint_failing"):
            fix = "read the log of learn, and check the space and the permissions of the data folder"
            return failed("learn", f"{detail}, the latest included", fix)
        return passed("learn", f"{detail}, the latest one was")
    return passed("learn", detail)


def _check_serve(detail: str, states: ProcessStates) -> CheckResult:
    report = states.reports["serve"]
    status = report.status
    detail = f"{detail}, version {status.get('model_version', 'unknown')}, {_describe_lag('serve', states)}"
    if status.get("status") != "ready":
        return failed("serve", f"{detail}; not ready: {status.get('status', 'unknown')}", _START_FIX.format("serve"))
    if reason := status.get("blocked_reason"):
        fix = "headrace models list shows blocked versions; headrace models approve VERSION lets one be served"
        return failed("serve", f"{detail}; a newer version is blocked: {reason}", fix)
    if problem := status.get("store_problem"):
        fix = "correct the user store; after a file of it was replaced, restart headrace serve"
        return failed("serve", f"{detail}; it cannot read users: {problem}", fix)
    if lost := int(report.total("headrace_impressions_lost_total")):
        detail = f"{detail}; {lost:,} impressions could not be written since its start"
    if report.total("headrace_impressions_failing"):
        fix = "read the log of serve, and check that the event log can be written"
        return failed("serve", f"{detail}; the latest impressions could not be written", fix)
    return passed("serve", detail)


def _describe_lag(process: str, states: ProcessStates) -> str:
    if process == "serve":
        return f"{states.reports['serve'].total('headrace_lag_events'):,.0f} events behind"
    if states.observation is None:
        return "no events"
    last = states.observation.last
    count, age_s = (last.unread, last.read_age_s) if process == "stream" else (last.untrained, last.trained_age_s)
    return f"{count:,} events and {format_seconds(age_s)} behind" if count else "0 events behind"


def _check_absent(process: str, states: ProcessStates, settings: Settings) -> CheckResult:
    """Check a process that does not answer on this machine."""
    report = states.reports[process]
    if states.is_elsewhere(process) and not report.is_expected:
        where = f"not at {report.url}" if report.url else "without a metrics port"
        return passed(process, f"running {where}, as the log shows; {_describe_lag(process, states)}")
    if report.is_listening:
        port = variable_name(_PORT_SETTINGS[process])
        fix = f"restart headrace {process} if it is that; else stop the program there, or set {port} to a free port"
        return failed(
            process, f"{report.url} does not answer as headrace {process}: {report.error or 'another program'}", fix
        )
    if not any(states.running.values()):
        elsewhere = "" if states.is_local else f"; if it runs elsewhere, {_AT.format(process)}"
        return failed(process, f"not running: {_describe_silence(report)}", f"start headrace up{elsewhere}")
    if report.is_expected or (states.is_local and report.url) or _has_work(process, states):
        detail = f"not running: {_describe_silence(report)}; {_describe_lag(process, states)}"
        return failed(process, detail, f"start headrace up, or headrace {process}")
    where = f"it may run on another machine ({_AT.format(process)})"
    return passed(process, f"{_describe_silence(report)}, and nothing waits for it: {where}")


def _describe_silence(report: ProcessReport) -> str:
    return f"nothing answers at {report.url}" if report.url else "it has no port here, and the log does not move"


def _has_work(process: str, states: ProcessStates) -> bool:
    if states.observation is None or process == "serve":
        return False
    last = states.observation.last
    return bool(last.unread if process == "stream" else last.untrained)
