"""Roll back to an older version: the events to exclude, and the offsets to continue from."""

from dataclasses import replace
from pathlib import Path

from online_models.control import Ranges, RollbackCommand
from online_models.training.journal import Rollback
from online_models.training.offset_ranges import PartitionRanges, merge_ranges
from online_models.training.progress import Progress
from online_models.versions import listing
from online_models.versions.checkpoints import Manifest
from stream.logs import EventLog
from stream.topics import EXAMPLES

_MAX_OFFSET = 2**63 - 1


class RetentionExceeded(ValueError):
    """The log no longer keeps the examples after a version: training cannot continue from it."""


class RangeTrained(ValueError):
    """A version was trained on events that a rollback to it is to leave out."""


def check_retained(log: EventLog, manifest: Manifest) -> None:
    """Raise RetentionExceeded if the log no longer keeps the examples after a version."""
    for partition, offset in sorted(manifest.example_offsets.items()):
        if (start := log.start_offset(EXAMPLES, int(partition))) > offset:
            raise RetentionExceeded(
                f"version {manifest.version} continues at offset {offset} of examples partition {partition}, but the "
                f"log keeps them from {start} (log.retention): choose a newer version, see `headrace models list`"
            )


def check_untrained(folder: Path, manifest: Manifest, skip: Ranges, impressions: Ranges) -> None:
    """Raise RangeTrained if the version itself was trained on events of these ranges.

    `folder`: of the checkpoints, to name the newest version from before the events.
    """
    trained = _find_trained(manifest, skip, impressions)
    if not trained:
        return
    older = [
        info.version
        for info in listing.read_versions(folder)
        if info.manifest and not info.error and not _find_trained(info.manifest, skip, impressions)
    ]
    remedy = f"choose {older[-1]}, which was not" if older else "no version on disk is from before them"
    raise RangeTrained(f"version {manifest.version} itself was trained on events of {', '.join(trained)}: {remedy}")


def _find_trained(manifest: Manifest, skip: Ranges, impressions: Ranges) -> list[str]:
    """Ranges, as PARTITION:FROM-TO, with events that a version was trained on."""
    excluded = merge_ranges(manifest.skip), merge_ranges(manifest.skip, manifest.skip_impressions)
    return [
        f"{partition}:{first}-{next_}"
        for ranges, left_out in zip((skip, impressions), excluded, strict=True)
        for partition, runs in ranges.items()
        for first, next_ in runs
        if not _is_left_out(first, min(next_, manifest.offsets.get(partition, 0)), left_out.get(partition, []))
    ]


def _is_left_out(first: int, end: int, ranges: PartitionRanges) -> bool:
    return first >= end or any(start <= first and end <= stop for start, stop in ranges)


def plan_rollback(command: RollbackCommand, manifest: Manifest, progress: Progress, control_offset: int) -> Rollback:
    """Make the journal entry of a rollback command.

    `control_offset`: next offset of the control topic. Without ranges, all events since the version are excluded, and
    training continues with new examples. With ranges, the examples since the version are read again, except those in
    the ranges. A ValueError names an invalid range or partition.
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
        skip=merge_ranges(manifest.skip, skip),
        skip_impressions=merge_ranges(manifest.skip_impressions, skip_impressions),
        control_offset=control_offset,
        reason=command.reason,
    )


def progress_from_manifest(manifest: Manifest) -> Progress:
    """Read the progress of a checkpoint from its manifest."""
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


def progress_after_rollback(progress: Progress, entry: Rollback) -> Progress:
    """Turn the progress of the older version into that of the new epoch."""
    return replace(
        progress,
        epoch=entry.epoch,
        control_offset=entry.control_offset,
        example_offsets={int(p): offset for p, offset in entry.example_offsets.items()},
        offsets={int(p): offset for p, offset in entry.offsets.items()},
        skip={int(p): list(ranges) for p, ranges in entry.skip.items()},
        skip_impressions={int(p): list(ranges) for p, ranges in entry.skip_impressions.items()},
    )


def _validate_ranges(skip: Ranges, progress: Progress) -> Ranges:
    for partition, ranges in skip.items():
        if not partition.isdigit() or int(partition) not in progress.offsets:
            raise ValueError(f"skip names partition {partition!r}; expected one of {sorted(progress.offsets)}")
        for first, next_ in ranges:
            if not 0 <= first < next_ <= _MAX_OFFSET:
                raise ValueError(f"skip range {first} to {next_} of partition {partition} is empty or not of offsets")
    return {str(int(partition)): ranges for partition, ranges in skip.items()}
