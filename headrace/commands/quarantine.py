"""`headrace quarantine`: what was held back, for people and machines."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from stream.clock import SystemClock
from stream.config import load
from stream.logs import EventLog
from stream.quarantine import Held, drop, held_back, release
from stream.topics import open_topics


def list_held(config: Path | None, as_json: bool) -> None:
    """Print what is in quarantine, oldest first."""
    log = open_topics(load(config), SystemClock())
    held = held_back(log)
    log.close()
    if as_json:
        print(json.dumps([_told(one) for one in held]))
        return
    table = Table("event", "person", "item", "detector", "offset", title=f"{len(held):,} in quarantine")
    for one in held:
        table.add_row(one.event_id, one.user_id, one.item_id or "", one.detector, f"{one.partition}:{one.offset}")
    Console().print(table if held else "nothing is in quarantine")


def release_held(events: Sequence[str], config: Path | None, as_json: bool) -> int:
    """Let events count after all; nothing is done if one of them is not in quarantine."""
    return _settle(events, config, as_json, "released", release)


def drop_held(events: Sequence[str], config: Path | None, as_json: bool) -> int:
    """Be done with events; nothing is done if one of them is not in quarantine."""
    return _settle(events, config, as_json, "dropped", drop)


def _settle(
    events: Sequence[str], config: Path | None, as_json: bool, how: str, settle: Callable[[EventLog, Held], None]
) -> int:
    log = open_topics(load(config), SystemClock())
    wanted = set(events)
    chosen = [one for one in held_back(log) if one.event_id in wanted]
    if missing := sorted(wanted - {one.event_id for one in chosen}):
        log.close()
        raise ValueError(f"not in quarantine: {', '.join(missing)}; `headrace quarantine list` shows what is")
    for one in chosen:
        settle(log, one)
    log.close()
    done = [one.event_id for one in chosen]
    print(json.dumps({how: done}) if as_json else f"{how} {len(done):,}")
    return 0


def _told(one: Held) -> dict[str, Any]:
    names = ("event_id", "user_id", "item_id", "detector", "reason", "partition", "offset")
    return {name: getattr(one, name) for name in names}
