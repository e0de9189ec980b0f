"""Manifests for Kubernetes: their schemas, and agreement with settings, ports and routes."""

import base64
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from stream.config import Settings, iter_settings, load
from tests.conftest import find_program_or_skip
from tests.support.manifests import (
    COMPONENTS,
    KUBERNETES,
    ROOT,
    container_of,
    find_document,
    find_workload,
    iter_probes,
    pod_of,
    read_documents,
    read_env_file,
    render,
)

VERSIONS = ("1.29", "1.33", "1.37")
DOCUMENTS = read_documents()
SETTINGS = {f"HEADRACE_{section.upper()}__{name.upper()}" for section, name, _ in iter_settings()}
ENV_FILES = (KUBERNETES / "settings.env", KUBERNETES / "secrets.example.env")
CONFIGURATION = (
    *KUBERNETES.rglob("*.*"),
    *(ROOT / name for name in ("compose.yaml", "Dockerfile", "operations/prometheus.yml", "operations/rules.yml")),
)
SHELL_BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "deployment.md").read_text(), re.DOTALL)
STOP_S = 10  # within which a process ends after SIGTERM, besides the time for which it keeps listening


def name_of(document: dict[str, Any]) -> str:
    return f"{document['kind']} {document['metadata']['name']}"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_manifest_matches_the_schema(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "replica"), 1),
        (("spec", "template", "spec", "containers", 0, "readinesProbe"), {}),
        (("spec", "template", "spec", "enableServiceLinks"), "no"),
    ],
)
def test_schema_rejects_a_typo(path: tuple[str | int, ...], value: object) -> None:
    document: Any = find_workload("learn")
    part = document
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, VERSIONS[-1], strict=True)


def test_kustomization_names_every_file_and_the_version_of_the_package() -> None:
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert {*kustomization["resources"], "kustomization.yaml"} == {path.name for path in KUBERNETES.glob("*.yaml")}
    assert [image["newTag"] for image in kustomization["images"]] == [version]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_kubectl_renders_valid_resources() -> None:
    rendered = render(KUBERNETES)
    configs = {document["metadata"]["name"] for document in rendered if document["kind"] == "ConfigMap"}
    workloads = [document for document in rendered if document["kind"] in ("Deployment", "StatefulSet")]
    containers = [workload["spec"]["template"]["spec"]["containers"][0] for workload in workloads]

    assert len(rendered) == len(DOCUMENTS) + 1
    for document in rendered:
        kubernetes_validate.validate(document, VERSIONS[-1], strict=True)
    assert {document["metadata"]["namespace"] for document in rendered if document["kind"] != "Namespace"} == {
        "headrace"
    }
    assert {container["envFrom"][0]["configMapRef"]["name"] for container in containers} == configs
    assert all(container["image"].startswith("registry.example.com/headrace:") for container in containers)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_kubectl_renders_the_dashboards() -> None:
    (config,) = render(ROOT / "operations" / "grafana")

    kubernetes_validate.validate(config, VERSIONS[-1], strict=True)
    assert config["metadata"]["labels"] == {"grafana_dashboard": "1"}


def test_grafana_kustomization_has_every_dashboard() -> None:
    folder = ROOT / "operations" / "grafana"
    (generator,) = yaml.safe_load((folder / "kustomization.yaml").read_text())["configMapGenerator"]

    assert generator["files"] == sorted(str(path.relative_to(folder)) for path in folder.glob("dashboards/*.json"))


@pytest.mark.parametrize("path", CONFIGURATION, ids=lambda path: str(path.relative_to(ROOT)))
def test_variables_are_settings(path: Path) -> None:
    named = set(re.findall(r"\bHEADRACE_\w+", path.read_text()))

    assert named <= SETTINGS


def test_env_files_are_valid_settings() -> None:
    variables = {name: value for path in ENV_FILES for name, value in read_env_file(path).items()}
    settings = load(environ=variables)

    assert settings.log_url.startswith("kafka://")
    assert settings.serve.admin_key


def test_stream_appends_its_member_name_to_the_url_of_the_log() -> None:
    variables = {variable["name"]: variable for variable in container_of("stream")["env"]}
    url = read_env_file(KUBERNETES / "secrets.example.env")["HEADRACE_LOG__URL"]

    assert variables["LOG_URL"]["valueFrom"]["secretKeyRef"]["key"] == "HEADRACE_LOG__URL"
    assert variables["HEADRACE_LOG__URL"]["value"] == "$(LOG_URL)&member=$(POD_NAME)"
    assert "?" in url


