"""Tests of the cache of shown features."""

import numpy as np

from online_models.features.feature_cache import FeatureCache, FeatureCacheSettings

SMALL = FeatureCacheSettings(rows=8, lists=8)
RNG = np.random.default_rng(0)


def draw_keys(n: int) -> np.ndarray:
    return RNG.integers(1, 2**64, n, np.uint64)


def is_cached(cache: FeatureCache, key: int, length: int = 1) -> bool:
    x = np.empty((length, 2), np.float32)
    return bool(cache.copy_to(x, np.array([key], np.uint64), np.array([0, length]))[0])


def test_cached_rows_stay_until_overwritten() -> None:
    cache, x = FeatureCache(2, SMALL), np.arange(8, dtype=np.float32).reshape(4, 2)
    cache.put(np.array([5, 6], np.uint64), np.array([0, 3, 4]), x)
    copied = np.zeros((3, 2), np.float32)

    assert cache.copy_to(copied, np.array([5], np.uint64), np.array([0, 3])).tolist() == [True]
    assert np.array_equal(copied, x[:3])
    assert not is_cached(cache, 7)

    cache.put(np.array([9, 10], np.uint64), np.array([0, 4, 4]), x)
    cache.put(np.array([11], np.uint64), np.array([0, 4]), x)
    assert not is_cached(cache, 5, 3)
    assert is_cached(cache, 11, 4)


def test_two_impressions_on_one_slot_are_not_confused() -> None:
    cache = FeatureCache(2, SMALL)
    cache.put(np.array([5], np.uint64), np.array([0, 1]), np.ones((1, 2), np.float32))

    assert not is_cached(cache, 13)


def test_buffer_grows_to_its_limit_without_loss() -> None:
    cache, keys = FeatureCache(2, FeatureCacheSettings(rows=1 << 12, lists=1 << 15)), draw_keys(4000)
    for key in keys:
        cache.put(np.array([key]), np.array([0, 1]), np.ones((1, 2), np.float32))
    is_found = cache.copy_to(np.empty((keys.size, 2), np.float32), keys, np.arange(keys.size + 1))

    assert is_found.mean() > 0.9  # the others share a slot
    assert cache.state()["rows"].shape == (1 << 12, 2)


def test_share_falls_until_lists_outlive_their_window() -> None:
    cache, window = FeatureCache(2, FeatureCacheSettings(rows=256, lists=1 << 12)), 1000
    keys, found = draw_keys(20_000), []
    for i in range(keys.size):
        cache.put(keys[i : i + 1], np.array([0, 1]), np.ones((1, 2), np.float32))
        if i >= window:
            key = keys[i - window : i - window + 1]
            found.append(cache.copy_to(np.empty((1, 2), np.float32), key, np.array([0, 1])))
            cache.adapt_share(key, found[-1])

    assert cache.share in (1 / 16, 1 / 8, 1 / 4)
    assert np.mean(found[-5000:]) > 0.05


def test_share_rises_again_when_traffic_falls() -> None:
    cache, x = FeatureCache(2, FeatureCacheSettings(rows=256, lists=1 << 12)), np.ones((1, 2), np.float32)
    for window, n in ((1000, 20_000), (10, 40_000)):
        keys = draw_keys(n)
        for i in range(n):
            cache.put(keys[i : i + 1], np.array([0, 1]), x)
            if i >= window:
                key = keys[i - window : i - window + 1]
                cache.adapt_share(key, cache.copy_to(np.empty((1, 2), np.float32), key, np.array([0, 1])))

    assert cache.share == 1
