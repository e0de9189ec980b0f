"""Imports run one way along a line, never in a circle, and each outside library has its doors."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINE = ("stream", "online_models", "serving", "replay", "headrace")
DOORS = {
    "confluent_kafka": {"stream/kafka_fast.py"},
    "faiss": {"online_models/retrievers/tower_index.py"},
    "httpx": {"replay/demo.py", "replay/demo_traffic.py"},
    "kafka": {"stream/kafka_client.py", "stream/kafka_joining.py", "stream/kafka_unpacking.py"},
    "litestar": {
        "serving/app.py",
        "serving/item_routes.py",
        "serving/operator_routes.py",
        "serving/problems.py",
        "serving/requests.py",
        "serving/shop_routes.py",
    },
    "numba": {"stream/compiled.py"},
    "pydantic": {"stream/config.py"},
    "redis": {"stream/redis_store.py"},
    "safetensors": {"online_models/checkpoints.py"},
    "sqlite3": {"stream/sqlite_file.py"},
    "typer": {"headrace.py"},
    "uvicorn": {"serving/server.py"},
    "uvloop": {"serving/server.py"},
    "xxhash": {"stream/ids.py"},
    "zstandard": {"replay/loading.py", "replay/evaluating.py"},
}
SOURCES = [ROOT / "headrace.py", *(path for package in LINE[:-1] for path in sorted((ROOT / package).rglob("*.py")))]
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_bytes()) for path in SOURCES}


def imported(tree: ast.AST) -> set[str]:
    """Modules that are imported anywhere in a file."""
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            modules |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


IMPORTS = {name.removesuffix(".py").replace("/", "."): imported(tree) for name, tree in TREES.items()}


@pytest.mark.parametrize("module", IMPORTS)
def test_imports_run_leftwards(module: str) -> None:
    rightwards = LINE[LINE.index(module.partition(".")[0]) + 1 :]

    assert not [name for name in IMPORTS[module] if name.partition(".")[0] in rightwards]


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {module: names & IMPORTS.keys() for module, names in IMPORTS.items()}

    TopologicalSorter(graph).prepare()  # raises CycleError with the circle


@pytest.mark.parametrize("library", DOORS)
def test_an_outside_library_is_entered_by_its_doors_only(library: str) -> None:
    entered = {name for name, tree in TREES.items() if any(m.partition(".")[0] == library for m in imported(tree))}

    assert entered == DOORS[library]


def test_the_time_of_day_is_read_in_one_place() -> None:
    asked = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("time.time", "time.time_ns", "datetime.now")
    }

    assert asked == {"stream/clock.py"}


def test_nothing_is_unpickled() -> None:
    assert not [module for module, names in IMPORTS.items() if names & {"pickle", "marshal", "shelve", "dill"}]
