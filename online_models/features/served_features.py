"""Features of lists as they were when the lists were shown."""

import numpy as np

from online_models.features.extractor import Features
from online_models.state.item_table import People, Slates
from online_models.state.tables import State
from stream.records.batches import ExampleBatch, Kind, flat_runs, offsets_of


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


_FARTHEST = 100.0  # from zero, of a logged feature: they are logarithms and shares


class AsShown:
    """What was logged by the one who showed a list, or else what was remembered of it here."""

    def __init__(self, features: Features) -> None:
        self._features = features
        self._remembered = Remembered(len(features))

    def state(self) -> State:
        return self._remembered.state()

    def restore(self, state: State) -> None:
        self._remembered.restore(state)

    def remember(self, batch: ExampleBatch, people: People, slates: Slates) -> None:
        """Keep the features of what is shown and was not logged with its features."""
        chosen = np.flatnonzero((batch.kind == Kind.shown) & ~self._is_served(batch))
        if chosen.size:
            x, start = self.computed(people.take(chosen), chosen, slates)
            self._remembered.put(batch.impression[chosen], start, x)

    def _is_served(self, batch: ExampleBatch) -> np.ndarray:
        """Rows logged with features that are of this stack's making."""
        if batch.features.shape[1] != len(self._features):
            return np.zeros(len(batch), np.bool_)
        fits: np.ndarray = (batch.served >= 0) & (batch.served + np.diff(batch.lists.start) <= batch.features.shape[0])
        return fits

    def of(
        self, batch: ExampleBatch, chosen: np.ndarray, people: People, slates: Slates
    ) -> tuple[np.ndarray, np.ndarray]:
        """Features of lists as served, else as remembered, else as of now; and where each list starts."""
        lengths = np.diff(slates.start)[chosen]
        start = offsets_of(lengths)
        x = np.empty((start[-1], len(self._features)), np.float32)
        served, unknown = self._is_served(batch), []
        for i, row in enumerate(chosen.tolist()):
            kept = self._remembered.get(int(batch.impression[row]), int(lengths[i]))
            if served[row]:
                first = int(batch.served[row])
                logged = batch.features[first : first + lengths[i]]
                x[start[i] : start[i + 1]] = np.clip(np.nan_to_num(logged), -_FARTHEST, _FARTHEST)
            elif kept is not None:
                x[start[i] : start[i + 1]] = kept
            else:
                unknown.append(i)
        if unknown:
            flat, _ = flat_runs(start, np.array(unknown))
            x[flat], _ = self.computed(people.take(chosen[unknown]), chosen[unknown], slates)
        return x, start

    def computed(self, asking: People, chosen: np.ndarray, slates: Slates) -> tuple[np.ndarray, np.ndarray]:
        """Features of the chosen lists as of now, for who asked for them; and where each list starts."""
        flat, start = flat_runs(slates.start, chosen)
        part = Slates(start, slates.row[flat], slates.position[flat], slates.price[flat])
        return self._features.of(asking, part), start
