"""Join actions to the impression that earned them."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stream import metrics
from stream.batches import EventType, ExampleBatch, Kind, concat

POSITIVE = tuple(map(int, (EventType.view, EventType.click, EventType.like, EventType.cart, EventType.purchase)))
_NOTHING = np.zeros(0, np.float32)


@dataclass(slots=True)
class _Open:
    """An impression that still waits for actions: one row of the batch that showed it."""

    shown: ExampleBatch
    row: int
    user: int
    items: list[int]
    labels: np.ndarray  # (k,) float32


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became known of an open impression, by which row of the micro-batch."""

    impression: _Open
    labels: np.ndarray
    cause: int  # row of the micro-batch, its length for closings


class Joiner:
    """Keeps each impression open until the watermark has passed its attribution window.

    A click makes a labelled list at once; when the window closes, the list comes once more with its final labels, so
    that what was shown and not clicked counts as such. One joiner per partition.
    """

    def __init__(self, window: float) -> None:
        if window <= 0:
            raise ValueError(f"window must be a positive number of seconds, got {window}")
        self._window_ms = round(window * 1000)
        self._open: dict[int, _Open] = {}  # by impression key
        self._deadlines: list[tuple[int, int]] = []  # heap of (event time, impression key)

    def __len__(self) -> int:
        return len(self._open)

    def join(self, batch: ExampleBatch, watermark: int) -> ExampleBatch:
        """The micro-batch's rows with what they made known: clicked rows behind their action, closed ones at the end."""
        outcomes: list[_Outcome] = []
        organic = batch.organic.copy()
        self._show(batch)
        for row in np.flatnonzero((batch.impression != 0) & (batch.kind == Kind.action)).tolist():
            outcome = self._act(batch, row)
            organic[row] = outcome is None
            if outcome and outcome.labels.size:
                outcomes.append(outcome)
        metrics.actions_joined.inc(len(outcomes))
        outcomes += self._close(watermark, len(batch))
        return _in_order(replace(batch, organic=organic), outcomes)

    def restore(self, batch: ExampleBatch, watermark: int) -> None:
        """Take up joined rows that were published before, so that what they left open is open again."""
        self._show(batch)
        for row in np.flatnonzero(batch.kind == Kind.clicked).tolist():
            held = self._open.get(int(batch.impression[row]))
            if held:
                start = batch.lists.start
                held.labels = batch.lists.label[start[row] : start[row + 1]].copy()
        self._close(watermark, len(batch))

    def _show(self, batch: ExampleBatch) -> None:
        shown = batch.take(np.flatnonzero(batch.kind == Kind.shown))
        keys, start = shown.lists.item.tolist(), shown.lists.start.tolist()
        columns = zip(shown.impression.tolist(), shown.questions.ts.tolist(), shown.questions.user.tolist(), strict=True)
        for i, (impression, ts, user) in enumerate(columns):
            if impression in self._open:
                metrics.impressions_repeated.inc()
                continue
            items = keys[start[i] : start[i + 1]]
            self._open[impression] = _Open(shown, i, user, items, np.zeros(len(items), np.float32))
            heapq.heappush(self._deadlines, (ts + self._window_ms, impression))

    def _act(self, batch: ExampleBatch, row: int) -> _Outcome | None:
        """The list an action answers, with its new label; None when it answers none, empty labels when nothing is new."""
        held = self._open.get(int(batch.impression[row]))
        item = int(batch.lists.item[batch.lists.start[row]])
        if held is None or held.user != int(batch.questions.user[row]) or item not in held.items:
            # Late or forged: we know no propensity for it, so it teaches as an organic action only.
            metrics.actions_unmatched.inc()
            return None
        place = held.items.index(item)
        if int(batch.type[row]) not in POSITIVE or held.labels[place] == 1:
            return _Outcome(held, _NOTHING, row)
        held.labels[place] = 1
        return _Outcome(held, held.labels.copy(), row)

    def _close(self, watermark: int, cause: int) -> Iterable[_Outcome]:
        closed = []
        while self._deadlines and self._deadlines[0][0] <= watermark:
            _, impression = heapq.heappop(self._deadlines)
            held = self._open.pop(impression)
            closed.append(_Outcome(held, held.labels, cause))
        return closed


def _in_order(batch: ExampleBatch, outcomes: Sequence[_Outcome]) -> ExampleBatch:
    if not outcomes:
        return batch
    causes = np.array([outcome.cause for outcome in outcomes])
    everything = concat([batch, _outcome_rows(batch, outcomes)])
    return everything.take(np.argsort(np.concatenate([np.arange(len(batch)), causes]), kind="stable"))


def _outcome_rows(batch: ExampleBatch, outcomes: Sequence[_Outcome]) -> ExampleBatch:
    """The lists of these outcomes with their labels, in the order given; the micro-batch is not empty."""
    by_block: dict[int, list[int]] = {}
    for i, outcome in enumerate(outcomes):
        by_block.setdefault(id(outcome.impression.shown), []).append(i)
    picked = [
        outcomes[where[0]].impression.shown.take(np.array([outcomes[i].impression.row for i in where]))
        for where in by_block.values()
    ]
    rows = concat(picked).take(np.argsort(np.concatenate([np.array(where) for where in by_block.values()])))
    cause = np.array([outcome.cause for outcome in outcomes])
    closing = cause == len(batch)
    cause = np.where(closing, len(batch) - 1, cause)
    return replace(
        rows,
        kind=np.where(closing, Kind.closed, Kind.clicked).astype(np.uint8),
        event=np.where(closing, 0, batch.event[cause]).astype(np.uint64),
        type=np.where(closing, EventType.impression, batch.type[cause]).astype(np.uint8),
        ts=np.where(closing, batch.ts.max(), batch.ts[cause]),
        value=np.where(closing, np.nan, batch.value[cause]).astype(np.float32),
        offset=batch.offset[cause],
        origin=rows.offset,
        lists=replace(rows.lists, label=np.concatenate([outcome.labels for outcome in outcomes])),
    )
