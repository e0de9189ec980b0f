"""Everything that learns, composed: the learner, the serving replica and offline evaluation all drive this."""

from dataclasses import dataclass, field, replace

import numpy as np

from online_models.bandits.category_residual import ByCategory
from online_models.features.extractor import Features
from online_models.features.history_filter import Past
from online_models.features.served_features import AsShown
from online_models.progressive_predictions import Answered, Closed, Foretold, answered, foretold
from online_models.protocols import Stateful
from online_models.rankers.click_head import Chances
from online_models.rankers.listnet import ListNet, ListNetSettings
from online_models.retrievers.candidates import Found, merged
from online_models.retrievers.covisitation import CovisitSettings
from online_models.retrievers.ensemble import Offers
from online_models.retrievers.session_knn import SessionSettings
from online_models.retrievers.top_k import Hidden, nothing_hidden
from online_models.retrievers.two_tower import TwoTowerSettings
from online_models.state.contribution_caps import Caps
from online_models.state.item_table import NO_TIME, Items, People, Slates, actions_of
from online_models.state.tables import State, joined, part_of
from online_models.step_report import StepReport
from stream.records.batches import ExampleBatch, Kind, Lists, Questions, asked_rows, flat_runs


@dataclass(frozen=True, slots=True)
class StackSettings:
    covisit: CovisitSettings = field(default_factory=CovisitSettings)
    sessions: SessionSettings = field(default_factory=SessionSettings)
    two_tower: TwoTowerSettings = field(default_factory=TwoTowerSettings)
    ranker: ListNetSettings = field(default_factory=ListNetSettings)
    learnt_candidates: int = 30  # per channel, in the lists by which organic actions train the ranker
    learnt_actions: int = 128  # actions of one batch that train the ranker, evenly chosen when there are more

    def __post_init__(self) -> None:
        if self.learnt_candidates < 1 or self.learnt_actions < 0:
            raise ValueError(f"learnt_candidates must be ≥ 1 and learnt_actions ≥ 0, got {self}")


def seeded(seed: int) -> StackSettings:
    """The default settings, with another chance for each seed."""
    told = StackSettings()
    return replace(
        told,
        two_tower=replace(told.two_tower, seed=told.two_tower.seed + 2 * seed),  # of two tables, a seed each
        ranker=replace(told.ranker, seed=told.ranker.seed + seed),
    )


def not_shown(start: np.ndarray, row: np.ndarray) -> Slates:
    """Candidates as lists that have no places yet."""
    return Slates(start, row, np.full(row.size, -1, np.int16), np.full(row.size, np.nan, np.float32))


