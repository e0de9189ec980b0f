"""Detect features that drift, and features that break by becoming constant."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from online_models.guard.bins import Bin
from online_models.guard.findings import WARMUP_BINS, AlarmOnly, Finding, FollowDrift, get_first_offsets
from online_models.guard.reference_window import ReferenceWindow, WindowSettings, ks_by_feature, psi_by_feature
from online_models.guard.robust_stats import robust_z_scores
from online_models.guard.settings import GuardRecord

_TIME_FEATURES = ("hour_sin", "hour_cos")  # change with the time of day
_MAX_NAMED_FEATURES = 5  # in the evidence


@dataclass(frozen=True, slots=True)
class ConstantFeatureSettings(GuardRecord):
    min_bins: int = 2  # with a single value
    rows_per_slate: int = 10  # that count as one: items of a slate share many features
    min_log_odds: float = 20.0  # against chance


class ConstantFeatureDetector:
    """Count, by feature, the rows since it last had two values in one bin.

    - Null hypothesis: values are drawn independently from the feature's reference histogram.
    - Statistic: the log odds of drawing only the bucket of the constant value, one draw per ten rows.
    - Threshold: 20 (odds of e²⁰), for a feature that had several values in every reference bin.
    - An alarm means that the source of the feature is gone.
    """

    def __init__(self, window: WindowSettings, settings: ConstantFeatureSettings | None = None) -> None:
        self._recent_bins, self._n_bins = window.recent_bins, window.reference_bins + window.recent_bins
        self._settings = settings or ConstantFeatureSettings()
        self.reset(0)

    def reset(self, n_features: int) -> None:
        self.values = np.zeros(n_features, np.float32)  # (f,) latest maximum: the value of a constant feature
        self._constant_bins, self._constant_rows = np.zeros((2, n_features), np.int64)  # (f,) since two values
        self._varies: deque[np.ndarray] = deque(maxlen=self._n_bins)  # (f,) bool of each bin

    def update(self, rows: np.ndarray) -> None:
        """Add the rows of a bin, (n, f) float32."""
        if rows.shape[1] != self.values.size:
            self.reset(rows.shape[1])
        max_values = rows.max(axis=0)
        tolerance = 1e-6 * (1 + np.abs(max_values))
        varies = max_values - rows.min(axis=0) > tolerance
        has_changed = np.abs(max_values - self.values) > tolerance
        counts = np.where(varies | has_changed, 0, (self._constant_bins, self._constant_rows))
        self._constant_bins, self._constant_rows = counts[0] + ~varies, counts[1] + rows.shape[0] * ~varies
        self.values = max_values
        self._varies.append(varies)

    def find_constant(self, window: ReferenceWindow, min_bins: int) -> np.ndarray:
        """Features, (k,), that always varied before, and whose rows are not equal by chance now."""
        is_constant = (self._constant_bins >= self._settings.min_bins) & (self._constant_bins <= self._recent_bins)
        candidates = np.flatnonzero(is_constant & (window.age > min_bins))
        if len(self._varies) < min_bins + self._recent_bins or not candidates.size:
            return candidates[:0]
        counts = window.reference[candidates]
        bucket = (self.values[candidates, None] > window.edges[candidates]).sum(axis=1)
        bucket_share = counts[np.arange(candidates.size), bucket] / np.maximum(1, counts.sum(axis=1))
        draws = self._constant_rows[candidates] / self._settings.rows_per_slate
        log_odds = draws * -np.log(np.maximum(bucket_share, 1e-3))
        always_varied = np.array(self._varies)[: -self._recent_bins, candidates].all(axis=0)
        constant: np.ndarray = candidates[(log_odds > self._settings.min_log_odds) & always_varied]
        return constant


@dataclass(frozen=True, slots=True)
class FeatureDriftSettings(GuardRecord):
    baseline_bins: int = 240  # over which each feature's usual distances are known
    min_rows: int = 50  # in a bin
    min_psi: float = 0.25
    min_ks: float = 0.2
    z_factor: float = 2.0  # times the z threshold: the worst of a hundred features, with skewed distances
    min_spread: float = 0.02  # of the usual distances
    min_streak: int = 3  # bins


class FeatureDriftDetector:
    """Compare the features of the last bins with the hour before.

    - Null hypothesis: the last 5 bins have the feature's distribution of the 60 bins before.
    - Statistic: PSI and Kolmogorov–Smirnov distance of histograms, and the smaller of their robust z-scores against
      the distances that the feature usually has.
    - Threshold: PSI of 0.25, KS of 0.2 and 2 z, all exceeded for 3 bins.
    - An alarm means drift. For a constant feature (see `ConstantFeatureDetector`) it means poison.
    """

    def __init__(
        self, z: float, settings: FeatureDriftSettings | None = None, window: WindowSettings | None = None
    ) -> None:
        self._settings, window = settings or FeatureDriftSettings(), window or WindowSettings()
        self._z = self._settings.z_factor * z
        self._window, self._constant = ReferenceWindow(window), ConstantFeatureDetector(window)
        self._min_window_bins = WARMUP_BINS // 2 + window.recent_bins  # before distances are computed
        self.reset()

    def reset(self) -> None:
        self._window.reset(0)
        self._constant.reset(0)
        # (2, f) of each bin: root of the PSI, and KS distance.
        self._baseline: deque[np.ndarray] = deque(maxlen=self._settings.baseline_bins)
        self._streak = np.zeros(0, np.int64)  # (f,) consecutive outlier bins

    def update(self, bins: Sequence[Bin]) -> list[Finding]:
        rows = np.concatenate(bins[-1].feature_sample or [np.zeros((0, 0), np.float32)])
        if rows.shape[0] < self._settings.min_rows:
            return []
        if rows.shape[1] != self._streak.size:
            self.reset()
            self._streak = np.zeros(rows.shape[1], np.int64)
        self._window.add(rows)
        self._constant.update(rows)
        if findings := self._check_constant(bins) or self._check_drift(bins):
            self.reset()
        return findings

    def _check_constant(self, bins: Sequence[Bin]) -> list[Finding]:
        names = bins[-1].feature_names
        constant = _drop_time_features(self._constant.find_constant(self._window, WARMUP_BINS), names)
        if not constant:
            return []
        values = {names[f]: round(float(self._constant.values[f]), 3) for f in constant[:_MAX_NAMED_FEATURES]}
        reason = "features that always varied are equal for all users: their source is gone"
        evidence = {"reason": reason, "features": len(constant), "constant_values": values}
        return [Finding("poison", "feature_drift", "constant", evidence, get_first_offsets(bins), AlarmOnly())]

    def _check_drift(self, bins: Sequence[Bin]) -> list[Finding]:
        if len(self._window) <= self._min_window_bins:
            return []
        reference, recent = self._window.reference, self._window.recent
        distances = np.stack([np.sqrt(psi_by_feature(reference, recent)), ks_by_feature(reference, recent)])
        if self._baseline:  # a feature with new edges has nothing to compare yet: it keeps its last distances
            distances = np.where(self._window.age > self._min_window_bins, distances, self._baseline[-1])
        self._baseline.append(distances)
        z = self._compute_z_scores(distances)
        self._streak = np.where(z > self._z, self._streak + 1, 0)
        names, by_psi = bins[-1].feature_names, np.argsort(-distances[0])
        drifted = _drop_time_features(by_psi[self._streak[by_psi] >= self._settings.min_streak], names)
        if not drifted:
            return []
        top_features = {
            names[f]: _describe_drift(distances[0, f], distances[1, f], z[f]) for f in drifted[:_MAX_NAMED_FEATURES]
        }
        reason = "shown items have other features than before"
        evidence = {"reason": reason, "features": len(drifted), "drifted_features": top_features}
        return [Finding("drift", "feature_drift", "", evidence, get_first_offsets(bins), FollowDrift())]

    def _compute_z_scores(self, distances: np.ndarray) -> np.ndarray:
        """Smaller of both robust z-scores, (f,), of the distances; 0 where a distance is small."""
        z = np.zeros(distances.shape[1])
        is_old = self._window.age > WARMUP_BINS + self._min_window_bins
        is_large = is_old & (distances[0] ** 2 > self._settings.min_psi) & (distances[1] > self._settings.min_ks)
        if len(self._baseline) > WARMUP_BINS and is_large.any():
            baseline = np.array(self._baseline)[:-1, :, is_large]
            baseline, current = baseline.reshape(len(baseline), -1), distances[:, is_large].ravel()
            scores = robust_z_scores(baseline, current, self._settings.min_spread)
            z[is_large] = scores.reshape(2, -1).min(axis=0)
        return z


def _drop_time_features(features: np.ndarray, names: tuple[str, ...]) -> list[int]:
    return [f for f in features.tolist() if names[f] not in _TIME_FEATURES]


def _describe_drift(root: Any, ks: Any, z: Any) -> dict[str, float]:
    return {"psi": round(float(root) ** 2, 2), "ks": round(float(ks), 2), "z": round(float(z), 1)}
