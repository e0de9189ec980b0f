"""The numbers that say how a person and an item stand to one another at a moment: one row per (question, candidate)."""

from typing import Protocol

import numpy as np

from online_models.items import HORIZONS, Items, People, Slates
from online_models.retrievers.selection import Scratch
from online_models.tables import State
from stream.compiled import kernel

_H = ("10m", "1h", "6h", "1d", "7d", "60d")
ITEM = (
    *(f"acts_{h}" for h in _H),
    *(f"clicks_{h}" for h in _H[1:5]),
    *(f"views_{h}" for h in _H[1:5]),
    *(f"valued_{h}" for h in _H[3:]),
    *(f"shown_{h}" for h in _H[1:5]),
    *(f"click_rate_{h}" for h in _H[1:5]),
    "age",
    "since_created",
    "since_act",
    "rating",
    "rated",
)
OWN = ("own_touches", "own_recency", "own_back", "own_session", "own_strong", "own_last", "category_share", "category_latest")
LIST = ("position_known", "position_first", "position_inverse", "position_log", "price", "price_rank", "price_own")
CONTEXT = ("history_length", "session_depth", "list_length", "session_age", "hour_sin", "hour_cos")
COMPARED = ("acts_1h", "acts_6h", "acts_1d", "acts_7d", "click_rate_1h", "click_rate_6h", "click_rate_1d", "age", "since_act", "own_recency")


class Scored(Protocol):
    """A retriever that also says, for any item, how strongly it would have found it."""

    names: tuple[str, ...]
    scales: tuple[float, ...]  # scores ≥ 0 enter as log(1 + scale · score), those of scale 0 as they are

    def features(self, people: People, slates: Slates, out: np.ndarray, column: int) -> None:
        """Write scores into columns of `out` that hold zeros."""
        ...


@kernel
def _item_block(
    ts: np.ndarray,
    start: np.ndarray,
    row: np.ndarray,
    horizons: np.ndarray,
    counts: np.ndarray,
    stamp: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    rating: np.ndarray,
    mean_rating: float,
    created: np.ndarray,
    out: np.ndarray,
    column: int,
) -> None:
    now = np.empty((4, horizons.size), np.float32)
    acts = np.empty(horizons.size, np.float32)
    for i in range(ts.size):
        for m in range(start[i], start[i + 1]):
            r = row[m]
            if r < 0:
                continue
            age = np.float32(max(0, ts[i] - stamp[r]) / 1000.0)
            for h in range(horizons.size):
                kept = np.float32(2.0) ** (-age / np.float32(horizons[h]))
                for kind in range(4):
                    now[kind, h] = counts[r, kind, h] * kept
                acts[h] = now[1, h] + now[2, h] + now[3, h]
            c = column
            for h in range(6):
                out[m, c + h] = np.log(np.float32(1.0) + acts[h])
            c += 6
            for h in range(1, 5):
                out[m, c + h - 1] = np.log(np.float32(1.0) + now[2, h])
                out[m, c + h + 3] = np.log(np.float32(1.0) + now[1, h])
                out[m, c + h + 10] = np.log(np.float32(1.0) + now[0, h])
                out[m, c + h + 14] = np.log((now[2, h] + np.float32(0.5)) / (now[0, h] + np.float32(8.0))) + np.float32(2.8)
            for h in range(3, 6):
                out[m, c + 8 + h - 3] = np.log(np.float32(1.0) + now[3, h])
            c += 19
            hour = np.float32(3.6e6)
            if first[r] > -(2**61):
                out[m, c] = np.log(np.float32(0.1) + np.float32(max(0, ts[i] - first[r])) / hour)
            if created[r] > -(2**61):
                out[m, c + 1] = np.log(np.float32(1.0) + np.float32(max(0, ts[i] - created[r])) / (hour * np.float32(24.0)))
            out[m, c + 2] = np.float32(8.0)
            if last[r] > -(2**61):
                out[m, c + 2] = np.log(np.float32(0.1) + np.float32(max(0, ts[i] - last[r])) / hour)
            out[m, c + 3] = (rating[r, 0] - mean_rating * rating[r, 1]) / (rating[r, 1] + np.float32(5.0))
            out[m, c + 4] = np.log(np.float32(1.0) + rating[r, 1])


