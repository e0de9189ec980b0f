"""`headrace replay evaluate` reads event files and prints JSON or a table."""

import gzip
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from replay.evaluation.evaluate import EvaluationOptions, evaluate_files
from replay.files.options import ReadOptions

_START = 1_700_000_000_000
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "jsonl": bytes,
    "jsonl.gz": gzip.compress,
    "jsonl.zst": zstandard.compress,
}
OPTIONS = EvaluationOptions(k=3, batch=8)


def make_lines(n: int) -> bytes:
    events = [
        {"event_id": f"e{i}", "type": "click", "user_id": f"u{i % 7}", "item_id": f"i{i % 5}", "ts": _START + i * 1000}
        for i in range(n)
    ]
    return b"".join(msgspec.json.encode(event) + b"\n" for event in events)


def run_evaluate(capsys: pytest.CaptureFixture[str], *files: Path | str, **options: Any) -> dict[str, Any]:
    """Run the command with --json and parse its output."""
    items = options.pop("items", [])
    assert evaluate_files([str(file) for file in files], items, replace(OPTIONS, **options), as_json=True) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_json_has_every_metric_of_every_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "e.jsonl").write_bytes(make_lines(40))
    result = run_evaluate(capsys, tmp_path / "e.jsonl")

    assert set(result["models"]) == {"headrace", "popularity", "decayed_popularity", "cooccurrence"}
    for values in result["models"].values():
        assert {"hr", "recall", "mrr", "ndcg", "coverage", "auc", "log_loss", "calibration"} < set(values)
        assert values["evaluated_actions"] == 40
        assert values["impression_auc"] is None


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_compressed_files_give_the_same_metrics(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compress = COMPRESSORS[suffix]
    (tmp_path / f"e.{suffix}").write_bytes(compress(make_lines(40)))
    (tmp_path / "plain").write_bytes(make_lines(40))
    packed, plain = run_evaluate(capsys, tmp_path / f"e.{suffix}"), run_evaluate(capsys, tmp_path / "plain")

    assert packed["models"]["headrace"]["recall"] == plain["models"]["headrace"]["recall"]


def test_events_can_come_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(make_lines(20))))

    assert run_evaluate(capsys, "-", evaluate_from=0.5)["protocol"]["evaluated_actions"] == 10


def test_several_files_are_one_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = make_lines(30).splitlines(keepends=True)
    (tmp_path / "a").write_bytes(b"".join(whole[:20]))
    (tmp_path / "b").write_bytes(b"".join(whole[20:]))
    result = run_evaluate(capsys, tmp_path / "a", tmp_path / "b", evaluate_from=2 / 3)

    assert result["protocol"]["events"] == 30
    assert result["protocol"]["evaluated_actions"] == 10


def test_invalid_lines_are_counted_and_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "e").write_bytes(b'not json\n\n{"item_id":"x"}\n\xff\xfe\n' + make_lines(20) + b'{"type":"wave"}')
    protocol = run_evaluate(capsys, tmp_path / "e")["protocol"]

    assert protocol["events"] == 20
    assert sum(protocol["rejected"].values()) == 4
    assert "JSON" in protocol["first_rejection"]


def test_duplicate_event_ids_count_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "e").write_bytes(make_lines(20) + make_lines(20))

    assert run_evaluate(capsys, tmp_path / "e", read=ReadOptions(sort=True))["protocol"]["events"] == 20


@pytest.mark.parametrize("content", [b"", b"\n\n", b"garbage\n"], ids=["empty", "blank", "garbage"])
def test_file_without_events_is_an_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_bytes(content)

    with pytest.raises(ValueError, match=r"e\.jsonl.*no events"):
        evaluate_files([str(tmp_path / "e.jsonl")], [], OPTIONS, as_json=True)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        evaluate_files([str(tmp_path / "missing")], [], OPTIONS, as_json=True)


@pytest.mark.parametrize(("suffix", "compress"), [("gz", gzip.compress), ("zst", zstandard.compress)])
def test_truncated_file_is_an_error(suffix: str, compress: Any, tmp_path: Path) -> None:
    path = tmp_path / f"e.{suffix}"
    path.write_bytes(b"no such format" if suffix == "zst" else compress(make_lines(500))[:-200])

    with pytest.raises(OSError, match=rf"e\.{suffix}.*damaged"):
        evaluate_files([str(path)], [], OPTIONS, as_json=True)


def test_low_ratings_and_events_beyond_the_limit_are_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rated = make_lines(20).replace(b'"click"', b'"rating","value":3').splitlines(keepends=True)
    (tmp_path / "e").write_bytes(b"".join(rated) + make_lines(40).split(b"\n", 20)[-1])

    assert run_evaluate(capsys, tmp_path / "e", min_value=4.0)["protocol"]["events"] == 20
    assert run_evaluate(capsys, tmp_path / "e", min_value=3.0, limit=25)["protocol"]["events"] == 25


def test_catalog_items_are_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "e").write_bytes(make_lines(20))
    (tmp_path / "items").write_bytes(b'{"item_id":"i1","categories":["c"]}\n{"item_id":"i2","created_ts":99}\n')

    assert run_evaluate(capsys, tmp_path / "e", items=[str(tmp_path / "items")])["protocol"]["catalog"] == 2


def test_text_output_is_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "e").write_bytes(b"nonsense\n" + make_lines(20))
    evaluate_files([str(tmp_path / "e")], [], OPTIONS, as_json=False)
    out = capsys.readouterr().out

    assert "cooccurrence" in out
    assert "1 events rejected (not_json 1)" in out
