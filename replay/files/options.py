"""Options for reading files, as the command line has them."""

from collections import Counter
from dataclasses import dataclass

from replay.files.kinds import Kind
from replay.files.mapping import parse_map

NO_PRESET = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """Options of one command for all of its files."""

    maps: tuple[str, ...] = ()  # FIELD=COLUMN[:FORMAT]
    preset: str = ""  # name of a preset; empty = guess it; "none" = do not guess
    type: str = ""  # type of events without one
    kind: Kind | None = None  # None = detect it line by line
    sort: bool = False  # order events by time

    def __post_init__(self) -> None:
        fields = [parse_map(text)[0] for text in self.maps]
        if repeated := [field for field, count in Counter(fields).items() if count > 1]:
            raise ValueError(f"--map {repeated[0]} is given {fields.count(repeated[0])} times; expected once per field")

    @property
    def fields(self) -> dict[str, str]:
        """Source by field."""
        return dict(map(parse_map, self.maps))
