"""The numbers that say how a person and an item stand to one another at a moment: one row per (question, candidate)."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from online_models.features.category_affinity import TASTE, taste_block
from online_models.features.feature_kernels import (
    COMPARED,
    CONTEXT,
    ITEM,
    LIST,
    LOGGED,
    OWN,
    against_best,
    item_block,
    list_block,
    log_columns,
    own_block,
)
from online_models.state.item_table import HORIZONS, Items, People, Slates
from online_models.state.workspace import Scratch


class Scored(Protocol):
    """A retriever that also says, for any item, how strongly it would have found it."""

    names: tuple[str, ...]
    scales: tuple[float, ...]  # scores ≥ 0 enter as log(1 + scale · score), those of scale 0 as they are

    def features(self, people: People, slates: Slates, out: np.ndarray, column: int) -> None:
        """Write scores into columns of `out` that hold zeros."""
        ...


class Features:
    """All blocks side by side. Asking leaves every state alone."""

    def __init__(self, items: Items, scored: Sequence[Scored], scratch: Scratch) -> None:
        self._items, self._scored, self._scratch = items, scored, scratch
        told = tuple(name for retriever in scored for name in retriever.names)
        absolute = (*ITEM, *OWN, *TASTE, *LIST, *CONTEXT, *told)
        compared = (*COMPARED, *told)
        self.names = (*absolute, *(f"{name}_behind" for name in compared))
        self._compared = np.array([absolute.index(name) for name in compared], np.int64)
        self._absolute = len(absolute)
        known = {*OWN, *TASTE, "price_own", "history_length", *told}
        self.personal = np.array([name.removesuffix("_behind") in known for name in self.names])  # 0 for a stranger
        self._scales = np.array([scale for retriever in scored for scale in retriever.scales], np.float32)

    def __len__(self) -> int:
        return len(self.names)

    def of(self, people: People, slates: Slates) -> np.ndarray:
        """One row per list entry, (m, len(self)) float32, all finite."""
        out = np.zeros((slates.row.size, len(self)), np.float32)
        questions, counters, catalogue = people.questions, self._items.counters, self._items.catalogue
        place = self._scratch.reserve(len(self._items))
        item_block(
            questions.ts, slates.start, slates.row, HORIZONS, counters["counts"], counters["stamp"], counters["first"],
            counters["last"], counters["rating"], catalogue["created"], out, 0,
        )  # fmt: skip
        np.log(out[:, :LOGGED], out=out[:, :LOGGED])  # many at once
        column = len(ITEM)
        own_block(
            questions.ts, questions.session_start, questions.history_start, people.history, questions.history_type,
            questions.history_ts, questions.shown_start, people.shown, slates.start, slates.row, place, out, column,
        )  # fmt: skip
        column += len(OWN)
        taste_block(
            questions.history_start, people.history, questions.shown_start, people.shown, catalogue["categories"],
            slates.start, slates.row, out, column,
        )  # fmt: skip
        column += len(TASTE)
        list_block(
            questions.ts, questions.session_start, questions.session_depth, questions.history_start, people.history,
            catalogue["price"], slates.start, slates.row, slates.position, slates.price, out, column,
        )  # fmt: skip
        column += len(LIST) + len(CONTEXT)
        told = column
        for retriever in self._scored:
            retriever.features(people, slates, out, column)
            column += len(retriever.names)
        log_columns(out, told, self._scales)
        against_best(slates.start, out, self._compared, self._absolute)
        return out
