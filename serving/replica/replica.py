"""Replica of the learner's model: newest checkpoint, the updates after it, the catalog."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from online_models.model import RecommenderModel, settings_from_config
from online_models.state.item_table import UNLISTED
from online_models.training.updates import ModelUpdate, decode_update
from online_models.versions import checkpoints, gate
from online_models.versions.checkpoints import version_name
from serving import metrics
from serving.filters.columns import ItemColumns
from serving.filters.language import Filters
from serving.filters.mask_cache import MaskCache
from serving.filters.matching import match
from serving.filters.popularity import PopularityOrder
from serving.replica.catalog_preview import CatalogPreview
from serving.replica.category_neighbors import CategoryLeaderboards
from serving.replica.item_directory import ItemDirectory
from serving.replica.update_gate import UpdateGate
from stream.config import Settings
from stream.ids import hash_ids
from stream.logs import EventLog, Position, Records
from stream.process.errors import describe_error
from stream.records.batches import EventType
from stream.records.catalog import Catalog, CatalogChange, read_items
from stream.topics import MODEL_UPDATES
from stream.worker.store_position import STREAM_GROUP

_NOT_COMMITTED = Position(0)
_NO_RECORDS = Records(0, [], [], [], [])
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PendingUpdates:
    """Catalog changes and model updates that were read and not yet applied."""

    items: Sequence[tuple[int, list[CatalogChange]]]
    start_offset: int  # offset from which the updates were read
    updates: Records


class Replica:
    """Follow the learner.

    `poll` applies whole updates between requests, so each request sees either the old or the new state.
    """

    def __init__(self, log: EventLog, settings: Settings) -> None:
        self._log = log
        self._settings = settings
        self.model = RecommenderModel(settings_from_config(settings))
        self.leaderboards = CategoryLeaderboards(self.model.items)
        self.popularity = PopularityOrder(self.model.items)
        self.epoch, self.step = 0, 0
        self.base_version = ""  # checkpoint that this state was loaded from
        self.covered_offsets: dict[str, int] = {}  # next offset of the events that the state covers, by partition
        self.catalog = Catalog(log)
        self._directory = ItemDirectory(self.catalog, settings.items.catalog_only)
        self._masks = MaskCache(self.columns)
        self._preview = CatalogPreview()
        self.event_totals = np.zeros(len(EventType), np.int64)  # events of all items, by type
        self._gate = UpdateGate(settings.checkpoints)
        self._next_offset = log.start_offset(MODEL_UPDATES, 0)
        self._load_newest()
        self.poll()

    @property
    def version(self) -> str:
        """Name of the state that serves; epoch 0 is the empty state before any training."""
        return version_name(self.epoch, self.step)

    @property
    def blocked_reason(self) -> str:
        """Reason that a newer state does not serve, "" if none is blocked."""
        return self._gate.reason

    @property
    def eligible(self) -> np.ndarray:
        """By item row, (≥ n,) uint8: 1 if the item may be recommended."""
        return self._directory.eligible

    @property
    def is_new_eligible(self) -> np.ndarray:
        """By item row, (≥ n,) uint8: 1 if the item may be explored while it is new."""
        return self._directory.is_new_eligible

    @property
    def is_catalog_only(self) -> bool:
        """True if items that only events name are never recommended."""
        return self._settings.items.catalog_only

    @property
    def revision(self) -> str:
        """Name of the state together with the catalog, which changes between two model updates."""
        return f"{self.version} {self.catalog.next_offset} {self._directory.n_scheduled_changes}"

    def get_item_ids(self, rows: np.ndarray) -> list[str]:
        """Ids of the items in these rows; "" for items that may not be recommended."""
        return self._directory.get_item_ids(rows)

    @property
    def columns(self) -> ItemColumns:
        """Fields of the catalog by item row, for filters."""
        return self._directory.columns

    def find_passing(self, filters: Filters | None, rows: np.ndarray) -> np.ndarray:
        """Indices of the rows that pass the filters; an unknown item, -1, passes none."""
        if filters is None:
            return np.arange(rows.size)
        return np.flatnonzero((rows >= 0) & match(self.columns, filters, rows, rows.size))

    def mask_recommendable(self, filters: Filters | None) -> np.ndarray:
        """Mask of all rows, (n,) bool, of items that may be recommended and pass the filters."""
        n_rows = len(self.model.items)
        mask = self.eligible[:n_rows].astype(np.bool_)
        return mask if filters is None else mask & self._masks.match(filters, n_rows)

    def mask_candidates(self, filters: Filters | None, exclude: Sequence[str]) -> np.ndarray:
        """Mask of all rows, (n,) uint8, of recommendable items that pass and are not excluded."""
        mask = self.mask_recommendable(filters)
        excluded = self.model.items.lookup(hash_ids(exclude))
        mask[excluded[excluded >= 0]] = False
        return mask.view(np.uint8)

    def is_known(self, key: int) -> bool:
        """Return True for an item of the catalog, and for a named one that may be recommended."""
        row = int(self.model.items.lookup(np.array([key], np.uint64))[0])
        return self.catalog.get(key) is not None or (row >= 0 and bool(self.eligible[row]))

    def is_deleted(self, key: int) -> bool:
        """Return True for an item that the catalog has deleted and does not have again."""
        row = int(self.model.items.lookup(np.array([key], np.uint64))[0])
        was_listed = row >= 0 and self.model.items.catalog["status"][row] != UNLISTED
        return self.catalog.get(key) is None and (self.catalog.is_deleted(key) or bool(was_listed))

    def advance(self, now: int) -> None:
        """Begin and end the availability of items that have a time for it until `now`, ms."""
        self._directory.advance(self.model.items, now)

    def poll(self) -> int:
        """Read and apply new updates and items; returns the number of updates."""
        return self.apply(self.fetch())

    def fetch(self, max_updates: int = 64) -> PendingUpdates:
        """Read new updates and items.

        This touches nothing that requests use, so another thread may wait for a slow log.
        """
        start_offset = self._next_offset
        items = list(read_items(self._log, self.catalog.next_offset))
        return PendingUpdates(items, start_offset, self._log.read(MODEL_UPDATES, 0, start_offset, max_updates))

    def apply(self, pending: PendingUpdates) -> int:
        """Apply what `fetch` read; returns the number of updates."""
        previous_offset = self.catalog.next_offset
        changes = self.catalog.apply(pending.items)
        self._preview.add([(end, batch) for end, batch in pending.items if end > previous_offset])
        records = pending.updates
        if pending.start_offset != self._next_offset:  # another call has applied updates meanwhile: read again
            records = _NO_RECORDS
        if len(records):
            self._directory.truncate(self._preview.retract(self.model))
        for offset, value in zip(records.offsets, records.values, strict=True):
            self._next_offset = offset + 1
            if value is not None:
                self._apply_update(decode_update(value))
            if self._next_offset <= offset:  # rewound: the rest is read again
                break
        preview_rows = self._preview.apply(self.model)
        self.leaderboards.update(preview_rows)
        self.popularity.update(preview_rows)
        self._directory.add_rows(self.model.items)
        self._directory.apply(changes, self.model.items)
        if len(records):
            metrics.model_step.set(self.step)
            metrics.model_epoch.set(self.epoch)
        return len(records)

    def count_events(self, key: int) -> dict[str, int]:
        """Events of an item by type, as counted by the learner."""
        row = int(self.model.items.lookup(np.array([key], np.uint64))[0])
        totals = self.model.items.counters["total_counts"][row] if row >= 0 else np.zeros(len(EventType), np.int64)
        return {event_type.name: int(totals[event_type]) for event_type in EventType}

    def lag(self, topic: str, missing: Mapping[int, int]) -> dict[str, int]:
        """Records of the topic that recommendations do not reflect yet, by partition.

        A record is reflected when this state covers it and the stream worker has committed it: it commits after it has
        written the users. `missing`: committed records that the user store has lost since.
        """
        ends, committed = self._log.end_offsets(topic), self._log.committed(topic, STREAM_GROUP)
        stored = {p: committed.get(p, _NOT_COMMITTED).offset - missing.get(p, 0) for p in ends}
        return {str(p): max(0, end - min(self.covered_offsets.get(str(p), 0), stored[p])) for p, end in ends.items()}

    def _load_newest(self) -> None:
        self._gate.reset(self.epoch, self.version)
        checkpoint = gate.load_newest(self._settings.checkpoints)
        if checkpoint:
            self._load(*checkpoint)
            # A power cut may have removed the last updates. The learner then publishes them again.
            updates_offset = min(checkpoint[0].updates_offset, self._log.end_offset(MODEL_UPDATES, 0))
            self._next_offset = max(self._next_offset, updates_offset)
        self._gate.report_blocked_version()

    def _apply_update(self, update: ModelUpdate) -> None:
        if update.base:
            if update.epoch > self.epoch:
                self._follow_rollback(update)
            return
        if self._is_ahead(update) and not self._gate.admits(update, self.version):
            self._skip_blocked_updates(update)
            return
        if (update.epoch, update.step) > self._expected_step:
            self._catch_up_from_checkpoint(update)
        if (update.epoch, update.step) == self._expected_step:
            self._apply_changes(update)
            self.epoch, self.step, self.covered_offsets = update.epoch, update.step, update.offsets
            if self.blocked_reason:
                self._gate.open()

    @property
    def _expected_step(self) -> tuple[int, int]:
        """Epoch and step of the only update that fits this state."""
        return max(1, self.epoch), self.step + 1

    def _is_ahead(self, update: ModelUpdate) -> bool:
        """Return True if the update leads beyond this state, in its epoch."""
        return update.epoch == max(1, self.epoch) and (update.epoch, update.step) >= self._expected_step

    def _apply_changes(self, update: ModelUpdate) -> None:
        """Apply the changes of the model; `event_totals`, leaderboards and directory follow."""
        items, rows = self.model.items, update.changes["items.counters.rows"]
        self.event_totals -= items.counters["total_counts"][rows[rows < len(items)]].sum(axis=0)
        self.model.apply(update.changes)
        self._preview.learned(self.model, update.items_offset)
        self.event_totals += items.counters["total_counts"][rows].sum(axis=0)
        changed_rows = np.union1d(rows, update.changes["items.catalog.rows"])
        self.leaderboards.update(changed_rows)
        self.popularity.update(changed_rows)
        self._directory.add_rows(items)
        self._directory.refresh_named(items, rows)

    def _skip_blocked_updates(self, update: ModelUpdate) -> None:
        """Load a newer version that may serve; without one, the state stays as it is."""
        servable = self._gate.find_servable(update.epoch, self.version)
        if servable and self._gate.is_new_attempt(self.version, servable):
            self._load_and_rewind(servable)

    def _catch_up_from_checkpoint(self, update: ModelUpdate) -> None:
        """Bridge missing updates by a newer checkpoint, and read the updates again.

        After a power cut the learner publishes the lost ones again.
        """
        servable = self._gate.find_servable(update.epoch, self.version)
        if self._gate.is_new_attempt(self.version, servable):
            _logger.error("updates are missing between %s and %s", self.version, update.version)
            self._load_and_rewind(servable)

    def _load_and_rewind(self, versions: list[str]) -> None:
        checkpoint = checkpoints.load_latest(self._settings.checkpoints, reversed(versions))
        if checkpoint:
            self._load(*checkpoint)
        self._next_offset = self._log.start_offset(MODEL_UPDATES, 0)

    def _follow_rollback(self, update: ModelUpdate) -> None:
        """Serve an older version at once, as a new epoch."""
        try:
            checkpoint = checkpoints.load(self._settings.checkpoints, update.base)
        except (OSError, checkpoints.DamagedCheckpoint) as error:
            _logger.error("cannot follow the rollback to %s: %s", update.base, describe_error(error))
            return
        self._load(*checkpoint)
        self.epoch = update.epoch
        self.covered_offsets = update.offsets
        self._gate.reset(self.epoch, self.version)
        _logger.warning("rolled back to %s as epoch %d", update.base, update.epoch)

    def _load(self, manifest: checkpoints.Manifest, state: checkpoints.State) -> None:
        self.model = RecommenderModel(settings_from_config(self._settings))
        self.model.restore(state)
        self.leaderboards = CategoryLeaderboards(self.model.items)
        self.popularity = PopularityOrder(self.model.items)
        self.event_totals = self.model.items.counters["total_counts"][: len(self.model.items)].sum(axis=0)
        self.epoch, self.step = manifest.epoch, manifest.step
        self.base_version = manifest.version
        self.covered_offsets = dict(manifest.offsets)
        self._gate.reset(self.epoch, self.version)
        self._preview = CatalogPreview()
        self._preview.learned(self.model, manifest.items_offset)
        self._preview.add(self._read_catalog_since(manifest.items_offset))
        self._directory.reset(self.model.items)

    def _read_catalog_since(self, offset: int) -> list[tuple[int, list[CatalogChange]]]:
        """Changes of the catalog from an offset on; none if the log is away."""
        try:
            return list(read_items(self._log, offset, self.catalog.next_offset))
        except OSError as error:
            _logger.warning(
                "cannot read the catalog from offset %d on; its changes appear later: %s", offset, describe_error(error)
            )
            return []
