"""What is kept of a long life."""

from online_models.thinning import thinned

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def kept_over(days: int) -> list[int]:
    """Minutes at which the checkpoints were made that are left, one having been made each minute."""
    kept: dict[str, int] = {}
    for minute in range(days * 1440 + 1):
        kept[f"{minute:09}"] = minute * MINUTE
        kept = {version: kept[version] for version in thinned(kept, newest=20)}
    return sorted(time // MINUTE for time in kept.values())


def test_of_a_long_life_minutes_hours_and_days_are_left() -> None:
    left, now = kept_over(10), 10 * 1440

    assert left[-20:] == list(range(now - 19, now + 1))
    assert {now - 60 * hours for hours in range(1, 25)} <= set(left)
    assert {now - 1440 * days for days in range(1, 8)} <= set(left)
    assert len(left) <= 20 + 25 + 8


def test_a_learner_that_stood_still_loses_nothing() -> None:
    made = {f"{n}": n * HOUR for n in range(5)}

    assert thinned(made, newest=2) == set(made)
    assert thinned({}, newest=2) == set()
