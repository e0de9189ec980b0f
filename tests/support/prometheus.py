"""A real Prometheus for tests, with the configuration of the cluster."""

import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

from tests.support.processes import free_port

OPERATIONS = Path(__file__).parent.parent.parent / "operations"


def load_rules() -> list[dict[str, Any]]:
    """Load all alert rules."""
    groups = yaml.safe_load((OPERATIONS / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


class Prometheus:
    """Scrape `ports`, by job, every second and evaluate the rules inside a `with` block."""

    def __init__(self, program: str, folder: Path, ports: Mapping[str, str | int]) -> None:
        self._folder = folder
        config = yaml.safe_load((OPERATIONS / "prometheus.yml").read_text())
        config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(OPERATIONS / name) for name in config["rule_files"]]
        for job in config["scrape_configs"]:
            # The cluster discovers its targets by DNS; here they are ports.
            del job["dns_sd_configs"]
            job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        port = free_port()
        self._command = [
            program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)

    def __enter__(self) -> Self:
        with (self._folder / "prometheus.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if error:
            print((self._folder / "prometheus.log").read_text()[-3000:])

    def wait_until_scraping(self, jobs: int, timeout_s: float = 60) -> None:
        """Wait until all jobs are scraped."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                if [value for _, value in self.query("sum(up)")] == [jobs]:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        raise AssertionError(f"not all of {jobs} jobs were scraped within {timeout_s} s")

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Evaluate an expression now; return the labels and value of each series."""
        response = self._http.get("/api/v1/query", params={"query": expression})
        assert response.status_code in (200, 503), response.text  # 503: not ready yet
        result = response.raise_for_status().json()["data"]["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]

    def alerts(self) -> list[dict[str, Any]]:
        """All alert rules with their health and state."""
        groups = self._http.get("/api/v1/rules").raise_for_status().json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]
