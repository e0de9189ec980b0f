"""Kernels are compiled for the sources as they are."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stream import jit
from stream.jit import kernel, summing_kernel

CACHE = "import stream.jit; print(stream.jit.numba.config.CACHE_DIR)"


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


@summing_kernel
def _add_in_lanes(values: np.ndarray) -> float:
    total = 0.0
    for value in values:
        total += value
    return total


def test_a_kernel_sums_in_the_order_written() -> None:
    values = np.array([1e16, 1.0, -1e16, 1.0])

    assert _add(values) == 1.0


def test_the_same_input_gives_the_same_bits() -> None:
    values = np.random.default_rng(1).random(10_001)

    assert len({_add_in_lanes(values.copy()) for _ in range(5)}) == 1
    assert _add_in_lanes(values) == pytest.approx(_add(values))


def cache_of(root: Path, environ: dict[str, str]) -> Path:
    told = subprocess.run(
        [sys.executable, "-c", CACHE], cwd=root, env={"PATH": os.environ["PATH"], **environ}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    return Path(told.stdout.strip())


def test_every_state_of_the_sources_has_a_cache_of_its_own(tmp_path: Path) -> None:
    package = tmp_path / "stream"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "jit.py").write_bytes(Path(jit.__file__).read_bytes())
    (package / "sums.py").write_text("from stream.jit import kernel\nfrom stream.limits import MOST\n")
    (package / "limits.py").write_text("MOST = 1\n")
    (package / "other.py").write_text("MOST = 1\n")
    chosen = {"NUMBA_CACHE_DIR": str(tmp_path / "chosen")}
    first = cache_of(tmp_path, chosen)
    (package / "other.py").write_text("MOST = 2\n")

    assert first.parent == tmp_path / "chosen"
    assert cache_of(tmp_path, chosen) == first

    (package / "limits.py").write_text("MOST = 2\n")

    assert cache_of(tmp_path, chosen) != first


def test_kernels_are_kept_in_the_cache_folder_of_the_person(tmp_path: Path) -> None:
    root = Path(jit.__file__).parent.parent

    assert cache_of(root, {"XDG_CACHE_HOME": str(tmp_path)}).parent == tmp_path / "headrace"


def test_kernels_that_nobody_ran_for_a_month_go(tmp_path: Path) -> None:
    root = Path(jit.__file__).parent.parent
    old, recent = tmp_path / "kernels-old", tmp_path / "kernels-recent"
    old.mkdir()
    recent.mkdir()
    os.utime(old, (0, 0))

    ours = cache_of(root, {"NUMBA_CACHE_DIR": str(tmp_path)})

    assert {folder.name for folder in tmp_path.iterdir()} == {ours.name, recent.name}


def test_a_kernel_under_test_never_writes_beyond_its_arrays() -> None:
    with pytest.raises(IndexError):
        _add_first(np.ones(3), 4)


def test_processes_that_compile_for_different_types_do_not_share_a_file(tmp_path: Path) -> None:
    package = tmp_path / "stream"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "jit.py").write_bytes(Path(jit.__file__).read_bytes())
    (package / "sums.py").write_text(
        "from stream.jit import kernel\n@kernel\ndef total(values):\n    return values.sum()\n"
    )
    environ = {"PATH": os.environ["PATH"], "NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    asked = "import numpy, stream.sums; print(stream.sums.total(numpy.array([1, 2], '{}')))"
    told = [
        subprocess.run([sys.executable, "-c", asked.format(kind)], cwd=tmp_path, env=environ, check=True,
                       capture_output=True, text=True).stdout.strip()
        for kind in ("float64", "int64", "float64")
    ]  # fmt: skip
    writers = [path.name.split(".")[-3] for path in (tmp_path / "kernels").rglob("*.nbc")]

    assert told == ["3.0", "3", "3.0"]
    assert len(writers) == len(set(writers)) == 2
