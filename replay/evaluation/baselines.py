"""What a model worth its name is ahead of: counts, counts that fade, what goes together, the list as it stood."""

from dataclasses import dataclass

import numpy as np

from online_models.retrievers.top_k import best
from replay.evaluation.ranking_metrics import place_of
from stream.ids import KeyIndex
from stream.jit import kernel
from stream.records.batches import EventType, ExampleBatch, Kind, flat_runs, offsets_of

HALF_LIVES = (3_600.0, 21_600.0, 86_400.0, 604_800.0)  # seconds in which what was popular counts half
HALF_LIFE = 21_600.0  # the same for clicks on lists
PRIOR = 20.0  # shows at the general rate that a click rate starts with
_LAST = 10  # actions of the history that co-occurrence looks back on
_BACK = 0.5  # weight of a pair against the order in which it came
_MIX = np.uint64(0x9E3779B97F4A7C15)
_FAR = 256.0  # half-lives after which fading counts are put on a new scale


@dataclass(frozen=True, slots=True)
class Standing:
    """An answer judged: how many items stand before the target (infinity: not in it), and the first k, by key."""

    place: float
    top: np.ndarray  # (≤ k,) uint64


@dataclass(frozen=True, slots=True)
class Opinion:
    """What is thought of the items of some lists, one entry per item shown."""

    scores: np.ndarray  # (m,) float, comparable within a list
    chances: np.ndarray | None  # (m,) float in (0, 1), None: says nothing of probabilities