@kernel
def _own_block(
    ts: np.ndarray,
    session_start: np.ndarray,
    history_start: np.ndarray,
    history: np.ndarray,
    history_type: np.ndarray,
    history_ts: np.ndarray,
    categories: np.ndarray,
    start: np.ndarray,
    row: np.ndarray,
    place: np.ndarray,
    out: np.ndarray,
    column: int,
) -> None:
    for i in range(ts.size):
        begin, end = history_start[i], history_start[i + 1]
        for m in range(start[i], start[i + 1]):
            if row[m] >= 0:
                place[row[m]] = m
        for back in range(end - begin):
            h = end - 1 - back
            if history[h] < 0 or place[history[h]] < 0:
                continue
            m = place[history[h]]
            if out[m, column] == 0.0:
                hours = np.float32(max(0, ts[i] - history_ts[h]) / 3.6e6)
                out[m, column + 1] = np.float32(1.0) / (np.float32(1.0) + np.log(np.float32(1.0) + hours))
                out[m, column + 2] = np.float32(1.0) / np.float32(1.0 + back)
                out[m, column + 5] = np.float32(1.0) if back == 0 else np.float32(0.0)
            out[m, column] += np.float32(1.0)
            if history_ts[h] >= session_start[i]:
                out[m, column + 3] += np.float32(1.0)
            if history_type[h] != 1 and history_type[h] != 7:
                out[m, column + 4] += np.float32(1.0)
        depth = min(24, end - begin)
        for m in range(start[i], start[i + 1]):
            for c in (0, 3, 4):
                out[m, column + c] = np.log(np.float32(1.0) + out[m, column + c])
            r = row[m]
            if r < 0:
                continue
            place[r] = -1
            if categories[r, 0] == np.uint64(0):
                continue
            weight, total = np.float32(1.0), np.float32(1.0)
            share = np.float32(0.0)
            for back in range(depth):
                o = history[end - 1 - back]
                if o < 0 or categories[o, 0] == np.uint64(0):
                    continue
                alike, own = 0, 0
                for a in range(4):
                    if categories[o, a] == np.uint64(0):
                        break
                    own += 1
                    for b in range(4):
                        if categories[o, a] == categories[r, b]:
                            alike += 1
                            break
                value = np.float32(alike / own)
                if back == 0:
                    out[m, column + 7] = value
                share += weight * value
                total += weight
                weight *= np.float32(0.9)
            out[m, column + 6] = share / total


@kernel
def _list_block(
    ts: np.ndarray,
    session_start: np.ndarray,
    session_depth: np.ndarray,
    history_start: np.ndarray,
    history: np.ndarray,
    catalogue_price: np.ndarray,
    start: np.ndarray,
    row: np.ndarray,
    position: np.ndarray,
    price: np.ndarray,
    out: np.ndarray,
    column: int,
) -> None:
    for i in range(ts.size):
        begin, end = start[i], start[i + 1]
        mean, priced = np.float32(0.0), 0
        for m in range(begin, end):
            p = price[m]
            if not (p > 0.0 and p < 1e12):
                p = catalogue_price[row[m]] if row[m] >= 0 else np.float32(0.0)
            if p > 0.0 and p < 1e12:
                out[m, column + 4] = np.log(p)
                mean += out[m, column + 4]
                priced += 1
            if position[m] >= 0:
                out[m, column] = 1.0
                out[m, column + 1] = 1.0 if position[m] == 0 else 0.0
                out[m, column + 2] = np.float32(1.0) / np.float32(1.0 + position[m])
                out[m, column + 3] = np.log(np.float32(1.0 + position[m]))
        if priced:
            mean /= np.float32(priced)
            level, known = np.float32(0.0), 0
            for back in range(min(16, history_start[i + 1] - history_start[i])):
                o = history[history_start[i + 1] - 1 - back]
                if o >= 0 and catalogue_price[o] > 0.0:
                    level += np.log(catalogue_price[o])
                    known += 1
            for m in range(begin, end):
                if out[m, column + 4] == 0.0:
                    continue
                if known:
                    out[m, column + 6] = abs(out[m, column + 4] - level / np.float32(known))
                if end - begin <= 64:
                    cheaper = 0
                    for o in range(begin, end):
                        cheaper += out[o, column + 4] != 0.0 and price[o] < price[m]
                    out[m, column + 5] = np.float32(cheaper / priced)
            for m in range(begin, end):
                if out[m, column + 4] != 0.0:
                    out[m, column + 4] -= mean
        one = np.float32(1.0)
        shared = column + 7
        day = 2.0 * np.pi * ((ts[i] % 86_400_000) / 86_400_000.0)
        for m in range(begin, end):
            out[m, shared] = np.log(one + np.float32(history_start[i + 1] - history_start[i]))
            out[m, shared + 1] = np.log(one + np.float32(max(0, session_depth[i])))
            out[m, shared + 2] = np.log(one + np.float32(end - begin))
            out[m, shared + 3] = np.log(one + np.float32(max(0, ts[i] - session_start[i]) / 60000.0))
            out[m, shared + 4] = np.float32(np.sin(day))
            out[m, shared + 5] = np.float32(np.cos(day))


