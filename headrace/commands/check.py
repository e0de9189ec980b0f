"""`headrace check`: find problems of an installation and print how to fix them."""

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

_MIN_FREE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Result of one check. `fix` says how to repair a failed one."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


def run_checks(config: Path | None, as_json: bool) -> int:
    """Print every check. Exit code 0: all passed; 1: a check failed; 2: invalid settings."""
    try:
        settings = load(config)
    except SettingsError as error:
        results = [CheckResult("settings", False, str(error), "correct or remove this setting")]
        _print_results(results, as_json)
        return 2
    results = list(_check_all(settings))
    _print_results(results, as_json)
    return 0 if all(result.ok for result in results) else 1


def _check_all(settings: Settings) -> Iterator[CheckResult]:
    yield CheckResult("python", sys.version_info >= (3, 11), sys.version.split()[0], "install Python 3.11 or newer")
    yield CheckResult("settings", True, "valid")
    checks: list[tuple[str, Callable[[Settings], CheckResult]]] = [
        ("data folder", _check_folder),
        ("event log", _check_log),
        ("user store", _check_store),
        ("checkpoints", _check_checkpoints),
        ("port", _check_port),
        ("ranker", _check_ranker),
    ]
    for name, check in checks:
        try:
            yield check(settings)
        except (OSError, ValueError) as error:
            yield CheckResult(name, False, str(error), "see the error message")


def _check_ranker(settings: Settings) -> CheckResult:
    from online_models.plugins import load_ranker

    name = settings.learn.ranker
    load_ranker(name)
    return CheckResult("ranker", True, name)


def _check_folder(settings: Settings) -> CheckResult:
    folder = settings.data.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".check"
    probe.write_bytes(b"")
    probe.unlink()
    free = shutil.disk_usage(folder).free
    fix = "free disk space, or set HEADRACE_DATA__FOLDER to a folder on a larger disk"
    return CheckResult("data folder", free > _MIN_FREE_BYTES, f"{folder}, {free / 1e9:.1f} GB free", fix)


def _check_log(settings: Settings) -> CheckResult:
    log = open_topics(settings, SystemClock())
    events = sum(log.end_offsets(EVENTS).values())
    unread = events - sum(position.offset for position in log.committed(EVENTS, "stream").values())
    dead_letters = log.end_offset(DEAD_LETTER, 0)
    blocks = sum(log.end_offsets(EXAMPLES).values())
    log.close()
    detail = f"{events:,} events ({unread:,} unread), {blocks:,} example blocks, {dead_letters:,} dead letters"
    return CheckResult("event log", True, f"{_strip_secrets(settings.log_url)}: {detail}")


def _check_store(settings: Settings) -> CheckResult:
    store = open_store(settings.store_url, settings.store.prefix)
    users, problem = store.count(), store.health_problem()
    store.close()
    detail = f"{_strip_secrets(settings.store_url)}: {users:,} users"
    summary, _, fix = problem.partition(": ")
    return CheckResult("user store", not problem, f"{detail}; {summary}" if problem else detail, fix)


def _strip_secrets(url: str) -> str:
    """Remove the user, password and query from a URL."""
    return re.sub("//[^@/]*@", "//", url.partition("?")[0])


def _check_checkpoints(settings: Settings) -> CheckResult:
    versions = listing.read_versions(settings.checkpoints)
    damaged = [version for version in versions if version.error]
    detail = f"{len(versions)} versions" + (f", {len(damaged)} damaged: {damaged[-1].version}" if damaged else "")
    fix = f"damaged versions are skipped; remove them from {settings.checkpoints}"
    return CheckResult("checkpoints", not damaged, detail, fix)


def _check_port(settings: Settings) -> CheckResult:
    host, port = settings.serve.host, settings.serve.port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if _is_listening(host, port):
                return CheckResult("port", True, f"{host}:{port} is in use by a running process")
            fix = "set HEADRACE_SERVE__HOST and HEADRACE_SERVE__PORT to an address of this machine"
            return CheckResult("port", False, f"{host}:{port} cannot be used ({error.strerror})", fix)
    return CheckResult("port", True, f"{host}:{port} is free")


def _is_listening(host: str, port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex((host, port)) == 0


def _print_results(results: list[CheckResult], as_json: bool) -> None:
    if as_json:
        checks = [asdict(result) for result in results]
        print(json.dumps({"ok": all(result.ok for result in results), "checks": checks}))
        return
    table = Table("ok", "name", "detail", "fix")
    for result in results:
        mark = "[green]✓" if result.ok else "[red]✗"
        table.add_row(mark, result.name, result.detail, "" if result.ok else result.fix)
    Console().print(table)
