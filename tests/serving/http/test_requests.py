"""Bodies: compression, content types, byte order mark, and the place of an error."""

import gzip
import json
import zlib

import pytest

from tests.support.serving_loop import JSON, LiveLoop, assert_problem, make_event

GZIP = JSON | {"content-encoding": "gzip"}
MAX_BYTES = 16 << 20


def encode(*events: object) -> bytes:
    return json.dumps(list(events)).encode()


class TestCompression:
    @pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", " gzip "])
    def test_gzip_body_is_decompressed(self, shared_loop: LiveLoop, encoding: str) -> None:
        body = gzip.compress(encode(make_event(), make_event()))
        response = shared_loop.http.post("/v1/events", content=body, headers=JSON | {"content-encoding": encoding})

        assert response.status_code == 202
        assert response.json()["accepted"] == 2

    def test_gzip_works_on_every_route_with_a_body(self, shared_loop: LiveLoop) -> None:
        item = gzip.compress(b'{"item_id": "zipped"}')

        assert shared_loop.http.post("/v1/items", content=item, headers=GZIP).status_code == 202
        assert shared_loop.http.put("/v1/items/zipped", content=item, headers=GZIP).status_code == 200
        request = gzip.compress(b'{"user_id": "u1"}')
        assert shared_loop.http.post("/v1/recommendations", content=request, headers=GZIP).status_code == 200

    def test_identity_encoding_is_plain(self, shared_loop: LiveLoop) -> None:
        headers = JSON | {"content-encoding": "identity"}

        assert shared_loop.http.post("/v1/events", content=b"[]", headers=headers).status_code == 202

    @pytest.mark.parametrize("body", [gzip.compress(b" " * (MAX_BYTES + 1)), gzip.compress(b" " * (64 << 20))])
    def test_zip_bomb_gets_413(self, shared_loop: LiveLoop, body: bytes) -> None:
        assert len(body) < 100_000
        assert_problem(shared_loop.http.post("/v1/events", content=body, headers=GZIP), 413)

    def test_limit_is_that_of_the_decompressed_body(self, shared_loop: LiveLoop) -> None:
        body = gzip.compress(b"[" + b" " * (MAX_BYTES - 2) + b"]")

        assert shared_loop.http.post("/v1/events", content=body, headers=GZIP).status_code == 202

    @pytest.mark.parametrize(
        "body",
        [b"", b"[]", gzip.compress(b"[]")[:-1], gzip.compress(b"[]")[:5], gzip.compress(b"[]") + b"x",
         gzip.compress(b"[]")[:-8] + bytes(8), zlib.compress(b"[]")],
        ids=["empty", "plain", "cut", "header only", "trailing bytes", "wrong checksum", "deflate"],
    )  # fmt: skip
    def test_damaged_gzip_gets_400(self, shared_loop: LiveLoop, body: bytes) -> None:
        response = shared_loop.http.post("/v1/events", content=body, headers=GZIP)

        assert_problem(response, 400)
        assert "gzip" in response.json()["detail"]

    @pytest.mark.parametrize("encoding", ["deflate", "br", "zstd", "gzip, gzip", "x"])
    def test_other_encoding_gets_415_and_names_gzip(self, shared_loop: LiveLoop, encoding: str) -> None:
        headers = JSON | {"content-encoding": encoding}
        response = shared_loop.http.post("/v1/events", content=b"[]", headers=headers)

        assert_problem(response, 415)
        assert response.headers["accept-encoding"] == "gzip"

    def test_events_of_a_gzip_body_keep_their_bytes(self, loop: LiveLoop) -> None:
        body = json.dumps(make_event()).replace("}", ', "mood" : 1.50}').encode()
        loop.http.post("/v1/events", content=gzip.compress(body), headers=GZIP)

        assert loop.read_values("events") == [body]


class TestContentTypes:
    @pytest.mark.parametrize("content_type", ["text/plain;charset=UTF-8", "text/plain"])
    def test_beacon_is_taken_as_json(self, shared_loop: LiveLoop, content_type: str) -> None:
        headers = {"content-type": content_type}
        response = shared_loop.http.post("/v1/events", content=encode(make_event()), headers=headers)

        assert response.json()["accepted"] == 1
        assert_problem(shared_loop.http.post("/v1/events", content=b"hello", headers=headers), 400)

    @pytest.mark.parametrize("path", ["/v1/items", "/v1/recommendations"])
    def test_text_is_refused_elsewhere(self, shared_loop: LiveLoop, path: str) -> None:
        assert_problem(shared_loop.http.post(path, content=b"{}", headers={"content-type": "text/plain"}), 415)

    def test_byte_order_mark_is_skipped(self, shared_loop: LiveLoop) -> None:
        body = b"\xef\xbb\xbf" + encode(make_event())

        assert shared_loop.http.post("/v1/events", content=body, headers=JSON).json()["accepted"] == 1


@pytest.mark.parametrize("path", ["/v1/events", "/v1/items", "/v1/recommendations"])
def test_error_names_the_position_of_bad_utf8(shared_loop: LiveLoop, path: str) -> None:
    body = b'{"user_id": "caf\xe9", "item_id": "a"}'
    response = shared_loop.http.post(path, content=body, headers=JSON)

    assert_problem(response, 400)
    assert f"position {body.index(0xE9)}" in response.json()["detail"]
