"""A kind of action that stops while everything else goes on: a broken button."""

from collections import deque

from online_models.guard.bins import Bin
from online_models.guard.findings import WARM, Finding, told
from online_models.guard.robust_stats import Odd, Rate
from stream.records.batches import EventType

Key = tuple[int, int]  # surface and type of actions


class Silence:
    """Compares how often each kind of action comes with how much else happens."""

    def __init__(self, z: float) -> None:
        self._z = z
        self._rates: dict[Key, tuple[Rate, Rate]] = {}
        self._paces: dict[Key, Rate] = {}  # by the minute

    def see(self, bins: deque[Bin]) -> list[Finding]:
        now, found = bins[-1], []
        for key in now.acted:
            self._rates.setdefault(key, (Rate(WARM), Rate(WARM, lately=30)))
            self._paces.setdefault(key, Rate(WARM))
        for key, rates in self._rates.items():
            odds = [rate.see(now.acted[key], _exposure(now, key)) for rate in rates]
            odd = next(
                (odd for odd in odds if odd and odd.expected >= 30 and odd.ratio < 0.1 and odd.z < -self._z), None
            )
            pace = self._paces[key].see(now.acted[key], max(1, now.end - now.start))
            # Beside a flood of something else all is rare; what has stopped is so by the clock as well.
            if odd and pace and pace.ratio < 0.3:
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
        if key in self._paces:
            self._paces[key].forget()

    def reset(self, key: Key) -> None:
        for rate in self._rates.get(key, ()):
            rate.reset()
        if key in self._paces:
            self._paces[key].reset()

    def _finding(self, key: Key, odd: Odd, bins: deque[Bin]) -> Finding:
        silent = list(bins)
        while len(silent) > 1 and silent[-2].acted[key] <= 0.2 * odd.expected * _exposure(silent[-2], key) / max(
            1, sum(_exposure(one, key) for one in list(bins)[-30:])
        ):
            silent.pop()
        surface, kind = key
        evidence = {"type": EventType(kind).name, "surface": f"{surface:016x}", **told(odd)}
        reason = f"{EventType(kind).name} has fallen silent while everything else goes on"
        subject = f"{surface:016x}-{EventType(kind).name}"
        return Finding(
            "stream", "poison", "silence", subject, {"reason": reason, **evidence}, silent[-1].first,
            undo=True, of_slates=True, lasts=key,
        )  # fmt: skip


def _exposure(one: Bin, key: Key) -> float:
    return one.shown + one.actions - one.acted[key]
