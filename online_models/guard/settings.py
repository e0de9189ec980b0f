"""Base of the settings records of the guard: numbers that validate themselves."""

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class GuardRecord:
    """Every number is positive and finite; a share is at most 1.

    >>> GuardRecord()
    GuardRecord()
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            maximum = 1 if field.name.endswith("_share") else math.inf
            for number in value if isinstance(value, tuple) else (value,):
                if not 0 < number <= maximum or math.isinf(number):
                    expected = "a share above 0 and at most 1" if maximum == 1 else "a positive finite number"
                    raise ValueError(f"{type(self).__name__}.{field.name} is {number}; expected {expected}")
