"""`headrace quarantine`: list, release and drop quarantined actions."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.commands.errors import UsageError
from headrace.commands.installation import open_existing_log
from headrace.commands.output import TextTable, ask, format_count, has_operator, print_error, print_json
from headrace.commands.ranges import check_ranges, parse_ranges
from online_models.control import Ranges
from stream.config import load
from stream.logs import EventLog
from stream.quarantine import QuarantinedAction, drop, list_quarantined, release
from stream.topics import EVENTS


@dataclass(frozen=True, slots=True)
class ActionFilter:
    """Conditions that an action has to fulfil; an empty one is none."""

    event_ids: Sequence[str] = ()
    users: Sequence[str] = ()
    items: Sequence[str] = ()
    detectors: Sequence[str] = ()
    ranges: Sequence[str] = ()  # of the quarantined events, as PARTITION:FROM-TO
    is_all: bool = False

    def __bool__(self) -> bool:
        return self != ActionFilter()


@dataclass(frozen=True, slots=True)
class Decision:
    """Outcome of quarantined actions, and the function that writes it."""

    outcome: str
    verb: str
    write: Callable[[EventLog, Sequence[QuarantinedAction]], None] = field(repr=False)


RELEASE, DROP = Decision("released", "Release", release), Decision("dropped", "Drop", drop)


@dataclass(frozen=True, slots=True)
class DecisionExecution:
    """Choices that do not change which actions are selected."""

    is_dry_run: bool = False
    is_confirmed: bool = False  # without a question on a terminal
    as_json: bool = False


def print_quarantine(action_filter: ActionFilter, config: Path | None, as_json: bool) -> int:
    """Print the quarantined actions, oldest first."""
    with open_existing_log(load(config)) as log:
        actions = _select(log, action_filter)
    if as_json:
        print_json([_to_dict(action) for action in actions])
    elif actions:
        _print_table(actions)
    else:
        print("No action in quarantine matches." if action_filter else "The quarantine is empty.")
    return 0


def resolve_actions(
    decision: Decision, action_filter: ActionFilter, config: Path | None, execution: DecisionExecution
) -> int:
    """Release or drop actions.

    Exit code 1, and no change: an event id is not in quarantine, or the operator does not confirm.
    """
    if not action_filter:
        raise UsageError("name the actions: EVENT_ID…, --user, --item, --detector, --range, or --all")
    with open_existing_log(load(config)) as log:
        actions = _select(log, action_filter)
        if missing := sorted(set(action_filter.event_ids) - {action.event_id for action in actions}):
            return print_error(f"not in quarantine: {', '.join(missing)}; see `headrace quarantine list`")
        if not _is_due(decision, actions, execution):
            return 0 if execution.is_dry_run else print_error("not confirmed; nothing has changed")
        decision.write(log, actions)
    event_ids = [action.event_id for action in actions]
    print_json({decision.outcome: event_ids}) if execution.as_json else print(f"{decision.outcome} {len(event_ids):,}")
    return 0


def _is_due(decision: Decision, actions: Sequence[QuarantinedAction], execution: DecisionExecution) -> bool:
    """Show the actions of a dry run, or ask at a terminal; False: change nothing."""
    if execution.is_dry_run:
        if execution.as_json:
            print_json({"dry_run": True, "actions": [_to_dict(action) for action in actions]})
        else:
            print(f"{_summarize(actions)}\nNothing has changed.")
        return False
    return not has_operator(execution.is_confirmed) or ask(f"{_summarize(actions)}\n{decision.verb} them?")


def _summarize(actions: Sequence[QuarantinedAction]) -> str:
    counts = Counter(action.detector for action in actions)
    detectors = ", ".join(f"{name} {count:,}" for name, count in counts.most_common()) or "none"
    users = len({action.user_id for action in actions})
    return f"{format_count(len(actions), 'action')} of {format_count(users, 'user')} ({detectors})"


def _select(log: EventLog, action_filter: ActionFilter) -> list[QuarantinedAction]:
    ranges = parse_ranges("--range", list(action_filter.ranges))
    check_ranges(log, EVENTS, "--range", ranges)
    conditions = (
        ("event_id", action_filter.event_ids),
        ("user_id", action_filter.users),
        ("item_id", action_filter.items),
        ("detector", action_filter.detectors),
    )
    expected = [(name, frozenset(values)) for name, values in conditions if values]
    return [
        action
        for action in list_quarantined(log)
        if all(getattr(action, name) in values for name, values in expected)
        and (not ranges or _is_inside(action, ranges))
    ]


def _is_inside(action: QuarantinedAction, ranges: Ranges) -> bool:
    return any(first <= action.offset < next_ for first, next_ in ranges.get(str(action.partition), ()))


def _print_table(actions: Sequence[QuarantinedAction]) -> None:
    table = TextTable(
        "event", "user", "item", "detector", "offset", "reason", copied=("event", "user", "item", "detector", "offset"),
        title=format_count(len(actions), "quarantined action"),
    )  # fmt: skip
    for action in actions:
        position = f"{action.partition}:{action.offset}"
        table.add_row(action.event_id, action.user_id, action.item_id or "", action.detector, position, action.reason)
    table.print()


def _to_dict(action: QuarantinedAction) -> dict[str, Any]:
    names = ("event_id", "user_id", "item_id", "detector", "reason", "partition", "offset")
    return {name: getattr(action, name) for name in names}
