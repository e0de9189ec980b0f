"""Join actions to the impression that earned them."""

import heapq
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stream import metrics
from stream.records.batches import EventType, ExampleBatch, Kind, concat

POSITIVE = tuple(map(int, (EventType.view, EventType.click, EventType.like, EventType.cart, EventType.purchase)))
_NOTHING = np.zeros(0, np.float32)
_CLOSED_AT_ONCE = 256  # impressions, by one event


@dataclass(slots=True)
class _Open:
    """An impression that still waits for actions: one row of the batch that showed it."""

    shown: ExampleBatch
    row: int
    impression: int
    deadline: int  # event time, ms, up to which actions count
    taken: np.ndarray | None = None  # (k,) float32, the labels so far; None: nothing was taken yet

    @property
    def items(self) -> np.ndarray:
        first, end = self.shown.lists.start[self.row : self.row + 2]
        return self.shown.lists.item[first:end]

    @property
    def labels(self) -> np.ndarray:
        return np.zeros(self.items.size, np.float32) if self.taken is None else self.taken

    def place_of(self, item: int, user: int) -> int | None:
        """Where this item stood in what this person was shown; None if they were not shown it."""
        items = self.items.tolist()
        return items.index(item) if item in items and self.shown.questions.user[self.row] == user else None


@dataclass(frozen=True, slots=True)
class _Act:
    """An action that names an impression."""

    row: int  # of the micro-batch
    impression: int
    user: int
    item: int
    type: int


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became known of an open impression, by which row of the micro-batch."""

    impression: _Open
    labels: np.ndarray
    cause: int  # row of the micro-batch
    kind: Kind


class Joiner:
    """Keeps each impression open until the watermark has passed its attribution window.

    A click makes a labelled list at once; when the window closes, the list comes once more with its final labels, so
    that what was shown and not clicked counts as such. The same events make the same rows, wherever the micro-batches
    end. One joiner per partition.
    """

    def __init__(self, window: float, closed_at_once: int = _CLOSED_AT_ONCE) -> None:
        if window <= 0:
            raise ValueError(f"window must be a positive number of seconds, got {window}")
        self._window_ms = round(window * 1000)
        self._closed_at_once = closed_at_once
        self._open: dict[int, _Open] = {}  # by impression key
        self._deadlines: list[tuple[int, int]] = []  # heap of (event time, impression key)
        self._closing = 0, 0  # row of the micro-batch in hand that closes impressions, and how many it has closed

    def __len__(self) -> int:
        return len(self._open)

    def join(self, batch: ExampleBatch, watermarks: Sequence[int]) -> ExampleBatch:
        """The micro-batch's rows with what they made known, behind the row that did: clicked lists, and closed ones.

        `watermarks`: after each row, ms; they never fall.
        """
        outcomes: list[_Outcome] = []
        self._closing = 0, 0
        organic = batch.organic.copy()
        opened, acts = self._opened(batch), _acts(batch)
        shows = (batch.kind == Kind.shown).tolist()
        last = 0
        for row in np.flatnonzero((batch.kind == Kind.shown) | (batch.impression != 0)).tolist():
            outcomes += self._close(watermarks, last, row)
            last = row
            if shows[row]:
                self._show(next(opened))
                continue
            outcome = self._act(next(acts))
            organic[row] = outcome is None
            if outcome and outcome.labels.size:
                outcomes.append(outcome)
        outcomes += self._close(watermarks, last, len(batch))
        metrics.actions_joined.inc(sum(outcome.kind == Kind.clicked for outcome in outcomes))
        return _in_order(replace(batch, organic=organic), outcomes)

    def restore(self, batch: ExampleBatch) -> None:
        """Take up joined rows that were published before, so that what they left open is open again."""
        opened = self._opened(batch)
        start = batch.lists.start
        for row in np.flatnonzero(batch.kind != Kind.action).tolist():
            held = self._open.get(int(batch.impression[row]))
            if batch.kind[row] == Kind.shown:
                self._show(next(opened))
            elif held and batch.kind[row] == Kind.clicked:
                held.taken = batch.lists.label[start[row] : start[row + 1]].copy()
            elif held:
                del self._open[held.impression]

    def _opened(self, batch: ExampleBatch) -> Iterator[_Open]:
        """The impressions of a micro-batch in order, as they are when nobody has acted yet."""
        shown = batch.take(np.flatnonzero(batch.kind == Kind.shown))
        deadlines = (shown.questions.ts + self._window_ms).tolist()
        for i, (impression, deadline) in enumerate(zip(shown.impression.tolist(), deadlines, strict=True)):
            yield _Open(shown, i, impression, deadline)

    def _show(self, shown: _Open) -> None:
        if shown.impression in self._open:
            metrics.impressions_repeated.inc()
            return
        self._open[shown.impression] = shown
        heapq.heappush(self._deadlines, (shown.deadline, shown.impression))

    def _act(self, act: _Act) -> _Outcome | None:
        """The list an action answers, with its new label; None if it answers none, empty labels if nothing is new."""
        held = self._open.get(act.impression)
        place = held.place_of(act.item, act.user) if held else None
        if held is None or place is None:
            # Late or forged: we know no propensity for it, so it teaches as an organic action only.
            metrics.actions_unmatched.inc()
            return None
        labels = held.labels
        if act.type not in POSITIVE or labels[place] == 1:
            return _Outcome(held, _NOTHING, act.row, Kind.clicked)
        labels[place] = 1
        held.taken = labels
        return _Outcome(held, labels.copy(), act.row, Kind.clicked)

    def _close(self, watermarks: Sequence[int], first: int, end: int) -> Iterator[_Outcome]:
        """Close what rows [first, end) closed; nothing was shown or done with an impression between those two."""
        while end and self._deadlines and self._deadlines[0][0] <= watermarks[end - 1]:
            deadline, impression = self._deadlines[0]
            held = self._open.get(impression)
            if held is None or held.deadline != deadline:  # closed before a restart
                heapq.heappop(self._deadlines)
                continue
            cause, closed = self._next_to_close(max(first, bisect_left(watermarks, deadline, 0, end)))
            if cause >= end:
                return
            self._closing = cause, closed + 1
            heapq.heappop(self._deadlines)
            del self._open[impression]
            yield _Outcome(held, held.labels, cause, Kind.closed)

    def _next_to_close(self, due: int) -> tuple[int, int]:
        """The first row from `due` on that may close one more, and how many it has closed.

        What one event makes known stands in one block, which must fit into a record of the log: so the first event of
        a morning does not close all that the night left open.
        """
        row, closed = self._closing
        if due > row:
            return due, 0
        return (row, closed) if closed < self._closed_at_once else (row + 1, 0)


def _acts(batch: ExampleBatch) -> Iterator[_Act]:
    """The actions of a micro-batch that name an impression, in order."""
    rows = np.flatnonzero((batch.kind != Kind.shown) & (batch.impression != 0))
    items = batch.lists.item[batch.lists.start[rows]]
    columns = rows, batch.impression[rows], batch.questions.user[rows], items, batch.type[rows]
    return map(_Act, *(column.tolist() for column in columns))


def _in_order(batch: ExampleBatch, outcomes: Sequence[_Outcome]) -> ExampleBatch:
    if not outcomes:
        return batch
    causes = np.array([outcome.cause for outcome in outcomes])
    everything = concat([batch, _outcome_rows(batch, outcomes)])
    return everything.take(np.argsort(np.concatenate([np.arange(len(batch)), causes]), kind="stable"))


def _outcome_rows(batch: ExampleBatch, outcomes: Sequence[_Outcome]) -> ExampleBatch:
    """The lists of these outcomes with their labels, in the order given."""
    by_block: dict[int, list[int]] = {}
    for i, outcome in enumerate(outcomes):
        by_block.setdefault(id(outcome.impression.shown), []).append(i)
    picked = [
        outcomes[where[0]].impression.shown.take(np.array([outcomes[i].impression.row for i in where]))
        for where in by_block.values()
    ]
    rows = concat(picked).take(np.argsort(np.concatenate([np.array(where) for where in by_block.values()])))
    cause = np.array([outcome.cause for outcome in outcomes])
    kind = np.array([outcome.kind for outcome in outcomes], np.uint8)
    closing = kind == Kind.closed
    return replace(
        rows,
        kind=kind,
        event=np.where(closing, 0, batch.event[cause]).astype(np.uint64),
        type=np.where(closing, EventType.impression, batch.type[cause]).astype(np.uint8),
        ts=batch.ts[cause],
        value=np.where(closing, np.nan, batch.value[cause]).astype(np.float32),
        offset=batch.offset[cause],
        origin=rows.offset,
        lists=replace(rows.lists, label=np.concatenate([outcome.labels for outcome in outcomes])),
    )
