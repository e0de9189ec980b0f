"""Going back to an older version: what is left out, and where learning goes on."""

from online_models.control import RollbackCommand
from online_models.training.journal import Rollback
from online_models.training.offset_ranges import Ranges, _merge_ranges
from online_models.training.step import Progress
from online_models.versions.checkpoints import Manifest
from stream.logs import EventLog
from stream.topics import EXAMPLES


class RetentionExceeded(ValueError):
    """A version that is older than what the log keeps: nothing can go on from there."""


def check_retained(log: EventLog, manifest: Manifest) -> None:
    """Outlived if the log no longer keeps what came behind a version."""
    for partition, offset in sorted(manifest.example_offsets.items()):
        if (start := log.start_offset(EXAMPLES, int(partition))) > offset:
            raise RetentionExceeded(
                f"version {manifest.version} goes on at offset {offset} of partition {partition} of the examples, but "
                f"the log keeps them from {start} (log.retention): go back to a newer one, see `headrace models list`"
            )


def plan_rollback(command: RollbackCommand, manifest: Manifest, progress: Progress, control_offset: int) -> Rollback:
    """The journal's entry for an order, behind which the control topic goes on at `control`.

    ValueError if a range to skip is none, or names no partition.
    Without ranges, all that was learnt since the version is left out and learning goes on with what comes next. With
    ranges, the examples since the version are read again, but for those that the ranges taught.
    """
    if command.skip is None and not command.skip_impressions:
        example_offsets = {str(p): offset for p, offset in progress.example_offsets.items()}
        offsets = {str(p): offset for p, offset in progress.offsets.items()}
        skip = {str(p): [(manifest.offsets.get(str(p), 0), end)] for p, end in progress.offsets.items()}
    else:
        example_offsets, offsets = manifest.example_offsets, manifest.offsets
        skip = _validate_ranges(command.skip or {}, progress)
    skip_impressions = _validate_ranges(command.skip_impressions, progress)
    return Rollback(
        epoch=progress.epoch + 1,
        step=manifest.step,
        version=manifest.version,
        example_offsets=example_offsets,
        offsets=offsets,
        skip=_merge_ranges(manifest.skip, skip),
        skip_impressions=_merge_ranges(manifest.skip_impressions, skip_impressions),
        control_offset=control_offset,
        reason=command.reason,
    )


def progress_from_manifest(manifest: Manifest) -> Progress:
    """How far the state of a checkpoint has come."""
    return Progress(
        epoch=manifest.epoch,
        step=manifest.step,
        example_offsets={int(p): offset for p, offset in manifest.example_offsets.items()},
        offsets={int(p): offset for p, offset in manifest.offsets.items()},
        skip={int(p): list(ranges) for p, ranges in manifest.skip.items()},
        skip_impressions={int(p): list(ranges) for p, ranges in manifest.skip_impressions.items()},
        items_offset=manifest.items_offset,
        control_offset=manifest.control_offset,
        watermark=manifest.watermark,
    )


def apply_rollback(progress: Progress, entry: Rollback) -> None:
    """Turn the progress of the version gone back to into that of the new epoch."""
    progress.epoch = entry.epoch
    progress.control_offset = entry.control_offset
    progress.example_offsets = {int(p): offset for p, offset in entry.example_offsets.items()}
    progress.offsets = {int(p): offset for p, offset in entry.offsets.items()}
    progress.skip = {int(p): list(ranges) for p, ranges in entry.skip.items()}
    progress.skip_impressions = {int(p): list(ranges) for p, ranges in entry.skip_impressions.items()}


def _validate_ranges(skip: Ranges, progress: Progress) -> Ranges:
    for partition, ranges in skip.items():
        if not partition.isdigit() or int(partition) not in progress.offsets:
            raise ValueError(f"skip names partition {partition!r}; events were learnt from {sorted(progress.offsets)}")
        for first, next_ in ranges:
            if not 0 <= first < next_:
                raise ValueError(f"skip range {first} to {next_} of partition {partition} is empty or negative")
    return {str(int(partition)): ranges for partition, ranges in skip.items()}
