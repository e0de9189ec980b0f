"""Whether people's own past still tells what they will take: if it misleads, tastes have changed."""

import math
from datetime import UTC, datetime

from online_models import metrics
from online_models.features.history_filter import NOTHING, WHOLE, Past
from online_models.guard.findings import Finding, Forget
from online_models.progressive_predictions import Foretold

_DOUBT = 5.0  # log of the odds that the past has lost half of its worth, from which on it is tried to leave it out
_TRIALS = 2_000.0  # a day at most
_ODDS = 20.0  # that are enough where something else says that the world has changed
_LOST = -4.0  # log of the odds at which a trial is over
_PATIENCE = 500  # slates after which it is over, with nothing said
_FADE = 0.9995  # of the usual worth, with each slate
_LASTS = 86_400_000  # ms of event time for which the past is left out


class Tastes:
    """Two tests, the first of which is cheap and starts the second.

    The first adds up what it is worth to know the person, slate by slate, beside half of what it usually is
    (Page 1954): when it has fallen short for a while, a trial begins. In the trial everything is foretold twice, with
    the whole past and with what came since the doubt began. The odds of the two are a bet that gains nothing, whenever
    one looks, as long as the past tells (Ville's inequality): what wins against odds of `_TRIALS` to the false alarms
    that are put up with in a day is told, and is the remedy, which has been seen to help by then. Once it is carried
    out, the whole past is what is tried.
    """

    def __init__(self, false_alarms: float) -> None:
        self._sure = math.log(_TRIALS / false_alarms)
        self._worth = self._promised = 20.0  # of late, and what was promised of it
        self.reset()

    def reset(self) -> None:
        self._short, self._since = 0.0, 0  # what the past lately fell short of half its worth, and since when
        self._begin(NOTHING)

    def _begin(self, tried: int | None) -> None:
        self._tried, self._bar = tried, self._sure
        self._evidence, self._slates = 0.0, 0

    def doubt(self, began: int) -> None:
        """Another detector says that the world has changed, at an event time in ms: try it."""
        if not self._tried:
            self._begin(began)
        self._bar = min(self._sure, math.log(_ODDS))

    def see(self, foretold: Foretold, past: Past, first: dict[int, int]) -> list[Finding]:
        """Take note of what a step foretold, and tell `past` what the next is to try; `first`: offsets by partition."""
        found: list[Finding] = []
        if len(foretold):
            now = int(foretold.ts[-1])
            self._weigh(foretold, past)
            if self._evidence >= self._bar:
                found = [self._finding(now, first)]
                self.reset()
            else:
                self._try(WHOLE if past.is_cut(now) else NOTHING)
            metrics.past_evidence.set(self._evidence)
            metrics.past_left_out.set(past.is_cut(now))
        past.trial = self._tried
        return found

    def _weigh(self, foretold: Foretold, past: Past) -> None:
        if past.trial is not NOTHING and past.trial == self._tried:
            self._evidence += float(foretold.tried.sum())
            self._slates += len(foretold)
        told = foretold.ts.tolist(), foretold.worth.tolist(), foretold.promised.tolist()
        for ts, worth, promised in zip(*told, strict=True):
            usual = min(1.0, max(0.0, self._worth / self._promised))
            self._worth = _FADE * self._worth + worth
            self._promised = _FADE * self._promised + promised
            self._short = max(0.0, self._short + 0.5 * usual * promised - worth)
            self._since = (self._since or ts) if self._short else 0

    def _try(self, otherwise: int | None) -> None:
        """Begin or end a trial; `otherwise`: what is tried while there is no doubt."""
        if self._tried:
            if self._evidence > _LOST and self._slates < _PATIENCE:
                return
            self._short = 0.0
        if self._short >= _DOUBT:
            self._begin(self._since)
        elif self._tried != otherwise:
            self._begin(otherwise)
        self._evidence = max(0.0, self._evidence)  # whether all counts again is asked all the time

    def _finding(self, now: int, first: dict[int, int]) -> Finding:
        since = self._tried or 0
        odds = {"log_odds": round(self._evidence, 1)}
        if not since:
            evidence = {"reason": "what people did before the change foretells again what they take", **odds}
            return Finding("learner", "drift", "tastes", "back", evidence, first, forget=Forget(0, 0))
        evidence = {
            "reason": "what people take is foretold better without what they did before: tastes have changed",
            "changed": datetime.fromtimestamp(since / 1000, UTC).isoformat(timespec="seconds"),
            **odds,
        }
        return Finding("learner", "drift", "tastes", "", evidence, first, forget=Forget(since, now + _LASTS))
