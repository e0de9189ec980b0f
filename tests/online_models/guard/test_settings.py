"""Settings records of the guard validate themselves."""

import pytest

from online_models.guard.detectors.click_through import ClickThroughSettings
from online_models.guard.detectors.label_flip import LabelFlipSettings


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_numbers_must_be_positive_and_finite(value: float) -> None:
    with pytest.raises(ValueError, match=r"LabelFlipSettings.min_rate_ratio is .*; expected a positive finite number"):
        LabelFlipSettings(min_rate_ratio=value)


def test_shares_are_at_most_one() -> None:
    with pytest.raises(ValueError, match=r"LabelFlipSettings.max_top_item_share is 1.5; expected a share"):
        LabelFlipSettings(max_top_item_share=1.5)


def test_every_number_of_a_tuple_is_checked() -> None:
    with pytest.raises(ValueError, match=r"ClickThroughSettings.bets is -0.5"):
        ClickThroughSettings(bets=(0.7, -0.5))