def default_port(component: str) -> int:
    defaults = Settings()
    ports = {
        "stream": defaults.stream.metrics_port,
        "learn": defaults.learn.metrics_port,
        "serve": defaults.serve.port,
    }
    return ports[component]


@pytest.mark.parametrize("component", COMPONENTS)
class TestComponent:
    def test_command_starts_the_process(self, component: str) -> None:
        assert container_of(component)["args"] == ["headrace", component]

    def test_ports_are_the_defaults(self, component: str) -> None:
        ports = {port["name"]: port["containerPort"] for port in container_of(component)["ports"]}
        name = "http" if component == "serve" else "metrics"

        assert ports == {name: default_port(component)}

    def test_probes_use_a_port_of_the_container(self, component: str) -> None:
        probes = list(iter_probes(component))
        names = {port["name"] for port in container_of(component)["ports"]}

        assert {probe for probe, _, _ in probes} == {"startupProbe", "readinessProbe", "livenessProbe"}
        assert {port for _, _, port in probes} <= names

    def test_first_start_may_take_five_minutes(self, component: str) -> None:
        probe = container_of(component)["startupProbe"]

        assert probe["periodSeconds"] * probe["failureThreshold"] >= 300

    def test_pod_has_time_to_stop(self, component: str) -> None:
        settings = load(environ=read_env_file(KUBERNETES / "settings.env"))

        assert pod_of(component)["terminationGracePeriodSeconds"] >= settings.serve.lame_duck + STOP_S

    def test_pod_is_unprivileged(self, component: str) -> None:
        pod, container = pod_of(component), container_of(component)
        user = re.findall(r"^USER (\d+):(\d+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[-1]

        assert pod["securityContext"]["runAsNonRoot"]
        assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == tuple(map(int, user))
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert (pod["enableServiceLinks"], pod["automountServiceAccountToken"]) == (False, False)

    def test_kernels_and_temporary_files_are_writable(self, component: str) -> None:
        mounts = {mount["mountPath"]: mount["name"] for mount in container_of(component)["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod_of(component)["volumes"]}
        cache = re.findall(r"NUMBA_CACHE_DIR=(\S+)", (ROOT / "Dockerfile").read_text())[0]

        assert set(mounts.values()) == set(volumes)
        for path in ("/tmp", cache):
            assert "emptyDir" in volumes[mounts[path]]

    def test_configuration_exists(self, component: str) -> None:
        kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
        sources = container_of(component)["envFrom"]

        assert [generator["name"] for generator in kustomization["configMapGenerator"]] == ["headrace"]
        assert sources == [{"configMapRef": {"name": "headrace"}}, {"secretRef": {"name": "headrace"}}]

    def test_selectors_match_the_labels(self, component: str) -> None:
        labels = {"app.kubernetes.io/name": "headrace", "app.kubernetes.io/component": component}
        selectors = [
            document["spec"]["selector"].get("matchLabels", document["spec"]["selector"])
            for document in DOCUMENTS
            if document["metadata"]["name"] == component and "selector" in document["spec"]
        ]

        assert find_workload(component)["spec"]["template"]["metadata"]["labels"] == labels
        assert selectors
        assert all(selector == labels for selector in selectors)

    def test_memory_is_limited(self, component: str) -> None:
        resources = container_of(component)["resources"]

        assert "memory" in resources["limits"]
        assert resources["requests"].keys() == {"cpu", "memory"}


def test_there_is_one_learner_at_a_time() -> None:
    spec = find_workload("learn")["spec"]

    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_serve_reads_the_folder_that_learn_writes() -> None:
    folder = read_env_file(KUBERNETES / "settings.env")["HEADRACE_DATA__FOLDER"]
    mounts = {
        component: next(mount for mount in container_of(component)["volumeMounts"] if mount["mountPath"] == folder)
        for component in ("learn", "serve")
    }
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for component in mounts
        for volume in pod_of(component)["volumes"]
        if volume["name"] == mounts[component]["name"]
    }

    assert [mounts[component].get("readOnly", False) for component in ("learn", "serve")] == [False, True]
    assert claims == {find_document("PersistentVolumeClaim", "checkpoints")["metadata"]["name"]}


def test_autoscaler_alone_sets_the_number_of_servers() -> None:
    target = find_document("HorizontalPodAutoscaler", "serve")["spec"]["scaleTargetRef"]

    assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "serve"}
    assert "replicas" not in find_workload("serve")["spec"]


def test_stream_has_at_most_one_pod_per_partition() -> None:
    partitions = int(read_env_file(KUBERNETES / "settings.env")["HEADRACE_LOG__PARTITIONS"])

    assert find_workload("stream")["spec"]["replicas"] <= partitions


@pytest.mark.parametrize("component", ["stream", "serve"])
def test_services_lead_to_named_ports(component: str) -> None:
    names = {port["name"]: port["containerPort"] for port in container_of(component)["ports"]}
    ports = find_document("Service", component)["spec"]["ports"]

    assert {port["targetPort"]: port["port"] for port in ports} == names


def test_network_policies_and_monitors_name_every_port() -> None:
    ports = {port["name"] for component in COMPONENTS for port in container_of(component)["ports"]}
    policy = find_document("NetworkPolicy", "metrics")["spec"]["ingress"][0]["ports"]
    monitor = yaml.safe_load((KUBERNETES / "monitoring" / "podmonitor.yaml").read_text())["spec"]

    assert {port["port"] for port in policy} == ports
    assert {endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]} == ports
    assert monitor["selector"]["matchLabels"] == {"app.kubernetes.io/name": "headrace"}
    assert monitor["jobLabel"] == "app.kubernetes.io/component"


