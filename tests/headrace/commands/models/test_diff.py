"""`headrace models diff` counts the rows that changed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.commands.models.diff import diff_versions
from online_models.versions import checkpoints
from stream.config import load
from tests.headrace.commands.models.conftest import FIRST, LAST


def read_json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_diff_counts_changed_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert diff_versions(FIRST, LAST, None, as_json=True) == 0
    arrays = {row["array"]: row for row in read_json(capsys)["arrays"]}
    checkpoint_folder = load(None).checkpoints
    _, old = checkpoints.load(checkpoint_folder, FIRST)
    _, new = checkpoints.load(checkpoint_folder, LAST)

    assert arrays.keys() == old.keys() | new.keys()
    assert min(array.size for array in new.values()) == 0  # arrays without rows are part of the comparison
    for name, row in arrays.items():
        is_equal = np.array_equal(old[name], new[name], equal_nan=old[name].dtype.kind == "f")

        assert (row["rows_changed"] == 0) == is_equal, name


def test_diff_of_a_version_with_itself_is_empty(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    diff_versions(LAST, LAST, None, as_json=True)

    assert {row["rows_changed"] for row in read_json(capsys)["arrays"]} == {0}


def test_diff_prints_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    diff_versions(FIRST, LAST, None, as_json=False)

    assert f"{FIRST} → {LAST}" in capsys.readouterr().out
