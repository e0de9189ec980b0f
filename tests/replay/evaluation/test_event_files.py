"""Event files are read in time order, or refused with the first place out of order."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from replay.evaluation.event_files import EventFiles, read_catalog
from replay.files.options import ReadOptions


def write(path: Path, times: Sequence[int]) -> str:
    events = [{"event_id": f"e{ts}", "type": "click", "ts": ts, "user_id": "u", "item_id": "a"} for ts in times]
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return str(path)


def read_times(files: EventFiles) -> list[int]:
    return [json.loads(line)["ts"] for line in files.read_lines(lambda done, total: None)]


@pytest.mark.parametrize(("first", "second"), [((1, 5, 3), ()), ((4, 5), (3, 6))], ids=["inside", "between_files"])
def test_unsorted_log_is_refused_with_its_place(first: Sequence[int], second: Sequence[int], tmp_path: Path) -> None:
    paths = [write(tmp_path / "a", first), write(tmp_path / "b", second)]
    place = f"{paths[1]}: line 1" if second else f"{paths[0]}: line 3"

    with pytest.raises(ValueError, match=rf"{place} is out of order.*--sort"):
        read_times(EventFiles(paths, ReadOptions()))
    assert read_times(EventFiles(paths, ReadOptions(sort=True))) == sorted([*first, *second])


def test_equal_times_are_in_order(tmp_path: Path) -> None:
    assert read_times(EventFiles([write(tmp_path / "a", [7, 7, 7])], ReadOptions())) == [7, 7, 7]


def test_ratings_of_a_known_layout_are_events(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("userId,movieId,rating,timestamp\n1,31,3.0,1714564801\n1,32,4.5,1714564800\n")
    lines = list(EventFiles([str(path)], ReadOptions(sort=True), min_value=4).read_lines(lambda done, total: None))

    assert [json.loads(line)["item_id"] for line in lines] == ["32"]


def test_other_records_are_counted(tmp_path: Path) -> None:
    (tmp_path / "e").write_text('{"item_id":"a"}\n{"user_id":"u"}\n{"event_id":"e","ts":5}\n')
    files = EventFiles([str(tmp_path / "e")], ReadOptions())

    assert read_times(files) == []
    assert files.refusals.reasons == {"not_an_event": 2, "missing_field": 1}


def test_catalog_is_read_in_any_format(tmp_path: Path) -> None:
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n1,Heat,Action|Crime\n")
    files = EventFiles([], ReadOptions())
    lines = read_catalog([str(tmp_path / "movies.csv")], files.refusals)

    assert json.loads(lines[0]) == {"item_id": "1", "title": "Heat", "categories": ["Action", "Crime"]}
