"""Bins of event time: counts of the rows that the guard has not seen before."""

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from online_models.guard.settings import GuardRecord
from online_models.progressive_predictions import ClickRanks, ClosedImpressions
from online_models.step_result import StepReport, StepResult
from online_models.training.progress import TrainingBatch
from stream.clock import MINUTE_MS
from stream.records.batches import ExampleBatch, Kind


@dataclass(frozen=True, slots=True)
class BinSettings(GuardRecord):
    min_ms: int = MINUTE_MS  # event time that a bin covers at least
    min_rows: int = 256
    item_buckets: int = 32  # of the items' keys
    catch_up_rows: int = 1_024  # rows of one step from which on the learner is catching up
    old_slate_share: float = 0.1  # of the clicked slates, which may be much older than the others
    late_ms: int = MINUTE_MS
    very_late_ms: int = 10 * MINUTE_MS
    step_sample_rows: int = 64  # rows of features sampled from a step
    bin_sample_rows: int = 384  # and from a bin


@dataclass(slots=True)
class Bin:
    """Counts over a stretch of the stream."""

    first_offsets: dict[int, int]  # offset of its first event, by partition
    start: int  # event time, ms
    end: int = 0
    rows: int = 0
    impressions: int = 0
    action_counts: Counter[tuple[int, int]] = field(default_factory=Counter)  # actions by (surface, type)
    missing_surface: int = 0  # impressions without a surface
    missing_propensities: int = 0  # impressions without propensities
    late: int = 0  # events more than `late_ms` behind the latest of their partition
    very_late: int = 0  # events more than `very_late_ms` behind
    item_buckets: np.ndarray = field(default_factory=lambda: np.zeros(BinSettings().item_buckets))  # actions by bucket
    closed_items: int = 0  # shown items whose outcome is known
    log_loss_sum: float = 0.0  # over closed items, predicted before training
    expected_clicks: float = 0.0  # on closed items, predicted before training
    observed_clicks: float = 0.0  # on closed items
    steps: int = 0  # that closed items
    slate_clicks: int = 0  # on impressions, counted as they arrive
    click_rank_sum: float = 0.0  # of these clicks: 1 for the item predicted best of its slate, 0 for the worst
    clicks_by_item: Counter[int] = field(default_factory=Counter)  # of these clicks
    clicked_slate_offsets: dict[int, list[int]] = field(default_factory=dict)  # of these clicks' slates, by partition
    feature_names: tuple[str, ...] = ()  # (f,)
    feature_sample: list[np.ndarray] = field(default_factory=list)  # some rows of features, (n, f) float32 each
    # Sum of squared norms and number of updates, by (kind of norm, component).
    squared_norms: dict[tuple[str, str], tuple[float, int]] = field(default_factory=dict)
    updates: int = 0
    skipped_updates: int = 0  # because a gradient was not finite
    settings: BinSettings = BinSettings()

    @property
    def actions(self) -> int:
        return self.action_counts.total()

    @property
    def is_stale(self) -> bool:
        """Return True if one long step closed all items.

        While the learner catches up, predictions are old.
        """
        return self.steps == 1 and self.rows >= self.settings.catch_up_rows

    @property
    def first_clicked_offsets(self) -> dict[int, int]:
        """Offset of the first clicked slate, by partition, except the few shown long before."""
        clicked = {
            p: int(np.quantile(offsets, self.settings.old_slate_share, method="lower"))
            for p, offsets in self.clicked_slate_offsets.items()
        }
        return self.first_offsets | {p: min(offset, self.first_offsets.get(p, offset)) for p, offset in clicked.items()}


@dataclass(frozen=True, slots=True)
class NewRows:
    """A batch with the mask of the rows that the guard has not seen before."""

    batch: ExampleBatch
    partition: np.ndarray  # (n,) int64 of each row
    is_new: np.ndarray  # (n,) bool
    next_offsets: dict[int, int]  # of the events before this batch, by partition
    opens_bin: bool = False  # the previous bin is complete

    @property
    def is_event(self) -> np.ndarray:
        """Mask of the new rows, (n,) bool, that stand for an event."""
        is_event: np.ndarray = self.is_new & ((self.batch.kind == Kind.shown) | (self.batch.kind == Kind.action))
        return is_event


