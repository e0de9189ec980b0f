"""What the log says of each item: counts that fade over several horizons, times, and what the catalogue told."""

from dataclasses import dataclass

import numpy as np

from online_models.state.contribution_caps import COUNTED_AS, SHOWN, VIEWED, by_person
from online_models.state.tables import Column, State, Table, joined, part_of
from stream.jit import kernel
from stream.records.batches import EventType, ExampleBatch, Kind, Lists, Questions, flat_runs

HORIZONS = np.array([600, 3_600, 6 * 3_600, 86_400, 7 * 86_400, 60 * 86_400], np.float64)  # half-lives in seconds
_DAY = 3  # place of the day among the horizons
NO_TIME = -(2**62)  # stands for "not known" in columns of times
N_CATEGORIES = 4


@dataclass(frozen=True, slots=True)
class People:
    """Questions whose items are found in the item table."""

    questions: Questions
    history: np.ndarray  # (h,) int32, item rows of `questions.history_item`, -1 = unknown
    shown: np.ndarray  # (s,) int32, the same of `questions.shown_item`

    def take(self, rows: np.ndarray) -> "People":
        history, _ = flat_runs(self.questions.history_start, rows)
        shown, _ = flat_runs(self.questions.shown_start, rows)
        return People(self.questions.take(rows), self.history[history], self.shown[shown])


@dataclass(frozen=True, slots=True)
class Slates:
    """Lists of items by their rows: list i is entries [start[i], start[i + 1])."""

    start: np.ndarray  # (n + 1,) int64
    row: np.ndarray  # (m,) int32, -1 = an item that the table does not know
    position: np.ndarray  # (m,) int16, -1 = not shown yet
    price: np.ndarray  # (m,) float32, NaN = not said


@dataclass(frozen=True, slots=True)
class Actions:
    """What people did, in order of events: a person, one item, how it is counted."""

    people: People
    row: np.ndarray  # (n,) int32
    ts: np.ndarray  # (n,) int64, ms

    def __len__(self) -> int:
        return int(self.row.size)


@kernel
def _fade(counts: np.ndarray, stamp: np.ndarray, row: int, ts: int, horizons: np.ndarray) -> None:
    """Bring one row's counts to the time `ts`; a time before the row's own leaves them alone."""
    age = (ts - stamp[row]) / 1000.0
    if age <= 0.0:
        return
    for h in range(horizons.size):
        kept = np.float32(2.0 ** (-age / horizons[h]))
        for kind in range(counts.shape[1]):
            counts[row, kind, h] *= kept
    stamp[row] = ts


@kernel
def _count(
    rows: np.ndarray,
    types: np.ndarray,
    values: np.ndarray,
    times: np.ndarray,
    capped: np.ndarray,
    counted_as: np.ndarray,
    horizons: np.ndarray,
    counts: np.ndarray,
    stamp: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    ever: np.ndarray,
    rating: np.ndarray,
) -> None:
    for i in range(rows.size):
        row, ts, kind = rows[i], times[i], counted_as[types[i]]
        if row < 0:
            continue
        ever[row, types[i]] += 1
        if first[row] < -(2**61) or ts < first[row]:
            first[row] = ts
        if capped[i]:
            continue
        if types[i] == 8 and np.isfinite(values[i]) and abs(values[i]) < 1e6:
            rating[row, 0] += values[i]
            rating[row, 1] += 1
        if kind < 0:
            continue
        if kind != 0 and ts > last[row]:
            last[row] = ts
        _fade(counts, stamp, row, ts, horizons)
        late = (stamp[row] - ts) / 1000.0
        for h in range(horizons.size):
            counts[row, kind, h] += np.float32(2.0 ** (-late / horizons[h])) if late > 0.0 else np.float32(1.0)


