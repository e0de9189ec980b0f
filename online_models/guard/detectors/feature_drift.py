"""Features of what is shown beside a reference window: those that move with the world, and those that break."""

from collections import deque
from typing import Any

import numpy as np

from online_models.guard.bins import Bin
from online_models.guard.findings import WARMUP_BINS, Finding, get_first_offsets
from online_models.guard.reference_window import (
    RECENT_BINS,
    REFERENCE_BINS,
    ReferenceWindow,
    ks_by_feature,
    psi_by_feature,
)
from online_models.guard.robust_stats import robust_z_scores

_MIN_CONSTANT_BINS = 2  # without another value, at least
_ROWS_PER_SLATE = 10  # rows that tell no more than one, at most: places of a slate share much
_MIN_LOG_ODDS = 20.0  # log of the odds against chance


class ConstantFeatureDetector:
    """Counts, by feature, the rows since it last had two values at once."""

    def __init__(self) -> None:
        self.reset(0)

    def reset(self, n_features: int) -> None:
        self.values = np.zeros(n_features, np.float32)  # (f,) at which it is stuck, if it is
        self._constant_bins, self._constant_rows = np.zeros(
            (2, n_features), np.int64
        )  # (f,) in a row without another value
        self._varies: deque[np.ndarray] = deque(maxlen=REFERENCE_BINS + RECENT_BINS)  # (f,) bool of each bin

    def update(self, rows: np.ndarray) -> None:
        """Add the rows of a bin, (n, f) float32."""
        if rows.shape[1] != self.values.size:
            self.reset(rows.shape[1])
        max_values = rows.max(axis=0)
        tolerance = 1e-6 * (1 + np.abs(max_values))
        varies, has_changed = max_values - rows.min(axis=0) > tolerance, np.abs(max_values - self.values) > tolerance
        self._constant_bins, self._constant_rows = np.where(
            varies | has_changed, 0, (self._constant_bins, self._constant_rows)
        )
        self._constant_bins, self._constant_rows = (
            self._constant_bins + ~varies,
            self._constant_rows + rows.shape[0] * ~varies,
        )
        self.values = max_values
        self._varies.append(varies)

    def find_constant(self, window: ReferenceWindow, min_bins: int) -> np.ndarray:
        """Features that varied in every bin of the reference, and whose rows are not all alike by chance now."""
        candidates = np.flatnonzero(
            (self._constant_bins >= _MIN_CONSTANT_BINS) & (self._constant_bins <= RECENT_BINS) & (window.age > min_bins)
        )
        if len(self._varies) < min_bins + RECENT_BINS or not candidates.size:
            return candidates[:0]
        counts = window.reference[candidates]
        bucket = (self.values[candidates, None] > window.edges[candidates]).sum(axis=1)
        bucket_share = counts[np.arange(candidates.size), bucket] / np.maximum(1, counts.sum(axis=1))
        log_odds = self._constant_rows[candidates] / _ROWS_PER_SLATE * -np.log(np.maximum(bucket_share, 1e-3))
        always_varied = np.array(self._varies)[:-RECENT_BINS, candidates].all(axis=0)
        constant: np.ndarray = candidates[(log_odds > _MIN_LOG_ODDS) & always_varied]
        return constant


_BASELINE_BINS = 240  # bins in which is seen how far features go from the reference as a rule
_MIN_ROWS = 50  # rows of a bin that say nothing
_PSI, _KS = 0.25, 0.2  # from which a shift is worth telling
_MIN_SPREAD = 0.02  # spread of what is usual, of either
_MIN_STREAK = 3  # bins for which a feature has to stand out
_MIN_WINDOW_BINS = WARMUP_BINS // 2 + RECENT_BINS  # bins after which there is something to compare with
_MAX_NAMED_FEATURES = 5  # features that a finding names
_TIME_FEATURES = ("hour_sin", "hour_cos")  # move with the time of day


