from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from online_models import plugins
from online_models.plugins import create_ranker, load_ranker
from online_models.protocols import RankerSettings
from online_models.rankers import DeepFMRanker, FMRanker, FTRLRanker, ListNet
from stream.config import SettingsError


@pytest.mark.parametrize(
    ("name", "expected"), [("listnet", ListNet), ("ftrl", FTRLRanker), ("fm", FMRanker), ("deepfm", DeepFMRanker)]
)
def test_built_in_ranker_is_found_by_name(name: str, expected: type) -> None:
    assert load_ranker(name) is expected
    assert isinstance(create_ranker(("a", "b"), RankerSettings(name)), expected)


def test_class_is_found_by_module_and_name() -> None:
    assert load_ranker("online_models.rankers.listnet:ListNet") is ListNet


def test_entry_point_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = EntryPoints([EntryPoint("mine", "online_models.rankers.pointwise:FTRLRanker", "headrace.models")])
    monkeypatch.setattr(plugins, "entry_points", lambda group: installed.select(group=group))

    assert load_ranker("mine") is FTRLRanker


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lisnet", "learn.ranker is 'lisnet': expected listnet, .* the nearest valid name is 'listnet'"),
        ("online_models.rankers.listne:ListNet", "no module 'online_models.rankers.listne'"),
        ("no_such_shop:Ranker", "no module 'no_such_shop'; install it or set PYTHONPATH"),
        (
            "online_models.rankers.listnet:ListNets",
            "has no 'ListNets'.* the nearest valid name is 'online_models.rankers.listnet:ListNet'",
        ),
        ("online_models.rankers.listnet:train", "it lacks score, learn.* derive it from"),
        ("online_models.rankers.click_head:ClickHead", "it lacks score, hidden, scores_from_hidden, width"),
        (":", "the nearest valid name is"),
    ],
)
def test_name_that_leads_nowhere_is_an_error(name: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_ranker(name)


def test_missing_import_of_a_plugin_is_not_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "shop_ranker.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        load_ranker("shop_ranker:Ranker")
