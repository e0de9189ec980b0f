"""What the containers run is what this runs: compose.yaml, its commands and environment, as processes of this machine.

Two urls, the ports and the folder are this machine's. With Kafka and Redis here they are used; without, the embedded
drivers.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import find_program_or_skip
from tests.support.processes import free_port

ROOT = Path(__file__).parent.parent.parent
OURS = ("stream", "learn", "serve")
LOADER = "github.com/compose-spec/compose-go/v2/cmd"
LOADER_VERSION = "v2.16.2"
PATIENCE = 280.0  # seconds; the first start compiles the kernels
_FROM_OUTSIDE = re.compile(r"\$\{\w+(?::-([^}]*))?\}")


def read_compose() -> dict[str, Any]:
    """The file as it is where nothing is set outside of it."""
    text = _FROM_OUTSIDE.sub(lambda found: found[1] or "", (ROOT / "compose.yaml").read_text())
    composed: dict[str, Any] = yaml.safe_load(text)
    return composed


SERVICES = read_compose()["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def reference_loader() -> Path | None:
    """Compose's own reader of the file, installed by Go the first time; None on a machine without Go."""
    folder = Path.home() / ".cache" / "headrace" / f"compose-go-{LOADER_VERSION}"
    go = shutil.which("go")
    if not (folder / "cmd").exists():
        if go is None:
            return None
        subprocess.run(
            [go, "install", f"{LOADER}@{LOADER_VERSION}"], env={**os.environ, "GOBIN": str(folder)}, check=True
        )
    return folder / "cmd"


def against_the_schema(file: Path) -> subprocess.CompletedProcess[str]:
    """The published schema of the Compose Specification, as the package check-jsonschema carries it."""
    words = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_reference_loader_takes_it_or_else_the_published_schema() -> None:
    loader = reference_loader()
    if loader is None:
        checked = against_the_schema(ROOT / "compose.yaml")

        assert checked.returncode == 0, checked.stdout
        return
    loaded = subprocess.run([loader, ROOT / "compose.yaml"], capture_output=True, text=True, check=False)

    assert loaded.returncode == 0, loaded.stderr
    assert yaml.safe_load(loaded.stdout)["services"].keys() == SERVICES.keys()


@pytest.mark.parametrize(("words", "instead"), [("healthcheck:", "helthcheck:"), ("service_healthy", "service_well")])
def test_the_published_schema_knows_a_fault(tmp_path: Path, words: str, instead: str) -> None:
    text = (ROOT / "compose.yaml").read_text()
    assert words in text
    (tmp_path / "compose.yaml").write_text(text.replace(words, instead))
    checked = against_the_schema(tmp_path / "compose.yaml")

    assert checked.returncode == 1
    assert instead.strip(":") in checked.stdout


@pytest.mark.parametrize("name", SERVICES)
class TestEachService:
    def test_it_is_no_root(self, name: str) -> None:
        user = SERVICES[name].get("user") or re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)[-1]

        assert int(user.partition(":")[0]) > 0
        assert SERVICES[name]["cap_drop"] == ["ALL"]

    def test_it_is_asked_how_it_is(self, name: str) -> None:
        assert "healthcheck" in SERVICES[name] or (name in OURS and "HEALTHCHECK" in DOCKERFILE)

    def test_it_has_limits(self, name: str) -> None:
        assert SERVICES[name]["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}

    def test_what_it_mounts_is_there(self, name: str) -> None:
        for volume in SERVICES[name]["volumes"]:
            source = volume.partition(":")[0]

            assert (ROOT / source).exists() if source.startswith(".") else source in read_compose()["volumes"]

    def test_it_can_be_started_many_times(self, name: str) -> None:
        assert "container_name" not in SERVICES[name]
        assert "ports" not in SERVICES[name] or name not in OURS

    def test_it_waits_for_what_it_needs(self, name: str) -> None:
        waits = SERVICES[name].get("depends_on", {})

        assert all(one == {"condition": "service_healthy"} for one in waits.values())
        assert name not in OURS or waits.keys() == {"kafka", "redis"}


def test_the_image_has_every_package() -> None:
    copied = set(re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE))
    copied = {name for names in copied for name in names.split()}
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    packages = re.findall(r'"(\w+)\*"', (ROOT / "pyproject.toml").read_text().partition("packages.find]")[2])

    assert {*packages, "pyproject.toml", "constraints.txt"} <= copied
    assert copied == let_in


