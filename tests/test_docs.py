"""The documents agree with the code: settings, metrics, commands, detectors, links."""

import re
from pathlib import Path

import pytest

from benchmarks.guard.false_alarms import DETECTORS
from replay.simulation.scenarios import SCENARIOS
from stream.config import Settings, iter_settings
from tests.support.reference import metric_names, pages, walk_commands
from tests.support.serving_loop import LiveLoop

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
GUARD = ROOT / "docs" / "guard.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
COMMANDS = {name for name, _ in walk_commands()}
SETTINGS = {f"HEADRACE_{section.upper()}__{name.upper()}" for section, name, _ in iter_settings()}
SECTIONS = {section for section, _, _ in iter_settings()}
COMPOSE_PORTS = re.findall(
    r"^      - \$\{BIND:-127\.0\.0\.1\}:(\d+):", (ROOT / "compose.yaml").read_text(), re.MULTILINE
)
PORTS = {*map(int, COMPOSE_PORTS), Settings().stream.metrics_port, Settings().learn.metrics_port}
Routes = list[tuple[list[str], set[str]]]  # parts of the path, methods
KNOWN_DETECTORS = sorted(set[str]().union(*DETECTORS.values()))


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> Routes:
    """Routes of the HTTP application."""
    app = LiveLoop(tmp_path_factory.mktemp("routes")).http.app
    return [(route.path.rstrip("/").split("/"), {str(method) for method in route.methods}) for route in app.routes]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", pages(), ids=name_of)
def test_reference_page_is_current(path: Path) -> None:
    assert path.read_text() == pages()[path], "run: python -m tests.support.reference"


def test_every_metric_has_advice() -> None:
    rows = re.findall(
        r"^\| `(headrace_\w+)` \|.*\| ([^|]*) \|$", (ROOT / "docs/reference/metrics.md").read_text(), re.M
    )

    assert {name for name, advice in rows if advice.strip()} == set(metric_names())


def test_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 150


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
class TestDocument:
    def test_settings_exist(self, path: Path) -> None:
        text = path.read_text()
        named = set(re.findall(r"HEADRACE_[A-Z]+__[A-Z_]+", text)) - {"HEADRACE_SECTION__NAME"}
        dotted = re.findall(rf"`((?:{'|'.join(SECTIONS)})\.[a-z_]+)`", text)

        assert named <= SETTINGS
        assert {f"HEADRACE_{name.upper().replace('.', '__')}" for name in dotted} <= SETTINGS

    def test_metrics_exist(self, path: Path) -> None:
        named = set(re.findall(r"`(headrace_[a-z_]+)[`{]", path.read_text()))
        suffixes = ("_bucket", "_sum", "_count")

        assert {name for name in named if not name.endswith(suffixes)} <= set(metric_names())

    def test_commands_exist(self, path: Path) -> None:
        text = path.read_text()
        calls = re.findall(
            r"(?:`|^(?:\$ )?|^    |&& |exec \w+ )headrace ([a-z][a-z-]*(?: [a-z][a-z-]*)?)", text, re.MULTILINE
        )

        assert [call for call in calls if not is_command(call.split())] == []

    def test_routes_exist(self, path: Path, routes: Routes) -> None:
        named = re.findall(r"\b(GET|POST|PUT|PATCH|DELETE) (/[^\s`'\"?,;)]*)", path.read_text())
        named += [(method, route) for method, route in read_curl_calls(path.read_text())]

        assert [f"{method} {route}" for method, route in named if not is_route(method, route, routes)] == []

    def test_local_ports_are_open(self, path: Path) -> None:
        named = re.findall(r"(?:localhost|127\.0\.0\.1):(\d+)", path.read_text())

        assert set(map(int, named)) <= PORTS

    def test_links_lead_somewhere(self, path: Path) -> None:
        links = re.findall(r"\]\(([^)#\s]+)(?:#[\w-]*)?\)", path.read_text())
        local = [link for link in links if "://" not in link and not link.startswith("mailto:")]

        assert [link for link in local if not (path.parent / link).exists()] == []

    def test_modules_exist(self, path: Path) -> None:
        named = re.findall(
            r"`?\b((?:stream|online_models|serving|replay|headrace|tests|benchmarks)/[\w/]+\.py)", path.read_text()
        )
        commands = re.findall(r"python -m ((?:benchmarks|tests)[\w.]*)", path.read_text())

        assert [name for name in named if not (ROOT / name).exists()] == []
        assert [name for name in commands if not is_module(name)] == []


def read_curl_calls(text: str) -> list[tuple[str, str]]:
    """Method and route of each curl command on this machine."""
    calls = re.findall(r"^.*\bcurl\b.*?localhost:8000(/[^\s'\"?`]*)(.*)$", text.replace("\\\n", " "), re.MULTILINE)
    return [("POST" if re.search(r"\s(-d|--data\S*)\s", rest) else "GET", route) for route, rest in calls]


def is_route(method: str, name: str, routes: Routes) -> bool:
    """Return True if a route matches; a variable part of it matches anything."""
    parts = name.rstrip("/").split("/")
    return any(
        method in methods
        and len(parts) == len(route)
        and all(variable.startswith("{") or variable == part for variable, part in zip(route, parts, strict=True))
        for route, methods in routes
    )


def is_command(words: list[str]) -> bool:
    """Return True if the words begin with a command, or are the name of a group."""
    prefixes = {" ".join(["headrace", *words[:n]]) for n in (1, 2)}
    groups = {name.rpartition(" ")[0] for name in COMMANDS}
    return bool(prefixes & COMMANDS) or (len(words) == 1 and f"headrace {words[0]}" in groups)


def is_module(name: str) -> bool:
    path = ROOT / name.rstrip(".").replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__main__.py").exists()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_reference_names_every_command(command: str) -> None:
    assert f"## {command}\n" in (ROOT / "docs/reference/cli.md").read_text()


@pytest.mark.parametrize("detector", KNOWN_DETECTORS)
def test_runbook_has_an_action_for_every_detector(detector: str) -> None:
    entry = (ROOT / "docs" / "operations.md").read_text().partition("### AlarmRaised")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", entry, re.MULTILINE)

    assert f"`{detector}`" in ", ".join(rows)


@pytest.mark.parametrize("detector", KNOWN_DETECTORS)
def test_guard_page_has_a_row_for_every_detector(detector: str) -> None:
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", GUARD.read_text(), re.MULTILINE)

    assert f"`{detector}`" in ", ".join(rows)


def test_false_alarms_cover_every_detector_of_a_scenario() -> None:
    named = set[str]().union(*(scenario.detectors for scenario in SCENARIOS))

    assert named <= set(KNOWN_DETECTORS)
