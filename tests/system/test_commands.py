"""Every command that the documents name works on a live installation."""

import csv
import gzip
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from headrace.cli import app
from tests.support.processes import RunningSystem
from tests.support.reference import walk_commands

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROCESSES = {"stream", "learn", "serve", "up", "demo"}  # other tests run these
CHANGES = ("models rollback", "models block", "models approve", "models pause")
READERS = ("produce", "replay evaluate")  # of files, which the end of a process closes
LEAVES = {name.removeprefix("headrace ") for name, _ in walk_commands()} - PROCESSES
FLOOD, FLOODER = 400, "robot"
# Arguments of a command that the text only names, or that it does not name at all.
ARGUMENTS = {
    "models show": "VERSION", "models diff": "BEFORE AFTER", "models lineage": "VERSION", "models rollback": "VERSION",
    "models block": "VERSION", "models approve": "VERSION", "models withdraw": "OFFSET", "produce": "events.jsonl.gz",
    "quarantine release": "EVENT_ID", "quarantine drop": "EVENT_ID", "replay evaluate": "events.jsonl.gz",
    "backup": "BACKUP", "restore": "BACKUP",
}  # fmt: skip


def find_commands(text: str) -> Iterator[str]:
    """Commands of a document: code inside lines, and lines of code blocks."""
    yield from re.findall(r"`(?:[^`\n]*? )?(headrace [a-z][^`\n]*)`", text)
    for block in re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if match := re.search(r"(?:^(?:\$ )?|exec .* |run .* )(headrace [a-z].*?)(?: +#.*)?$", line):
                yield match[1]


def normalize(command: str) -> tuple[str, str] | None:
    """The verb and its arguments; None for a process, and for text that is no command."""
    words = command.removeprefix("headrace ").replace("--skip …", "--skip PARTITION:FROM-TO").replace("…", "").split()
    for n_words in (2, 1):
        if (verb := " ".join(words[:n_words])) in LEAVES:
            if verb in ("backup", "restore"):  # each document names another folder
                return verb, "BACKUP"
            return verb, " ".join(words[n_words:]) or ARGUMENTS.get(verb, "")
    return None


def list_documented() -> list[tuple[str, str]]:
    found = {normalize(command) for path in DOCUMENTS for command in find_commands(path.read_text())}
    return sorted(command for command in found if command)


def make_event(n: int, user: str, item: str) -> dict[str, Any]:
    ts = int(time.time() * 1000)
    return {"event_id": f"{user}-{n}", "type": "click", "ts": ts, "user_id": user, "item_id": item}


