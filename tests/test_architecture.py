"""Imports run one way along a line without cycles; each library has its named importers."""

import ast
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE_ORDER = ("stream", "online_models", "serving", "replay", "headrace")
MOST_MODULES = 14  # in a folder
MOST_LEVELS = 3  # folders, the package included
ALLOWED_IMPORTERS = {
    "confluent_kafka": {"stream/kafka/confluent.py"},
    "faiss": {"online_models/retrievers/vector_index.py"},
    "httpx": {"headrace/client/asynchronous.py", "headrace/client/blocking.py", "headrace/client/transport.py"},
    "kafka": {
        "stream/kafka/kafka_python/connections.py",
        "stream/kafka/kafka_python/fast_decoding.py",
        "stream/kafka/kafka_python/rejoin_patch.py",
    },
    "litestar": {
        "serving/http/admin_routes.py",
        "serving/http/app.py",
        "serving/http/catalog/boards.py",
        "serving/http/catalog/onboarding.py",
        "serving/http/catalog/routes.py",
        "serving/http/documentation/page.py",
        "serving/http/errors.py",
        "serving/http/health_routes.py",
        "serving/http/item_routes.py",
        "serving/http/operations.py",
        "serving/http/parameters.py",
        "serving/http/recommendation_routes.py",
        "serving/http/requests.py",
        "serving/http/user_routes.py",
    },
    "numba": {"stream/jit.py"},
    "polars": {
        "replay/files/columns.py",
        "replay/files/joins.py",
        "replay/files/sources/json_rows.py",
        "replay/files/presets/preset.py",
        "replay/files/presets/shops.py",
        "replay/files/selections.py",
        "replay/files/sources/parquet.py",
        "replay/files/sources/tables.py",
    },
    "pydantic": {"stream/config.py"},
    "redis": {"stream/redis/store.py", "stream/redis/url.py"},
    "safetensors": {"online_models/versions/checkpoints.py"},
    "sqlite3": {"stream/local/snapshot.py", "stream/local/sqlite.py"},
    "tenacity": {"headrace/client/asynchronous.py", "headrace/client/blocking.py", "headrace/client/transport.py"},
    "typer": {
        "headrace/cli/alarms.py",
        "headrace/cli/application.py",
        "headrace/cli/backup.py",
        "headrace/cli/data.py",
        "headrace/cli/events.py",
        "headrace/cli/models.py",
        "headrace/cli/options.py",
        "headrace/cli/processes.py",
        "headrace/cli/quarantine.py",
        "headrace/cli/replay.py",
    },
    "uvicorn": {"serving/server.py"},
    "uvloop": {"serving/server.py"},
    "xxhash": {"stream/ids.py"},
    "zstandard": {"replay/files/sources/compression.py"},
}
SOURCES = [path for package in PACKAGE_ORDER for path in sorted((ROOT / package).rglob("*.py"))]
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_bytes()) for path in SOURCES}
FOLDERS = sorted({Path(name).parent.as_posix() for name in TREES})


def module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


MODULES = {module_name(path) for path in TREES}


def find_imported_modules(tree: ast.AST) -> set[str]:
    """Modules that a file imports anywhere, or names in a string."""
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            modules |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            modules |= {node.value} & MODULES if "." in node.value else set()
    return modules


IMPORTS = {module_name(path): find_imported_modules(tree) for path, tree in TREES.items()}


@pytest.mark.parametrize("module", IMPORTS)
def test_imports_run_leftwards(module: str) -> None:
    forbidden_packages = PACKAGE_ORDER[PACKAGE_ORDER.index(module.partition(".")[0]) + 1 :]

    assert not [name for name in IMPORTS[module] if name.partition(".")[0] in forbidden_packages]


def test_imports_have_no_cycle() -> None:
    graph = {module: names & IMPORTS.keys() - {module} for module, names in IMPORTS.items()}

    TopologicalSorter(graph).prepare()  # raises CycleError that names the cycle


@pytest.mark.parametrize("library", ALLOWED_IMPORTERS)
def test_library_is_imported_in_named_places_only(library: str) -> None:
    users = {
        name for name, tree in TREES.items() if any(m.partition(".")[0] == library for m in find_imported_modules(tree))
    }

    assert users == ALLOWED_IMPORTERS[library]


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_is_small_and_shallow(folder: str) -> None:
    modules = Counter(Path(name).parent.as_posix() for name in TREES if not name.endswith("__init__.py"))

    assert modules[folder] <= MOST_MODULES
    assert folder.count("/") < MOST_LEVELS
    assert f"{folder}/__init__.py" in TREES


def test_clock_is_read_in_one_place() -> None:
    readers = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("time.time", "time.time_ns", "datetime.now")
    }

    assert readers == {"stream/clock.py"}


def test_no_module_imports_pickle() -> None:
    assert not [module for module, names in IMPORTS.items() if names & {"pickle", "marshal", "shelve", "dill"}]


def test_public_class_name_stands_for_one_thing() -> None:
    classes = Counter(
        node.name
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )

    assert [name for name, count in classes.items() if count > 1] == []
