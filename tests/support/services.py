"""Kafka and Redis without Docker: `python -m tests.support.services start|stop|status`.

`start` writes their addresses to `.services/running.json`. Tests use these services, or start their own.
"""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).resolve().parents[2]
RUNNING_FILE = ROOT / ".services" / "running.json"
KAFKA = "4.1.1"
USER, PASSWORD = "headrace", "open-sesame"  # for the SASL listener of the broker
_JARS = Path.home() / ".cache" / "headrace" / f"kafka-{KAFKA}"
_PORTS = range(12_000, 22_000)  # below the ports of outgoing connections
_START_TIMEOUT = 60.0  # seconds until a service must respond
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>headrace</groupId><artifactId>services</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA}</version>
  </dependency></dependencies>
</project>
"""
_BROKER_CONFIG = """process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=OPEN://127.0.0.1:{port},SASL://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{controller}{listeners}
listener.security.protocol.map=OPEN:PLAINTEXT,SASL:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}
inter.broker.listener.name=OPEN
sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
user_{user}="{password}";
log.dirs={folder}/data
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
{settings}"""


class MissingProgram(Exception):
    """A program that a service needs is not installed; the text says how to install it."""


class ExternalService(Protocol):
    url: str

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


class ServerProcess:
    """Server process that can be killed and started again on the same port and folder."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, is_ready: Callable[[], bool]) -> None:
        self.pid = 0
        self._name = name
        self._command = command
        self._log = folder / f"{name}.log"
        self._is_ready = is_ready
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self.pid = self._process.pid
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self._name} does not respond:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        self._terminate(signal.SIGTERM)

    def kill(self) -> None:
        self._terminate(signal.SIGKILL)

    def _terminate(self, signum: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(signum)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True, slots=True)
class Listener:
    """Further listener of a broker."""

    name: str
    protocol: str  # SSL, SASL_SSL, …
    settings: Mapping[str, str]  # of this listener, without the prefix `listener.name.…`


class Kafka:
    """One broker that is its own controller. `url` is open, `sasl_url` requires a password.

    `addresses` has the further listeners by name; those with SCRAM-SHA-256 accept the same user.
    """

    def __init__(self, folder: Path, extra_listeners: Sequence[Listener] = ()) -> None:
        java, jars = find_program("java", "default-jre-headless"), _fetch_jars()
        folder.mkdir(parents=True, exist_ok=True)
        port, sasl_port, controller, *ports = free_ports(3 + len(extra_listeners))
        self.url = f"kafka://127.0.0.1:{port}"
        self.sasl_url = f"kafka://127.0.0.1:{sasl_port}?security_protocol=SASL_PLAINTEXT&sasl_mechanism=PLAIN"
        self.addresses = {
            listener.name: f"127.0.0.1:{listener_port}"
            for listener, listener_port in zip(extra_listeners, ports, strict=True)
        }
        settings = folder / "server.properties"
        config_values = {"port": port, "sasl": sasl_port, "controller": controller, "folder": folder}
        settings.write_text(
            _BROKER_CONFIG.format(
                **config_values,
                user=USER,
                password=PASSWORD,
                listeners="".join(f",{name}://{listener_port}" for name, listener_port in self.addresses.items()),
                protocols="".join(f",{listener.name}:{listener.protocol}" for listener in extra_listeners),
                settings="".join(
                    f"listener.name.{listener.name.lower()}.{name}={value}\n"
                    for listener in extra_listeners
                    for name, value in listener.settings.items()
                ),
            )
        )
        # First compiler tier only: on a small machine the second one takes CPU time from the tests.
        run = [java, "-Xmx640m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*"]
        format_command = [*run, "kafka.tools.StorageTool", "format", "--standalone", "-c", str(settings)]
        format_command += ["-t", "5L6g3nShT-eMCtK--X86sw", "-S", f"SCRAM-SHA-256=[name={USER},password={PASSWORD}]"]
        result = subprocess.run(format_command, capture_output=True, text=True, timeout=60, check=False)
        if result.returncode:
            raise RuntimeError(f"Kafka's storage could not be formatted:\n{result.stdout}{result.stderr}")
        self._process = ServerProcess(
            "kafka", [*run, "kafka.Kafka", str(settings)], folder, lambda: _is_listening(port)
        )
        self.start = self._process.start
        self.stop = self._process.stop
        self.kill = self._process.kill

    @property
    def pid(self) -> int:
        return self._process.pid


