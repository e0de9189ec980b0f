"""Ranker and features of a state, and conversion of a state of other features."""

import logging
from collections.abc import Mapping

import numpy as np

from online_models.features.feature_names import decode_names, encode_names, map_columns
from online_models.protocols import Stateful
from online_models.state.tables import State, substate

PARTS = ("candidate_ranker", "slate_ranker", "click_head")  # whose state belongs to a ranker and its features
# Features that releases which stored no names did not have.
_ADDED = {
    "dislike_share",
    "user_item_dislikes",
    "category_disliked",
    "next_to_latest_after",
    "next_to_latest_after_2",
    "next_to_latest_before",
    "next_to_latest_before_2",
    "list_history_items",
    "ease_all",
    "ease_recent",
}
_logger = logging.getLogger(__name__)


class StateIdentity:
    """Ranker and features by which a model reads the states of other models."""

    def __init__(self, ranker: str, features: tuple[str, ...]) -> None:
        self._ranker, self._features = ranker, features
        self._encoded: State = {"name": np.frombuffer(ranker.encode(), np.uint8), "features": encode_names(features)}
        self._reported: set[str] = set()  # problems, each with one warning

    def state(self) -> State:
        return self._encoded

    def select_restored(self, parts: Mapping[str, Stateful], state: State) -> dict[str, State]:
        """State of each part that can be restored, by column names where the features differ."""
        for name in parts:
            if parts[name].state() and not substate(state, name):
                self._report(f"{name} starts untrained: the state is of a release without it")
        if not self._is_same_ranker(state):
            return {name: substate(state, name) for name in parts if name not in PARTS}
        old = self._read_features(state)
        states: dict[str, State | None] = {name: substate(state, name) for name in parts}
        if old != self._features:
            states |= self._convert(parts, states, map_columns(old, self._features))
        return {name: part_state for name, part_state in states.items() if part_state is not None}

    def select_applied(self, parts: Mapping[str, Stateful], changes: State) -> list[str]:
        """Names of the parts that can apply these changes of a learner."""
        is_readable = self._is_same_ranker(changes)
        if is_readable and self._read_features(changes) != self._features:
            is_readable = False
            self._report("changes of the learner's rankers are not used: its features differ; update learn and serve")
        return [name for name in parts if is_readable or name not in PARTS]

    def has_features_of(self, state: State) -> bool:
        """Return True for a state over the same features."""
        return self._read_features(state) == self._features

    def _convert(
        self, parts: Mapping[str, Stateful], states: Mapping[str, State | None], columns: np.ndarray
    ) -> dict[str, State | None]:
        """Converted states of the ranker's parts; None for one that starts untrained."""
        converted = {
            name: getattr(parts[name], "convert_state", lambda state, columns: None)(states[name], columns)
            for name in PARTS
        }
        if any(state is None for state in converted.values()):  # the click head reads the ranker
            self._report(f"ranker {self._ranker!r} starts untrained: its features have changed")
            return dict.fromkeys(PARTS)
        n_new = int((columns < 0).sum())
        _logger.info("rankers continue with other features: %d new, %d kept", n_new, columns.size - n_new)
        return converted

    def _read_features(self, state: State) -> tuple[str, ...]:
        if "ranker.features" in state:
            return decode_names(state["ranker.features"])
        return tuple(name for name in self._features if name.removesuffix("_minus_best") not in _ADDED)

    def _is_same_ranker(self, state: State) -> bool:
        name = state["ranker.name"].tobytes().decode()
        if name != self._ranker:
            self._report(
                f"state of ranker {name!r} is not used: learn.ranker is {self._ranker!r}, which starts untrained; learn"
                " and serve need the same setting"
            )
        return name == self._ranker

    def _report(self, problem: str) -> None:
        if problem not in self._reported:
            self._reported.add(problem)
            _logger.warning(problem)
