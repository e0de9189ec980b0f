import numpy as np

from online_models.retrievers.top_k import top_k


def test_top_k_sorts_like_a_stable_sort() -> None:
    scores = np.random.default_rng(4).integers(0, 20, 300).astype(np.float32)
    indices = np.empty(40, np.int64)
    top_k(scores, 300, indices)

    assert indices.tolist() == np.argsort(-scores, kind="stable")[:40].tolist()
