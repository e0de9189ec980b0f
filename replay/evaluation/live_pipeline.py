"""The live stream worker and learner over a log in memory, asked as a server would be: one micro-batch at a time."""

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from online_models.model import RecommenderModel, settings_with_seed
from online_models.retrievers.top_k import Exclusions
from online_models.training.journal import Step
from online_models.training.step import Progress, apply_step
from replay.evaluation.baselines import ListScores, RankResult, grow
from replay.evaluation.ranking_metrics import target_rank
from serving.pipeline.candidates import truncate
from serving.pipeline.ranking import rank
from stream.clock import Clock
from stream.config import Settings
from stream.ids import hash_id
from stream.records.batches import ExampleBatch, concat, query_rows
from stream.records.catalog import parse_item
from stream.records.example_blocks import decode_examples
from stream.testing import MemoryLog, MemoryStore
from stream.topics import ALARMS, DEAD_LETTER, EVENTS, EXAMPLES, ITEMS, QUARANTINE, USERS
from stream.worker.worker import StreamWorker

_READ_LIMIT = 1 << 40  # more records than a read gets to see


class Pipeline:
    """Streams, answers and learns. What `stream` returns is not learnt before `learn` is called."""

    def __init__(self, settings: Settings, k: int, clock: Clock) -> None:
        self._k = k
        self._candidates = settings.serve.candidates
        self._log = MemoryLog(clock=clock)
        for topic in (EVENTS, EXAMPLES, USERS, ITEMS, DEAD_LETTER, QUARANTINE, ALARMS):
            self._log.create(topic, 1, compacted=topic in (USERS, ITEMS))
        self._worker = StreamWorker(self._log, MemoryStore(), settings)
        self._worker.step(timeout=0.0)  # takes up its partition
        self.model = RecommenderModel(settings_with_seed(settings.learn.seed))
        self._progress = Progress()
        self._blocks: list[bytes] = []
        self._eligible = np.zeros(1024, np.uint8)  # by item row: an event has named it
        self._pending_catalog: dict[int, bytes] = {}  # catalogue that is still to come, by item key
        self._creation_queue: list[tuple[int, int]] = []  # when, and which; latest first
        self.rejected: Counter[str] = Counter()
        self.first_rejection = ""

    def set_catalog(self, lines: Sequence[bytes]) -> None:
        """The catalogue: an item enters it when it is created, if that is known, and at its first event at the latest.

        ValueError if a line is no item.
        """
        for line in lines:
            item = parse_item(line)
            key = hash_id(item.item_id)
            self._pending_catalog[key] = line
            if item.created_ts is not None:
                self._creation_queue.append((item.created_ts, key))
        self._creation_queue.sort(reverse=True)

    def stream(self, lines: Sequence[bytes]) -> ExampleBatch | None:
        """Examples of a micro-batch of events, each with the person as they stood before it; None if there are none."""
        first = self._log.end_offset(EXAMPLES, 0)
        self._log.append(EVENTS, 0, [(None, line) for line in lines])
        self._worker.step(timeout=0.0)
        self._blocks = [block for block in self._log.read(EXAMPLES, 0, first, _READ_LIMIT).values if block]
        self._record_rejections()
        for topic in (EVENTS, EXAMPLES):
            self._log.trim(topic, 0, self._log.end_offset(topic, 0))
        batches = [decode_examples(block)[1] for block in self._blocks]
        batches = [batch for batch in batches if len(batch)]
        if not batches:
            return None
        batch = concat(batches)
        self._add_due_items(batch)
        return batch

    def rank_target(self, batch: ExampleBatch, i: int, excluded: np.ndarray, target: int) -> RankResult:
        """Rank as `serving.recommender` does when nothing is explored; what it does not find is not in the answer."""
        model, k = self.model, self._k
        users = model.resolve_queries(batch.queries.take(query_rows(batch)[[i]]))
        exclusions = Exclusions(np.array([0, excluded.size]), model.items.lookup(excluded))
        candidates = model.retrieve(users, max(k, self._candidates // 4), self._eligible, exclusions)
        ranked_lists = rank(model, users, truncate(candidates, max(k, self._candidates)), feedback_weight=0, top_n=k)
        keys = model.items.keys[ranked_lists.candidates.row]
        matches = np.flatnonzero(keys == np.uint64(target))
        n_ahead = target_rank(ranked_lists.scores, int(matches[0])) if matches.size else np.inf
        return RankResult(n_ahead, keys[ranked_lists.get_top_entries(0)])

    def score_lists(self, batch: ExampleBatch, rows: np.ndarray) -> ListScores:
        """What the ranker thinks of lists that were shown."""
        features = self.model.extract_features(batch.queries.take(rows), batch.lists.take(rows))
        return ListScores(self.model.score_slate(features), self.model.predict_click_probability(features))

    def learn(self, batch: ExampleBatch) -> None:
        """Learn the micro-batch that was streamed last."""
        self._apply_step(self._blocks)
        self._eligible = grow(self._eligible, len(self.model.items))
        self._eligible[self.model.items.lookup(np.unique(batch.lists.item))] = 1

    def _apply_step(self, blocks: Sequence[bytes]) -> None:
        progress = self._progress
        entry = Step(progress.epoch, progress.step + 1, [], self._log.end_offset(ITEMS, 0))
        apply_step(self._log, self.model, progress, entry, blocks)

    def _add_due_items(self, batch: ExampleBatch) -> None:
        """Put into the catalogue what is created by now, or named for the first time."""
        keys = dict.fromkeys(key for key in batch.lists.item.tolist() if key in self._pending_catalog)
        now = int(batch.ts.max())
        while self._creation_queue and self._creation_queue[-1][0] <= now:
            keys[self._creation_queue.pop()[1]] = None
        lines = [self._pending_catalog.pop(key) for key in keys if key in self._pending_catalog]
        if lines:
            self._log.append(ITEMS, 0, [(parse_item(line).item_id.encode(), line) for line in lines])
            self._apply_step([])
            self._eligible = grow(self._eligible, len(self.model.items))

    def _record_rejections(self) -> None:
        dead_letters = self._log.read(DEAD_LETTER, 0, self._log.start_offset(DEAD_LETTER, 0), _READ_LIMIT)
        for value in dead_letters.values:
            letter = msgspec.json.decode(value or b"{}")
            self.rejected[letter["reason"]] += 1
            self.first_rejection = self.first_rejection or letter["detail"]
        self._log.trim(DEAD_LETTER, 0, self._log.end_offset(DEAD_LETTER, 0))