def test_documented_command_makes_a_resource_of_the_rules() -> None:
    block = next(block for block in SHELL_BLOCKS if "PrometheusRule" in block)
    command = block[block.index("{ printf") :].replace("kubectl apply -f -", "cat")
    done = subprocess.run(["bash", "-ec", command], cwd=ROOT, capture_output=True, text=True, check=True)
    resource = yaml.safe_load(done.stdout)

    assert resource["kind"] == "PrometheusRule"
    assert resource["spec"] == yaml.safe_load((ROOT / "operations" / "rules.yml").read_text())


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_documented_command_makes_the_secret(tmp_path: Path) -> None:
    block = next(block for block in SHELL_BLOCKS if "create secret" in block)
    (command,) = re.findall(r"^ *kubectl create secret .*$", block, re.MULTILINE)
    shutil.copy(KUBERNETES / "secrets.example.env", tmp_path / "secrets.env")
    done = subprocess.run(
        f"{command} --dry-run=client -o json", shell=True, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    secret = json.loads(done.stdout)
    values = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}

    assert secret["metadata"]["name"] == container_of("serve")["envFrom"][1]["secretRef"]["name"]
    assert values == read_env_file(KUBERNETES / "secrets.example.env")


@pytest.mark.parametrize("page", ["deployment", "operations"])
def test_documented_checks_name_services_and_their_ports(page: str) -> None:
    named = re.findall(r"--at (\w+)=(\w+):(\d+)", (ROOT / "docs" / f"{page}.md").read_text())

    assert named
    assert all((process, int(port)) == (host, default_port(process)) for process, host, port in named)


def test_documented_paths_exist() -> None:
    named = re.findall(r"operations/[\w./-]*\w", "".join(SHELL_BLOCKS))

    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_promtool_accepts_the_scrape_configuration(tmp_path: Path) -> None:
    config = yaml.safe_load((KUBERNETES / "monitoring" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    # Debian's Prometheus is built without discovery in Kubernetes.
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod", "namespaces": {"names": ["headrace"]}}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    promtool = find_program_or_skip("promtool", "prometheus")
    done = subprocess.run(
        [promtool, "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_configuration_of_compose_agrees_on_ports() -> None:
    jobs = yaml.safe_load((ROOT / "operations" / "prometheus.yml").read_text())["scrape_configs"]
    scraped = {job["job_name"]: job["dns_sd_configs"][0]["port"] for job in jobs}
    exposed = re.findall(r"^EXPOSE (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[0].split()

    assert scraped == {component: default_port(component) for component in COMPONENTS}
    assert {int(port) for port in exposed} == set(scraped.values())
