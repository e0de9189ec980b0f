"""Join actions to the impressions that they belong to."""

import heapq
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stream import metrics
from stream.records.batches import EventType, ExampleBatch, Kind, concat

POSITIVE_TYPES = tuple(map(int, (EventType.view, EventType.click, EventType.like, EventType.cart, EventType.purchase)))
_WITHOUT_LIST = (Kind.action, Kind.held, Kind.retracted)
_NO_LABELS = np.zeros(0, np.float32)


@dataclass(slots=True)
class _OpenImpression:
    """Impression in its attribution window: one row of the batch that contains it."""

    batch: ExampleBatch
    row: int
    impression: int
    deadline: int  # event time, ms, of the end of the attribution window
    click_labels: np.ndarray | None = None  # (k,) float32, the labels so far; None = no click yet

    @property
    def items(self) -> np.ndarray:
        first, end = self.batch.lists.start[self.row : self.row + 2]
        return self.batch.lists.item[first:end]

    @property
    def labels(self) -> np.ndarray:
        return np.zeros(self.items.size, np.float32) if self.click_labels is None else self.click_labels

    def find_position(self, item: int, user: int) -> int | None:
        """Position of an item in the slate; None if this user was not shown it."""
        items = self.items.tolist()
        return items.index(item) if item in items and self.batch.queries.user[self.row] == user else None


@dataclass(frozen=True, slots=True)
class _Action:
    """Action that names an impression."""

    row: int  # of the micro-batch
    impression: int
    user: int
    item: int
    type: int
    sign: int  # -1 for a dislike or a retraction


@dataclass(frozen=True, slots=True)
class _Outcome:
    """New labels of an impression, and the row of the micro-batch that caused them."""

    impression: _OpenImpression
    labels: np.ndarray
    cause: int  # row of the micro-batch
    kind: Kind


class Joiner:
    """Keep each impression open until the watermark passes its attribution window.

    A click emits a labeled list at once. When the window closes, the list is emitted again with its final labels, so
    items that were shown and not clicked become negatives. A dislike or a retraction after a click sets the label back
    to 0. The same events give the same rows for any division into micro-batches. Keep one joiner per partition.
    """

    def __init__(self, window: float, max_closed_per_event: int = 256) -> None:
        if window <= 0:
            raise ValueError(f"window must be a positive number of seconds, got {window}")
        self._window_ms = round(window * 1000)
        self._max_closed_per_event = max_closed_per_event
        self._open: dict[int, _OpenImpression] = {}  # by impression key
        self._deadlines: list[tuple[int, int]] = []  # heap of (event time, impression key)
        self._close_cursor = 0, 0  # row of the current micro-batch that closes impressions, and their number so far

    def __len__(self) -> int:
        return len(self._open)

    def join(self, batch: ExampleBatch, watermarks: Sequence[int]) -> ExampleBatch:
        """Insert clicked and closed lists into a micro-batch, each behind the row that caused it.

        `watermarks`: after each row, ms; they never fall.
        """
        outcomes: list[_Outcome] = []
        self._close_cursor = 0, 0
        organic = batch.organic.copy()
        names_impression = _names_impression(batch)
        impressions, actions = self._new_impressions(batch), _actions(batch, names_impression)
        is_impression = (batch.kind == Kind.shown).tolist()
        previous = 0
        for row in np.flatnonzero((batch.kind == Kind.shown) | names_impression).tolist():
            outcomes += self._close(watermarks, previous, row)
            previous = row
            if is_impression[row]:
                self._show(next(impressions))
                continue
            outcome = self._act(next(actions))
            organic[row] = outcome is None
            if outcome and outcome.labels.size:
                outcomes.append(outcome)
        outcomes += self._close(watermarks, previous, len(batch))
        metrics.actions_joined.inc(sum(outcome.kind == Kind.clicked for outcome in outcomes))
        return _merge_in_order(replace(batch, organic=organic), outcomes)

    def restore(self, batch: ExampleBatch) -> None:
        """Apply joined rows of published blocks, so that their open impressions are open again."""
        is_dislike = _names_impression(batch) & (batch.sign < 0)
        impressions, dislikes = self._new_impressions(batch), _actions(batch, is_dislike)
        start = batch.lists.start
        for row in np.flatnonzero(~np.isin(batch.kind, _WITHOUT_LIST) | is_dislike).tolist():
            open_impression = self._open.get(int(batch.impression[row]))
            if is_dislike[row]:
                _clear_label(open_impression, next(dislikes))
            elif batch.kind[row] == Kind.shown:
                self._show(next(impressions))
            elif open_impression and batch.kind[row] == Kind.clicked:
                open_impression.click_labels = batch.lists.label[start[row] : start[row + 1]].copy()
            elif open_impression:
                del self._open[open_impression.impression]

    def _new_impressions(self, batch: ExampleBatch) -> Iterator[_OpenImpression]:
        """Impressions of a micro-batch in order, without any action."""
        impressions = batch.take(np.flatnonzero(batch.kind == Kind.shown))
        deadlines = (impressions.queries.ts + self._window_ms).tolist()
        for i, (impression, deadline) in enumerate(zip(impressions.impression.tolist(), deadlines, strict=True)):
            yield _OpenImpression(impressions, i, impression, deadline)

    def _show(self, impression: _OpenImpression) -> None:
        if impression.impression in self._open:
            metrics.impressions_duplicate.inc()
            return
        self._open[impression.impression] = impression
        heapq.heappush(self._deadlines, (impression.deadline, impression.impression))

    def _act(self, action: _Action) -> _Outcome | None:
        """Labels after an action; None without an open impression, empty if nothing changes."""
        open_impression = self._open.get(action.impression)
        position = open_impression.find_position(action.item, action.user) if open_impression else None
        if open_impression is None or position is None:
            # Late or forged: its propensity is unknown, so it trains as an organic action only.
            metrics.actions_unmatched.inc()
            return None
        _clear_label(open_impression, action)
        labels = open_impression.labels
        if action.sign < 0 or action.type not in POSITIVE_TYPES or labels[position] == 1:
            return _Outcome(open_impression, _NO_LABELS, action.row, Kind.clicked)
        labels[position] = 1
        open_impression.click_labels = labels
        return _Outcome(open_impression, labels.copy(), action.row, Kind.clicked)

    def _close(self, watermarks: Sequence[int], first: int, end: int) -> Iterator[_Outcome]:
        """Close impressions that rows [first, end) make due.

        None of these rows shows an impression or acts on one.
        """
        while end and self._deadlines and self._deadlines[0][0] <= watermarks[end - 1]:
            deadline, impression = self._deadlines[0]
            open_impression = self._open.get(impression)
            if open_impression is None or open_impression.deadline != deadline:  # closed before a restart
                heapq.heappop(self._deadlines)
                continue
            cause, n_closed = self._next_to_close(max(first, bisect_left(watermarks, deadline, 0, end)))
            if cause >= end:
                return
            self._close_cursor = cause, n_closed + 1
            heapq.heappop(self._deadlines)
            del self._open[impression]
            yield _Outcome(open_impression, open_impression.labels, cause, Kind.closed)

    def _next_to_close(self, due: int) -> tuple[int, int]:
        """First row from `due` on that can close an impression, and the number it has closed.

        All rows that one event causes are in one block, which must fit into a record of the log. So the first event
        after a quiet night closes only some of the impressions that are due, and the next events close the others.
        """
        row, n_closed = self._close_cursor
        if due > row:
            return due, 0
        return (row, n_closed) if n_closed < self._max_closed_per_event else (row + 1, 0)


