"""The library's face: light to import, and complete."""

import subprocess
import sys
from importlib import import_module
from importlib.resources import files

import pytest

import headrace

FACES = [name for name in headrace.__all__ if name != "Client"]


def test_importing_headrace_loads_no_library() -> None:
    command = "import sys, headrace; print({'numpy', 'numba', 'stream', 'online_models'} & sys.modules.keys())"
    output = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout

    assert output == "set()\n"


def test_importing_the_client_loads_no_model_library() -> None:
    heavy = {"torch", "faiss", "litestar", "polars", "kafka", "redis"}
    command = f"import sys, headrace.client; print({heavy} & sys.modules.keys())"
    output = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout

    assert output == "set()\n"


@pytest.mark.parametrize("package", ["headrace", "serving", "stream", "online_models", "replay"])
def test_package_is_marked_as_typed(package: str) -> None:
    assert (files(package) / "py.typed").is_file()


@pytest.mark.parametrize("name", FACES)
def test_face_is_an_attribute_with_names(name: str) -> None:
    face = getattr(headrace, name)

    assert face is import_module(f"headrace.{name}")
    assert [attribute for attribute in vars(face) if not attribute.startswith("_")]
    assert name in dir(headrace)


def test_client_is_the_class_of_its_module() -> None:
    assert headrace.Client is import_module("headrace.client").Client


@pytest.mark.parametrize(
    ("face", "names"),
    {
        "bandits": ["Arms", "BetaBernoulli", "BetaThompson", "DisjointLinear", "HybridLinear", "Policy", "UCB"],
        "off_policy": ["LoggedDecisions", "ips"],
        "rankers": ["FTRLRegression"],
        "retrievers": ["CovisitationRetriever", "RetrieverEnsemble", "TwoTowerRetriever"],
        "testing": ["Crash", "ManualClock", "MemoryLog", "MemoryStore"],
    }.items(),
)
def test_face_has_the_main_names(face: str, names: list[str]) -> None:
    assert set(names) <= vars(getattr(headrace, face)).keys()


def test_unknown_name_is_rejected_with_the_known_ones() -> None:
    with pytest.raises(
        AttributeError, match="no attribute 'bandit'; expected one of Client, bandits, checks, off_policy, rankers"
    ):
        headrace.bandit  # noqa: B018
