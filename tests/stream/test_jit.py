"""Compiled kernels always match their sources."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stream import jit
from stream.jit import fastmath_kernel, kernel

CACHE_DIR_SCRIPT = "import stream.sums; print(stream.sums.total._cache.cache_path)"
# Another user, who may read everything (the interpreter can be in the home of root) and change nothing.
STRANGER = (
    "setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search",
)  # fmt: skip
KERNEL = "@kernel\ndef total(values):\n    return values.sum() + MOST\n"


@kernel
def _add(values: np.ndarray) -> float:
    total = 0.0
    for value in values:
        total += value
    return total


@kernel
def _add_first(values: np.ndarray, n: int) -> float:
    total = 0.0
    for i in range(n):
        total += values[i]
    return total


@fastmath_kernel
def _add_fastmath(values: np.ndarray) -> float:
    total = 0.0
    for value in values:
        total += value
    return total


def test_kernel_sums_in_the_order_written() -> None:
    values = np.array([1e16, 1.0, -1e16, 1.0])

    assert _add(values) == 1.0


def test_fastmath_kernel_is_deterministic() -> None:
    values = np.random.default_rng(1).random(10_001)

    assert len({_add_fastmath(values.copy()) for _ in range(5)}) == 1
    assert _add_fastmath(values) == pytest.approx(_add(values))


def find_cache_dir(root: Path, environ: dict[str, str]) -> Path:
    result = subprocess.run(
        [sys.executable, "-c", CACHE_DIR_SCRIPT],
        cwd=root,
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(result.stdout.strip())


def write_package(root: Path) -> Path:
    """Write a project with one kernel that imports one module."""
    package = root / "stream"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "jit.py").write_bytes(Path(jit.__file__).read_bytes())
    (package / "sums.py").write_text(f"from stream.jit import kernel\nfrom stream.limits import MOST\n{KERNEL}")
    (package / "limits.py").write_text("MOST = 1\n")
    (package / "other.py").write_text("MOST = 1\n")
    return package


def test_each_state_of_the_sources_has_its_own_cache(tmp_path: Path) -> None:
    package = write_package(tmp_path)
    environ = {"NUMBA_CACHE_DIR": str(tmp_path / "custom")}
    first = find_cache_dir(tmp_path, environ)
    (package / "other.py").write_text("MOST = 2\n")

    assert first.parent == tmp_path / "custom"
    assert find_cache_dir(tmp_path, environ) == first

    (package / "limits.py").write_text("MOST = 2\n")

    assert find_cache_dir(tmp_path, environ) != first


def test_copies_of_the_sources_share_compiled_kernels(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    script = "import numpy, stream.sums; stream.sums.total(numpy.ones(2)); print(stream.sums.total.stats.cache_hits)"
    outputs = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_package(tmp_path / name)
        outputs.append(
            subprocess.run([sys.executable, "-c", script], cwd=tmp_path / name, env=environ, check=True,
                           capture_output=True, text=True).stdout
        )  # fmt: skip

    assert ": 1" not in outputs[0]
    assert ": 1" in outputs[1]


def test_kernel_of_a_moved_module_is_compiled_again(tmp_path: Path) -> None:
    package, environ = (
        write_package(tmp_path),
        {"PATH": os.environ["PATH"], "NUMBA_CACHE_DIR": str(tmp_path / "kernels")},
    )
    (package / "moved").mkdir()
    script = "import numpy, stream{0}.sums as sums; print(sums.total(numpy.ones(2)))"
    outputs = []
    for module in ("", ".moved"):
        process = [sys.executable, "-c", script.format(module)]
        outputs.append(
            subprocess.run(process, cwd=tmp_path, env=environ, check=True, capture_output=True, text=True).stdout
        )
        if not module:
            (package / "sums.py").rename(package / "moved" / "sums.py")

    assert outputs == ["3.0\n", "3.0\n"]


def test_kernel_cache_is_under_the_xdg_cache_home(tmp_path: Path) -> None:
    write_package(tmp_path)

    assert find_cache_dir(tmp_path, {"XDG_CACHE_HOME": str(tmp_path)}).parent == tmp_path / "headrace"


def test_kernel_caches_unused_for_a_month_are_deleted(tmp_path: Path) -> None:
    write_package(tmp_path)
    caches = tmp_path / "caches"
    old, recent = caches / "kernels-old", caches / "kernels-recent"
    old.mkdir(parents=True)
    recent.mkdir()
    os.utime(old, (0, 0))

    current = find_cache_dir(tmp_path, {"NUMBA_CACHE_DIR": str(caches)})

    assert {folder.name for folder in caches.iterdir()} == {current.name, recent.name}


def test_kernels_check_array_bounds_in_tests() -> None:
    with pytest.raises(IndexError):
        _add_first(np.ones(3), 4)


def test_processes_compiling_different_types_share_no_file(tmp_path: Path) -> None:
    package = tmp_path / "stream"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "jit.py").write_bytes(Path(jit.__file__).read_bytes())
    (package / "sums.py").write_text(
        "from stream.jit import kernel\n@kernel\ndef total(values):\n    return values.sum()\n"
    )
    environ = {"PATH": os.environ["PATH"], "NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    script = "import numpy, stream.sums; print(stream.sums.total(numpy.array([1, 2], '{}')))"
    outputs = [
        subprocess.run([sys.executable, "-c", script.format(dtype)], cwd=tmp_path, env=environ, check=True,
                       capture_output=True, text=True).stdout.strip()
        for dtype in ("float64", "int64", "float64")
    ]  # fmt: skip
    writers = [path.name.split(".")[-3] for path in (tmp_path / "kernels").rglob("*.nbc")]

    assert outputs == ["3.0", "3", "3.0"]
    assert len(writers) == len(set(writers)) == 2


def run_as_stranger(folder: Path, environ: dict[str, str]) -> tuple[str, str]:
    """Output and errors of a kernel that a user without a home and rights runs."""
    write_package(folder)
    script = "import numpy, stream.sums as s; print(s.total(numpy.ones(2)), s.total._cache.cache_path)"
    result = subprocess.run(
        [*STRANGER, sys.executable, "-c", script], cwd=folder, env={"PATH": os.environ["PATH"], **environ},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return result.stdout.strip(), result.stderr


@pytest.fixture
def foreign_folder() -> Iterator[Path]:
    """A folder that every user can read and only its owner can change."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_user_without_a_home_caches_kernels_among_temporary_files(foreign_folder: Path) -> None:
    temporary = foreign_folder / "temporary"
    temporary.mkdir()
    temporary.chmod(0o1777)
    output, errors = run_as_stranger(foreign_folder, {"TMPDIR": str(temporary)})

    assert output.startswith(f"3.0 {temporary}/headrace-kernels-54321/kernels-")
    assert errors.count("\n") <= 1


def test_user_without_a_home_prefers_the_data_folder(foreign_folder: Path) -> None:
    data = foreign_folder / "data"
    data.mkdir()
    os.chown(data, 54_321, 54_321)
    output, errors = run_as_stranger(
        foreign_folder, {"HOME": "/nowhere", "HEADRACE_DATA__FOLDER": str(data), "TMPDIR": str(foreign_folder)}
    )

    assert output.startswith(f"3.0 {data}/kernels/kernels-")
    assert errors.count("\n") == 1
    assert "because /nowhere/.cache/headrace is not writable" in errors


def test_kernels_of_another_user_are_not_loaded(foreign_folder: Path) -> None:
    temporary = foreign_folder / "temporary"
    temporary.mkdir()
    temporary.chmod(0o1777)
    (temporary / "headrace-kernels-54321").mkdir()
    (temporary / "headrace-kernels-54321").chmod(0o777)
    output, errors = run_as_stranger(foreign_folder, {"TMPDIR": str(temporary)})

    assert output == "3.0 None"
    assert "kernels are compiled at every start, because none of" in errors
    assert not list((temporary / "headrace-kernels-54321").iterdir())
