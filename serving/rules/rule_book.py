"""Rules of each surface by the settings, combined with those of a request."""

from collections.abc import Mapping
from typing import Any

import msgspec

from serving.rules.language import Hide, Rules, SurfaceRules
from stream.config import SettingsError

DEFAULT_SURFACE = "default"  # rules of surfaces without rules of their own


class RuleBook:
    """Rules by surface.

    >>> book = RuleBook({"home": {"caps": {"creator": 2}}})
    >>> book.combine("home", Rules(pins=[]), hide=["purchase"]).caps
    {'creator': 2}
    >>> book.combine("mail") is None
    True
    """

    def __init__(self, settings: Mapping[str, Mapping[str, Any]]) -> None:
        self._by_surface = {surface: _parse(surface, rules) for surface, rules in settings.items()}
        self._default = self._by_surface.get(DEFAULT_SURFACE)

    def combine(
        self,
        surface: str,
        rules: Rules | None = None,
        hide: Hide | None = None,
        min_probability: float | None = None,
        repeats: bool = False,
    ) -> SurfaceRules | None:
        """Rules of a request, which have precedence, and of its surface; None if there are none.

        `repeats` turns the `hide` of the surface off.
        """
        base = self._by_surface.get(surface, self._default)
        if repeats and hide is None and base and base.hide is not None:
            base = msgspec.structs.replace(base, hide=None)
        if rules is None and hide is None and min_probability is None:
            return base
        changes: dict[str, Any] = {"hide": hide, "min_probability": min_probability}
        changes |= {name: getattr(rules, name) for name in Rules.__struct_fields__} if rules else {}
        set_changes = {name: value for name, value in changes.items() if value is not None}
        return msgspec.structs.replace(base or SurfaceRules(), **set_changes)


def _parse(surface: str, rules: Mapping[str, Any]) -> SurfaceRules:
    """Rules of a surface; `SettingsError` names the invalid one."""
    try:
        return msgspec.convert(rules, SurfaceRules)
    except (msgspec.ValidationError, ValueError) as error:
        raise SettingsError(
            f"setting serve.rules.{surface} is invalid: {error}; correct it in headrace.toml or HEADRACE_SERVE__RULES"
        ) from None
