"""Features of lists as they were when the lists were shown."""

import numpy as np

from online_models.features import Features
from online_models.items import People, Slates
from online_models.remembered import Remembered
from online_models.tables import State
from stream.batches import ExampleBatch, Kind, flat_runs, offsets_of

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
