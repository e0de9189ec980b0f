import numpy as np
import pytest

from online_models.protocols import RankerSettings
from online_models.rankers.listnet import ListNet, ListNetSettings
from stream.records.batches import ragged_starts

FEATURES = ("a", "b", "c", "d", "e")


def nonlinear_lists(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lists of eight in which the greatest product of two features is clicked."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(8 * n, 5)).astype(np.float32)
    label = np.zeros((n, 8), np.float32)
    label[np.arange(n), (x[:, 0] * x[:, 1]).reshape(n, 8).argmax(axis=1)] = 1
    return x, label.ravel(), ragged_starts(np.full(n, 8))


def test_network_learns_a_nonlinear_order() -> None:
    net = ListNet(FEATURES, RankerSettings(), ListNetSettings(hidden=16, rate=0.01))
    for seed in range(30):
        report = net.learn(*nonlinear_lists(100, seed))

    assert report.auc > 0.85


def test_score_of_a_row_is_independent_of_other_rows() -> None:
    net = ListNet(FEATURES, RankerSettings())
    x, label, start = nonlinear_lists(50, 0)
    net.learn(x, label, start)

    assert net.score(x, start)[7] == net.score(x[7:8], np.array([0, 1]))[0]


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_extreme_feature_leaves_parameters_finite(value: float) -> None:
    net = ListNet(FEATURES, RankerSettings())
    x, label, start = nonlinear_lists(50, 0)
    net.learn(x, label, start)
    x[::3, 2] = value
    net.learn(x, label, start)

    assert all(np.isfinite(array).all() for array in net.state().values())
    assert np.isfinite(net.score(x[1:3], np.array([0, 2]))).all()


@pytest.mark.parametrize(("clip", "is_clipped"), [(1e-6, True), (1e6, False)])
def test_report_counts_clipped_updates(clip: float, is_clipped: bool) -> None:
    net = ListNet(FEATURES, RankerSettings(), ListNetSettings(batch_lists=4, clip=clip))
    report = net.learn(*nonlinear_lists(40, 0))

    assert report.clipped == (10 if is_clipped else 0)


def test_list_without_a_label_is_skipped() -> None:
    net = ListNet(FEATURES, RankerSettings())
    x, label, start = nonlinear_lists(4, 0)
    before = net.state()["theta"].copy()
    report = net.learn(x, 0 * label, start)

    assert np.array_equal(before, net.state()["theta"])
    assert report.lists == 0


def test_state_of_other_features_is_rejected() -> None:
    with pytest.raises(ValueError, match="features or settings differ"):
        ListNet(FEATURES, RankerSettings()).restore(ListNet(FEATURES[:3], RankerSettings()).state())


@pytest.mark.parametrize("setting", [{"hidden": 0}, {"rate": 0.0}, {"batch_lists": 0}, {"clip": -1.0}], ids=str)
def test_settings_name_the_invalid_value(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        ListNetSettings(**setting)  # type: ignore[arg-type]
