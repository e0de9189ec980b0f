import itertools

import numpy as np
import pytest

from online_models.protocols import RankerSettings
from online_models.rankers.listnet import ListNet, ListNetSettings
from online_models.rankers.network.adam import AdamSettings
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
    net = ListNet(FEATURES, RankerSettings(), ListNetSettings(hidden=16, adam=AdamSettings(rate=0.01)))
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
    net = ListNet(FEATURES, RankerSettings(), ListNetSettings(adam=AdamSettings(batch_lists=4, clip=clip)))
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


@pytest.mark.parametrize("cuts", [[1], [3, 5], list(range(1, 40))], ids=["two", "three", "single"])
def test_division_of_lists_into_calls_leaves_steps_alone(cuts: list[int]) -> None:
    whole, divided = ListNet(FEATURES, RankerSettings()), ListNet(FEATURES, RankerSettings())
    x, label, start = nonlinear_lists(40, 0)
    moments_x, no_label, moments_start = nonlinear_lists(5000, 1)
    for net in (whole, divided):
        net.learn(moments_x, 0 * no_label, moments_start)  # trains only the moments of the features
    whole.learn(x, label, start)
    for first, last in itertools.pairwise([0, *cuts, 40]):
        divided.learn(x[8 * first : 8 * last], label[8 * first : 8 * last], start[first : last + 1] - start[first])

    assert divided.state()["steps"] == whole.state()["steps"] == 10
    assert divided.state()["theta"] == pytest.approx(whole.state()["theta"], abs=2e-3)  # moments differ a little


def test_steps_shrink_with_the_lists_trained() -> None:
    settings = ListNetSettings(adam=AdamSettings(rate=0.01, anneal_lists=200, final_ratio=0.1))
    net, updates = ListNet(FEATURES, RankerSettings(), settings), []
    for seed in range(12):
        updates.append(net.learn(*nonlinear_lists(100, seed)).update_norm)

    assert 0.05 * updates[0] < updates[-1] < 0.2 * updates[0]


def test_new_ranker_takes_a_step_with_its_first_lists() -> None:
    net = ListNet(FEATURES, RankerSettings(lists="candidates"))

    assert net.learn(*nonlinear_lists(4, 0)).updates == 1


def test_checkpoint_without_a_count_of_lists_is_taken() -> None:
    net, lists = ListNet(FEATURES, RankerSettings()), nonlinear_lists(40, 0)
    net.learn(*lists)
    state = {name: array for name, array in net.state().items() if name not in ("gradient", "lists")}
    restored = ListNet(FEATURES, RankerSettings())
    restored.restore(state)

    assert restored.state()["lists"].tolist() == [0, 40]
    assert np.array_equal(restored.score(lists[0], lists[2]), net.score(lists[0], lists[2]))


@pytest.mark.parametrize(
    "setting", [{"rate": 0.0}, {"batch_lists": 0}, {"anneal_lists": 0}, {"clip": -1.0}, {"final_ratio": 0.0}], ids=str
)
def test_settings_name_the_invalid_value(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"positive.*{next(iter(setting))}"):
        AdamSettings(**setting)  # type: ignore[arg-type]
