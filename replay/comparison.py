"""Result of `headrace replay run`: the differences from the live run."""

import json
from dataclasses import asdict, dataclass, field

from rich.console import Console


@dataclass(slots=True)
class Comparison:
    """Differences between the replay and the live run."""

    epoch: int = 1  # of the learner
    version: str | None = None  # newest of that epoch, which is compared; None: the model is not compared
    problem: str = ""  # the reason that something is not compared that should be
    events: int = 0
    blocks: int = 0
    differing_blocks: list[str] = field(default_factory=list)
    users: int = 0
    differing_users: list[str] = field(default_factory=list)
    users_updated_since: int = 0  # not compared: changed by events after the replayed ones
    steps: int = 0
    blocks_since: int = 0  # example blocks that the version does not include
    arrays: int = 0
    differing_arrays: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """True if everything was compared and no bit differs."""
        return not (self.problem or self.differing_blocks or self.differing_users or self.differing_arrays)


def print_comparison(comparison: Comparison, as_json: bool) -> None:
    """Print the result as JSON or as text."""
    if as_json:
        print(json.dumps({"equal": comparison.equal} | asdict(comparison)))
        return
    console, c = Console(), comparison
    blocks, users, arrays = map(_format_differences, (c.differing_blocks, c.differing_users, c.differing_arrays))
    skipped = f" ({c.users_updated_since:,} not compared: changed since)" if c.users_updated_since else ""
    console.print(f"{c.events:,} events replayed: {c.blocks:,} example blocks, {blocks}")
    console.print(f"{c.users:,} users{skipped}: {users}")
    since = f" ({c.blocks_since:,} later example blocks not compared)" if c.blocks_since else ""
    if c.version:
        console.print(
            f"{c.steps:,} steps replayed to version {c.version} of epoch {c.epoch}{since}: {c.arrays} arrays, {arrays}"
        )
    if c.problem:
        console.print(f"Model NOT compared: {c.problem}", soft_wrap=True)
    else:
        console.print("Equal, bit for bit." if c.equal else "NOT equal.")


def _format_differences(differing: list[str]) -> str:
    if not differing:
        return "all equal"
    return f"{len(differing)} different: {', '.join(differing[:5])}{' …' if len(differing) > 5 else ''}"
