"""Kubernetes manifests in operations/kubernetes, as data."""

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
KUBERNETES = ROOT / "operations" / "kubernetes"
COMPONENTS = ("stream", "learn", "serve")


def read_documents(folder: Path = KUBERNETES) -> list[dict[str, Any]]:
    """Read all resources that the folder's kustomization names."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    texts = [(folder / name).read_text() for name in kustomization["resources"]]
    return [document for text in texts for document in yaml.safe_load_all(text)]


def render(folder: Path) -> list[dict[str, Any]]:
    """Render a kustomization with kubectl."""
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def find_document(kind: str, name: str) -> dict[str, Any]:
    """Find the resource of a kind and a name."""
    return next(
        document for document in read_documents() if (document["kind"], document["metadata"]["name"]) == (kind, name)
    )


def find_workload(component: str) -> dict[str, Any]:
    """Deployment or StatefulSet of a component."""
    return find_document("StatefulSet" if component == "stream" else "Deployment", component)


def pod_of(component: str) -> dict[str, Any]:
    pod: dict[str, Any] = find_workload(component)["spec"]["template"]["spec"]
    return pod


def container_of(component: str) -> dict[str, Any]:
    (container,) = pod_of(component)["containers"]
    found: dict[str, Any] = container
    return found


def iter_probes(component: str) -> Iterator[tuple[str, str, str]]:
    """Every probe of a component as (probe, path, name of its port)."""
    for name, value in container_of(component).items():
        if name.endswith("Probe"):
            yield name, value["httpGet"]["path"], value["httpGet"]["port"]


def read_env_file(path: Path) -> Mapping[str, str]:
    """Read the variables of a `.env` file."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)