def _names_impression(batch: ExampleBatch) -> np.ndarray:
    """Mark the actions and retractions that name an impression, (n,) bool."""
    names_impression: np.ndarray = np.isin(batch.kind, (Kind.action, Kind.retracted)) & (batch.impression != 0)
    return names_impression


def _clear_label(impression: _OpenImpression | None, action: _Action) -> None:
    """Set the label of a disliked item back to 0; any other action changes nothing."""
    if action.sign >= 0 or impression is None or impression.click_labels is None:
        return
    position = impression.find_position(action.item, action.user)
    if position is not None:
        impression.click_labels[position] = 0


def _actions(batch: ExampleBatch, mask: np.ndarray) -> Iterator[_Action]:
    """Actions of a micro-batch that are in the mask, (n,) bool, in order."""
    rows = np.flatnonzero(mask)
    items = batch.lists.item[batch.lists.start[rows]]
    columns = rows, batch.impression[rows], batch.queries.user[rows], items, batch.type[rows], batch.sign[rows]
    return map(_Action, *(column.tolist() for column in columns))


def _merge_in_order(batch: ExampleBatch, outcomes: Sequence[_Outcome]) -> ExampleBatch:
    if not outcomes:
        return batch
    causes = np.array([outcome.cause for outcome in outcomes])
    all_rows = concat([batch, _outcome_rows(batch, outcomes)])
    return all_rows.take(np.argsort(np.concatenate([np.arange(len(batch)), causes]), kind="stable"))


def _outcome_rows(batch: ExampleBatch, outcomes: Sequence[_Outcome]) -> ExampleBatch:
    """Rows of these outcomes with their labels, in the given order."""
    by_block: dict[int, list[int]] = {}
    for i, outcome in enumerate(outcomes):
        by_block.setdefault(id(outcome.impression.batch), []).append(i)
    batches = [
        outcomes[indices[0]].impression.batch.take(np.array([outcomes[i].impression.row for i in indices]))
        for indices in by_block.values()
    ]
    rows = concat(batches).take(np.argsort(np.concatenate([np.array(indices) for indices in by_block.values()])))
    cause = np.array([outcome.cause for outcome in outcomes])
    kind = np.array([outcome.kind for outcome in outcomes], np.uint8)
    is_closed = kind == Kind.closed
    return replace(
        rows,
        kind=kind,
        event=np.where(is_closed, 0, batch.event[cause]).astype(np.uint64),
        type=np.where(is_closed, EventType.impression, batch.type[cause]).astype(np.uint8),
        ts=batch.ts[cause],
        value=np.where(is_closed, np.nan, batch.value[cause]).astype(np.float32),
        offset=batch.offset[cause],
        impression_offset=rows.offset,
        lists=replace(rows.lists, label=np.concatenate([outcome.labels for outcome in outcomes])),
    )
