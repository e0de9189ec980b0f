"""Headrace: a recommender that learns while it serves.

As a library: `headrace.bandits`, `headrace.rankers`, `headrace.retrievers`, `headrace.testing`, `headrace.checks`,
`headrace.off_policy`, `headrace.Client`. Each is imported on first use, so that `import headrace` stays light.

>>> import headrace
>>> headrace.bandits.Policy(headrace.bandits.UCB()).bounds.cap
1.0
"""

from importlib import import_module
from typing import Any

__all__ = ["Client", "bandits", "checks", "off_policy", "rankers", "retrievers", "testing"]


def __getattr__(name: str) -> Any:
    if name == "Client":
        return import_module("headrace.client").Client
    if name in __all__:
        return import_module(f"headrace.{name}")
    raise AttributeError(f"module 'headrace' has no attribute {name!r}; expected one of {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
