"""Rules of surfaces in the settings."""

from pathlib import Path

import pytest

from serving.rules.language import Rules
from serving.rules.rule_book import RuleBook
from stream.config import SettingsError, load
from tests.support.serving_loop import LiveLoop, list_item_ids

SETTINGS = """
[serve.rules.home]
hide = ["purchase", {types = ["click"], max_age = 3600}]
caps = {creator = 2}

[serve.rules.default]
min_probability = 0.1
"""


def test_rules_of_surfaces_stand_in_the_settings_file(tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text(SETTINGS)

    book = RuleBook(load(path, {}).serve.rules)

    home, other = book.combine("home"), book.combine("mail")
    assert home is not None
    assert home.caps == {"creator": 2}
    assert home.min_probability is None
    assert other is not None
    assert other.min_probability == 0.1


def test_rules_of_surfaces_may_be_a_variable() -> None:
    settings = load(environ={"HEADRACE_SERVE__RULES": '{"home": {"caps": {"creator": 2}}}'})

    assert settings.serve.rules == {"home": {"caps": {"creator": 2}}}


@pytest.mark.parametrize(
    ("rules", "text"),
    [({"cap": {"creator": 1}}, "unknown field `cap`"), ({"caps": {"creator": 0}}, "serve.rules.home .*>= 1")],
    ids=["unknown rule", "invalid value"],
)
def test_invalid_rules_stop_the_process(rules: dict[str, dict[str, int]], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        RuleBook({"home": rules})


def test_request_replaces_rules_of_its_surface() -> None:
    book = RuleBook({"home": {"caps": {"creator": 2}, "hide": ["purchase"]}})

    changed = book.combine("home", Rules(caps={}), repeats=True)

    assert changed is not None
    assert changed.caps == {}
    assert changed.hide is None


def test_pin_of_a_surface_that_cannot_be_shown_is_skipped(tmp_path: Path) -> None:
    rules = {"home": {"pins": [{"position": 0, "item_id": "b"}, {"position": 1, "item_id": "sold out"}]}}
    with LiveLoop(tmp_path, rules=rules) as loop:
        loop.put_items("a", "b", "c")
        loop.put_items("sold out", stock=0)

        response = loop.recommend(surface="home", explore=False)

        assert list_item_ids(response)[0] == "b"
        assert response["rules_applied"] == {"pins": 1}
        assert "headrace_pins_skipped_total 1" in loop.http.get("/metrics").text
        assert "rules_applied" not in loop.recommend(surface="mail")
