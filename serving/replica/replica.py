"""What to answer with: the newest checkpoint, brought up to date by the model-updates after it, and the catalogue."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from online_models.model import Stack, seeded
from online_models.training.updates import Update, decode_update
from online_models.versions import checkpoints, gate
from online_models.versions.checkpoints import name_of
from serving import metrics
from serving.replica.category_neighbors import CategoryBoards
from stream.config import Settings
from stream.logs import EventLog, Records
from stream.records.batches import EventType
from stream.records.catalog import Catalogue, Change, read_items
from stream.topics import MODEL_UPDATES

_READ = 64
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class News:
    """What has come in of items and updates, not yet applied."""

    items: Sequence[tuple[int, list[Change]]]
    since: int  # offset from which the updates were read
    updates: Records


class Replica:
    """Follows the learner. `poll` applies whole updates between answers, so an answer sees the old or the new state."""

    def __init__(self, log: EventLog, settings: Settings) -> None:
        self._log = log
        self._settings = settings
        self.stack = Stack(seeded(settings.learn.seed))
        self.boards = CategoryBoards(self.stack.items)
        self.epoch, self.step = 0, 0
        self.base = ""  # the checkpoint from which this state has come
        self.covered: dict[str, int] = {}  # next offset of the events that the state covers, by partition
        self.catalogue = Catalogue(log)
        self.eligible = np.zeros(1024, np.uint8)  # by item row: in the catalogue, and available
        self._names = np.full(1024, "", object)  # id by item row
        self.ever = np.zeros(len(EventType), np.int64)  # events of all items by type
        self._sellable: set[int] = set()
        self._rows = 0
        self._tried: list[str] = []  # how a gap between updates was to be closed
        self.refused = ""  # why a state that is newer than this one does not answer
        self._looked_at: list[str] = []  # newer versions, and which of them may be served
        self._servable: list[str] = []
        self._bar = "", ""  # the version of this epoch from which on none may be served, and why
        self._next = log.start(MODEL_UPDATES, 0)
        loaded = gate.load_newest(settings.checkpoints)
        self._mark_bar()
        if loaded:
            self._become(*loaded)
            # A power cut may have taken the last updates, which the learner then publishes once more.
            self._next = max(self._next, min(loaded[0].updates, log.end(MODEL_UPDATES, 0)))
        self._note(_told(*self._bar))
        self.poll()

    @property
    def version(self) -> str:
        """Name of the state that answers; epoch 0 is the empty state before anything was learnt."""
        return name_of(self.epoch, self.step)

    def names_of(self, rows: np.ndarray) -> list[str]:
        """Ids of the items in rows; of those that are not in the catalogue an empty one."""
        names: list[str] = self._names[rows].tolist()
        return names

    def poll(self) -> int:
        """Apply what has come in of updates and items; returns how many updates there were."""
        return self.take(self.look())

    def look(self) -> News:
        """Read what has come in. It touches nothing that answers use, so another thread may wait for a slow log."""
        since = self._next
        items = list(read_items(self._log, self.catalogue.next))
        return News(items, since, self._log.read(MODEL_UPDATES, 0, since, _READ))

    def take(self, news: News) -> int:
        """Apply what was read; returns how many updates there were."""
        self._follow(self.catalogue.take(news.items))
        records = news.updates
        if news.since != self._next:  # somebody else has moved on meanwhile: read again
            return 0
        for offset, value in zip(records.offsets, records.values, strict=True):
            self._next = offset + 1
            if value is not None:
                self._apply(decode_update(value))
            if self._next <= offset:
                break
        if len(records):
            self._mark_new_rows()
            metrics.model_step.set(self.step)
            metrics.model_epoch.set(self.epoch)
        return len(records)

    def counts(self, key: int) -> dict[str, int]:
        """Events of an item by type, as the learner has counted them."""
        row = int(self.stack.items.find(np.array([key], np.uint64))[0])
        ever = self.stack.items.counters["ever"][row] if row >= 0 else np.zeros(len(EventType), np.int64)
        return {kind.name: int(ever[kind]) for kind in EventType}

    def lag(self, topic: str) -> dict[str, int]:
        """Records of the events that are not yet in the answers, by partition."""
        return {str(p): max(0, end - self.covered.get(str(p), 0)) for p, end in self._log.ends(topic).items()}

    def _apply(self, update: Update) -> None:
        if update.base:
            if update.epoch > self.epoch:
                self._go_back(update)
            return
        if reason := self._refusal(update):
            self._refuse(update, reason)
            return
        if (update.epoch, update.step) > self._expected:
            self._leap(update)
        if (update.epoch, update.step) == self._expected:
            self._take(update)
            self.epoch, self.step, self.covered = update.epoch, update.step, update.offsets
            if self.refused:
                self._note("")

    def _note(self, refused: str) -> None:
        """Remember which newer state may not answer, "" if none is there, and tell it."""
        self.refused = refused
        metrics.model_refused.set(bool(refused))

    def _refusal(self, update: Update) -> str:
        """Why the state that an update leads to may not answer, "" if it may."""
        if update.epoch != max(1, self.epoch) or (update.epoch, update.step) < self._expected:
            return ""
        version, reason = self._bar
        return update.refused or (_told(version, reason) if version and update.version >= version else "")

    def _refuse(self, update: Update, reason: str) -> None:
        """Stay with this state until the learner goes back, or a newer version may be served."""
        if reason != self.refused:
            _logger.warning("answers stay with %s and do not follow to %s: %s", self.version, update.version, reason)
        self._note(reason)
        if newer := self._newer(update.epoch):
            self._tried = [self.version, *newer[-1:]]
            self._leap_to(newer)

    def _newer(self, epoch: int) -> list[str]:
        """Versions of an epoch that are newer than this state and may be served, oldest first."""
        folder = self._settings.checkpoints
        newer = [one for one in checkpoints.versions_in(folder) if one > self.version]
        newer = [version for version in newer if int(version.partition("-")[0]) == epoch]
        if newer and newer != self._looked_at:
            self._looked_at = newer
            wrong = gate.refused(folder)
            self._servable = [version for version in newer if version not in wrong]
        return self._servable if newer else []

    def _mark_bar(self) -> None:
        """Remember the oldest refused version that the updates would lead to."""
        epoch, wrong = f"{max(1, self.epoch):06d}-", gate.refused(self._settings.checkpoints)
        ahead = ((one, why) for one, why in wrong.items() if one.startswith(epoch) and one > self.version)
        self._bar = next(ahead, ("", ""))

    def _take(self, update: Update) -> None:
        """Apply the changes; keep `ever` the sum over all items, and the boards theirs."""
        items, rows = self.stack.items, update.changes["items.counters.rows"]
        self.ever -= items.counters["ever"][rows[rows < len(items)]].sum(axis=0)
        self.stack.apply(update.changes)
        self.ever += items.counters["ever"][rows].sum(axis=0)
        self.boards.learn(np.union1d(rows, update.changes["items.catalogue.rows"]))

    @property
    def _expected(self) -> tuple[int, int]:
        """Epoch and step of the only update that fits onto this state."""
        return max(1, self.epoch), self.step + 1

    def _leap(self, update: Update) -> None:
        """Updates are missing. A newer checkpoint leads over the gap; or they come again, for a power cut took them."""
        newer = self._newer(update.epoch)
        tried = [self.version, *newer[-1:]]
        if tried == self._tried:
            return
        self._tried = tried
        _logger.error("between %s and %s updates are missing", self.version, update.version)
        self._leap_to(newer)

    def _leap_to(self, newer: list[str]) -> None:
        loaded = checkpoints.load_latest(self._settings.checkpoints, reversed(newer))
        if loaded:
            self._become(*loaded)
        self._next = self._log.start(MODEL_UPDATES, 0)

    def _go_back(self, update: Update) -> None:
        """A new epoch: answer from an older version at once."""
        try:
            loaded = checkpoints.load(self._settings.checkpoints, update.base)
        except (OSError, checkpoints.DamagedCheckpoint) as error:
            _logger.error("cannot follow the learner back to %s: %s", update.base, error)
            return
        self._become(*loaded)
        self.epoch = update.epoch
        self.covered = update.offsets
        self._mark_bar()
        _logger.warning("answers go on from %s as epoch %d", update.base, update.epoch)

    def _become(self, manifest: checkpoints.Manifest, state: checkpoints.State) -> None:
        self.stack = Stack(seeded(self._settings.learn.seed))
        self.stack.restore(state)
        self.boards = CategoryBoards(self.stack.items)
        self.ever = self.stack.items.counters["ever"][: len(self.stack.items)].sum(axis=0)
        self.epoch, self.step = manifest.epoch, manifest.step
        self.base = manifest.version
        self.covered = dict(manifest.offsets)
        self._note("")
        self._mark_bar()
        self._rows = 0
        self.eligible[:] = 0
        self._mark_new_rows()

    def _follow(self, changes: list[Change]) -> None:
        for change in changes:
            sellable = change.item is not None and change.item.available
            (self._sellable.add if sellable else self._sellable.discard)(change.key)
        rows = self.stack.items.find(np.array([change.key for change in changes], np.uint64))
        known = rows >= 0
        marks = np.array([change.key in self._sellable for change in changes], np.uint8)
        self.eligible[rows[known]] = marks[known]
        self._names[rows[known]] = self._ids([change.key for change in changes])[known]

    def _ids(self, keys: Sequence[int]) -> np.ndarray:
        """Of the items with these keys, (n,) of text."""
        items = map(self.catalogue.get, keys)
        return np.array([item.item_id if item else "" for item in items], object)

    def _mark_new_rows(self) -> None:
        keys = self.stack.items.keys
        if keys.size > self.eligible.size:
            more = 2 * keys.size - self.eligible.size
            self.eligible = np.concatenate([self.eligible, np.zeros(more, np.uint8)])
            self._names = np.concatenate([self._names, np.full(more, "", object)])
        fresh = keys[self._rows :].tolist()
        self._names[self._rows : keys.size] = self._ids(fresh)
        self.eligible[self._rows : keys.size] = [key in self._sellable for key in fresh]
        self._rows = keys.size


def _told(version: str, reason: str) -> str:
    return f"{version} is refused: {reason}" if version else ""
