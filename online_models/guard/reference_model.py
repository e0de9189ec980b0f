"""An older version beside the live one, on the same places: what a learner has to compare itself with."""

from dataclasses import dataclass

import numpy as np

from online_models.model import Stack
from online_models.progressive_predictions import Closed
from online_models.rankers.click_head import Chances
from online_models.rankers.listnet import ListNet

_PLACES = 3_000  # that are predicted by both before the older one makes way for a newer
_ENOUGH = 1_000
_WORSE = 0.05  # of the older one's loss, by which the newer has to be worse
_SURE = 6.0  # standard errors of the difference


@dataclass(frozen=True, slots=True)
class Judged:
    """Places of which the outcome is known, as the older version predicts them."""

    probability: np.ndarray  # (m,) float


class Rival:
    """The heads of an older version, asked about the same places as the live ones.

    Both are judged by what people do now, so that a change of the world speaks against neither; a learner that broke
    itself is worse than it was.
    """

    def __init__(self) -> None:
        self._heads: tuple[ListNet, Chances] | None = None
        self._taken = ""  # the version that the heads are of
        self._clear()

    def _clear(self) -> None:
        self._places = 0
        self._loss = self._off = self._square = 0.0

    def see(self, stack: Stack, version: str) -> Judged | None:
        """Ask about the places that the last step closed; None while there is nobody to ask."""
        closed = stack.closed
        judged = self._judge(closed) if closed.label.size and self._heads else None
        if self._heads is None or (self._places >= _PLACES and not self.verdict()):
            self._become(stack, version)
        return judged

    def verdict(self) -> str:
        """Why the live version is worse than it was, "" if it is not."""
        n = self._places
        if n < _ENOUGH:
            return ""
        off, usual = self._off / n, self._loss / n
        error = np.sqrt(max(self._square / n - off * off, 1e-12) / n)
        if off < _WORSE * usual or off < _SURE * error:
            return ""
        return f"log loss of {usual + off:.4f} where {self._taken} has {usual:.4f}, on the same {n} places"

    def forget(self) -> None:
        """The learner has gone back: what it is compared with begins anew."""
        self._heads = None
        self._clear()

    def _judge(self, closed: Closed) -> Judged:
        assert self._heads
        net, chances = self._heads
        p = np.clip(chances.predict(net.inside(closed.features)).astype(float), 1e-6, 1 - 1e-6)
        off = _loss(closed.probability.astype(float), closed.label) - (older := _loss(p, closed.label))
        self._places += p.size
        self._loss += float(older.sum())
        self._off += float(off.sum())
        self._square += float((off**2).sum())
        return Judged(p)

    def _become(self, stack: Stack, version: str) -> None:
        inputs = len(stack.feature_names)
        net, chances = ListNet(inputs, stack.settings.ranker), Chances(inputs + stack.settings.ranker.hidden)
        net.apply(stack.orderer.changes())
        chances.apply(stack.chances.changes())
        self._heads, self._taken = (net, chances), version
        self._clear()


def _loss(p: np.ndarray, label: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-6, 1 - 1e-6)
    loss: np.ndarray = -np.where(label > 0, np.log(p), np.log1p(-p))
    return loss
