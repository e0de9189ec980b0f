"""What the guard makes of a bin: each monitor looks at it and at those before it."""

from collections import deque

from online_models.control import Lasting
from online_models.guard.bins import Bin
from online_models.guard.detectors.action_outage import Silence
from online_models.guard.detectors.feature_drift import Distributions
from online_models.guard.detectors.gradient_norms import Norms
from online_models.guard.detectors.item_distribution import Mix
from online_models.guard.detectors.label_flip import Answers
from online_models.guard.detectors.missing_fields import Fields
from online_models.guard.detectors.prediction_quality import Labels
from online_models.guard.findings import Finding
from online_models.guard.robust_stats import z_for

_TESTS = 1440 * 20  # bins a day, times what is tested in each
_KEPT = 60  # bins that are kept whole


class Monitors:
    """All that looks at bins."""

    def __init__(self, false_alarms: float) -> None:
        z = z_for(false_alarms, _TESTS)
        self._silence, self.answers = Silence(z), Answers(z)
        self.features, self.norms = Distributions(z), Norms(z)
        self._fields, self._labels, self._mix = Fields(z), Labels(z), Mix(z)
        self._bins: deque[Bin] = deque(maxlen=_KEPT)

    def see(self, now: Bin) -> list[Finding]:
        """What is odd about this bin and those before it."""
        self._bins.append(now)
        monitors = (self._silence, self._fields, self.answers, self._mix, self.features, self.norms)
        found = [finding for monitor in monitors for finding in monitor.see(self._bins)]
        return found + self._labels.see(self._bins, doubtful=self.answers.is_odd(now))

    def is_over(self, lasting: Lasting, now: Bin) -> bool | None:
        """Whether what lasted is over; None: too little happened to say."""
        if isinstance(lasting, tuple):
            return self._silence.is_over(lasting, now)
        return self.answers.is_over(lasting, now)

    def settle(self, lasting: Lasting, meant: bool) -> None:
        """It is over, or has lasted for so long that it is `meant`, and the new usual."""
        if isinstance(lasting, tuple):
            (self._silence.reset if meant else self._silence.forget)(lasting)
        else:
            self.answers.settle(meant)

    def forget(self) -> None:
        """Leave the bins so far out of what follows."""
        self._bins.clear()
        self.features.reset()
        self.norms.reset()
