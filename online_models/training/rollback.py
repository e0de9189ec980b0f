"""Going back to an older version: what is left out, and where learning goes on."""

from online_models.control import RollbackOrder
from online_models.training.journal import Rollback
from online_models.training.offset_ranges import Ranges, _together
from online_models.training.step import Progress
from online_models.versions.checkpoints import Manifest
from stream.logs import EventLog
from stream.topics import EXAMPLES


class Outlived(ValueError):
    """A version that is older than what the log keeps: nothing can go on from there."""


def demand_kept(log: EventLog, manifest: Manifest) -> None:
    """Outlived if the log no longer keeps what came behind a version."""
    for partition, offset in sorted(manifest.examples.items()):
        if (start := log.start(EXAMPLES, int(partition))) > offset:
            raise Outlived(
                f"version {manifest.version} goes on at offset {offset} of partition {partition} of the examples, but "
                f"the log keeps them from {start} (log.retention): go back to a newer one, see `headrace models list`"
            )


def plan_rollback(order: RollbackOrder, manifest: Manifest, now: Progress, control: int) -> Rollback:
    """The journal's entry for an order, behind which the control topic goes on at `control`.

    ValueError if a range to skip is none, or names no partition.
    Without ranges, all that was learnt since the version is left out and learning goes on with what comes next. With
    ranges, the examples since the version are read again, but for those that the ranges taught.
    """
    if order.skip is None and not order.slates:
        examples = {str(p): offset for p, offset in now.examples.items()}
        offsets = {str(p): offset for p, offset in now.offsets.items()}
        skip = {str(p): [(manifest.offsets.get(str(p), 0), end)] for p, end in now.offsets.items()}
    else:
        examples, offsets = manifest.examples, manifest.offsets
        skip = _checked(order.skip or {}, now)
    slates = _checked(order.slates, now)
    return Rollback(
        epoch=now.epoch + 1,
        step=manifest.step,
        version=manifest.version,
        examples=examples,
        offsets=offsets,
        skip=_together(manifest.skip, skip),
        slates=_together(manifest.slates, slates),
        control=control,
        reason=order.reason,
    )


def progress_of(manifest: Manifest) -> Progress:
    """How far the state of a checkpoint has come."""
    return Progress(
        epoch=manifest.epoch,
        step=manifest.step,
        examples={int(p): offset for p, offset in manifest.examples.items()},
        offsets={int(p): offset for p, offset in manifest.offsets.items()},
        skip={int(p): list(ranges) for p, ranges in manifest.skip.items()},
        slates={int(p): list(ranges) for p, ranges in manifest.slates.items()},
        items=manifest.items,
        control=manifest.control,
        watermark=manifest.watermark,
    )


def go_back(progress: Progress, entry: Rollback) -> None:
    """Turn the progress of the version gone back to into that of the new epoch."""
    progress.epoch = entry.epoch
    progress.control = entry.control
    progress.examples = {int(p): offset for p, offset in entry.examples.items()}
    progress.offsets = {int(p): offset for p, offset in entry.offsets.items()}
    progress.skip = {int(p): list(ranges) for p, ranges in entry.skip.items()}
    progress.slates = {int(p): list(ranges) for p, ranges in entry.slates.items()}


def _checked(skip: Ranges, now: Progress) -> Ranges:
    for partition, ranges in skip.items():
        if not partition.isdigit() or int(partition) not in now.offsets:
            raise ValueError(f"skip names partition {partition!r}; events were learnt from {sorted(now.offsets)}")
        for first, next_ in ranges:
            if not 0 <= first < next_:
                raise ValueError(f"skip range {first} to {next_} of partition {partition} is empty or negative")
    return {str(int(partition)): ranges for partition, ranges in skip.items()}
