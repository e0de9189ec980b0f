"""Model updates round-trip, with the version that they change."""

import numpy as np

from online_models.training.updates import ModelUpdate, decode_update, encode_update


def test_an_update_round_trips() -> None:
    changes: dict[str, np.ndarray] = {
        "items.rows": np.array([3], np.int32),
        "bias.b": np.array([0.5], np.float32),
        "none.x": np.zeros((0, 4)),
    }
    update = ModelUpdate(2, 7, "", items_offset=5, control_offset=1, offsets={"0": 70}, changes=changes)
    again = decode_update(encode_update(update))

    assert (again.version, again.base, again.items_offset, again.control_offset, again.offsets) == (
        "000002-000000007",
        "",
        5,
        1,
        {"0": 70},
    )
    assert {name: (array.dtype, array.shape, array.tolist()) for name, array in again.changes.items()} == {
        name: (array.dtype, array.shape, array.tolist()) for name, array in changes.items()
    }


def test_a_new_epoch_names_the_version_that_it_continues() -> None:
    update = ModelUpdate(3, 4, "000001-000000004", items_offset=0, control_offset=2, offsets={}, changes={})

    assert decode_update(encode_update(update)) == update
