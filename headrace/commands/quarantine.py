"""`headrace quarantine`: list, release and drop quarantined actions."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from stream.clock import SystemClock
from stream.config import load
from stream.logs import EventLog
from stream.quarantine import QuarantinedAction, drop, list_quarantined, release
from stream.topics import open_topics


def print_quarantine(config: Path | None, as_json: bool) -> None:
    """Print the quarantined actions, oldest first."""
    log = open_topics(load(config), SystemClock())
    actions = list_quarantined(log)
    log.close()
    if as_json:
        print(json.dumps([_to_dict(action) for action in actions]))
        return
    table = Table("event", "user", "item", "detector", "offset", title=f"{len(actions):,} quarantined actions")
    for action in actions:
        position = f"{action.partition}:{action.offset}"
        table.add_row(action.event_id, action.user_id, action.item_id or "", action.detector, position)
    Console().print(table if actions else "The quarantine is empty.")


def release_events(events: Sequence[str], config: Path | None, as_json: bool) -> int:
    """Release events for training; ValueError, and no change, if any is not in quarantine."""
    return _resolve_events(events, config, as_json, "released", release)


def drop_events(events: Sequence[str], config: Path | None, as_json: bool) -> int:
    """Remove events from the quarantine; ValueError, and no change, if any is not in it."""
    return _resolve_events(events, config, as_json, "dropped", drop)


def _resolve_events(
    events: Sequence[str],
    config: Path | None,
    as_json: bool,
    outcome: str,
    resolve: Callable[[EventLog, QuarantinedAction], None],
) -> int:
    log = open_topics(load(config), SystemClock())
    requested = set(events)
    selected_actions = [action for action in list_quarantined(log) if action.event_id in requested]
    if missing := sorted(requested - {action.event_id for action in selected_actions}):
        log.close()
        raise ValueError(f"not in quarantine: {', '.join(missing)}; see `headrace quarantine list`")
    for action in selected_actions:
        resolve(log, action)
    log.close()
    event_ids = [action.event_id for action in selected_actions]
    print(json.dumps({outcome: event_ids}) if as_json else f"{outcome} {len(event_ids):,}")
    return 0


def _to_dict(action: QuarantinedAction) -> dict[str, Any]:
    names = ("event_id", "user_id", "item_id", "detector", "reason", "partition", "offset")
    return {name: getattr(action, name) for name in names}