class FeatureDriftDetector:
    """Compares the last bins with those before, each feature beside how far it goes as a rule."""

    def __init__(self, z: float) -> None:
        self._z = 2 * z  # of the worst of a hundred features, whose shifts are skewed
        self._window, self._constant = ReferenceWindow(), ConstantFeatureDetector()
        self.reset()

    def reset(self) -> None:
        """What is now is the new usual: it is learnt from what comes."""
        self._window.reset(0)
        self._constant.reset(0)
        self._baseline: deque[np.ndarray] = deque(maxlen=_BASELINE_BINS)  # (2, f) of each bin: root of PSI, and KS
        self._streak = np.zeros(0, np.int64)  # (f,) bins in a row that stood out

    def update(self, bins: deque[Bin]) -> list[Finding]:
        current = bins[-1]
        rows, current.feature_sample = np.concatenate(current.feature_sample or [np.zeros((0, 0), np.float32)]), []
        if rows.shape[0] < _MIN_ROWS:
            return []
        if rows.shape[1] != self._streak.size:
            self.reset()
            self._streak = np.zeros(rows.shape[1], np.int64)
        self._window.add(rows)
        self._constant.update(rows)
        if findings := self._check_constant(bins) or self._check_drift(bins):
            self.reset()
        return findings

    def _check_constant(self, bins: deque[Bin]) -> list[Finding]:
        names = bins[-1].feature_names
        constant = [
            f
            for f in self._constant.find_constant(self._window, WARMUP_BINS).tolist()
            if names[f] not in _TIME_FEATURES
        ]
        if not constant:
            return []
        values = {names[f]: round(float(self._constant.values[f]), 3) for f in constant[:_MAX_NAMED_FEATURES]}
        reason = "features that always differed are the same for everybody now: what they are made from has gone"
        evidence = {"reason": reason, "features": len(constant), "constant_values": values}
        return [Finding("stream", "poison", "feature_drift", "constant", evidence, get_first_offsets(bins))]

    def _check_drift(self, bins: deque[Bin]) -> list[Finding]:
        if len(self._window) <= _MIN_WINDOW_BINS:
            return []
        reference, recent = self._window.reference, self._window.recent
        distances = np.stack([np.sqrt(psi_by_feature(reference, recent)), ks_by_feature(reference, recent)])
        if self._baseline:  # with new edges there is nothing to compare yet: what was usual stays so
            distances = np.where(self._window.age > _MIN_WINDOW_BINS, distances, self._baseline[-1])
        self._baseline.append(distances)
        z = self._compute_z_scores(distances)
        self._streak = np.where(z > self._z, self._streak + 1, 0)
        names = bins[-1].feature_names
        worst = [
            f
            for f in np.argsort(-distances[0]).tolist()
            if self._streak[f] >= _MIN_STREAK and names[f] not in _TIME_FEATURES
        ]
        if not worst:
            return []
        top_features = {
            names[f]: _describe_drift(distances[0, f], distances[1, f], z[f]) for f in worst[:_MAX_NAMED_FEATURES]
        }
        evidence = {
            "reason": "what is shown has other features than before",
            "features": len(worst),
            "drifted_features": top_features,
        }
        return [Finding("stream", "drift", "feature_drift", "", evidence, get_first_offsets(bins))]

    def _compute_z_scores(self, distances: np.ndarray) -> np.ndarray:
        """Robust z-scores beside what is usual, (f,), the lesser of both; 0 where nothing is worth telling."""
        z = np.zeros(distances.shape[1])
        is_large = (
            (self._window.age > WARMUP_BINS + _MIN_WINDOW_BINS) & (distances[0] ** 2 > _PSI) & (distances[1] > _KS)
        )
        if len(self._baseline) > WARMUP_BINS and is_large.any():
            baseline = np.array(self._baseline)[:-1, :, is_large]
            z[is_large] = (
                robust_z_scores(baseline.reshape(len(baseline), -1), distances[:, is_large].ravel(), _MIN_SPREAD)
                .reshape(2, -1)
                .min(axis=0)
            )
        return z


def _describe_drift(root: Any, ks: Any, z: Any) -> dict[str, float]:
    return {"psi": round(float(root) ** 2, 2), "ks": round(float(ks), 2), "z": round(float(z), 1)}
