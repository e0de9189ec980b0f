"""Drive the live stream worker, model and ranking over a log in memory."""

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from online_models.model import RecommenderModel, settings_from_config
from online_models.retrievers.candidates import Exclusions
from online_models.training.journal import Step
from online_models.training.progress import Progress
from online_models.training.step import apply_step
from replay.evaluation.baselines.item_index import grow
from replay.evaluation.baselines.ranking import RankResults, TargetQueries
from replay.evaluation.baselines.shown_lists import ListScores
from replay.evaluation.ranking_metrics import target_ranks
from serving.pipeline.candidates import truncate
from serving.pipeline.ranking import rank
from stream.clock import Clock
from stream.config import Settings
from stream.ids import hash_id
from stream.records.batches import ExampleBatch, concat, query_rows
from stream.records.catalog import parse_item
from stream.records.example_blocks import decode_examples
from stream.testing import MemoryLog, MemoryStore
from stream.topics import DEAD_LETTER, EVENTS, EXAMPLES, ITEMS, create_topics
from stream.worker.worker import StreamWorker

_QUERIES_PER_CALL = 64  # so that the features of a call stay in the cache
_READ_LIMIT = 1 << 40  # records: no limit


class Pipeline:
    """Stream, rank and train. A batch from `stream` trains the model only in `learn`."""

    def __init__(self, settings: Settings, k: int, clock: Clock) -> None:
        self._k = k
        self._candidates = settings.serve.candidates
        self._log = MemoryLog(clock=clock)
        create_topics(self._log)
        self._worker = StreamWorker(self._log, MemoryStore(), settings)
        self._worker.step(timeout=0.0)  # acquires its partition
        self.model = RecommenderModel(settings_from_config(settings))
        self._progress = Progress()
        self._blocks: list[bytes] = []
        self._eligible = np.zeros(1024, np.uint8)  # by item row: 1 after the first event or catalog record
        self._pending_catalog: dict[int, bytes] = {}  # catalog records not yet due, by item key
        self._creation_queue: list[tuple[int, int]] = []  # (created ts, item key), latest first
        self.rejected: Counter[str] = Counter()
        self.first_rejection = ""

    def set_catalog(self, lines: Sequence[bytes]) -> None:
        """Set the catalog. Items are added at their creation time or, if earlier, first event.

        ValueError if a line is not an item.
        """
        for line in lines:
            item = parse_item(line)
            key = hash_id(item.item_id)
            self._pending_catalog[key] = line
            if item.created_ts is not None:
                self._creation_queue.append((item.created_ts, key))
        self._creation_queue.sort(reverse=True)

    def stream(self, lines: Sequence[bytes]) -> ExampleBatch | None:
        """Stream a micro-batch of events; return its examples, or None if there are none."""
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

    def rank_targets(self, batch: ExampleBatch, queries: TargetQueries) -> RankResults:
        """Rank as the live recommender does without exploration; infinity if the target is missing."""
        parts = [
            self._rank_part(batch, queries.take(first, first + _QUERIES_PER_CALL))
            for first in range(0, len(queries), _QUERIES_PER_CALL)
        ]
        return RankResults(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("rank", "top")))

    def _rank_part(self, batch: ExampleBatch, queries: TargetQueries) -> RankResults:
        model, k = self.model, self._k
        users = model.resolve_queries(batch.queries.take(query_rows(batch)[queries.rows]))
        exclusions = Exclusions(queries.start, model.items.lookup(queries.excluded))
        found = model.retrieve(users, max(k, self._candidates // 4), self._eligible, exclusions)
        lists = rank(model, users, truncate(found, max(k, self._candidates)), feedback_weight=0, top_n=k)
        keys = model.items.keys[lists.candidates.row]
        top = np.append(keys, np.uint64(0))[lists.top_entries]  # entry -1 is the 0 at the end
        return RankResults(target_ranks(lists.candidates.start, lists.scores, keys, queries.target), top)

    def score_lists(self, batch: ExampleBatch, rows: np.ndarray) -> ListScores:
        """Score shown lists, as they were shown, with the slate ranker and the click head."""
        lists = batch.lists.take(rows)
        features = self.model.extract_features(batch.queries.take(rows), lists)
        offset = self.model.position_offsets(batch, batch.view(rows), features)
        scores = self.model.score_slate(features, lists.start) + offset
        return ListScores(scores, self.model.predict_click_probability(features, offset))

    def learn(self, batch: ExampleBatch) -> None:
        """Train on the micro-batch that was streamed last."""
        self._apply_step(self._blocks)
        self._eligible = grow(self._eligible, len(self.model.items))
        self._eligible[self.model.items.lookup(np.unique(batch.lists.item))] = 1

    def _apply_step(self, blocks: Sequence[bytes]) -> None:
        progress = self._progress
        entry = Step(progress.epoch, progress.step + 1, [], self._log.end_offset(ITEMS, 0))
        apply_step(self._log, self.model, progress, entry, blocks)

    def _add_due_items(self, batch: ExampleBatch) -> None:
        """Add catalog items that are created by now or have their first event in the batch."""
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
