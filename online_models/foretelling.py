"""How well what people took was foretold, and how well it would be if less, or more, were known of them."""

from dataclasses import dataclass, field

import numpy as np

from online_models.rankers.listnet import ListNet


@dataclass(frozen=True, slots=True)
class Foretold:
    """Slates that something was taken of just now, one entry each, as they stood before that was learnt.

    Logs of how much likelier the one makes what was taken, of all on the slate, than the other: a slate whose places
    are all as likely says nothing, however badly its click-through is known.
    """

    ts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (n,) when they were asked for, ms
    worth: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (n,) the person known, beside nothing known
    promised: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (n,) the same, as predictions promise it
    tried: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (n,) the past that is tried, beside what counts

    def __len__(self) -> int:
        return int(self.ts.size)


def log_shares(scores: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Log of the probability of each entry among its list's, (m,) float64; no list is empty."""
    lengths, begin = np.diff(start), start[:-1]
    s = scores.astype(np.float64)
    s -= np.repeat(np.maximum.reduceat(s, begin), lengths)
    s -= np.repeat(np.log(np.add.reduceat(np.exp(s), begin)), lengths)
    return s


def foretold(
    net: ListNet,
    ts: np.ndarray,
    lists: tuple[np.ndarray, np.ndarray, np.ndarray],
    personal: np.ndarray,
    compared: tuple[np.ndarray, np.ndarray] | None,
) -> Foretold:
    """`lists`: features, labels and starts; `personal`: columns that are 0 for somebody of whom nothing is known.

    `compared`: features with the past that counts and with the one that is tried, if there is one.
    """
    x, label, start = lists
    solid = np.diff(start) > 0
    if not solid.any():
        return Foretold()
    ts, start = ts[solid], np.append(start[:-1][solid], start[-1])
    label = np.maximum(label, 0)
    taken = np.add.reduceat(label, start[:-1]).astype(np.float64)
    share = label / np.repeat(np.maximum(taken, 1e-9), np.diff(start))
    blank = x.copy()
    blank[:, personal] = 0
    known = log_shares(net.scores(x), start)
    gain = known - log_shares(net.scores(blank), start)
    tried = np.zeros(gain.size)
    if compared:
        one, other = (log_shares(net.scores(features), start) for features in compared)
        tried = other - one
    worth, promised, odds = (
        np.add.reduceat(weight * log, start[:-1])
        for weight, log in ((share, gain), (np.exp(known), gain), (share, tried))
    )
    told = (taken > 0) & np.isfinite(worth + promised + odds)
    return Foretold(ts[told], worth[told], promised[told], odds[told])
