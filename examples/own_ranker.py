"""A ranker of your own: linear, trained on softmax over each list.

Run `python examples/own_ranker.py` to check it. To serve it, put this folder on PYTHONPATH and set
`HEADRACE_LEARN__RANKER=own_ranker:PriceAware` for `headrace up`, or publish it as an entry point of `headrace.models`.
"""

import numpy as np

from online_models.checks import RANKER
from online_models.rankers import LearnReport, Ranker, RankerSettings, softmax_by_list
from online_models.state.tables import State


class PriceAware(Ranker):
    def __init__(self, features: tuple[str, ...], settings: RankerSettings) -> None:
        self.weights = np.zeros(len(features), np.float32)

    def score(self, x: np.ndarray, start: np.ndarray) -> np.ndarray:
        return x @ self.weights  # (m,) float32, comparable within a list

    def learn(self, x: np.ndarray, labels: np.ndarray, start: np.ndarray) -> LearnReport:
        """Train on lists as ragged rows: list i is x[start[i]:start[i + 1]]."""
        probability = softmax_by_list(self.score(x, start), start)
        gradient = x.T @ (probability - labels)
        self.weights -= 0.05 * gradient.clip(-1, 1)
        return LearnReport.from_gradient(gradient)

    def state(self) -> State:
        return {"weights": self.weights}

    def restore(self, state: State) -> None:
        self.weights = state["weights"].copy()


if __name__ == "__main__":
    for check in RANKER:
        check(PriceAware)
        print(f"passed: {check.__name__}")
