"""A checkpoint is complete, or it is not loaded."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from online_models.versions.checkpoints import (
    DamagedCheckpoint,
    Manifest,
    State,
    check,
    drop,
    list_version_names,
    load,
    load_latest,
    remove_partial,
    save,
    version_name,
)
from online_models.versions.listing import describe_versions, lineage, read_versions

STATE: State = {
    "items.clicks": np.arange(3, dtype=np.float32),
    "items.keys": np.arange(3, dtype=np.uint64),
    "bias.b": np.ones(1),
}
DTYPES = st.sampled_from(["float32", "float64", "uint64", "int64", "int32", "int16", "uint16", "uint8", "bool"])
ARRAYS = DTYPES.flatmap(lambda dtype: nps.arrays(dtype, nps.array_shapes(min_dims=0, max_dims=3, min_side=0)))
NAMES = st.tuples(st.sampled_from(["items", "tower", "a_b"]), st.sampled_from(["keys", "rows.vector", "x"])).map(
    ".".join
)


def manifest(step: int, parent: str | None = None, epoch: int = 1) -> Manifest:
    return Manifest(
        version=version_name(epoch, step), epoch=epoch, step=step, parent=parent, created=5,
        example_offsets={"0": step}, offsets={"0": 10 * step}, skip={"0": [(1, 2)]}, metrics={"auc": 0.5},
    )  # fmt: skip


def test_load_returns_the_saved_state(tmp_path: Path) -> None:
    save(tmp_path, manifest(7), STATE)
    found, state = load(tmp_path, "000001-000000007")

    assert found.offsets == {"0": 70}
    assert found.skip == {"0": [(1, 2)]}
    assert sorted(found.files) == ["bias.safetensors", "items.safetensors"]
    assert {name: (array.dtype, array.tolist()) for name, array in state.items()} == {
        name: (array.dtype, array.tolist()) for name, array in STATE.items()
    }


@given(st.dictionaries(NAMES, ARRAYS))
def test_arrays_of_any_shape_keep_their_bits(state: dict[str, np.ndarray]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), manifest(1), state)
        _, loaded = load(Path(folder), "000001-000000001")

    assert {name: (array.dtype, array.shape, array.tobytes()) for name, array in loaded.items()} == {
        name: (array.dtype, array.shape, array.tobytes()) for name, array in state.items()
    }


def test_checkpoint_being_written_is_not_listed(tmp_path: Path) -> None:
    save(tmp_path, manifest(1), STATE)
    (tmp_path / ".000001-000000002.99").mkdir()

    assert list_version_names(tmp_path) == ["000001-000000001"]

    remove_partial(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["000001-000000001"]


def test_version_can_be_written_twice(tmp_path: Path) -> None:
    for _ in range(2):
        save(tmp_path, manifest(1), STATE)

    assert check(tmp_path, "000001-000000001").step == 1


def flip_bit(path: Path) -> None:
    data = bytearray((path / "items.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (path / "items.safetensors").write_bytes(data)


def truncate(path: Path) -> None:
    (path / "bias.safetensors").write_bytes(b"")


def delete(path: Path) -> None:
    (path / "items.safetensors").unlink()


def corrupt_manifest(path: Path) -> None:
    (path / "manifest.json").write_bytes(b"\xff\x00")


def raise_schema(path: Path) -> None:
    newer = json.loads((path / "manifest.json").read_text()) | {"schema": 99}
    (path / "manifest.json").write_text(json.dumps(newer))


@pytest.mark.parametrize(
    "damage", [flip_bit, truncate, delete, corrupt_manifest, raise_schema], ids=lambda damage: damage.__name__
)
def test_damaged_checkpoint_is_skipped_and_logged(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, manifest(1), STATE)
    save(tmp_path, manifest(2), STATE)
    damage(tmp_path / "000001-000000002")
    found = load_latest(tmp_path)

    assert found is not None
    assert found[0].step == 1
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "000001-000000002" in caplog.text
    assert [info["damaged"] for info in describe_versions(tmp_path, "")] == [False, True]
    with pytest.raises(DamagedCheckpoint, match="000001-000000002"):
        check(tmp_path, "000001-000000002")


def test_load_latest_is_none_without_a_valid_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, manifest(1), STATE)
    flip_bit(tmp_path / "000001-000000001")

    assert load_latest(tmp_path) is None
    assert load_latest(tmp_path / "missing") is None
    assert load_latest(tmp_path, []) is None


def test_unknown_version_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint '000001-000000009'"):
        check(tmp_path, "000001-000000009")


def test_lineage_goes_back_to_the_oldest_kept_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, manifest(1), STATE)
    save(tmp_path, manifest(2, "000001-000000001"), STATE)
    save(tmp_path, manifest(2, "000001-000000001", epoch=2), STATE)

    assert [info["version"] for info in lineage(tmp_path, "000002-000000002")] == [
        "000002-000000002",
        "000001-000000001",
    ]
    shutil.rmtree(tmp_path / "000001-000000001")

    assert [info["version"] for info in lineage(tmp_path, "000002-000000002")] == ["000002-000000002"]


def test_dropped_checkpoint_is_gone(tmp_path: Path) -> None:
    save(tmp_path, manifest(1), STATE)
    drop(tmp_path, "000001-000000001")
    drop(tmp_path, "000001-000000001")

    assert read_versions(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
