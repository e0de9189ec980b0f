"""What the guard makes of a bin: findings, each with the reason why it is poison or drift."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from online_models.drift import Level, Odd, PageHinkley, Rate, psi, z_for
from online_models.meter import auc
from online_models.watch import Bin
from stream.batches import EventType

WARM = 20  # bins before anything is judged
_TESTS = 1440 * 20  # bins a day, times what is tested in each
_KEPT = 60  # bins that are kept whole
Key = tuple[int, int]  # surface and type of actions


@dataclass(frozen=True, slots=True)
class Finding:
    """What a detector noticed."""

    depth: Literal["stream", "learner", "service"]
    kind: Literal["poison", "drift"]
    detector: str
    subject: str
    evidence: dict[str, Any]
    first: dict[int, int] = field(default_factory=dict)  # offset of the first event concerned, by partition
    events: tuple[tuple[int, int], ...] = ()  # (partition, offset) of each event, if it is some among others
    undo: bool = False  # what was learnt of it is to be undone
    lasts: Key | None = None  # until this is heard again, nothing is to be learnt


class Silence:
    """A kind of action that stops while everything else goes on: a broken button."""

    def __init__(self, z: float) -> None:
        self._z = z
        self._rates: dict[Key, tuple[Rate, Rate]] = {}

    def see(self, bins: deque[Bin]) -> list[Finding]:
        now, found = bins[-1], []
        for key in now.acted:
            self._rates.setdefault(key, (Rate(WARM), Rate(WARM, lately=30)))
        for key, rates in self._rates.items():
            odds = [rate.see(now.acted[key], _exposure(now, key)) for rate in rates]
            odd = next(
                (odd for odd in odds if odd and odd.expected >= 30 and odd.ratio < 0.1 and odd.z < -self._z), None
            )
            if odd:
                found.append(self._finding(key, odd, bins))
        return found

    def is_over(self, key: Key, now: Bin) -> bool | None:
        """Whether the action is heard again; None: too little happened to say."""
        if key not in self._rates:
            return None
        odd = self._rates[key][0].judge(now.acted[key], _exposure(now, key))
        return None if odd is None or odd.expected < 3 else odd.ratio > 0.5

    def forget(self, key: Key) -> None:
        for rate in self._rates.get(key, ()):
            rate.forget()

    def reset(self, key: Key) -> None:
        for rate in self._rates.get(key, ()):
            rate.reset()

    def _finding(self, key: Key, odd: Odd, bins: deque[Bin]) -> Finding:
        silent = list(bins)
        while len(silent) > 1 and silent[-2].acted[key] <= 0.2 * odd.expected * _exposure(silent[-2], key) / max(
            1, sum(_exposure(one, key) for one in list(bins)[-30:])
        ):
            silent.pop()
        surface, kind = key
        evidence = {"type": EventType(kind).name, "surface": f"{surface:016x}", **_told(odd)}
        reason = f"{EventType(kind).name} has fallen silent while everything else goes on"
        subject = f"{surface:016x}-{EventType(kind).name}"
        return Finding(
            "stream", "poison", "silence", subject, {"reason": reason, **evidence}, silent[-1].first,
            undo=True, lasts=key,
        )  # fmt: skip


class Fields:
    """Shares that jump: of events with a field missing, of events whose clock is wrong."""

    def __init__(self, z: float) -> None:
        self._z = z
        self._unplaced, self._unweighed, self._late = Rate(WARM), Rate(WARM), Rate(WARM)

    def see(self, bins: deque[Bin]) -> list[Finding]:
        now, found = bins[-1], []
        for name, rate, missing in (
            ("surface", self._unplaced, now.unplaced),
            ("propensities", self._unweighed, now.unweighed),
        ):
            odd = rate.see(missing, now.shown)
            if odd and odd.z > self._z and odd.ratio > 3 and odd.counted > max(50, 0.2 * _shown(bins)):
                evidence = {"reason": f"impressions come without {name}", "field": name, **_told(odd)}
                found.append(Finding("stream", "poison", "missing_fields", name, evidence, _first(bins)))
                rate.reset()
        return found + self._skew(bins)

    def _skew(self, bins: deque[Bin]) -> list[Finding]:
        """Late by minutes and no more: one clock is ahead of the others. What is loaded in bulk is late by days."""
        now, lately = bins[-1], list(bins)[-3:]
        odd = self._late.see(now.late - now.lost, now.rows)
        lost, rows = sum(one.lost for one in lately), sum(one.rows for one in lately)
        if odd is None or odd.z < self._z or odd.ratio < 5 or odd.counted < max(50, 0.05 * rows):
            return []
        if lost > 0.25 * odd.counted:
            return []
        self._late.reset()
        evidence = {
            "reason": "many events are minutes behind others: some clock is wrong",
            "events": rows,
            **_told(odd),
        }
        return [Finding("stream", "poison", "clock_skew", "", evidence, _first(bins))]


class Labels:
    """What is taken beside what was predicted, and the loss."""

    def __init__(self, z: float) -> None:
        self._z = z
        self._all, self._low = Rate(WARM), Rate(WARM)
        self._loss, self._rise = Level(WARM), PageHinkley(slack=1.0, threshold=4 * z)
        self._auc, self._fall = Level(WARM), PageHinkley(slack=0.5, threshold=3 * z)

    def see(self, bins: deque[Bin]) -> list[Finding]:
        now = bins[-1]
        if now.places < 50:
            return []
        whole, low = self._all.see(now.taken, now.expected), self._low.see(now.low_taken, now.low_expected)
        loss = self._loss.see(now.loss / now.places)
        rising = loss is not None and self._rise.see(min(loss, self._z))
        falling = self._is_falling(now)
        if whole is None or low is None:
            return []
        found = self._flip(bins, whole, low) or self._drift(bins, whole, rising, falling)
        if found:
            self.reset()
        return found

    def reset(self) -> None:
        for part in (self._all, self._low, self._loss, self._rise, self._auc, self._fall):
            part.reset()

    def _is_falling(self, now: Bin) -> bool:
        chance, taken = np.concatenate(now.chances), np.concatenate(now.outcomes)
        now.chances, now.outcomes = [], []
        if not taken.any():
            return False
        z = self._auc.see(auc(chance, taken))
        return z is not None and self._fall.see(min(-z, self._z))

    def _flip(self, bins: deque[Bin], whole: Odd, low: Odd) -> list[Finding]:
        """More is taken, and of what nobody was expected to take, all over the catalogue: labels that mean nothing."""
        items = sum((one.low_items for one in list(bins)[-3:]), start=type(bins[-1].low_items)())
        top = max(items.values(), default=0) / max(1, items.total())
        if not (low.z > self._z and low.ratio > 1.5 and low.counted >= 30 and whole.z > self._z / 2 and top < 0.2):
            return []
        reason = "what was least expected is taken, all over the catalogue, while the rest is taken as before"
        evidence = {"reason": reason, "top_item_share": round(top, 3), **_told(low)}
        return [Finding("learner", "poison", "label_flip", "", evidence, _first(bins), undo=True)]

    def _drift(self, bins: deque[Bin], whole: Odd, rising: bool, falling: bool) -> list[Finding]:
        if whole.z < -self._z and whole.ratio < 0.8:
            evidence = {"reason": "people take less of what they used to", **_told(whole)}
            return [Finding("learner", "drift", "calibration", "", evidence, _first(bins))]
        if rising:
            loss = round(bins[-1].loss / bins[-1].places, 4)
            evidence = {"reason": "predictions have become worse, for many and coherently", "log_loss": loss}
            return [Finding("learner", "drift", "loss", "", evidence, _first(bins))]
        if falling:
            evidence = {"reason": "what people take is no longer what was expected of them"}
            return [Finding("learner", "drift", "auc", "", evidence, _first(bins))]
        return []


class Mix:
    """Which items are acted on: the population stability index of their buckets."""

    def __init__(self, z: float) -> None:
        self._z = z
        self._usual = Level(WARM)

    def see(self, bins: deque[Bin]) -> list[Finding]:
        if len(bins) < WARM:
            return []
        before, lately = list(bins)[:-5], list(bins)[-5:]
        now = np.sum([one.buckets for one in lately], axis=0)
        if now.sum() < 300:
            return []
        shift = psi(np.sum([one.buckets for one in before], axis=0), now)
        z = self._usual.see(shift)
        if z is None or z < 2 * self._z or shift < 0.25:
            return []
        self._usual.reset()
        evidence = {"reason": "people act on other items than before", "psi": round(shift, 3), "z": round(z, 1)}
        return [Finding("stream", "drift", "items", "", evidence, _first(bins))]


class Monitors:
    """All that looks at bins."""

    def __init__(self, false_alarms: float) -> None:
        z = z_for(false_alarms, _TESTS)
        self.silence = Silence(z)
        self._fields, self._labels, self._mix = Fields(z), Labels(z), Mix(z)
        self._bins: deque[Bin] = deque(maxlen=_KEPT)

    def see(self, now: Bin) -> list[Finding]:
        """What is odd about this bin and those before it."""
        self._bins.append(now)
        monitors = (self.silence, self._fields, self._labels, self._mix)
        return [finding for monitor in monitors for finding in monitor.see(self._bins)]

    def forget(self) -> None:
        """Leave the bins so far out of what follows."""
        self._bins.clear()


def _exposure(one: Bin, key: Key) -> float:
    return one.shown + one.actions - one.acted[key]


def _shown(bins: deque[Bin]) -> int:
    return sum(one.shown for one in list(bins)[-3:])


def _first(bins: deque[Bin]) -> dict[int, int]:
    return list(bins)[-3:][0].first


def _told(odd: Odd) -> dict[str, float]:
    return {"z": round(odd.z, 1), "counted": round(odd.counted, 1), "expected": round(odd.expected, 1)}
