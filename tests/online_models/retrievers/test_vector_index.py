import numpy as np
import pytest

from online_models.retrievers.candidates import CandidateFilter, Exclusions, empty_exclusions
from online_models.retrievers.vector_index import VectorIndex


def make_filter(size: int, exclusions: Exclusions) -> CandidateFilter:
    return CandidateFilter(np.ones(size, np.uint8), *exclusions, np.full(size, -1, np.int32))


@pytest.mark.parametrize("size", [500, 30_000], ids=["exact", "inverted lists"])
def test_index_follows_new_vectors(size: int) -> None:
    rng = np.random.default_rng(2)
    vector = rng.normal(size=(size, 16)).astype(np.float32)
    index = VectorIndex(16)
    index.update(np.arange(size), vector)
    user, candidates = (
        rng.normal(size=(1, 16)).astype(np.float32),
        make_filter(size, Exclusions(np.array([0, 1]), np.array([11], np.int32))),
    )
    vector[11] = 20 * user[0]
    index.update(np.array([11]), vector)
    vector[7] = 10 * user[0]
    index.update(np.array([7]), vector)

    assert index.search(user, vector, 5, candidates)[0, 0] == 7

    candidates.eligible[7] = 0
    vector[9] = -10 * user[0]
    index.update(np.array([9]), vector)
    assert not {7, 9, 11} & set(index.search(user, vector, 5, candidates)[0].tolist())


def test_inverted_lists_find_most_exact_results() -> None:
    rng, size = np.random.default_rng(3), 30_000
    centers = rng.normal(size=(100, 16))
    vector = (centers[rng.integers(100, size=size)] + 0.5 * rng.normal(size=(size, 16))).astype(np.float32)
    users = (centers[:20] + 0.3 * rng.normal(size=(20, 16))).astype(np.float32)
    index = VectorIndex(16)
    index.update(np.arange(size), vector)
    found = index.search(users, vector, 10, make_filter(size, empty_exclusions(20)))
    exact = np.argsort(-users @ vector.T, axis=1)[:, :10]
    recall = np.mean([np.isin(a, b).mean() for a, b in zip(exact, found, strict=True)])

    assert recall > 0.9