class CommandRunner:
    """Run commands in this process against a running system."""

    def __init__(self, system: RunningSystem, folder: Path) -> None:
        self.system = system
        self._folder = folder
        self._n_backups = 0

    def run(self, verb: str, arguments: str) -> Any:
        words = [*verb.split(), *self._substitute(verb, arguments)]
        environ = {}
        if verb == "restore":
            environ = {"HEADRACE_DATA__FOLDER": str(self._folder / f"restored-{self._n_backups}")}
        if verb in READERS:
            done = self.system.command(*words)

            assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
            return done.stdout
        result = CliRunner().invoke(app, words, env=environ)
        codes = {0, 1} if verb == "check" else {0}  # a machine of tests may be short of something

        assert result.exit_code in codes, f"{' '.join(words)}: {result.output}\n{result.exception!r}"
        return json.loads(result.stdout) if "--json" in words else result.stdout

    def _substitute(self, verb: str, arguments: str) -> list[str]:
        values = {
            "PARTITION:FROM-TO": "0:10-20", "0:1200-1450": "0:10-20", "0:1200": "0:10", "0:1450": "0:20",
            "USER": FLOODER, "ITEM": "a",
        }  # fmt: skip
        if verb.startswith("models"):
            versions = self._list_versions()
            first, last = versions[0]["version"], versions[-1]["version"]
            untrained = versions[0]["offsets"]["0"]
            values |= dict.fromkeys(("PARTITION:FROM-TO", "0:1200-1450"), f"0:{untrained}-{untrained + 1}")
            values |= dict.fromkeys(("VERSION", "000001-000000042", "OLDER", "BEFORE"), first) | {"AFTER": last}
            values |= {"VERSION": last} if verb in ("models block", "models approve") else {}
        if "EVENT_ID" in arguments:
            values["EVENT_ID"] = self.run("quarantine list", "--json")[0]["event_id"]
        if "OFFSET" in arguments.split():
            values["OFFSET"] = str(self.run("models pending", "--json")[0]["offset"])
        if "BACKUP" in arguments:
            self._n_backups += verb == "backup"
            values["BACKUP"] = str(self._folder / f"backup-{self._n_backups}")
        return [values.get(word, word) for word in arguments.split()]

    def _list_versions(self) -> list[dict[str, Any]]:
        versions: list[dict[str, Any]] = json.loads(CliRunner().invoke(app, ["models", "list", "--json"]).stdout)
        return versions

    def serving_versions(self) -> set[tuple[str, ...]]:
        """Versions that serve, as the API and the command line say."""
        response = self.system.http.get("/v1/models", headers={"Authorization": "Bearer key"}).json()
        return {
            tuple(version["version"] for version in versions if version["serving"])
            for versions in (response, self._list_versions())
        }


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandRunner]:
    """A system with versions and a flood in quarantine; files to produce in the working folder."""
    tmp_path = tmp_path_factory.mktemp("commands")
    with RunningSystem(tmp_path / "data") as system, pytest.MonkeyPatch.context() as monkeypatch:
        for name in system.environ:
            if name.startswith("HEADRACE_"):
                monkeypatch.setenv(name, system.environ[name])
        monkeypatch.chdir(tmp_path)
        items = [{"item_id": item, "title": item} for item in "abc"]
        system.http.post("/v1/items", json=items)
        for start in (0, 30):
            events = [make_event(n, f"u{n % 7}", "abc"[n % 3]) for n in range(start, start + 30)]
            system.http.post("/v1/events", json=events)
            system.settle()
            system.json("replay", "run")  # writes a version
        system.http.post("/v1/events", json=[make_event(n, FLOODER, "a") for n in range(FLOOD)])
        system.settle()
        write_files(tmp_path, items)
        yield CommandRunner(system, tmp_path)


def write_files(folder: Path, items: list[dict[str, Any]]) -> None:
    """Write the files that the documents name: our own layout, and MovieLens."""
    events = [make_event(n, f"new{n % 5}", "abc"[n % 3]) for n in range(50)]
    write_lines(folder / "items.jsonl.gz", items)
    write_lines(folder / "users.jsonl.gz", [{"user_id": f"new{n}", "attributes": {"country": "CH"}} for n in range(5)])
    write_lines(folder / "events.jsonl.gz", events)
    write_table(folder / "events.csv", [event | {"event_id": f"csv-{n}"} for n, event in enumerate(events)])
    now = int(time.time())
    ratings = [{"userId": n % 5, "movieId": n % 3, "rating": 4.5, "timestamp": now + n // 10} for n in range(50)]
    write_table(folder / "ratings.csv", ratings)
    write_table(folder / "movies.csv", [{"movieId": n, "title": f"m{n}", "genres": "Drama|War"} for n in range(3)])


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def order(command: tuple[str, str]) -> tuple[bool, bool, str]:
    """Single quarantined events first, while there are some; a backup before its restore."""
    verb, arguments = command
    return not verb.startswith("quarantine"), "EVENT_ID" not in arguments, verb


@pytest.mark.slow
def test_documented_commands_work_and_agree_with_the_api(runner: CommandRunner) -> None:
    documented = list_documented()
    others = [(verb, ARGUMENTS.get(verb, "")) for verb in sorted(LEAVES - {verb for verb, _ in documented})]
    for verb, arguments in sorted([*documented, *others], key=order):
        if verb == "models withdraw":
            continue
        runner.run(verb, arguments)
        if verb in CHANGES:  # a rollback serves within two seconds
            runner.system.wait_until(lambda: len(runner.serving_versions()) == 1, timeout_s=10)

    assert len(documented) > 20


@pytest.mark.slow
def test_waiting_command_is_listed_and_withdrawn(runner: CommandRunner) -> None:
    learner = runner.system.children()["learn"]
    os.kill(learner, signal.SIGSTOP)
    try:
        runner.run("models pause", "--wait 0")
        runner.run("models withdraw", "OFFSET --wait 0")
    finally:
        os.kill(learner, signal.SIGCONT)
    runner.run("models resume", "")

    assert runner.run("models pending", "--json") == []
