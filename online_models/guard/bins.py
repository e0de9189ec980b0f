"""What the guard looks at: the rows of each step, added up in bins of event time."""

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from online_models.model import RecommenderModel
from online_models.progressive_predictions import ClickRanks, ClosedImpressions
from online_models.step_report import StepReport
from online_models.training.step import TrainingBatch
from stream.records.batches import ExampleBatch, Kind

BIN_MS = 60_000  # a bin is at least so long, and
BIN_ROWS = 256  # holds at least so many rows
ITEM_BUCKETS = 32  # of items, by their key
_CATCH_UP_ROWS = 4 * BIN_ROWS  # rows that come in one step to whoever catches up
_OLD_SLATE_SHARE = 0.1  # of the slates that are answered, which may have lain for long
_LATE_MS, _VERY_LATE_MS = 60_000, 600_000
_STEP_SAMPLE_ROWS, _BIN_SAMPLE_ROWS = 64, 384  # places whose features are looked at, of a step and of a bin
# Multiples of the golden ratio lie evenly, and in step with no length of slates.
_SAMPLE_POSITIONS = 0.6180339887 * np.arange(1, _STEP_SAMPLE_ROWS + 1) % 1


@dataclass(slots=True)
class Bin:
    """A stretch of the stream."""

    first_offsets: dict[int, int]  # offset of its first event, by partition
    start: int  # event time, ms
    end: int = 0
    rows: int = 0
    impressions: int = 0
    action_counts: Counter[tuple[int, int]] = field(default_factory=Counter)  # actions by (surface, type)
    missing_surface: int = 0  # slates shown without a surface
    missing_propensities: int = 0  # slates shown without propensities
    late: int = 0  # events more than a minute behind the latest of their partition
    very_late: int = 0  # more than ten minutes behind
    item_buckets: np.ndarray = field(default_factory=lambda: np.zeros(ITEM_BUCKETS))  # actions by bucket of items
    closed_items: int = 0  # of which the outcome is known
    log_loss_sum: float = 0.0
    expected_clicks: float = 0.0  # actions on them, as predicted before
    observed_clicks: float = 0.0
    steps: int = 0  # that told of them
    slate_clicks: int = 0  # to slates, at once
    click_rank_sum: float = 0.0  # summed: 1 for what was predicted best, 0 for what was least
    clicks_by_item: Counter[int] = field(default_factory=Counter)  # items, by their answers
    clicked_slate_offsets: dict[int, list[int]] = field(
        default_factory=dict
    )  # offsets of slates answered, by partition
    feature_names: tuple[str, ...] = ()  # of features
    feature_sample: list[np.ndarray] = field(default_factory=list)  # some of the features that places were shown with
    squared_norms: dict[tuple[str, str], tuple[float, int]] = field(
        default_factory=dict
    )  # squares and number, by kind and part
    updates: int = 0
    skipped_updates: int = 0  # updates that were not finite

    @property
    def actions(self) -> int:
        return self.action_counts.total()

    @property
    def is_stale(self) -> bool:
        """Whether one long step told all of it: catching up, what it predicts is worse by itself."""
        return self.steps == 1 and self.rows >= _CATCH_UP_ROWS

    @property
    def first_clicked_offsets(self) -> dict[int, int]:
        """Offset of the first slate that was answered, by partition, but for a few that lay there for long."""
        clicked = {
            p: int(np.quantile(offsets, _OLD_SLATE_SHARE, method="lower"))
            for p, offsets in self.clicked_slate_offsets.items()
        }
        return self.first_offsets | {p: min(offset, self.first_offsets.get(p, offset)) for p, offset in clicked.items()}


