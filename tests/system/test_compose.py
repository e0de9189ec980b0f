"""Run the services of compose.yaml as local processes, with their commands and environment.

Only two URLs, the ports and the data folder differ. Without a local Kafka and Redis, the embedded drivers are used.
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
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from serving.http.console import PAGE
from tests.conftest import find_program_or_skip
from tests.support.manifests import iter_probes
from tests.support.processes import free_port

ROOT = Path(__file__).parent.parent.parent
HEADRACE_SERVICES = ("stream", "learn", "serve")
LOADER = "github.com/compose-spec/compose-go/v2/cmd"
LOADER_VERSION = "v2.16.2"
TIMEOUT_S = 280.0  # the first start compiles the kernels
_VARIABLE = re.compile(r"\$\{\w+(?::-([^}]*))?\}")


def read_compose() -> dict[str, Any]:
    """Read compose.yaml with the defaults of all variables."""
    text = _VARIABLE.sub(lambda match: match[1] or "", (ROOT / "compose.yaml").read_text())
    config: dict[str, Any] = yaml.safe_load(text)
    return config


SERVICES = read_compose()["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def find_reference_loader() -> Path | None:
    """Compose's own loader, installed with Go on first use; None without Go."""
    folder = Path.home() / ".cache" / "headrace" / f"compose-go-{LOADER_VERSION}"
    go = shutil.which("go")
    if not (folder / "cmd").exists():
        if go is None:
            return None
        subprocess.run(
            [go, "install", f"{LOADER}@{LOADER_VERSION}"], env={**os.environ, "GOBIN": str(folder)}, check=True
        )
    return folder / "cmd"


def validate_schema(file: Path) -> subprocess.CompletedProcess[str]:
    """Validate a file with the schema of the Compose Specification in check-jsonschema."""
    words = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_loader_or_schema_accepts_the_file() -> None:
    loader = find_reference_loader()
    if loader is None:
        result = validate_schema(ROOT / "compose.yaml")

        assert result.returncode == 0, result.stdout
        return
    result = subprocess.run([loader, ROOT / "compose.yaml"], capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
    assert yaml.safe_load(result.stdout)["services"].keys() == SERVICES.keys()


@pytest.mark.parametrize(
    ("text", "replacement"), [("healthcheck:", "helthcheck:"), ("service_healthy", "service_fine")]
)
def test_schema_rejects_a_typo(tmp_path: Path, text: str, replacement: str) -> None:
    content = (ROOT / "compose.yaml").read_text()
    assert text in content
    (tmp_path / "compose.yaml").write_text(content.replace(text, replacement))
    result = validate_schema(tmp_path / "compose.yaml")

    assert result.returncode == 1
    assert replacement.strip(":") in result.stdout


@pytest.mark.parametrize("name", SERVICES)
class TestService:
    def test_user_is_not_root(self, name: str) -> None:
        user = SERVICES[name].get("user") or re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)[-1]

        assert int(user.partition(":")[0]) > 0
        assert SERVICES[name]["cap_drop"] == ["ALL"]

    def test_health_check_exists(self, name: str) -> None:
        assert "healthcheck" in SERVICES[name] or (name in HEADRACE_SERVICES and "HEALTHCHECK" in DOCKERFILE)

    def test_resources_are_limited(self, name: str) -> None:
        assert SERVICES[name]["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}

    def test_process_has_time_to_stop(self, name: str) -> None:
        lame_duck_s = float(SERVICES[name].get("environment", {}).get("HEADRACE_SERVE__LAME_DUCK", 0))

        assert float(SERVICES[name].get("stop_grace_period", "10s").removesuffix("s")) >= lame_duck_s + 10

    def test_mounted_paths_exist(self, name: str) -> None:
        for volume in SERVICES[name]["volumes"]:
            source = volume.partition(":")[0]

            assert (ROOT / source).exists() if source.startswith(".") else source in read_compose()["volumes"]

    def test_service_can_be_scaled(self, name: str) -> None:
        assert "container_name" not in SERVICES[name]
        assert "ports" not in SERVICES[name] or name not in HEADRACE_SERVICES

    def test_service_waits_for_its_dependencies(self, name: str) -> None:
        dependencies = SERVICES[name].get("depends_on", {})

        assert all(condition == {"condition": "service_healthy"} for condition in dependencies.values())
        assert name not in HEADRACE_SERVICES or dependencies.keys() == {"kafka", "redis"}


def test_variables_are_documented() -> None:
    text = (ROOT / "compose.yaml").read_text()
    page = (ROOT / "docs" / "deployment.md").read_text().partition("## Docker Compose")[2].partition("\n## ")[0]
    variables = set(re.findall(r"\$\{(\w+)", text))

    assert variables == set(re.findall(r"`([A-Z_]+)`", page))
    assert variables <= set(re.findall(r"\b[A-Z_]+\b", text.partition("\nname:")[0]))


def test_image_has_every_package() -> None:
    copied = set(re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE))
    copied = {name for names in copied for name in names.split()}
    included = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    packages = re.findall(r'"(\w+)\*"', (ROOT / "pyproject.toml").read_text().partition("packages.find]")[2])

    assert {*packages, "pyproject.toml", "constraints.txt"} <= copied
    assert copied == included