def test_the_gateway_has_a_configuration_that_haproxy_takes() -> None:
    done = subprocess.run(
        [find_program_or_skip("haproxy", "haproxy"), "-c", "-f", ROOT / "operations" / "haproxy.cfg"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr


def services_here(request: pytest.FixtureRequest, folder: Path) -> dict[str, str]:
    """Where log and store are on this machine."""
    try:
        return {
            "HEADRACE_LOG__URL": request.getfixturevalue("kafka_url"),
            "HEADRACE_STORE__URL": request.getfixturevalue("redis_url"),
        }
    except (pytest.FixtureLookupError, pytest.skip.Exception):
        print("no Kafka and Redis on this machine: the embedded drivers stand in for them")
        return {"HEADRACE_LOG__URL": f"local:{folder / 'log'}", "HEADRACE_STORE__URL": f"local:{folder / 'users'}"}


class Composed:
    """A context: every replica of the Headrace services as a process, behind the gateway."""

    def __init__(self, folder: Path, places: Mapping[str, str]) -> None:
        self.folder = folder
        self._places = places
        self._prefix = f"compose-{uuid.uuid4().hex[:8]}."
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.serving: list[tuple[int, subprocess.Popen[bytes]]] = []  # by port
        self.ports: list[tuple[str, dict[str, str]]] = []  # of each process: its service and environment
        self.http = httpx.Client(timeout=10)

    def __enter__(self) -> "Composed":
        for name in OURS:
            for _ in range(SERVICES[name]["deploy"].get("replicas", 1)):
                self._start(name)
        try:
            self._open_gateway()
            self.until(lambda: self.http.get("/readyz").status_code == 200)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.stop()
        self.http.close()
        if error:
            for told in sorted(self.folder.glob("*.told")):
                print(told.name, told.read_text()[-2000:], sep="\n")

    def environment(self, name: str, port: int) -> dict[str, str]:
        """The service's own, with what is another on this machine: two urls, the folder and the port it answers on."""
        environ = {variable: str(value) for variable, value in SERVICES[name]["environment"].items()}
        assert environ["HEADRACE_LOG__URL"].startswith("kafka://kafka:")
        assert environ["HEADRACE_STORE__URL"].startswith("redis://redis:")
        environ |= self._places
        # A service here may be shared with other tests.
        environ |= {"HEADRACE_LOG__PREFIX": self._prefix, "HEADRACE_STORE__PREFIX": self._prefix}
        environ["HEADRACE_DATA__FOLDER"] = str(self.folder / environ["HEADRACE_DATA__FOLDER"].lstrip("/"))
        ports = {"stream": "STREAM__METRICS_PORT", "learn": "LEARN__METRICS_PORT", "serve": "SERVE__PORT"}
        environ[f"HEADRACE_{ports[name]}"] = str(port)
        environ["ALIVE_AT"] = re.sub(r":\d+/", f":{port}/", environ["ALIVE_AT"])
        return environ | {name: os.environ[name] for name in ("PATH", "HOME", "NUMBA_CACHE_DIR") if name in os.environ}

    def _start(self, name: str) -> None:
        port = free_port()
        environ = self.environment(name, port)
        program, *words = SERVICES[name]["command"]
        assert program == "headrace"
        process = self._popen(name, [sys.executable, "-m", "headrace", *words], environ)
        self.ports.append((name, environ))
        if name == "serve":
            self.serving.append((port, process))

    def _open_gateway(self) -> None:
        """The gateway's own configuration, told where the replicas are instead of whom to ask for them."""
        port = free_port()
        text = (ROOT / "operations" / "haproxy.cfg").read_text().replace("bind :8000", f"bind 127.0.0.1:{port}")
        text = text.replace(" resolvers docker resolve-prefer ipv4 init-addr none", "")
        servers = "\n".join(f"    server serve{at} 127.0.0.1:{at}" for at, _ in self.serving)
        text, found = re.subn(r"^    server-template .*$", servers, text, flags=re.MULTILINE)
        assert found == 1
        config = self.folder / "haproxy.cfg"
        config.write_text(text)
        self._popen("gateway", [find_program_or_skip("haproxy", "haproxy"), "-f", str(config)], dict(os.environ))
        self.http.base_url = httpx.URL(f"http://127.0.0.1:{port}")

    def _popen(self, name: str, command: list[str], environ: dict[str, str]) -> subprocess.Popen[bytes]:
        self.folder.mkdir(exist_ok=True)
        with (self.folder / f"{name}-{len(self._processes)}.told").open("ab") as told:
            # The repository is what the image has installed.
            process = subprocess.Popen(command, env=environ, stdout=told, stderr=told, cwd=ROOT)
        self._processes.append((name, process))
        return process

    def until(self, holds: Any, patience: float = PATIENCE) -> None:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            dead = [name for name, one in self._processes if one.poll() not in (None, -signal.SIGKILL)]
            assert not dead, dead
            try:
                if holds():
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"not so within {patience} s")

    def stop(self) -> list[tuple[str, int]]:
        """SIGTERM to all as `docker compose down` does; each with its exit code."""
        for _, process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for _, process in self._processes:
            try:
                process.wait(15)  # stop_grace_period
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return [(name, process.returncode) for name, process in self._processes]


@pytest.fixture(scope="module")
def composed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    folder = tmp_path_factory.mktemp("composed")
    with Composed(folder, services_here(request, folder)) as composed:
        composed.http.post("/v1/items", json=[{"item_id": f"i{n}"} for n in range(10)]).raise_for_status()
        now = int(time.time() * 1000)
        clicks = [
            {"event_id": f"e{n}", "type": "click", "ts": now, "user_id": f"u{n}", "item_id": f"i{n % 3}"}
            for n in range(60)
        ]
        composed.http.post("/v1/events", json=clicks).raise_for_status()
        for port, _ in composed.serving:
            composed.until(lambda at=port: httpx.get(f"http://127.0.0.1:{at}/v1/lag").json()["events"] == 0)
            # All items are in when five can be shown; the first answer on a machine compiles kernels, longer than the
            # gateway waits.
            composed.until(lambda at=port: len(slate(at)["items"]) == 5)
        yield composed


def slate(port: int) -> Any:
    question = {"user_id": "u1", "k": 5, "explore": False, "log": False}
    return httpx.post(f"http://127.0.0.1:{port}/v1/recommendations", json=question, timeout=120).json()


def slates_of_one_version(composed: Composed) -> list[Any]:
    """What each replica answers, once all have come to the same version."""
    slates: list[Any] = []

    def agree() -> bool:
        slates[:] = [slate(port) for port, _ in composed.serving]
        return len({one["model_version"] for one in slates}) == 1

    composed.until(agree, patience=30)
    return slates


@pytest.mark.slow
def test_every_replica_answers_alike_out_of_the_same_state(composed: Composed) -> None:
    first, *others = slates_of_one_version(composed)

    assert others
    for other in others:
        assert [item["item_id"] for item in other["items"]] == [item["item_id"] for item in first["items"]]


@pytest.mark.slow
def test_an_answer_comes_out_of_the_gateway(composed: Composed) -> None:
    answer = composed.http.post("/v1/recommendations", json={"user_id": "u1", "k": 5}).raise_for_status().json()

    assert len(answer["items"]) == 5


@pytest.mark.slow
def test_every_process_says_that_it_is_alive_as_its_container_is_asked(composed: Composed) -> None:
    words = json.loads(re.findall(r"HEALTHCHECK.*\\\n\s+CMD (\[.*\])", DOCKERFILE)[0])
    for _, environ in composed.ports:
        subprocess.run([sys.executable, *words[1:]], env=environ, check=True, timeout=30)

    away = {**composed.ports[0][1], "ALIVE_AT": f"http://127.0.0.1:{free_port()}/metrics"}
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([sys.executable, *words[1:]], env=away, check=True, timeout=30, capture_output=True)


@pytest.mark.slow
def test_the_gateway_keeps_metrics_to_itself(composed: Composed) -> None:
    assert composed.http.get("/metrics").status_code == 404


@pytest.mark.slow
def test_a_replica_that_dies_takes_no_question_along_that_comes_after(composed: Composed) -> None:
    composed.serving[0][1].kill()
    composed.serving[0][1].wait()
    answers = []
    for n in range(40):
        answers.append(composed.http.post("/v1/recommendations", json={"user_id": f"u{n}", "k": 3}).status_code)
        time.sleep(0.02)

    assert set(answers) == {200}


@pytest.mark.slow
def test_all_stop_when_they_are_told(composed: Composed) -> None:
    killed = composed.serving[0][1]
    codes = [(name, code) for name, code in composed.stop() if name in OURS]

    assert [one for one in codes if one[1]] == ([("serve", -signal.SIGKILL)] if killed.returncode else [])
