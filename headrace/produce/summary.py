"""Summary of `headrace produce`, as text and as JSON."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from headrace.commands.output import format_count
from headrace.produce.outcome import StreamOutcome
from replay.file_loader import LoadResult
from replay.files.plans import Plan

_MAX_AGE_ADVICE = (
    "To accept events of any age, set HEADRACE_EVENTS__MAX_AGE=0 for this command and for `up` or `stream`, and start "
    "them again."
)
_NO_STREAM = "No stream process has read the events yet: they count when `headrace up` or `headrace stream` runs."


@dataclass(slots=True)
class FileReport:
    """Outcome of one file."""

    path: str
    result: LoadResult
    plan: Plan | None = None
    outcome: StreamOutcome | None = None  # None = not waited for
    deleted: int = 0  # items that `--replace` deleted

    @property
    def has_failed(self) -> bool:
        """Return True if a record was refused or rejected, or the file was not read to its end."""
        rejected = self.outcome.rejected if self.outcome else Counter[str]()
        return bool(self.result.refused or self.result.error or rejected)

    @property
    def warnings(self) -> list[str]:
        result, warnings = self.result, []
        if result.times_like_seconds:
            warnings.append(
                f"{result.times_like_seconds:,} events have a ts before 1973-03-03, which looks like seconds; ts is in "
                "milliseconds: pass --map ts=COLUMN:s"
            )
        for name, count in result.float_ids.items():
            warnings.append(
                f"{count:,} values of {name} look like floats, such as 1.0 or NaN; 1.0 is another id than 1: "
                f"--map {name}='COLUMN:/\\.0$/' takes the .0 away"
            )
        if result.first_unsorted:
            place = f"{result.unit} {result.first_unsorted:,}"
            warnings.append(f"the events are not in time order, first at {place}: --sort sorts them")
        if result.refused["too_old"] or (self.outcome and self.outcome.rejected["too_old"]):
            warnings.append(_MAX_AGE_ADVICE)
        return warnings


def to_dict(report: FileReport) -> dict[str, Any]:
    result, outcome = report.result, report.outcome
    values: dict[str, Any] = {
        "topic": result.topic,
        "written": result.written.total(),
        "rejected": result.n_refused,
        "reasons": dict(result.refused),
        "first_rejection": result.first_refusal or None,
        "skipped": dict(result.skipped),
        "topics": dict(+result.written),
        "preset": report.plan.preset.name if report.plan and report.plan.preset else None,
        "deleted": report.deleted,
        "warnings": report.warnings,
        "error": result.error or None,
        "stream": None,
    }
    if outcome:
        values["stream"] = {
            "accepted": outcome.accepted,
            "repeated": outcome.repeated,
            "rejected": outcome.rejected.total(),
            "reasons": dict(outcome.rejected),
            "first_rejection": outcome.first_rejection or None,
            "waiting": outcome.waiting,
        }
    return values


def print_report(console: Console, report: FileReport, is_dry_run: bool) -> None:
    """Print the sentences about one file."""

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    result = report.result
    if report.plan and report.plan.preset:
        preset = report.plan.preset
        say(f"{report.path}: read by the preset {preset.name} ({preset.description})")
    would = "would be " if is_dry_run else ""
    topics = ", ".join(
        f"{format_count(count, 'record')} {would}written to {topic}" for topic, count in result.written.items() if count
    )
    say(f"{report.path}: {topics or f'0 records {would}written'}")
    if result.skipped:
        say(f"  {result.skipped.total():,} skipped, which are no actions on items ({_join(result.skipped)})")
    if result.refused:
        say(f"  {result.n_refused:,} rejected{'' if is_dry_run else ' and written to dead-letter'}"
            f" ({_join(result.refused)}); first: {result.first_refusal}")  # fmt: skip
    if report.deleted:
        say(f"  {report.deleted:,} items that are not in the file deleted")
    _print_outcome(report, say)
    note = report.plan.preset.note if report.plan and report.plan.preset else ""
    for warning in (*report.warnings, *([note] if note and result.written else [])):
        say(f"  {warning}")
    if result.error:
        say(f"  {result.error}")


def _print_outcome(report: FileReport, say: Any) -> None:
    outcome = report.outcome
    if outcome is None:
        return
    if outcome.waiting == outcome.written:
        say(f"  {_NO_STREAM}")
        return
    waiting = f", {outcome.waiting:,} not read yet" if outcome.waiting else ""
    repeated = f", {outcome.repeated:,} of them repeated: they count once" if outcome.repeated else ""
    say(f"  stream accepted {format_count(outcome.accepted, 'event')}{repeated}{waiting}")
    if outcome.rejected:
        first = outcome.first_rejection
        say(f"  stream rejected {outcome.rejected.total():,} events ({_join(outcome.rejected)}); first: {first}")


def _join(counts: Counter[str]) -> str:
    shown = [f"{reason} {count:,}" for reason, count in counts.most_common(6)]
    return ", ".join(shown) + (", …" if len(counts) > len(shown) else "")