class BinAggregator:
    """Count each event once, however often it trains the model."""

    def __init__(self, settings: BinSettings | None = None) -> None:
        self.settings = settings or BinSettings()
        self.next_offsets: dict[int, int] = {}  # next offset of the events, by partition
        self._max_ts: dict[int, int] = {}  # latest event time, by partition
        self._bin: Bin | None = None
        # Multiples of the golden ratio spread evenly, and do not resonate with the length of slates.
        self._sample_positions = 0.6180339887 * np.arange(1, self.settings.step_sample_rows + 1) % 1

    def select_new(self, rows: TrainingBatch) -> NewRows:
        """Mask the rows that were not seen before; nothing is counted yet."""
        next_offsets = np.zeros(int(rows.partition.max()) + 1, np.int64)
        for partition in np.unique(rows.partition).tolist():
            next_offsets[partition] = self.next_offsets.get(partition, 0)
        is_new: np.ndarray = rows.batch.offset >= next_offsets[rows.partition]
        return NewRows(rows.batch, rows.partition, is_new, dict(self.next_offsets), opens_bin=self._bin is None)

    @property
    def open_bin(self) -> Bin | None:
        """The bin that is not full yet."""
        return self._bin

    def update(self, rows: NewRows, clicks: ClickRanks | None, result: StepResult | None = None) -> Bin | None:
        """Add the new rows; return the bin if they complete it.

        `result`: of the step that trained on the rows.
        """
        if not rows.is_new.any():
            return None
        first_ts = int(rows.batch.ts[rows.is_new].min())
        current = self._bin = self._bin or Bin(dict(self.next_offsets), first_ts, settings=self.settings)
        _count_events(current, rows)
        self._count_late(current, rows)
        if clicks is not None:
            _count_clicks(current, rows, clicks)
        if result is not None:
            current.feature_names = result.closed.feature_names
            self._add_outcomes(current, rows.is_new, result.closed)
            _add_norms(current, result.report)
        for partition in np.unique(rows.partition[rows.is_new]).tolist():
            last_offset = int(rows.batch.offset[rows.is_new & (rows.partition == partition)].max())
            self.next_offsets[partition] = max(self.next_offsets.get(partition, 0), last_offset + 1)
        if current.end - current.start < self.settings.min_ms or current.rows < self.settings.min_rows:
            return None
        self._bin = None
        return current

    def _count_late(self, current: Bin, rows: NewRows) -> None:
        is_event = rows.is_event
        for partition in np.unique(rows.partition[is_event]).tolist():
            ts = rows.batch.ts[is_event & (rows.partition == partition)]
            max_ts = np.maximum(np.maximum.accumulate(ts), self._max_ts.get(partition, 0))
            current.late += int((ts < max_ts - self.settings.late_ms).sum())
            current.very_late += int((ts < max_ts - self.settings.very_late_ms).sum())
            current.end = max(current.end, int(max_ts[-1]))
            self._max_ts[partition] = int(max_ts[-1])

    def _add_outcomes(self, current: Bin, is_new: np.ndarray, closed: ClosedImpressions) -> None:
        """Add predictions and outcomes of the impressions that the step closed."""
        mask = closed.lists.repeat(is_new[closed.lists.rows])
        p, y = closed.probability[mask].astype(float), closed.label[mask] > 0
        if p.size == 0:
            return
        p = np.clip(p, 1e-6, 1 - 1e-6)
        self._sample_features(current, closed.features, mask)
        current.closed_items += p.size
        current.steps += 1
        current.log_loss_sum += float(-np.where(y, np.log(p), np.log1p(-p)).sum())
        current.expected_clicks += float(p.sum())
        current.observed_clicks += float(y.sum())

    def _sample_features(self, current: Bin, features: np.ndarray, mask: np.ndarray) -> None:
        """Keep the features of some shown items, spread over all lists."""
        rows = np.flatnonzero(mask)
        capacity = self.settings.bin_sample_rows - sum(sample.shape[0] for sample in current.feature_sample)
        n_rows = min(rows.size, self.settings.step_sample_rows, capacity)
        if n_rows > 0:
            positions = (rows.size * self._sample_positions[:n_rows]).astype(np.int64)
            current.feature_sample.append(features[rows[positions]])


def _count_events(current: Bin, rows: NewRows) -> None:
    batch, is_event, buckets = rows.batch, rows.is_event, current.item_buckets.size
    is_shown, actions = is_event & (batch.kind == Kind.shown), np.flatnonzero(is_event & (batch.kind == Kind.action))
    current.rows += int(is_event.sum())
    current.impressions += int(is_shown.sum())
    current.missing_surface += int((batch.queries.surface[is_shown] == 0).sum())
    current.missing_propensities += int(np.isnan(batch.lists.propensity[batch.lists.start[:-1][is_shown]]).sum())
    current.action_counts.update(
        zip(batch.queries.surface[actions].tolist(), batch.type[actions].tolist(), strict=True)
    )
    items = batch.lists.item[batch.lists.start[actions]]
    current.item_buckets += np.bincount((items % np.uint64(buckets)).astype(np.int64), minlength=buckets)


def _count_clicks(current: Bin, rows: NewRows, clicks: ClickRanks) -> None:
    mask = rows.is_new[clicks.row]
    clicked = clicks.row[mask]
    current.slate_clicks += clicked.size
    current.click_rank_sum += float(clicks.rank[mask].sum())
    current.clicks_by_item.update(clicks.item[mask].tolist())
    offsets = rows.batch.impression_offset[clicked].tolist()
    for partition, slate_offset in zip(rows.partition[clicked].tolist(), offsets, strict=True):
        current.clicked_slate_offsets.setdefault(partition, []).append(slate_offset)


def _add_norms(current: Bin, report: StepReport) -> None:
    """Add gradient norms and update norms of the step."""
    current.updates += report.updates
    current.skipped_updates += report.skipped
    for kind, norms in (("gradient_norm", report.gradient_norms), ("update_norm", report.update_norms)):
        for component, (norm, updates) in norms.items():
            square_sum, n_updates = current.squared_norms.get((kind, component), (0.0, 0))
            if updates and math.isfinite(norm):
                current.squared_norms[kind, component] = square_sum + norm * norm * updates, n_updates + updates
