"""Results of checks."""

from dataclasses import dataclass

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Result of one check. `fix` says how to repair a failed one."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


def passed(name: str, detail: str) -> CheckResult:
    return CheckResult(name, True, detail)


def failed(name: str, detail: str, fix: str) -> CheckResult:
    return CheckResult(name, False, detail, fix)


def format_seconds(seconds: float) -> str:
    """Duration in its largest fitting unit.

    >>> format_seconds(0.42), format_seconds(89), format_seconds(7200), format_seconds(200_000)
    ('0.4 s', '89 s', '2.0 h', '2.3 d')
    """
    for size, unit in _UNITS:
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{max(0.0, seconds):.1f} s"


def format_count(count: int, noun: str) -> str:
    """Count with its noun.

    >>> format_count(1, "version"), format_count(1200, "event")
    ('1 version', '1,200 events')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