class Seen:
    """The items that events have named, by order of first sight."""

    def __init__(self) -> None:
        self._index = KeyIndex(1024)
        self.keys = np.zeros(1024, np.uint64)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Rows of keys, (n,) int32, -1 = never seen."""
        return self._index.find(keys)

    def admit(self, keys: np.ndarray) -> None:
        _, fresh = self._index.number(keys, self._used)
        self.keys = grown(self.keys, self._used + fresh.size)
        self.keys[self._used : self._used + fresh.size] = fresh
        self._used += fresh.size


def grown(array: np.ndarray, size: int) -> np.ndarray:
    """The array, or a copy at least twice as large when it is too small; new entries are 0."""
    if size <= array.shape[0]:
        return array
    larger = np.zeros((max(size, 2 * array.shape[0]), *array.shape[1:]), array.dtype)
    larger[: array.shape[0]] = array
    return larger


def interest(batch: ExampleBatch) -> np.ndarray:
    """Rows of the batch that are actions, but for dislikes."""
    return np.flatnonzero((batch.kind == Kind.action) & (batch.type != EventType.dislike))


def items_of(batch: ExampleBatch, rows: np.ndarray) -> np.ndarray:
    """Keys of the items that action rows are about."""
    keys: np.ndarray = batch.lists.item[batch.lists.start[rows]]
    return keys


class Counts:
    """One number per item seen, that fades by half in `half_life` seconds (infinity: it stays)."""

    def __init__(self, seen: Seen, half_life: float = np.inf) -> None:
        self._seen = seen
        self._half_life_ms = half_life * 1000
        # On the scale of `_origin`: later events weigh more, so that earlier ones need no fading.
        self._values = np.zeros(1024)
        self._origin: int | None = None

    def add(self, keys: np.ndarray, ts: np.ndarray) -> None:
        """Count items, (n,) keys of seen ones, at their times in ms."""
        if keys.size == 0:
            return
        self._values = grown(self._values, len(self._seen))
        self._origin = int(ts[0]) if self._origin is None else self._origin
        if self._exponent(int(ts.max())) > _FAR:
            self._values *= np.exp2(-self._exponent(int(ts.max())))
            self._origin = int(ts.max())
        np.add.at(self._values, self._seen.find(keys), np.exp2((ts - self._origin) / self._half_life_ms))

    def raw(self) -> np.ndarray:
        """(len(seen),) counts that compare with each other, on a scale that moves with time."""
        self._values = grown(self._values, len(self._seen))
        return self._values[: len(self._seen)]

    def at(self, ts: int) -> np.ndarray:
        """(len(seen),) counts as they have faded by `ts`."""
        faded: np.ndarray = self.raw() * np.exp2(-self._exponent(ts))
        return faded

    def _exponent(self, ts: int) -> float:
        return 0.0 if self._origin is None else max(-_FAR, (ts - self._origin) / self._half_life_ms)


class Popular:
    """Items by how often they were acted on."""

    def __init__(self, seen: Seen, k: int) -> None:
        self._seen, self._k = seen, k
        self._counts = Counts(seen)

    def pick(self, batch: ExampleBatch, i: int, hidden: np.ndarray, target: int) -> Standing:
        return standing(self._seen, self._counts.raw(), hidden, target, self._k)

    def learn(self, batch: ExampleBatch) -> None:
        rows = interest(batch)
        self._counts.add(items_of(batch, rows), batch.ts[rows])


class FadingPopular:
    """Items by how often they were acted on of late; of several half-lives, the one that has hit most so far."""

    def __init__(self, seen: Seen, k: int) -> None:
        self._seen, self._k = seen, k
        self._counts = [Counts(seen, half_life) for half_life in HALF_LIVES]
        self._hits = np.zeros(len(HALF_LIVES))

    def pick(self, batch: ExampleBatch, i: int, hidden: np.ndarray, target: int) -> Standing:
        answers = [standing(self._seen, counts.raw(), hidden, target, self._k) for counts in self._counts]
        answer = answers[int(self._hits.argmax())]
        self._hits += [each.place < self._k for each in answers]
        return answer

    def learn(self, batch: ExampleBatch) -> None:
        rows = interest(batch)
        for counts in self._counts:
            counts.add(items_of(batch, rows), batch.ts[rows])


class Cooccurrence:
    """Items that came after (weight 1) or before (0.5) the person's last ten, within ten actions of one person.

    Ties, and people of whom nothing is known, go by popularity.
    """

    def __init__(self, seen: Seen, k: int) -> None:
        self._seen, self._k = seen, k
        self._counts = Counts(seen)
        self._index = KeyIndex(1 << 16)
        self._pairs = 0
        self._weight, self._to = np.zeros(1 << 16, np.float32), np.zeros(1 << 16, np.int32)
        self._next = np.zeros(1 << 16, np.int32)  # chains of the pairs of an item, as number + 1; 0 ends one
        self._head = np.zeros(1024, np.int32)

    def pick(self, batch: ExampleBatch, i: int, hidden: np.ndarray, target: int) -> Standing:
        questions = batch.questions
        end = questions.history_start[i + 1]
        last = slice(max(questions.history_start[i], end - _LAST), end)
        rows = self._seen.find(questions.history_item[last][questions.history_type[last] != EventType.dislike])
        counts = self._counts.raw()
        scores = counts * (_BACK / 2 / (counts.max(initial=0.0) + 1))  # less than the least weight
        self._head = grown(self._head, len(self._seen))
        _gather(rows, self._head, self._next, self._to, self._weight, scores)
        return standing(self._seen, scores, hidden, target, self._k)

    def learn(self, batch: ExampleBatch) -> None:
        rows = interest(batch)
        self._counts.add(items_of(batch, rows), batch.ts[rows])
        questions = batch.questions
        end = questions.history_start[rows + 1]
        first = np.maximum(questions.history_start[rows], end - _LAST)
        runs = offsets_of(end - first)
        flat = np.arange(runs[-1]) - np.repeat(runs[:-1] - first, end - first)
        before, after = questions.history_item[flat], np.repeat(items_of(batch, rows), end - first)
        pairs = (before != after) & (questions.history_type[flat] != EventType.dislike)
        self._add(before[pairs], after[pairs], 1.0)
        self._add(after[pairs], before[pairs], _BACK)

    def _add(self, from_: np.ndarray, to: np.ndarray, weight: float) -> None:
        numbers, fresh = self._index.number(from_ * _MIX ^ to, self._pairs)
        held, self._pairs = self._pairs, self._pairs + fresh.size
        self._weight, self._to, self._next = (grown(a, self._pairs) for a in (self._weight, self._to, self._next))
        self._head = grown(self._head, len(self._seen))
        np.add.at(self._weight, numbers, np.float32(weight))
        new, where = np.unique(numbers, return_index=True)
        new, where = new[new >= held], where[new >= held]
        _chain(new, self._seen.find(from_[where]), self._seen.find(to[where]), self._head, self._next, self._to)


class AsListed:
    """A list in the order in which it was shown."""

    def order(self, batch: ExampleBatch, rows: np.ndarray) -> Opinion:
        return Opinion(-batch.lists.take(rows).position.astype(np.float32), None)

    def learn(self, batch: ExampleBatch) -> None:
        pass


class FadingClicks:
    """Listed items by their clicks of late."""

    def __init__(self, seen: Seen, half_life: float = HALF_LIFE) -> None:
        self._seen = seen
        self._clicks = Counts(seen, half_life)

    def order(self, batch: ExampleBatch, rows: np.ndarray) -> Opinion:
        return Opinion(_known(self._clicks.raw(), self._seen.find(batch.lists.take(rows).item)), None)

    def learn(self, batch: ExampleBatch) -> None:
        _count_clicks(batch, self._clicks)


class FadingClickRate:
    """Listed items by their clicks of late per time shown, drawn towards the rate of all."""

    def __init__(self, seen: Seen, half_life: float = HALF_LIFE) -> None:
        self._seen = seen
        self._clicks, self._shows = Counts(seen, half_life), Counts(seen, half_life)

    def order(self, batch: ExampleBatch, rows: np.ndarray) -> Opinion:
        if rows.size == 0:
            return Opinion(np.zeros(0), np.zeros(0))
        now = int(batch.ts[rows].max())
        clicks, shows = self._clicks.at(now), self._shows.at(now)
        general = (clicks.sum() + 1) / (shows.sum() + PRIOR)
        found = self._seen.find(batch.lists.take(rows).item)
        rate = (_known(clicks, found) + PRIOR * general) / (_known(shows, found) + PRIOR)
        return Opinion(rate, np.clip(rate, 0.0, 1.0))

    def learn(self, batch: ExampleBatch) -> None:
        _count_clicks(batch, self._clicks)
        rows = np.flatnonzero(batch.kind == Kind.shown)
        flat, start = flat_runs(batch.lists.start, rows)
        self._shows.add(batch.lists.item[flat], np.repeat(batch.ts[rows], np.diff(start)))


def standing(seen: Seen, scores: np.ndarray, hidden: np.ndarray, target: int, k: int) -> Standing:
    """Rank all items seen but the hidden ones, by key; an unseen or hidden target is out."""
    allowed = scores.copy()
    rows = seen.find(hidden)
    allowed[rows[rows >= 0]] = -np.inf
    row = int(seen.find(np.array([target], np.uint64))[0])
    place = np.inf if row < 0 or allowed[row] == -np.inf else place_of(allowed, row)
    chosen = np.empty(k, np.int64)
    chosen = chosen[: best(allowed, allowed.size, chosen)]
    return Standing(place, seen.keys[chosen[allowed[chosen] > -np.inf]])


def _count_clicks(batch: ExampleBatch, clicks: Counts) -> None:
    rows = np.flatnonzero((batch.kind == Kind.action) & (batch.type == EventType.click))
    clicks.add(items_of(batch, rows), batch.ts[rows])


def _known(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Values of rows, 0 for those of -1."""
    found = np.zeros(rows.size)
    found[rows >= 0] = values[rows[rows >= 0]]
    return found


@kernel
def _gather(
    rows: np.ndarray, head: np.ndarray, next_: np.ndarray, to: np.ndarray, weight: np.ndarray, scores: np.ndarray
) -> None:
    for i in range(rows.size):
        if rows[i] < 0:
            continue
        pair = head[rows[i]]
        while pair:
            scores[to[pair - 1]] += weight[pair - 1]
            pair = next_[pair - 1]


@kernel
def _chain(
    pairs: np.ndarray, from_: np.ndarray, ends: np.ndarray, head: np.ndarray, next_: np.ndarray, to: np.ndarray
) -> None:
    for i in range(pairs.size):
        to[pairs[i]] = ends[i]
        next_[pairs[i]] = head[from_[i]]
        head[from_[i]] = pairs[i] + 1
