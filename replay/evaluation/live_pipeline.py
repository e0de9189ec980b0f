"""The live stream worker and learner over a log in memory, asked as a server would be: one micro-batch at a time."""

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from online_models.model import Stack, seeded
from online_models.retrievers.top_k import Hidden
from online_models.training.journal import Step
from online_models.training.step import Progress, take
from replay.evaluation.baselines import Opinion, Standing, grown
from replay.evaluation.ranking_metrics import place_of
from serving.pipeline.candidates import cut
from serving.pipeline.ranking import ranked
from stream.clock import Clock
from stream.config import Settings
from stream.ids import key_of
from stream.records.batches import ExampleBatch, asked_rows, concat
from stream.records.catalog import parse_item
from stream.records.example_blocks import decode_examples
from stream.testing import MemoryLog, MemoryStore
from stream.topics import ALARMS, DEAD_LETTER, EVENTS, EXAMPLES, ITEMS, QUARANTINE, USERS
from stream.worker.worker import StreamWorker

_ALL = 1 << 40  # more records than a read gets to see


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
        self.stack = Stack(seeded(settings.learn.seed))
        self._progress = Progress()
        self._blocks: list[bytes] = []
        self._eligible = np.zeros(1024, np.uint8)  # by item row: an event has named it
        self._described: dict[int, bytes] = {}  # catalogue that is still to come, by item key
        self._created: list[tuple[int, int]] = []  # when, and which; latest first
        self.refused: Counter[str] = Counter()
        self.first_refusal = ""

    def describe(self, lines: Sequence[bytes]) -> None:
        """The catalogue: an item enters it when it is created, if that is known, and at its first event at the latest.

        ValueError if a line is no item.
        """
        for line in lines:
            item = parse_item(line)
            key = key_of(item.item_id)
            self._described[key] = line
            if item.created_ts is not None:
                self._created.append((item.created_ts, key))
        self._created.sort(reverse=True)

    def stream(self, lines: Sequence[bytes]) -> ExampleBatch | None:
        """Examples of a micro-batch of events, each with the person as they stood before it; None if there are none."""
        first = self._log.end(EXAMPLES, 0)
        self._log.append(EVENTS, 0, [(None, line) for line in lines])
        self._worker.step(timeout=0.0)
        self._blocks = [block for block in self._log.read(EXAMPLES, 0, first, _ALL).values if block]
        self._note_refusals()
        for topic in (EVENTS, EXAMPLES):
            self._log.trim(topic, 0, self._log.end(topic, 0))
        batches = [decode_examples(block)[1] for block in self._blocks]
        batches = [batch for batch in batches if len(batch)]
        if not batches:
            return None
        batch = concat(batches)
        self._enter(batch)
        return batch

    def pick(self, batch: ExampleBatch, i: int, hidden: np.ndarray, target: int) -> Standing:
        """Rank as `serving.recommender` does when nothing is explored; what it does not find is not in the answer."""
        stack, k = self.stack, self._k
        people = stack.people(batch.questions.take(asked_rows(batch)[[i]]))
        unwanted = Hidden(np.array([0, hidden.size]), stack.items.find(hidden))
        found = stack.candidates(people, max(k, self._candidates // 4), self._eligible, unwanted)
        judged = ranked(stack, people, cut(found, max(k, self._candidates)), trust=0, most=k)
        keys = stack.items.keys[judged.found.row]
        at = np.flatnonzero(keys == np.uint64(target))
        place = place_of(judged.scores, int(at[0])) if at.size else np.inf
        return Standing(place, keys[judged.best_of(0)])

    def order(self, batch: ExampleBatch, rows: np.ndarray) -> Opinion:
        """What the ranker thinks of lists that were shown."""
        features = self.stack.features(batch.questions.take(rows), batch.lists.take(rows))
        return Opinion(self.stack.order(features), self.stack.probability(features))

    def learn(self, batch: ExampleBatch) -> None:
        """Learn the micro-batch that was streamed last."""
        self._step(self._blocks)
        self._eligible = grown(self._eligible, len(self.stack.items))
        self._eligible[self.stack.items.find(np.unique(batch.lists.item))] = 1

    def _step(self, blocks: Sequence[bytes]) -> None:
        progress = self._progress
        entry = Step(progress.epoch, progress.step + 1, [], self._log.end(ITEMS, 0))
        take(self._log, self.stack, progress, entry, blocks)

    def _enter(self, batch: ExampleBatch) -> None:
        """Put into the catalogue what is created by now, or named for the first time."""
        keys = dict.fromkeys(key for key in batch.lists.item.tolist() if key in self._described)
        now = int(batch.ts.max())
        while self._created and self._created[-1][0] <= now:
            keys[self._created.pop()[1]] = None
        lines = [self._described.pop(key) for key in keys if key in self._described]
        if lines:
            self._log.append(ITEMS, 0, [(parse_item(line).item_id.encode(), line) for line in lines])
            self._step([])
            self._eligible = grown(self._eligible, len(self.stack.items))

    def _note_refusals(self) -> None:
        letters = self._log.read(DEAD_LETTER, 0, self._log.start(DEAD_LETTER, 0), _ALL)
        for value in letters.values:
            letter = msgspec.json.decode(value or b"{}")
            self.refused[letter["reason"]] += 1
            self.first_refusal = self.first_refusal or letter["detail"]
        self._log.trim(DEAD_LETTER, 0, self._log.end(DEAD_LETTER, 0))
