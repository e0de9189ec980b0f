import numpy as np
import pytest

from online_models.rankers.click_head import ClickHead
from online_models.rankers.listnet import ListNet, ListNetSettings
from stream.records.batches import ragged_starts


def lists_with_a_rule(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lists of eight where the item with the greatest product of two features is taken: no line can tell."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(8 * n, 5)).astype(np.float32)
    label = np.zeros((n, 8), np.float32)
    label[np.arange(n), (x[:, 0] * x[:, 1]).reshape(n, 8).argmax(axis=1)] = 1
    return x, label.ravel(), ragged_starts(np.full(n, 8))


def test_it_learns_what_no_line_can_tell() -> None:
    net = ListNet(5, ListNetSettings(hidden=16, rate=0.01))
    for seed in range(30):
        net.learn_lists(*lists_with_a_rule(100, seed))

    assert net.report.auc > 0.85


def test_a_score_of_one_row_does_not_hang_on_the_others() -> None:
    net = ListNet(5)
    x, label, start = lists_with_a_rule(50, 0)
    net.learn_lists(x, label, start)

    assert net.scores(x)[7] == net.scores(x[7:8])[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
def test_a_wild_feature_teaches_nothing(bad: float) -> None:
    net = ListNet(5)
    x, label, start = lists_with_a_rule(50, 0)
    net.learn_lists(x, label, start)
    x[::3, 2] = bad
    net.learn_lists(x, label, start)

    assert all(np.isfinite(array).all() for array in net.state().values())
    assert np.isfinite(net.scores(x[1:3])).all()


@pytest.mark.parametrize(("clip", "all_of_them"), [(1e-6, True), (1e6, False)])
def test_updates_that_are_clipped_are_counted(clip: float, all_of_them: bool) -> None:
    net = ListNet(5, ListNetSettings(batch_lists=4, clip=clip))
    net.learn_lists(*lists_with_a_rule(40, 0))

    assert net.report.clipped == (10 if all_of_them else 0)


def test_a_list_without_a_label_teaches_nothing() -> None:
    net = ListNet(5)
    x, label, start = lists_with_a_rule(4, 0)
    before = net.state()["theta"].copy()
    net.learn_lists(x, 0 * label, start)

    assert np.array_equal(before, net.state()["theta"])
    assert net.report.lists == 0


def test_chances_are_calibrated() -> None:
    rng, chances = np.random.default_rng(0), ClickHead(3)
    x = rng.normal(size=(60_000, 3)).astype(np.float32)
    truth = 1 / (1 + np.exp(-(x @ np.array([1.0, -0.5, 0.0]) - 2)))
    chances.learn(x, (rng.random(x.shape[0]) < truth).astype(np.float32))
    predicted = chances.predict(x[-20_000:])

    assert abs(predicted.mean() - truth[-20_000:].mean()) < 0.01
    assert np.abs(predicted - truth[-20_000:]).mean() < 0.02


@pytest.mark.parametrize("setting", [{"hidden": 0}, {"rate": 0.0}, {"group": 0}, {"clip": -1.0}], ids=str)
def test_settings_that_cannot_work_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        ListNetSettings(**setting)  # type: ignore[arg-type]