class Items:
    """The item table that gives all others their rows. Nothing here is trained: it only counts.

    Counters and catalogue are tables apart, in step with each other: a click does not send the categories along.
    """

    def __init__(self) -> None:
        self.counters = Table(
            {
                "counts": Column("float32", (4, HORIZONS.size)),  # as of `stamp`
                "stamp": Column("int64", fill=NO_TIME),
                "first": Column("int64", fill=NO_TIME),
                "last": Column("int64", fill=NO_TIME),
                "ever": Column("int32", (len(EventType),)),
                "rating": Column("float32", (2,)),  # sum, number
            }
        )
        self.catalogue = Table(
            {
                "categories": Column("uint64", (N_CATEGORIES,)),
                "created": Column("int64", fill=NO_TIME),
                "price": Column("float32", fill=np.nan),
            }
        )

    def __len__(self) -> int:
        return len(self.counters)

    @property
    def keys(self) -> np.ndarray:
        return self.counters.keys

    def find(self, keys: np.ndarray) -> np.ndarray:
        return self.counters.find(keys)

    def admit(self, keys: np.ndarray) -> np.ndarray:
        """Rows of keys, (n,) int32; an unknown key gets the next row."""
        self.catalogue.admit(keys)
        return self.counters.admit(keys)

    def describe(self, rows: np.ndarray, categories: np.ndarray, created: np.ndarray, price: np.ndarray) -> None:
        """What the catalogue says: (n, 4) uint64 with 0 = none, (n,) int64 ms or NO_TIME, (n,) float32 or NaN."""
        self.catalogue["categories"][rows] = categories
        self.catalogue["created"][rows] = created
        self.catalogue["price"][rows] = np.where(np.isfinite(price), price, np.float32(np.nan))
        self.catalogue.touch(rows)

    def people(self, questions: Questions) -> People:
        return People(questions, self.find(questions.history_item), self.find(questions.shown_item))

    def slates(self, lists: Lists) -> Slates:
        return Slates(lists.start, self.find(lists.item), lists.position, lists.price)

    def learn(self, batch: ExampleBatch, capped: np.ndarray | None = None) -> None:
        """Count what was shown and what was done; `clicked` and `closed` rows say nothing new of an item.

        What is `capped`, (n,) bool, is counted in `ever` alone; by default what one person does too often.
        """
        told = (batch.kind == Kind.shown) | (batch.kind == Kind.action)
        lengths = np.diff(batch.lists.start)
        of_list = np.repeat(told, lengths)
        rows = self.find(batch.lists.item[of_list])
        columns = batch.type, batch.value, batch.ts, by_person(batch) if capped is None else capped
        types, values, times, capped = (np.repeat(column, lengths)[of_list] for column in columns)
        table = self.counters
        _count(
            rows, types, values, times, capped, COUNTED_AS, HORIZONS,
            table["counts"], table["stamp"], table["first"], table["last"], table["ever"], table["rating"],
        )  # fmt: skip
        table.touch(rows)

    def shown_share(self) -> float:
        """Share of the items that were shown at least once in about a day, by the time of the newest event."""
        shown, stamp = self.counters["counts"][: len(self), SHOWN, _DAY], self.counters["stamp"][: len(self)]
        if stamp.size == 0:
            return 0.0
        faded = shown * 2.0 ** ((stamp - stamp.max()) / 1000 / HORIZONS[_DAY])
        return float((faded >= 0.5).mean())

    def state(self) -> State:
        return joined({"counters": self.counters.state(), "catalogue": self.catalogue.state()})

    def restore(self, state: State) -> None:
        self.counters.restore(part_of(state, "counters"))
        self.catalogue.restore(part_of(state, "catalogue"))

    def changes(self) -> State:
        return joined({"counters": self.counters.changes(), "catalogue": self.catalogue.changes()})

    def apply(self, changes: State) -> None:
        self.counters.apply(part_of(changes, "counters"))
        self.catalogue.apply(part_of(changes, "catalogue"))


def keys_of_rows(items: Items, rows: np.ndarray) -> np.ndarray:
    """Keys of item rows, (n,) uint64, NO_KEY for -1."""
    keys = np.zeros(rows.size, np.uint64)
    keys[rows >= 0] = items.keys[rows[rows >= 0]]
    return keys


def actions_of(
    batch: ExampleBatch, items: Items, people: People, capped: np.ndarray | None = None
) -> tuple[Actions, np.ndarray]:
    """The rows of a batch that show interest in one item and still count, and their row numbers in the batch."""
    interest = (batch.kind == Kind.action) & (COUNTED_AS[batch.type] >= VIEWED)
    chosen = np.flatnonzero(interest & ~(by_person(batch) if capped is None else capped))
    rows = items.find(batch.lists.item[batch.lists.start[chosen]])
    return Actions(people.take(chosen), rows, batch.ts[chosen]), chosen