class Redis:
    """Redis server, with a file (`appendonly`) or without; `arguments` go to redis-server."""

    def __init__(
        self, folder: Path, is_persistent: bool = False, cluster: bool = False, arguments: Sequence[str] = ()
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (port,) = free_ports(1)
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"
        command = [find_program("redis-server", "redis-server"), "--port", str(port), "--bind", "127.0.0.1"]
        command += ["--dir", str(folder), "--save", "", "--appendonly", "yes" if is_persistent else "no"]
        if cluster:
            (bus,) = free_ports(1)
            command += ["--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "2000"]
        command += arguments
        self._process = ServerProcess("redis", command, folder, lambda: _is_redis_ready(port))
        self.start = self._process.start
        self.stop = self._process.stop
        self.kill = self._process.kill

    @property
    def pid(self) -> int:
        return self._process.pid


class RedisCluster:
    """Redis Cluster of three primaries without files."""

    def __init__(self, folder: Path) -> None:
        self.nodes = [Redis(folder / str(n), cluster=True) for n in range(3)]
        self.url = f"{self.nodes[0].url}?cluster=true"
        self._redis_cli = find_program("redis-cli", "redis-tools")

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        hosts = [f"127.0.0.1:{node.port}" for node in self.nodes]
        command = [self._redis_cli, "--cluster", "create", *hosts, "--cluster-replicas", "0", "--cluster-yes"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if result.returncode:
            raise RuntimeError(f"the cluster could not be created:\n{result.stdout}{result.stderr}")

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()


def find_program(name: str, package: str) -> str:
    """Path of a program; `MissingProgram` with the package that contains it."""
    path = shutil.which(name)
    if path is None:
        raise MissingProgram(f"{name} is missing: on Debian or Ubuntu, apt-get install {package}")
    return path


def free_ports(count: int) -> list[int]:
    """Find free ports outside the range of outgoing connections."""
    probes: list[socket.socket] = []
    try:
        while len(probes) < count:
            probe = socket.socket()
            try:
                probe.bind(("127.0.0.1", random.choice(_PORTS)))
            except OSError:
                probe.close()
            else:
                probes.append(probe)
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _fetch_jars() -> Path:
    """Folder of Kafka's jars; Maven downloads them the first time."""
    if _JARS.exists():
        return _JARS
    maven = find_program("mvn", "maven")
    _JARS.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_JARS.parent) as temporary:
        pom, fetched = Path(temporary) / "pom.xml", Path(temporary) / "jars"
        pom.write_text(_POM)
        command = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={fetched}"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if result.returncode:
            raise MissingProgram(f"Maven could not fetch Kafka {KAFKA}: {result.stdout[-500:]}{result.stderr[-500:]}")
        # Rename last, so that another process sees all jars or none.
        if not _JARS.exists():
            fetched.rename(_JARS)
    return _JARS


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_redis_ready(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16) == b"+PONG\r\n"
    except OSError:
        return False


def load_running_services() -> Mapping[str, Mapping[str, str | int]]:
    """Services that `start` left running, by name; empty if there are none."""
    if not RUNNING_FILE.exists():
        return {}
    services: dict[str, dict[str, str | int]] = json.loads(RUNNING_FILE.read_text())
    return services if all(_is_alive(int(service["pid"])) for service in services.values()) else {}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def start() -> None:
    if load_running_services():
        return
    folder = RUNNING_FILE.parent
    shutil.rmtree(folder, ignore_errors=True)
    kafka, redis = Kafka(folder / "kafka"), Redis(folder / "redis")
    redis.start()
    try:
        kafka.start()
    except BaseException:
        redis.kill()
        raise
    services = {
        "kafka": {"url": kafka.url, "sasl_url": kafka.sasl_url, "pid": kafka.pid},
        "redis": {"url": redis.url, "pid": redis.pid},
    }
    RUNNING_FILE.write_text(json.dumps(services, indent=2) + "\n")


def stop() -> None:
    for service in load_running_services().values():
        os.kill(int(service["pid"]), signal.SIGTERM)
    deadline = time.monotonic() + 20
    while load_running_services() and time.monotonic() < deadline:
        time.sleep(0.1)
    shutil.rmtree(RUNNING_FILE.parent, ignore_errors=True)


def status() -> None:
    services = load_running_services()
    for name, service in services.items():
        print(f"{name:<6} {service['url']}  pid {service['pid']}")
    if services:
        print(f"HEADRACE_LOG__URL={services['kafka']['url']} HEADRACE_STORE__URL={services['redis']['url']}")
    else:
        print("no services run; start them with: make services")


def main(arguments: Sequence[str]) -> int:
    verbs: dict[str, Callable[[], None]] = {"start": start, "stop": stop, "status": status}
    if len(arguments) > 1 or (arguments and arguments[0] not in verbs):
        print("usage: python -m tests.support.services [start | stop | status]", file=sys.stderr)
        return 2
    try:
        verbs[arguments[0] if arguments else "start"]()
    except (MissingProgram, RuntimeError) as error:
        print(f"services: {error}", file=sys.stderr)
        return 1
    status()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
