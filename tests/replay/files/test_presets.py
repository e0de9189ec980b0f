"""Every preset reads its layout, is recognized by it, and is listed."""

from pathlib import Path

import msgspec
import pytest

from replay.files.kinds import ParsedLines
from replay.files.options import ReadOptions
from replay.files.presets import PRESETS, find_preset
from replay.files.reading import RecordReader
from tests.replay.files.preset_samples import SAMPLES, Sample

ORDERS = "order_id,user_id,eval_set,order_number,order_dow,order_hour_of_day,days_since_prior_order\n"


def read(path: Path, options: ReadOptions | None = None) -> tuple[RecordReader, ParsedLines]:
    reader = RecordReader(str(path), options or ReadOptions())
    parsed = ParsedLines()
    for batch in reader.batches():
        parsed.extend(batch.parsed)
    return reader, parsed


def lines_of(parsed: ParsedLines) -> list[bytes]:
    return [*parsed.event_lines, *(line for _, line in (*parsed.items, *parsed.users) if line is not None)]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.preset)
def test_preset_is_recognized_and_reads_its_layout(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / sample.file).write_text(sample.text)
    reader, parsed = read(tmp_path / sample.file)
    first = msgspec.json.decode(lines_of(parsed)[0])
    if "event_id" not in sample.first:
        first.pop("event_id", None)

    assert reader.plan.preset is not None
    assert reader.plan.preset.name == sample.preset
    assert parsed.refused == []
    assert len(lines_of(parsed)) == sample.n_records
    assert first == sample.first


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.preset)
def test_file_that_is_read_twice_has_the_same_ids(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / sample.file).write_text(sample.text)
    ids = [event.event_id for event in read(tmp_path / sample.file)[1].events]

    assert ids == [event.event_id for event in read(tmp_path / sample.file)[1].events]
    assert len(set(ids)) == len(ids)


def test_every_preset_has_a_sample() -> None:
    assert set(PRESETS) - {sample.preset for sample in SAMPLES} == {"instacart-orders"}


def test_instacart_orders_are_joined_with_their_users(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text(ORDERS + "1,u1,prior,2,3,10,7.0\n2,u1,prior,1,2,08,\n")
    (tmp_path / "prior.csv").write_text("order_id,product_id,add_to_cart_order,reordered\n1,33120,1,1\n2,28985,2,1\n")
    reader, parsed = read(tmp_path / "prior.csv")

    assert reader.plan.preset is PRESETS["instacart-orders"]
    assert [(event.user_id, event.item_id) for event in parsed.events] == [("u1", "33120"), ("u1", "28985")]
    assert parsed.events[0].ts - parsed.events[1].ts == (7 * 24 + 2) * 3_600_000


def test_missing_second_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "prior.csv").write_text("order_id,product_id,add_to_cart_order,reordered\n1,33120,1,1\n")

    with pytest.raises(FileNotFoundError, match=r"orders\.csv does not exist"):
        read(tmp_path / "prior.csv")


def test_preset_that_is_near_none_names_the_list() -> None:
    with pytest.raises(ValueError, match=r"preset 'foo' is unknown; see headrace produce --presets"):
        find_preset("foo")


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"movielens-rating.*nearest is 'movielens-ratings'"):
        find_preset("movielens-rating")


def test_forced_preset_names_the_columns_that_are_missing(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("userId,movieId\n1,2\n")

    with pytest.raises(ValueError, match="needs the columns rating, timestamp"):
        read(tmp_path / "f.csv", ReadOptions(preset="movielens-ratings"))


def test_map_overrides_a_field_of_the_preset(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,31,3.0,1714564800\n")
    _, parsed = read(tmp_path / "ratings.csv", ReadOptions(maps=('surface="home"',), type="like"))

    assert (parsed.events[0].surface, parsed.events[0].type, parsed.events[0].user_id) == ("home", "like", "1")
