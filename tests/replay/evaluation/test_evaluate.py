"""`headrace replay evaluate`: files in, JSON or a table out."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from replay.evaluation.evaluate import evaluate_files, normalize_line

_START = 1_700_000_000_000


def lines_of(n: int) -> bytes:
    events = [
        {"event_id": f"e{i}", "type": "click", "user_id": f"u{i % 7}", "item_id": f"i{i % 5}", "ts": _START + i * 1000}
        for i in range(n)
    ]
    return b"".join(msgspec.json.encode(event) + b"\n" for event in events)


def evaluated(capsys: pytest.CaptureFixture[str], *files: Path | str, **asked: Any) -> dict[str, Any]:
    """What the verb prints with --json, which must be all it prints."""
    options = {
        "items": [],
        "k": 3,
        "repeats": False,
        "min_value": None,
        "evaluate_from": 0.0,
        "batch": 8,
        "limit": None,
    }
    assert evaluate_files([str(file) for file in files], **(options | asked), as_json=True) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_json_has_every_measure_of_every_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "e.jsonl").write_bytes(lines_of(40))
    result = evaluated(capsys, tmp_path / "e.jsonl")

    assert set(result["models"]) == {"headrace", "popularity", "decayed_popularity", "cooccurrence"}
    for values in result["models"].values():
        assert {"hr", "recall", "mrr", "ndcg", "coverage", "auc", "log_loss", "calibration"} < set(values)
        assert values["evaluated_actions"] == 40
        assert values["impression_auc"] is None


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_plain_and_compressed_files_give_the_same(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = {"jsonl": bytes, "jsonl.gz": gzip.compress, "jsonl.zst": zstandard.compress}[suffix]
    (tmp_path / f"e.{suffix}").write_bytes(pack(lines_of(40)))
    (tmp_path / "plain").write_bytes(lines_of(40))
    packed, plain = evaluated(capsys, tmp_path / f"e.{suffix}"), evaluated(capsys, tmp_path / "plain")

    assert packed["models"]["headrace"]["recall"] == plain["models"]["headrace"]["recall"]


def test_events_come_from_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines_of(20))))

    assert evaluated(capsys, "-", judge_from=0.5)["protocol"]["evaluated_actions"] == 10


def test_several_files_are_one_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = lines_of(30).splitlines(keepends=True)
    (tmp_path / "a").write_bytes(b"".join(whole[:20]))
    (tmp_path / "b").write_bytes(b"".join(whole[20:]))
    result = evaluated(capsys, tmp_path / "a", tmp_path / "b", judge_from=2 / 3)

    assert result["protocol"]["events"] == 30
    assert result["protocol"]["evaluated_actions"] == 10


def test_bad_lines_are_counted_and_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "e").write_bytes(b'not json\n\n{"item_id":"x"}\n\xff\xfe\n' + lines_of(20) + b'{"type":"wave"}')
    protocol = evaluated(capsys, tmp_path / "e")["protocol"]

    assert protocol["events"] == 20
    assert sum(protocol["rejected"].values()) == 4
    assert "JSON" in protocol["first_rejection"]


def test_a_known_event_id_is_judged_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "e").write_bytes(lines_of(20) + lines_of(20))

    assert evaluated(capsys, tmp_path / "e")["protocol"]["events"] == 20


@pytest.mark.parametrize("content", [b"", b"\n\n", b"garbage\n"], ids=["empty", "blank", "garbage"])
def test_a_file_without_events_is_an_error_that_names_it(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_bytes(content)

    with pytest.raises(ValueError, match=r"e\.jsonl.*no event"):
        evaluate_files([str(tmp_path / "e.jsonl")], [], 3, False, None, 0.0, 8, None, True)


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nothing"):
        evaluate_files([str(tmp_path / "nothing")], [], 3, False, None, 0.0, 8, None, True)


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("zst", zstandard.compress)])
def test_a_file_cut_short_is_an_error_that_names_it(suffix: str, pack: Any, tmp_path: Path) -> None:
    path = tmp_path / f"e.{suffix}"
    path.write_bytes(b"no such format" if suffix == "zst" else pack(lines_of(500))[:-200])

    with pytest.raises(OSError, match=rf"e\.{suffix}.*damaged"):
        evaluate_files([str(path)], [], 3, False, None, 0.0, 8, None, True)


def test_low_ratings_and_what_is_over_the_limit_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rated = lines_of(20).replace(b'"click"', b'"rating","value":3').splitlines(keepends=True)
    (tmp_path / "e").write_bytes(b"".join(rated) + lines_of(40).split(b"\n", 20)[-1])

    assert evaluated(capsys, tmp_path / "e", min_value=4.0)["protocol"]["events"] == 20
    assert evaluated(capsys, tmp_path / "e", min_value=3.0, limit=25)["protocol"]["events"] == 25


def test_a_like_of_minus_one_is_a_dislike() -> None:
    line = normalize_line(b'{"event_id":"e","type":"like","value":-1,"ts":1}', None)

    assert json.loads(line) == {"event_id": "e", "type": "dislike", "value": None, "ts": 1}


def test_the_catalogue_describes_items(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "e").write_bytes(lines_of(20))
    (tmp_path / "items").write_bytes(b'{"item_id":"i1","categories":["c"]}\n{"item_id":"i2","created_ts":99}\n')

    assert evaluated(capsys, tmp_path / "e", items=[str(tmp_path / "items")])["protocol"]["catalog"] == 2


def test_people_get_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "e").write_bytes(b"nonsense\n" + lines_of(20))
    evaluate_files([str(tmp_path / "e")], [], 3, False, None, 0.0, 8, None, False)
    out = capsys.readouterr().out

    assert "cooccurrence" in out
    assert "1 refused (not_json 1)" in out