class Stack:
    """Items, retrievers, features and ranker, with one order of learning and one form of state.

    Not for several threads at once: kernels share scratch space.
    """

    def __init__(self, settings: StackSettings | None = None) -> None:
        self.settings = setting = settings or StackSettings()
        self.items = Items()
        self.past, self.caps = Past(), Caps()
        self._offers = offers = Offers(self.items, setting.covisit, setting.sessions, setting.two_tower)
        self.covisits, self.sessions, self.tower = offers.covisits, offers.sessions, offers.tower
        self.popular, self.trending, self.newest = offers.popular, offers.trending, offers.newest
        self._features = Features(self.items, (self.covisits, self.sessions, self.tower), offers.scratch)
        self.picker = ListNet(len(self._features), setting.ranker)  # of all candidates, which one will be taken
        self.orderer = ListNet(len(self._features), setting.ranker)  # of what is shown, which one will be taken
        self.chances = Chances(len(self._features) + setting.ranker.hidden)
        self.bandit = ByCategory(self.items, self._features.names)
        self.closed, self.foretold, self.answered = Closed(), Foretold(), Answered()
        self._as_shown = AsShown(self._features)

    @property
    def report(self) -> StepReport:
        lists, closed = (self.orderer.report, self.picker.report), self.closed.label.size
        return StepReport(*lists, self.tower.report, closed, self.chances.update_norm)

    @property
    def feature_names(self) -> tuple[str, ...]:
        return self._features.names

    # Rows

    def admit(self, keys: np.ndarray) -> np.ndarray:
        """Item rows of keys, (n,) int32; unknown items get a row, 0 gets -1."""
        rows = self.items.admit(keys)
        self.tower.admit(keys)
        self._offers.reserve()
        return rows

    def describe(self, keys: np.ndarray, categories: np.ndarray, created: np.ndarray, price: np.ndarray) -> np.ndarray:
        """Admit items with what the catalogue says of them; returns their rows.

        `categories`: (n, 4) uint64 keys, 0 = none; `created`: (n,) int64 ms, NO_TIME = unknown; `price`: (n,) float32,
        NaN = unknown.
        """
        rows = self.admit(keys)
        known = rows >= 0
        self.items.describe(rows[known], categories[known], created[known], price[known])
        self.newest.learn(rows[known & (created > NO_TIME)])
        return rows

    # Learning

    def learn(self, batch: ExampleBatch) -> None:
        """One step: features from the state before the batch, then the ranker, then what counts and what embeds."""
        if len(batch) == 0:
            return
        self.admit(batch.lists.item)
        people, slates = self.people(batch.questions), self.items.slates(batch.lists)
        capped = self.caps.see(batch)
        actions, chosen = actions_of(batch, self.items, people, capped)
        open_lists = self._open_lists(people.take(asked_rows(batch)[chosen]), actions.row)
        self._learn_slates(batch, people, slates)
        self.picker.learn_lists(*open_lists)
        self._learn_chances(batch, people, slates)
        self._as_shown.remember(batch, people, slates)
        self.items.learn(batch, capped)
        met = np.unique(slates.row)
        self._offers.learn(actions, met[(met >= 0) & (self.items.counters["first"][met] >= batch.ts.min())])

    def _learn_slates(self, batch: ExampleBatch, people: People, slates: Slates) -> None:
        """Learn lists of which something was taken just now, with the features that they were shown with."""
        chosen = np.flatnonzero(batch.kind == Kind.clicked)
        x, start = self._as_shown.of(batch, chosen, people, slates)
        flat, _ = flat_runs(batch.lists.start, chosen)
        lists = x, batch.lists.label[flat], start
        compared = self._compared(batch.questions.take(chosen), chosen, slates) if chosen.size else None
        self.answered = answered(batch, chosen, self.probability(x))
        self.foretold = foretold(self.orderer, batch.questions.ts[chosen], lists, self._features.personal, compared)
        self.orderer.learn_lists(*lists)

    def _compared(
        self, questions: Questions, chosen: np.ndarray, slates: Slates
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Features of lists as they are, and with the past that is tried; None if none is."""
        tried = self.past.tried(questions)
        if tried is None:
            return None
        asking = self.people(questions), self.items.people(tried)
        now, other = (self._as_shown.computed(one, chosen, slates)[0] for one in asking)
        return now, other

    def _open_lists(self, people: People, taken: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For actions, what all channels would have offered, with the item that was taken as the label."""
        most = self.settings.learnt_actions
        if taken.size > most:
            kept = np.arange(most) * taken.size // most
            people, taken = people.take(kept), taken[kept]
        met = Hidden(people.questions.history_start, people.history)
        k = self.settings.learnt_candidates
        channels = self._offers.find(people, k, met, nothing_hidden(len(people.questions)))
        found = merged(channels, k, met, self._offers.scratch)
        slates = not_shown(found.start, found.row)
        label = (found.row == np.repeat(taken, np.diff(found.start))).astype(np.float32)
        return self._features.of(people, slates), label, found.start

    def foresee(self, batch: ExampleBatch) -> Answered:
        """What is taken of slates, and how it was predicted; nothing is learnt."""
        chosen = np.flatnonzero(batch.kind == Kind.clicked)
        x, _ = self._as_shown.of(batch, chosen, self.people(batch.questions), self.items.slates(batch.lists))
        return answered(batch, chosen, self.probability(x))

    def _learn_chances(self, batch: ExampleBatch, people: People, slates: Slates) -> None:
        chosen = np.flatnonzero(batch.kind == Kind.closed)
        x, _ = self._as_shown.of(batch, chosen, people, slates)
        flat, _ = flat_runs(batch.lists.start, chosen)
        inside, label = self.orderer.inside(x), batch.lists.label[flat]
        self.closed = Closed(self.chances.predict(inside), label, x)
        self.chances.learn(inside, label)
        ts = np.repeat(batch.ts[chosen], np.diff(batch.lists.start)[chosen])
        self.bandit.learn(slates.row[flat], x, self.closed.probability, label, ts)

    # Answering

    def people(self, questions: Questions) -> People:
        """Who asks, with what counts of their past."""
        return self.items.people(self.past.of(questions))

    def candidates(
        self,
        people: People,
        k: int,
        eligible: np.ndarray | None = None,
        hidden: Hidden | None = None,
        fresh: np.ndarray | None = None,
    ) -> Found:
        """Up to k items per channel for each question, and all item rows of `fresh` that may be found; see `Offers`."""
        return self._offers.candidates(people, k, eligible, hidden, fresh)

    def similar(self, row: int, k: int) -> Found:
        """Up to 3 k neighbours of an item, as found for a person who has met nothing else."""
        return self._offers.similar(row, k)

    def features(self, questions: Questions, lists: Lists) -> np.ndarray:
        """(m, len(feature_names)) float32: what `score` and `probability` see, to be logged as served."""
        return self._features.of(self.people(questions), self.items.slates(lists))

    def features_of(self, people: People, start: np.ndarray, row: np.ndarray) -> np.ndarray:
        """The same of candidates, (m,) int32 item rows or -1, in lists that begin at `start`, (n + 1,) int64."""
        return self._features.of(people, not_shown(start, row))

    def judge(self, features: np.ndarray, trust: float) -> tuple[np.ndarray, np.ndarray]:
        """Scores, (m,) float32, comparable within a list, by which to pick a slate; and log-odds of being acted on.

        `trust` is the weight, 0 to 1, of what people did with what they were shown, against what they picked of
        everything. How well items do once shown is in log-odds, calibrated among all and sharpened in a slate.
        """
        inside = self.orderer.inside(features)
        odds = self.chances.log_odds(inside)
        if trust == 0:
            return self.score(features), odds
        scores: np.ndarray = odds + np.float32(0.5) * self.orderer.scores_inside(inside)
        if trust < 1:
            scores = np.float32(trust) * scores + np.float32(1 - trust) * self.score(features)
        return scores, odds

    def score(self, features: np.ndarray) -> np.ndarray:
        """Scores, (m,) float32, comparable within a list, by which to pick a slate from all candidates."""
        return self.picker.scores(features)

    def order(self, features: np.ndarray) -> np.ndarray:
        """Scores, (m,) float32, comparable within a list, by which to order (or judge) a slate that is shown."""
        return self.orderer.scores(features)

    def probability(self, features: np.ndarray) -> np.ndarray:
        """Calibrated probability that a shown item is acted on, (m,) float32."""
        return self.chances.predict(self.orderer.inside(features))

    # State

    def _parts(self) -> dict[str, Stateful]:
        return {
            "items": self.items,
            "past": self.past,
            "caps": self.caps,
            "covisits": self.covisits,
            "sessions": self.sessions,
            "tower": self.tower,
            "popular": self.popular,
            "trending": self.trending,
            "newest": self.newest,
            "picker": self.picker,
            "orderer": self.orderer,
            "chances": self.chances,
            "bandit": self.bandit,
        }

    def state(self) -> State:
        parts = {name: part.state() for name, part in self._parts().items()}
        return joined(parts | {"remembered": self._as_shown.state()})

    def restore(self, state: State) -> None:
        for name, part in self._parts().items():
            part.restore(part_of(state, name))
        self._as_shown.restore(part_of(state, "remembered"))
        self._offers.reserve()

    def changes(self) -> State:
        return joined({name: part.changes() for name, part in self._parts().items()})

    def apply(self, changes: State) -> None:
        for name, part in self._parts().items():
            part.apply(part_of(changes, name))
        self._offers.reserve()