@kernel
def _log_columns(out: np.ndarray, column: int, scales: np.ndarray) -> None:
    """Sparse scores, spread: log(1 + scale · score)."""
    for m in range(out.shape[0]):
        for c in range(scales.size):
            if scales[c] > 0.0:
                out[m, column + c] = np.log(np.float32(1.0) + scales[c] * out[m, column + c])


@kernel
def _against_best(start: np.ndarray, out: np.ndarray, columns: np.ndarray, column: int) -> None:
    """How far each item of a list lies behind the list's best in the chosen columns."""
    for i in range(start.size - 1):
        for c in range(columns.size):
            top = np.float32(-1e30)
            for m in range(start[i], start[i + 1]):
                top = max(top, out[m, columns[c]])
            for m in range(start[i], start[i + 1]):
                out[m, column + c] = out[m, columns[c]] - top


class Features:
    """All blocks side by side. Asking leaves every state alone."""

    def __init__(self, items: Items, scored: "tuple[Scored, ...]", scratch: Scratch) -> None:
        self._items, self._scored, self._scratch = items, scored, scratch
        told = tuple(name for retriever in scored for name in retriever.names)
        absolute = (*ITEM, *OWN, *LIST, *CONTEXT, *told)
        compared = (*COMPARED, *told)
        self.names = (*absolute, *(f"{name}_behind" for name in compared))
        self._compared = np.array([absolute.index(name) for name in compared], np.int64)
        self._absolute = len(absolute)
        self._scales = np.array([scale for retriever in scored for scale in retriever.scales], np.float32)

    def __len__(self) -> int:
        return len(self.names)

    def of(self, people: People, slates: Slates) -> np.ndarray:
        """One row per list entry, (m, len(self)) float32, all finite."""
        out = np.zeros((slates.row.size, len(self)), np.float32)
        questions, counters, catalogue = people.questions, self._items.counters, self._items.catalogue
        place = self._scratch.reserve(len(self._items))
        rated = counters["rating"]
        _item_block(
            questions.ts, slates.start, slates.row, HORIZONS, counters["counts"], counters["stamp"], counters["first"],
            counters["last"], rated, 0.0, catalogue["created"], out, 0,
        )  # fmt: skip
        column = len(ITEM)
        _own_block(
            questions.ts, questions.session_start, questions.history_start, people.history, questions.history_type,
            questions.history_ts, catalogue["categories"], slates.start, slates.row, place, out, column,
        )  # fmt: skip
        column += len(OWN)
        _list_block(
            questions.ts, questions.session_start, questions.session_depth, questions.history_start, people.history,
            catalogue["price"], slates.start, slates.row, slates.position, slates.price, out, column,
        )  # fmt: skip
        column += len(LIST) + len(CONTEXT)
        told = column
        for retriever in self._scored:
            retriever.features(people, slates, out, column)
            column += len(retriever.names)
        _log_columns(out, told, self._scales)
        _against_best(slates.start, out, self._compared, self._absolute)
        return out


class Remembered:
    """Features of lists as they were when shown, kept until the outcome is known: a ring of rows.

    Without it a click would be learnt with counts that already hold the click.
    """

    def __init__(self, width: int, rows: int = 1 << 15, lists: int = 1 << 13) -> None:
        self._kept: State = {
            "rows": np.zeros((rows, width), np.float32),
            "key": np.zeros(lists, np.uint64),
            "begin": np.zeros(lists, np.int64),
            "head": np.zeros(1, np.int64),  # rows ever written
        }

    def put(self, impressions: np.ndarray, start: np.ndarray, x: np.ndarray) -> None:
        rows, head = self._kept["rows"], self._kept["head"]
        room = rows.shape[0]
        for i, key in enumerate(impressions):
            length = int(start[i + 1] - start[i])
            if key == 0 or length > room:
                continue
            slot = int(key) % self._kept["key"].size
            self._kept["key"][slot], self._kept["begin"][slot] = key, head[0]
            rows[np.arange(head[0], head[0] + length) % room] = x[start[i] : start[i + 1]]
            head[0] += length

    def get(self, impression: int, length: int) -> np.ndarray | None:
        """The rows of a list, (length, width), or None if they are forgotten."""
        slot = impression % self._kept["key"].size
        begin, room = int(self._kept["begin"][slot]), self._kept["rows"].shape[0]
        if self._kept["key"][slot] != impression or begin + room < self._kept["head"][0] or not impression:
            return None
        rows: np.ndarray = self._kept["rows"][np.arange(begin, begin + length) % room]
        return rows

    def state(self) -> State:
        return self._kept

    def restore(self, state: State) -> None:
        self._kept = {name: state[name].copy() for name in self._kept}