class BinAggregator:
    """Adds up each event once, however often it is learnt."""

    def __init__(self) -> None:
        self.next_offsets: dict[int, int] = {}  # next offset of the events, by partition
        self._max_ts: dict[int, int] = {}  # latest event time, by partition
        self._bin: Bin | None = None

    def find_new_rows(self, training_batch: TrainingBatch) -> np.ndarray:
        """Which rows, (n,) bool, were not seen before."""
        next_offsets = np.zeros(int(training_batch.partition.max()) + 1, np.int64)
        for partition in np.unique(training_batch.partition).tolist():
            next_offsets[partition] = self.next_offsets.get(partition, 0)
        is_new: np.ndarray = training_batch.batch.offset >= next_offsets[training_batch.partition]
        return is_new

    @property
    def open_bin(self) -> Bin | None:
        """The bin that is not full yet."""
        return self._bin

    def update(
        self,
        training_batch: TrainingBatch,
        is_new: np.ndarray,
        model: RecommenderModel | None,
        click_ranks: ClickRanks | None,
    ) -> Bin | None:
        """Add the fresh rows; returns the bin that is full with them. `stack`: what has learnt them, if it has."""
        if not is_new.any():
            return None
        batch = training_batch.batch
        is_event = is_new & ((batch.kind == Kind.shown) | (batch.kind == Kind.action))
        current = self._bin = self._bin or Bin(dict(self.next_offsets), int(batch.ts[is_new].min()))
        self._count(current, batch, is_event)
        self._count_late(current, training_batch, is_event)
        if click_ranks is not None:
            _count_clicks(current, training_batch, is_new, click_ranks)
        if model is not None:
            current.feature_names = model.feature_names
            _add_outcomes(current, batch, is_new, model.closed_impressions)
            _add_norms(current, model.report)
        for partition in np.unique(training_batch.partition).tolist():
            is_own = is_new & (training_batch.partition == partition)
            if is_own.any():
                self.next_offsets[partition] = max(
                    self.next_offsets.get(partition, 0), int(batch.offset[is_own].max()) + 1
                )
        if current.end - current.start < BIN_MS or current.rows < BIN_ROWS:
            return None
        self._bin = None
        return current

    def _count(self, current: Bin, batch: ExampleBatch, is_event: np.ndarray) -> None:
        is_shown, rows = is_event & (batch.kind == Kind.shown), np.flatnonzero(is_event & (batch.kind == Kind.action))
        current.rows += int(is_event.sum())
        current.impressions += int(is_shown.sum())
        current.missing_surface += int((batch.queries.surface[is_shown] == 0).sum())
        current.missing_propensities += int(np.isnan(batch.lists.propensity[batch.lists.start[:-1][is_shown]]).sum())
        current.action_counts.update(zip(batch.queries.surface[rows].tolist(), batch.type[rows].tolist(), strict=True))
        items = batch.lists.item[batch.lists.start[rows]]
        current.item_buckets += np.bincount((items % np.uint64(ITEM_BUCKETS)).astype(np.int64), minlength=ITEM_BUCKETS)

    def _count_late(self, current: Bin, training_batch: TrainingBatch, is_event: np.ndarray) -> None:
        for partition in np.unique(training_batch.partition[is_event]).tolist():
            ts = training_batch.batch.ts[is_event & (training_batch.partition == partition)]
            max_ts = np.maximum(np.maximum.accumulate(ts), self._max_ts.get(partition, 0))
            current.late += int((ts < max_ts - _LATE_MS).sum())
            current.very_late += int((ts < max_ts - _VERY_LATE_MS).sum())
            current.end = max(current.end, int(max_ts[-1]))
            self._max_ts[partition] = int(max_ts[-1])


def _count_clicks(current: Bin, training_batch: TrainingBatch, is_new: np.ndarray, click_ranks: ClickRanks) -> None:
    mask = is_new[click_ranks.row]
    rows = click_ranks.row[mask]
    current.slate_clicks += rows.size
    current.click_rank_sum += float(click_ranks.rank[mask].sum())
    current.clicks_by_item.update(click_ranks.item[mask].tolist())
    for partition, slate_offset in zip(
        training_batch.partition[rows].tolist(), training_batch.batch.impression_offset[rows].tolist(), strict=True
    ):
        current.clicked_slate_offsets.setdefault(partition, []).append(slate_offset)


def _add_outcomes(current: Bin, batch: ExampleBatch, is_new: np.ndarray, closed: ClosedImpressions) -> None:
    """Add what was predicted of the lists that were closed, and what came of them."""
    rows = np.flatnonzero(batch.kind == Kind.closed)
    mask = np.repeat(is_new[rows], np.diff(batch.lists.start)[rows])
    p, y = closed.probability[mask].astype(float), closed.label[mask] > 0
    if p.size == 0:
        return
    p = np.clip(p, 1e-6, 1 - 1e-6)
    _sample_features(current, closed.features, mask)
    current.closed_items += p.size
    current.steps += 1
    current.log_loss_sum += float(-np.where(y, np.log(p), np.log1p(-p)).sum())
    current.expected_clicks += float(p.sum())
    current.observed_clicks += float(y.sum())


def _sample_features(current: Bin, features: np.ndarray, mask: np.ndarray) -> None:
    """Keep the features of some of the places, all over the lists."""
    rows, capacity = np.flatnonzero(mask), _BIN_SAMPLE_ROWS - sum(sample.shape[0] for sample in current.feature_sample)
    n_rows = min(rows.size, _STEP_SAMPLE_ROWS, capacity)
    if n_rows > 0:
        current.feature_sample.append(features[rows[(rows.size * _SAMPLE_POSITIONS[:n_rows]).astype(np.int64)]])


def _add_norms(current: Bin, report: StepReport) -> None:
    """Add how far the step moved what is learnt."""
    current.updates += report.updates
    current.skipped_updates += report.skipped
    for kind, norms in (("gradient_norm", report.gradient_norms), ("update_norm", report.update_norms)):
        for component, (norm, updates) in norms.items():
            square_sum, n_updates = current.squared_norms.get((kind, component), (0.0, 0))
            if updates and math.isfinite(norm):
                current.squared_norms[kind, component] = square_sum + norm * norm * updates, n_updates + updates
