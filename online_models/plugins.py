"""Find a ranker by name: built-in, an entry point of `headrace.models`, or `module:Class`."""

import difflib
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from online_models.protocols import Ranker, RankerSettings
from online_models.rankers.listnet import ListNet
from online_models.rankers.pointwise import DeepFMRanker, FMRanker, FTRLRanker
from stream.config import SettingsError

GROUP = "headrace.models"
RankerFactory = Callable[[tuple[str, ...], RankerSettings], Ranker]
BUILT_IN: dict[str, RankerFactory] = {
    "listnet": ListNet,
    "ftrl": FTRLRanker,
    "fm": FMRanker,
    "deepfm": DeepFMRanker,
}
_MEMBERS = ("score", "learn", "hidden", "scores_from_hidden", "width", "state", "restore", "changes", "apply")


def create_ranker(features: tuple[str, ...], settings: RankerSettings) -> Ranker:
    """A new ranker by its name; raise SettingsError if there is none of that name."""
    return load_ranker(settings.name)(features, settings)


def load_ranker(name: str) -> RankerFactory:
    """The class of a ranker; raise SettingsError if the name leads to none.

    >>> load_ranker("listnet").__name__
    'ListNet'
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    installed = {found.name: f"{found.module}:{found.attr}" for found in entry_points(group=GROUP)}
    if name not in installed and ":" not in name:
        raise _error(name, "", [*BUILT_IN, *installed])
    return _check_class(name, _load_object(name, installed.get(name, name)))


def _load_object(name: str, path: str) -> Any:
    """The object at `module:Class`."""
    module_name, _, class_name = path.partition(":")
    try:
        module = import_module(module_name)
    except (ModuleNotFoundError, ValueError) as error:
        if isinstance(error, ModuleNotFoundError) and not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, but lacks one of its own imports
        raise _error(name, f"no module {module_name!r}; install it or set PYTHONPATH", [*BUILT_IN]) from None
    if not hasattr(module, class_name):
        classes = [f"{module_name}:{key}" for key, value in vars(module).items() if isinstance(value, type)]
        raise _error(name, f"module {module_name!r} has no {class_name!r}", [*classes, *BUILT_IN])
    return getattr(module, class_name)


def _check_class(name: str, found: Any) -> RankerFactory:
    missing = [member for member in _MEMBERS if not hasattr(found, member)]
    if not isinstance(found, type) or missing:
        missing_text = f"it lacks {', '.join(missing)}" if missing else "it is not a class"
        raise _error(name, f"{missing_text}; derive it from online_models.protocols.Ranker", [*BUILT_IN])
    return found


def _error(name: str, problem: str, valid_names: list[str]) -> SettingsError:
    nearest = difflib.get_close_matches(name, valid_names, 1, 0)[0]
    return SettingsError(
        f"learn.ranker is {name!r}: {problem + '; ' if problem else ''}expected {', '.join(BUILT_IN)}, an entry point"
        f" of {GROUP}, or module:Class; the nearest valid name is {nearest!r}"
    )
