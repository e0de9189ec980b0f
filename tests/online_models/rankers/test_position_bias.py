"""The position bias takes up what items owe to their positions, so that their scores do not."""

from dataclasses import replace

import numpy as np
import pytest

from online_models.checks.learners import LEARNER, Check, Exercise
from online_models.model import RecommenderModel
from online_models.rankers.click_head import ClickHead
from online_models.rankers.position_bias import PositionBias, PositionBiasSettings
from online_models.state.tables import State
from stream.ids import hash_id
from stream.records.batches import ExampleBatch, Kind
from tests.support.batches import START, make_batch, make_lists, make_queries

N_ITEMS, SLATE = 24, 6
APPEAL = np.repeat(np.linspace(0.1, 0.6, N_ITEMS // 2), 2)  # items 2 i and 2 i + 1 are equally good
EXAMINED = (1 + np.arange(SLATE)) ** -0.8  # probability that a position is looked at


def make_closed(slates: np.ndarray, labels: np.ndarray, surface: str = "", device: str = "") -> ExampleBatch:
    n = len(slates)
    queries = make_queries(n, [[] for _ in range(n)], np.full(n, START))
    queries = replace(queries, surface=np.full(n, hash_id(surface), np.uint64))
    if device:
        queries.context[:, 2] = hash_id(f"device={device}")
    lists = make_lists(slates.tolist(), labels.tolist())
    return make_batch([Kind.closed] * n, queries, lists, np.arange(1, n + 1, dtype=np.uint64))


def draw_slates(rng: np.random.Generator, n: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Slates in which odd items mostly stand below even ones, and their clicks."""
    slates = np.argsort(rng.random((n, N_ITEMS)), axis=1)[:, :SLATE]
    order = np.argsort((slates % 2) * 1.5 + spread * rng.normal(size=slates.shape), axis=1)
    slates = np.take_along_axis(slates, order, axis=1)
    clicks = rng.random(slates.shape) < APPEAL[slates] * EXAMINED
    first = np.arange(SLATE) == np.argmax(clicks * rng.random(slates.shape), axis=1)[:, None]
    return slates, (clicks & first).astype(np.float32)


def test_equally_good_items_get_equal_log_odds_whatever_was_shown_first() -> None:
    rng, head, bias = np.random.default_rng(1), ClickHead(N_ITEMS), PositionBias()
    for _ in range(120):
        slates, labels = draw_slates(rng, 400)
        batch = make_closed(slates, labels)
        view = batch.select(Kind.closed)
        x = np.eye(N_ITEMS, dtype=np.float32)[slates.ravel()]
        _, error = head.learn(x, view.labels, bias.offsets(batch, view))
        bias.learn(batch, view, error)
    log_odds = head.log_odds(np.eye(N_ITEMS, dtype=np.float32))

    assert abs((log_odds[0::2] - log_odds[1::2]).mean()) < 0.15
    assert log_odds[-2:].mean() - log_odds[:2].mean() > 1


def train_model(n_batches: int) -> RecommenderModel:
    """Train on shown, clicked and closed slates of the crowd."""
    rng, model = np.random.default_rng(1), RecommenderModel()
    for number in range(n_batches):
        slates, labels = draw_slates(rng, 128)
        rows: list[tuple[Kind, list[int], list[float], int]] = []
        for i, (slate, label) in enumerate(zip(slates.tolist(), labels.tolist(), strict=True)):
            key = (number * 128 + i + 1) * 0x9E3779B97F4A7C15 % 2**64
            rows.append((Kind.shown, slate, [0.0] * SLATE, key))
            if any(label):
                rows.append((Kind.action, [slate[label.index(1)]], [1.0], key))
                rows.append((Kind.clicked, slate, label, key))
            rows.append((Kind.closed, slate, label, key))
        ts = START + 60_000 * number + np.arange(len(rows), dtype=np.int64)
        queries = make_queries(len(rows), [[] for _ in rows], ts)
        lists = make_lists([row[1] for row in rows], [row[2] for row in rows])
        model.learn(make_batch([row[0] for row in rows], queries, lists, np.array([row[3] for row in rows], np.uint64)))
    return model


def test_model_ranks_equally_good_items_alike_whatever_was_shown_first() -> None:
    model = train_model(120)
    queries = make_queries(1, [[]], np.array([START + 120 * 60_000]))
    x = model.extract_features(queries, make_lists([list(range(N_ITEMS))], shown=False))
    _, log_odds = model.score_candidates(x, np.array([0, N_ITEMS]), 1.0)
    gap = (log_odds[0::2] - log_odds[1::2]).mean()

    assert abs(gap) < 0.35  # without the bias, 0.5


@pytest.mark.parametrize("place", [{"surface": "cart"}, {"device": "mobile"}], ids=["surface", "device"])
def test_bias_depends_on_surface_and_device(place: dict[str, str]) -> None:
    rng, bias = np.random.default_rng(1), PositionBias()
    for _ in range(60):
        for words, examined in (({}, np.ones(SLATE)), (place, EXAMINED)):
            labels = (rng.random((100, SLATE)) < 0.3 * examined).astype(np.float32)
            batch = make_closed(np.tile(np.arange(SLATE), (100, 1)), labels, **words)
            view = batch.select(Kind.closed)
            p = 1 / (1 + np.exp(0.85 - bias.offsets(batch, view)))
            bias.learn(batch, view, (p - view.labels).astype(np.float32))
    slate, label = np.arange(SLATE)[None], np.zeros((1, SLATE), np.float32)
    plain, other = make_closed(slate, label), make_closed(slate, label, **place)

    gap = bias.offsets(plain, plain.select(Kind.closed)) - bias.offsets(other, other.select(Kind.closed))

    assert 0.2 < gap[-1] < 1.6
    assert gap[0] == 0


def test_first_position_and_lists_without_positions_have_no_bias() -> None:
    bias, slates = PositionBias(), np.tile(np.arange(SLATE), (50, 1))
    batch = make_closed(slates, np.zeros(slates.shape, np.float32))
    unknown = replace(batch, lists=replace(batch.lists, position=np.full(slates.size, -1, np.int16)))
    for lists in (batch, unknown):
        bias.learn(lists, lists.select(Kind.closed), np.ones(slates.size, np.float32))

    assert bias.offsets(batch, batch.select(Kind.closed)).reshape(slates.shape)[:, 0].tolist() == [0] * 50
    assert not bias.offsets(unknown, unknown.select(Kind.closed)).any()
    assert (bias.exposure(batch) == 1).all()  # nothing is shown in this batch


def test_checkpoint_of_an_earlier_version_has_no_bias() -> None:
    bias = PositionBias()
    bias.restore({})

    assert bias.state()["bias"].tobytes() == PositionBias().state()["bias"].tobytes()


@pytest.mark.parametrize("check", LEARNER)
def test_position_bias_passes(check: Check) -> None:
    rng = np.random.default_rng(2)
    batches = [make_closed(*draw_slates(rng, 20)) for _ in range(6)]

    def learn(bias: PositionBias, batch: ExampleBatch) -> None:
        view = batch.select(Kind.closed)
        bias.learn(batch, view, (np.float32(0.2) - view.labels).astype(np.float32))

    def predict(bias: PositionBias) -> State:
        return {"offsets": bias.offsets(batches[0], batches[0].select(Kind.closed))}

    check(Exercise(make=PositionBias, batches=batches, learn=learn, predict=predict))


@pytest.mark.parametrize("settings", [{"rate": 0.0}, {"memory": 0.5}, {"shrinkage": 1.0}])
def test_settings_outside_their_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="rates must be positive, memory"):
        PositionBiasSettings(**settings)
