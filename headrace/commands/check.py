"""`headrace check`: what is wrong, and how to mend it."""

import json
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from online_models.versions import listing
from stream.clock import SystemClock
from stream.config import Settings, SettingsError, load
from stream.drivers import open_store
from stream.topics import DEAD_LETTER, EVENTS, EXAMPLES, open_topics

_LITTLE_DISK = 1 << 30  # bytes


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    fine: bool
    found: str
    mend: str = ""


def run_checks(config: Path | None, as_json: bool) -> int:
    """Exit code 0 if all is fine, 1 if not, 2 if the settings cannot be read."""
    try:
        settings = load(config)
    except SettingsError as error:
        findings = [Finding("settings", False, str(error), "correct or remove that setting")]
        _tell(findings, as_json)
        return 2
    findings = list(_findings(settings))
    _tell(findings, as_json)
    return 0 if all(finding.fine for finding in findings) else 1


def _findings(settings: Settings) -> Iterator[Finding]:
    yield Finding("python", sys.version_info >= (3, 11), sys.version.split()[0], "install Python 3.11 or newer")
    yield Finding("settings", True, "read")
    checks: list[tuple[str, Callable[[Settings], Finding]]] = [
        ("data folder", _folder),
        ("event log", _log),
        ("user store", _store),
        ("checkpoints", _checkpoints),
        ("port", _port),
    ]
    for what, look in checks:
        try:
            yield look(settings)
        except (OSError, ValueError) as error:
            yield Finding(what, False, str(error), "see the message")


def _folder(settings: Settings) -> Finding:
    folder = settings.data.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".check"
    probe.write_bytes(b"")
    probe.unlink()
    free = shutil.disk_usage(folder).free
    mend = "free some space, or set HEADRACE_DATA__FOLDER to a larger disk"
    return Finding("data folder", free > _LITTLE_DISK, f"{folder}, {free / 1e9:.1f} GB free", mend)


def _log(settings: Settings) -> Finding:
    log = open_topics(settings, SystemClock())
    events = sum(log.ends(EVENTS).values())
    behind = events - sum(position.offset for position in log.committed(EVENTS, "stream").values())
    buried = log.end(DEAD_LETTER, 0)
    blocks = sum(log.ends(EXAMPLES).values())
    log.close()
    found = f"{events:,} events ({behind:,} not yet taken), {blocks:,} blocks, {buried:,} dead letters"
    return Finding("event log", True, f"{_without_secrets(settings.log_url)}: {found}")


def _store(settings: Settings) -> Finding:
    store = open_store(settings.store_url, settings.store.prefix)
    users, trouble = store.count(), store.trouble()
    store.close()
    found = f"{_without_secrets(settings.store_url)}: {users:,} users"
    what, _, mend = trouble.partition(": ")
    return Finding("user store", not trouble, f"{found}; {what}" if trouble else found, mend)


def _without_secrets(url: str) -> str:
    """Where it is, but not how to get in."""
    return re.sub("//[^@/]*@", "//", url.partition("?")[0])


def _checkpoints(settings: Settings) -> Finding:
    listed = listing.listing(settings.checkpoints)
    damaged = [one for one in listed if one.fault]
    found = f"{len(listed)} versions" + (f", {len(damaged)} damaged: {damaged[-1].version}" if damaged else "")
    mend = f"damaged versions are passed over; remove them from {settings.checkpoints}"
    return Finding("checkpoints", not damaged, found, mend)


def _port(settings: Settings) -> Finding:
    where = (settings.serve.host, settings.serve.port)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
        except OSError as error:
            found = f"{where[0]}:{where[1]} is in use or cannot be used ({error.strerror})"
            with socket.socket() as caller:
                caller.settimeout(1)
                if caller.connect_ex(where) == 0:
                    return Finding("port", True, f"{where[0]}:{where[1]} answers: something is running there")
            return Finding(
                "port", False, found, "set HEADRACE_SERVE__HOST and HEADRACE_SERVE__PORT to what this machine has"
            )
    return Finding("port", True, f"{where[0]}:{where[1]} is free")


def _tell(findings: list[Finding], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"fine": all(f.fine for f in findings), "findings": [asdict(f) for f in findings]}))
        return
    table = Table("", "what", "found", "how to mend it")
    for finding in findings:
        mark = "[green]✓" if finding.fine else "[red]✗"
        table.add_row(mark, finding.what, finding.found, "" if finding.fine else finding.mend)
    Console().print(table)
