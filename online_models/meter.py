"""How good predictions were before they were learnt from: fading means, for people and for the manifest."""

from online_models import metrics
from online_models.stack import Stack
from stream.batches import ExampleBatch, Kind

_FADE = 0.999  # weight of the past per list


class Meter:
    """Progressive measures of the learner's own predictions; they change nothing that is learnt."""

    def __init__(self) -> None:
        self._values: dict[str, float] = {}

    def see(self, batch: ExampleBatch, stack: Stack) -> None:
        """Take note of the step that the stack has just learnt."""
        for kind in Kind:
            metrics.examples.labels(kind.name).inc(int((batch.kind == kind).sum()))
        metrics.items.set(len(stack.items))

    def values(self) -> dict[str, float]:
        return dict(self._values)