def test_haproxy_accepts_the_gateway_configuration() -> None:
    result = subprocess.run(
        [find_program_or_skip("haproxy", "haproxy"), "-c", "-f", ROOT / "operations" / "haproxy.cfg"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert result.returncode == 0, result.stderr


def find_drivers(request: pytest.FixtureRequest, folder: Path) -> dict[str, str]:
    """URLs of the log and the user store on this machine."""
    try:
        return {
            "HEADRACE_LOG__URL": request.getfixturevalue("kafka_url"),
            "HEADRACE_STORE__URL": request.getfixturevalue("redis_url"),
        }
    except (pytest.FixtureLookupError, pytest.skip.Exception):
        print("no Kafka and Redis on this machine: using the embedded drivers")
        return {"HEADRACE_LOG__URL": f"local:{folder / 'log'}", "HEADRACE_STORE__URL": f"local:{folder / 'users'}"}


class Cluster:
    """All replicas of the Headrace services as processes behind the gateway, in a `with` block."""

    def __init__(self, folder: Path, drivers: Mapping[str, str]) -> None:
        self.folder = folder
        self._drivers = drivers
        self._prefix = f"compose-{uuid.uuid4().hex[:8]}."
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.replicas: list[tuple[int, subprocess.Popen[bytes]]] = []  # (port, process) of `serve`
        self.environments: list[tuple[str, dict[str, str]]] = []  # (service, environment) of each process
        self.http = httpx.Client(timeout=10)

    def __enter__(self) -> "Cluster":
        for name in HEADRACE_SERVICES:
            for _ in range(SERVICES[name]["deploy"].get("replicas", 1)):
                self._start(name)
        try:
            self._open_gateway()
            self.wait_until(lambda: self.http.get("/readyz").status_code == 200)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.stop()
        self.http.close()
        if error:
            for path in sorted(self.folder.glob("*.log")):
                print(path.name, path.read_text()[-2000:], sep="\n")

    def environment(self, name: str, port: int) -> dict[str, str]:
        """The environment of a service, with the URLs, folder and port of this machine."""
        # A variable that is not set is empty here, and None after YAML.
        environ = {variable: str(value or "") for variable, value in SERVICES[name]["environment"].items()}
        assert environ["HEADRACE_LOG__URL"].startswith("kafka://kafka:")
        assert environ["HEADRACE_STORE__URL"].startswith("redis://redis:")
        environ |= self._drivers
        # Other tests may share the services of this machine.
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
        self.environments.append((name, environ))
        if name == "serve":
            self.replicas.append((port, process))

    def _open_gateway(self) -> None:
        """Start the gateway with its own configuration, but without DNS for the replicas."""
        port = free_port()
        text = (ROOT / "operations" / "haproxy.cfg").read_text().replace("bind :8000", f"bind 127.0.0.1:{port}")
        text = text.replace(" resolvers docker resolve-prefer ipv4 init-addr none", "")
        servers = "\n".join(f"    server serve{port} 127.0.0.1:{port}" for port, _ in self.replicas)
        text, n_replaced = re.subn(r"^    server-template .*$", servers, text, flags=re.MULTILINE)
        assert n_replaced == 1
        config = self.folder / "haproxy.cfg"
        config.write_text(text)
        self._popen("gateway", [find_program_or_skip("haproxy", "haproxy"), "-f", str(config)], dict(os.environ))
        self.http.base_url = httpx.URL(f"http://127.0.0.1:{port}")

    def _popen(self, name: str, command: list[str], environ: dict[str, str]) -> subprocess.Popen[bytes]:
        self.folder.mkdir(exist_ok=True)
        with (self.folder / f"{name}-{len(self._processes)}.log").open("ab") as log:
            # The image has the repository installed; here it is the working directory.
            process = subprocess.Popen(command, env=environ, stdout=log, stderr=log, cwd=ROOT)
        self._processes.append((name, process))
        return process

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            dead = [name for name, process in self._processes if process.poll() not in (None, -signal.SIGKILL)]
            assert not dead, dead
            try:
                if condition():
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"the condition was not true within {timeout_s} s")

    def stop(self) -> list[tuple[str, int]]:
        """Send SIGTERM to all processes, as `docker compose down` does; return their exit codes."""
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
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with Cluster(folder, find_drivers(request, folder)) as cluster:
        cluster.http.post("/v1/items", json=[{"item_id": f"i{n}"} for n in range(10)]).raise_for_status()
        now = int(time.time() * 1000)
        clicks = [
            {"event_id": f"e{n}", "type": "click", "ts": now, "user_id": f"u{n}", "item_id": f"i{n % 3}"}
            for n in range(60)
        ]
        cluster.http.post("/v1/events", json=clicks).raise_for_status()
        for port, _ in cluster.replicas:
            # The first response on a machine compiles kernels, which takes longer than the gateway's timeout.
            cluster.wait_until(partial(is_up_to_date, port))
        yield cluster


def request_slate(port: int) -> Any:
    request = {"user_id": "u1", "k": 5, "explore": False, "log": False}
    return httpx.post(f"http://127.0.0.1:{port}/v1/recommendations", json=request, timeout=120).json()


def is_up_to_date(port: int) -> bool:
    """Return True if a replica has all events and items."""
    lag = httpx.get(f"http://127.0.0.1:{port}/v1/lag").json()["events"]
    return lag == 0 and len(request_slate(port)["items"]) == 5


def request_slates_of_one_version(cluster: Cluster) -> list[Any]:
    """Request a slate from each replica, once all serve the same version."""
    slates: list[Any] = []

    def agree() -> bool:
        slates[:] = [request_slate(port) for port, _ in cluster.replicas]
        return len({slate["model_version"] for slate in slates}) == 1

    cluster.wait_until(agree, timeout_s=30)
    return slates


@pytest.mark.slow
def test_replicas_give_equal_slates_from_the_same_state(cluster: Cluster) -> None:
    first, *others = request_slates_of_one_version(cluster)

    assert others
    for other in others:
        assert [item["item_id"] for item in other["items"]] == [item["item_id"] for item in first["items"]]


@pytest.mark.slow
def test_gateway_returns_recommendations(cluster: Cluster) -> None:
    response = cluster.http.post("/v1/recommendations", json={"user_id": "u1", "k": 5}).raise_for_status().json()

    assert len(response["items"]) == 5


@pytest.mark.slow
def test_container_health_check_passes_for_every_process(cluster: Cluster) -> None:
    words = json.loads(re.findall(r"HEALTHCHECK.*\\\n\s+CMD (\[.*\])", DOCKERFILE)[0])
    for _, environ in cluster.environments:
        subprocess.run([sys.executable, *words[1:]], env=environ, check=True, timeout=30)

    unreachable = {**cluster.environments[0][1], "ALIVE_AT": f"http://127.0.0.1:{free_port()}/metrics"}
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([sys.executable, *words[1:]], env=unreachable, check=True, timeout=30, capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADRACE_SERVICES)
def test_kubernetes_probes_pass_for_every_process(cluster: Cluster, name: str) -> None:
    origins = [environ["ALIVE_AT"].rpartition("/")[0] for process, environ in cluster.environments if process == name]
    statuses = {httpx.get(f"{origin}{path}").status_code for origin in origins for _, path, _ in iter_probes(name)}

    assert statuses == {200}


@pytest.mark.slow
def test_gateway_hides_metrics(cluster: Cluster) -> None:
    assert cluster.http.get("/metrics").status_code == 404


@pytest.mark.slow
def test_gateway_passes_everything_that_the_console_reads(cluster: Cluster) -> None:
    paths = set(re.findall(r'(?:read|call)\("(/[\w/]+)"\)', PAGE))
    overviews = [cluster.http.get("/v1/overview").raise_for_status().json() for _ in range(10)]

    assert "/v1/overview" in paths
    for path in paths:
        assert cluster.http.get(path).status_code == 200, path
    assert len({overview["replica"] for overview in overviews}) == 1
    assert overviews[0]["metrics"]["headrace_events_accepted_total"]


@pytest.mark.slow
def test_dead_replica_fails_no_later_request(cluster: Cluster) -> None:
    cluster.replicas[0][1].kill()
    cluster.replicas[0][1].wait()
    statuses = set()
    for n in range(40):
        statuses.add(cluster.http.post("/v1/recommendations", json={"user_id": f"u{n}", "k": 3}).status_code)
        time.sleep(0.02)  # the requests last longer than one health check of the gateway

    assert statuses == {200}


@pytest.mark.slow
def test_all_processes_stop_on_sigterm(cluster: Cluster) -> None:
    killed = cluster.replicas[0][1]
    codes = [(name, code) for name, code in cluster.stop() if name in HEADRACE_SERVICES]

    assert [(name, code) for name, code in codes if code] == ([("serve", -signal.SIGKILL)] if killed.returncode else [])
