"""What to answer with: the newest checkpoint, brought up to date by the model-updates after it, and the catalogue."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from online_models.model import RecommenderModel, settings_with_seed
from online_models.training.updates import ModelUpdate, decode_update
from online_models.versions import checkpoints, gate
from online_models.versions.checkpoints import version_name
from serving import metrics
from serving.replica.category_neighbors import CategoryLeaderboards
from stream.config import Settings
from stream.logs import EventLog, Records
from stream.records.batches import EventType
from stream.records.catalog import Catalog, CatalogChange, read_items
from stream.topics import MODEL_UPDATES

_READ_LIMIT = 64
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PendingUpdates:
    """What has come in of items and updates, not yet applied."""

    items: Sequence[tuple[int, list[CatalogChange]]]
    start_offset: int  # offset from which the updates were read
    updates: Records


class Replica:
    """Follows the learner. `poll` applies whole updates between answers, so an answer sees the old or the new state."""

    def __init__(self, log: EventLog, settings: Settings) -> None:
        self._log = log
        self._settings = settings
        self.model = RecommenderModel(settings_with_seed(settings.learn.seed))
        self.leaderboards = CategoryLeaderboards(self.model.items)
        self.epoch, self.step = 0, 0
        self.base_version = ""  # the checkpoint from which this state has come
        self.covered_offsets: dict[str, int] = {}  # next offset of the events that the state covers, by partition
        self.catalog = Catalog(log)
        self.eligible = np.zeros(1024, np.uint8)  # by item row: in the catalogue, and available
        self._item_ids = np.full(1024, "", object)  # id by item row
        self.event_totals = np.zeros(len(EventType), np.int64)  # events of all items by type
        self._available_keys: set[int] = set()
        self._row_count = 0
        self._last_attempt: list[str] = []  # how a gap between updates was to be closed
        self.blocked_reason = ""  # why a state that is newer than this one does not answer
        self._checked_versions: list[str] = []  # newer versions, and which of them may be served
        self._servable_versions: list[str] = []
        self._blocked_from = "", ""  # the version of this epoch from which on none may be served, and why
        self._next_offset = log.start_offset(MODEL_UPDATES, 0)
        checkpoint = gate.load_newest(settings.checkpoints)
        self._update_blocked_from()
        if checkpoint:
            self._load(*checkpoint)
            # A power cut may have taken the last updates, which the learner then publishes once more.
            self._next_offset = max(
                self._next_offset, min(checkpoint[0].updates_offset, log.end_offset(MODEL_UPDATES, 0))
            )
        self._set_blocked_reason(_format_block_reason(*self._blocked_from))
        self.poll()

    @property
    def version(self) -> str:
        """Name of the state that answers; epoch 0 is the empty state before anything was learnt."""
        return version_name(self.epoch, self.step)

    def get_item_ids(self, rows: np.ndarray) -> list[str]:
        """Ids of the items in rows; of those that are not in the catalogue an empty one."""
        item_ids: list[str] = self._item_ids[rows].tolist()
        return item_ids

    def poll(self) -> int:
        """Apply what has come in of updates and items; returns how many updates there were."""
        return self.apply(self.fetch())

    def fetch(self) -> PendingUpdates:
        """Read what has come in. It touches nothing that answers use, so another thread may wait for a slow log."""
        start_offset = self._next_offset
        items = list(read_items(self._log, self.catalog.next_offset))
        return PendingUpdates(items, start_offset, self._log.read(MODEL_UPDATES, 0, start_offset, _READ_LIMIT))

    def apply(self, pending: PendingUpdates) -> int:
        """Apply what was read; returns how many updates there were."""
        self._apply_catalog_changes(self.catalog.apply(pending.items))
        records = pending.updates
        if pending.start_offset != self._next_offset:  # somebody else has moved on meanwhile: read again
            return 0
        for offset, value in zip(records.offsets, records.values, strict=True):
            self._next_offset = offset + 1
            if value is not None:
                self._apply_update(decode_update(value))
            if self._next_offset <= offset:
                break
        if len(records):
            self._mark_new_rows()
            metrics.model_step.set(self.step)
            metrics.model_epoch.set(self.epoch)
        return len(records)

    def count_events(self, key: int) -> dict[str, int]:
        """Events of an item by type, as the learner has counted them."""
        row = int(self.model.items.lookup(np.array([key], np.uint64))[0])
        totals = self.model.items.counters["total_counts"][row] if row >= 0 else np.zeros(len(EventType), np.int64)
        return {event_type.name: int(totals[event_type]) for event_type in EventType}

    def lag(self, topic: str) -> dict[str, int]:
        """Records of the events that are not yet in the answers, by partition."""
        return {
            str(p): max(0, end - self.covered_offsets.get(str(p), 0)) for p, end in self._log.end_offsets(topic).items()
        }

    def _apply_update(self, update: ModelUpdate) -> None:
        if update.base:
            if update.epoch > self.epoch:
                self._follow_rollback(update)
            return
        if reason := self._find_block_reason(update):
            self._block_update(update, reason)
            return
        if (update.epoch, update.step) > self._expected_step:
            self._catch_up_from_checkpoint(update)
        if (update.epoch, update.step) == self._expected_step:
            self._apply_changes(update)
            self.epoch, self.step, self.covered_offsets = update.epoch, update.step, update.offsets
            if self.blocked_reason:
                self._set_blocked_reason("")

    def _set_blocked_reason(self, reason: str) -> None:
        """Remember which newer state may not answer, "" if none is there, and tell it."""
        self.blocked_reason = reason
        metrics.update_blocked.set(bool(reason))

    def _find_block_reason(self, update: ModelUpdate) -> str:
        """Why the state that an update leads to may not answer, "" if it may."""
        if update.epoch != max(1, self.epoch) or (update.epoch, update.step) < self._expected_step:
            return ""
        version, reason = self._blocked_from
        return update.blocked_reason or (
            _format_block_reason(version, reason) if version and update.version >= version else ""
        )

    def _block_update(self, update: ModelUpdate, reason: str) -> None:
        """Stay with this state until the learner goes back, or a newer version may be served."""
        if reason != self.blocked_reason:
            _logger.warning("answers stay with %s and do not follow to %s: %s", self.version, update.version, reason)
        self._set_blocked_reason(reason)
        if newer := self._find_newer_versions(update.epoch):
            self._last_attempt = [self.version, *newer[-1:]]
            self._load_and_rewind(newer)

    def _find_newer_versions(self, epoch: int) -> list[str]:
        """Versions of an epoch that are newer than this state and may be served, oldest first."""
        folder = self._settings.checkpoints
        newer = [version_name for version_name in checkpoints.list_version_names(folder) if version_name > self.version]
        newer = [version for version in newer if int(version.partition("-")[0]) == epoch]
        if newer and newer != self._checked_versions:
            self._checked_versions = newer
            blocked = gate.list_blocked(folder)
            self._servable_versions = [version for version in newer if version not in blocked]
        return self._servable_versions if newer else []

    def _update_blocked_from(self) -> None:
        """Remember the oldest refused version that the updates would lead to."""
        epoch_prefix, blocked = f"{max(1, self.epoch):06d}-", gate.list_blocked(self._settings.checkpoints)
        ahead = (
            (version, reason)
            for version, reason in blocked.items()
            if version.startswith(epoch_prefix) and version > self.version
        )
        self._blocked_from = next(ahead, ("", ""))

    def _apply_changes(self, update: ModelUpdate) -> None:
        """Apply the changes; keep `ever` the sum over all items, and the boards theirs."""
        items, rows = self.model.items, update.changes["items.counters.rows"]
        self.event_totals -= items.counters["total_counts"][rows[rows < len(items)]].sum(axis=0)
        self.model.apply(update.changes)
        self.event_totals += items.counters["total_counts"][rows].sum(axis=0)
        self.leaderboards.update(np.union1d(rows, update.changes["items.catalog.rows"]))

    @property
    def _expected_step(self) -> tuple[int, int]:
        """Epoch and step of the only update that fits onto this state."""
        return max(1, self.epoch), self.step + 1

    def _catch_up_from_checkpoint(self, update: ModelUpdate) -> None:
        """Updates are missing. A newer checkpoint leads over the gap; or they come again, for a power cut took them."""
        newer = self._find_newer_versions(update.epoch)
        attempt = [self.version, *newer[-1:]]
        if attempt == self._last_attempt:
            return
        self._last_attempt = attempt
        _logger.error("between %s and %s updates are missing", self.version, update.version)
        self._load_and_rewind(newer)

    def _load_and_rewind(self, newer: list[str]) -> None:
        checkpoint = checkpoints.load_latest(self._settings.checkpoints, reversed(newer))
        if checkpoint:
            self._load(*checkpoint)
        self._next_offset = self._log.start_offset(MODEL_UPDATES, 0)

    def _follow_rollback(self, update: ModelUpdate) -> None:
        """A new epoch: answer from an older version at once."""
        try:
            checkpoint = checkpoints.load(self._settings.checkpoints, update.base)
        except (OSError, checkpoints.DamagedCheckpoint) as error:
            _logger.error("cannot follow the learner back to %s: %s", update.base, error)
            return
        self._load(*checkpoint)
        self.epoch = update.epoch
        self.covered_offsets = update.offsets
        self._update_blocked_from()
        _logger.warning("answers go on from %s as epoch %d", update.base, update.epoch)

    def _load(self, manifest: checkpoints.Manifest, state: checkpoints.State) -> None:
        self.model = RecommenderModel(settings_with_seed(self._settings.learn.seed))
        self.model.restore(state)
        self.leaderboards = CategoryLeaderboards(self.model.items)
        self.event_totals = self.model.items.counters["total_counts"][: len(self.model.items)].sum(axis=0)
        self.epoch, self.step = manifest.epoch, manifest.step
        self.base_version = manifest.version
        self.covered_offsets = dict(manifest.offsets)
        self._set_blocked_reason("")
        self._update_blocked_from()
        self._row_count = 0
        self.eligible[:] = 0
        self._mark_new_rows()

    def _apply_catalog_changes(self, changes: list[CatalogChange]) -> None:
        for change in changes:
            is_available = change.item is not None and change.item.available
            (self._available_keys.add if is_available else self._available_keys.discard)(change.key)
        rows = self.model.items.lookup(np.array([change.key for change in changes], np.uint64))
        has_row = rows >= 0
        eligibility = np.array([change.key in self._available_keys for change in changes], np.uint8)
        self.eligible[rows[has_row]] = eligibility[has_row]
        self._item_ids[rows[has_row]] = self._lookup_item_ids([change.key for change in changes])[has_row]

    def _lookup_item_ids(self, keys: Sequence[int]) -> np.ndarray:
        """Of the items with these keys, (n,) of text."""
        items = map(self.catalog.get, keys)
        return np.array([item.item_id if item else "" for item in items], object)

    def _mark_new_rows(self) -> None:
        keys = self.model.items.keys
        if keys.size > self.eligible.size:
            growth = 2 * keys.size - self.eligible.size
            self.eligible = np.concatenate([self.eligible, np.zeros(growth, np.uint8)])
            self._item_ids = np.concatenate([self._item_ids, np.full(growth, "", object)])
        new_keys = keys[self._row_count :].tolist()
        self._item_ids[self._row_count : keys.size] = self._lookup_item_ids(new_keys)
        self.eligible[self._row_count : keys.size] = [key in self._available_keys for key in new_keys]
        self._row_count = keys.size


def _format_block_reason(version: str, reason: str) -> str:
    return f"{version} is refused: {reason}" if version else ""
