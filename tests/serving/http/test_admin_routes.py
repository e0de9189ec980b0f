"""Routes for operators: versions, rollback, alarms and lineage."""

from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from online_models.control import (
    CheckpointCommand,
    ExcludeActionsCommand,
    RollbackCommand,
    decode_command,
    encode_command,
)
from online_models.versions import checkpoints, gate
from stream.topics import ALARMS, CONTROL, EXAMPLES
from tests.support.serving_loop import ADMIN, JSON, NOW, LiveLoop, assert_problem, make_event

ADMIN_ROUTES = [
    ("GET", "/v1/models"),
    ("POST", "/v1/models/rollback"),
    ("GET", "/v1/alarms"),
    ("GET", "/v1/lineage/000001-000000001"),
]


class TestAdmin:
    @pytest.mark.parametrize(("method", "path"), ADMIN_ROUTES)
    def test_missing_key_gets_401_and_wrong_key_gets_403(self, shared_loop: LiveLoop, method: str, path: str) -> None:
        for header in ({}, {"Authorization": "Basic a2V5"}, {"Authorization": "Bearer"}, {"Authorization": "Bearer "}):
            assert_problem(shared_loop.http.request(method, path, headers=header), 401)
        for key in ("wrong", "keys", "ké"):
            response = shared_loop.http.request(method, path, headers={b"Authorization": f"Bearer {key}".encode()})
            assert_problem(response, 403)

    def test_admin_routes_are_closed_without_a_configured_key(self, tmp_path: Path) -> None:
        with LiveLoop(tmp_path, admin_key="") as loop:
            for method, path in ADMIN_ROUTES:
                assert_problem(loop.http.request(method, path), 401)
                assert_problem(loop.http.request(method, path, headers=ADMIN), 403)

    def test_models_are_listed_and_rolled_back(self, loop: LiveLoop) -> None:
        versions = [write_checkpoint(loop, f"u{n}") for n in range(3)]

        models = loop.http.get("/v1/models", headers=ADMIN).json()
        assert [model["version"] for model in models] == versions
        keys = {"version", "epoch", "step", "parent", "created", "offsets", "serving", "damaged"}
        assert all(keys <= model.keys() for model in models)
        lineage = loop.http.get(f"/v1/lineage/{versions[2]}", headers=ADMIN).json()
        assert [model["version"] for model in lineage] == versions[::-1]

        response = post_rollback(loop, version=versions[1])
        assert response.status_code == 202
        loop.learn_worker.step(0.0)
        loop.run_until_idle()
        assert loop.recommend(log=False)["model_version"].startswith("000002-")
        assert loop.http.get("/v1/items/a").json()["counts"]["click"] == 2
        loop.send_events(make_event(user_id="later"))
        loop.run_until_idle()
        assert loop.http.get("/v1/items/a").json()["counts"]["click"] == 3

    def test_unknown_version_gets_404(self, shared_loop: LiveLoop) -> None:
        for version in ("000009-000000009", "", "..", "../..", "/", "a\nb"):
            assert_problem(post_rollback(shared_loop, version=version), 404)
        for path in ("000009-000000009", "%2E%2E", "..%2F..", "x"):
            assert_problem(shared_loop.http.get(f"/v1/lineage/{path}", headers=ADMIN), 404)

    def test_version_that_was_trained_on_skipped_events_gets_409(self, loop: LiveLoop) -> None:
        first, second = write_checkpoint(loop, "u1"), write_checkpoint(loop, "u2")
        manifest = checkpoints.read_manifest(loop.settings.checkpoints, first)
        start = manifest.offsets["0"]
        response = post_rollback(loop, version=second, skip={"0": [[start, start + 1]]})

        assert_problem(response, 409)
        assert f"choose {first}, which was not" in response.json()["detail"]
        assert post_rollback(loop, version=first, skip={"0": [[start, start + 1]]}).status_code == 202

    def test_damaged_version_gets_409_and_stays_listed(self, loop: LiveLoop) -> None:
        version = write_checkpoint(loop, "u1")
        for file in (loop.settings.checkpoints / version).glob("*.safetensors"):
            file.write_bytes(file.read_bytes()[:-1])

        assert_problem(post_rollback(loop, version=version), 409)
        models = loop.http.get("/v1/models", headers=ADMIN).json()
        assert [(model["version"], model["damaged"]) for model in models] == [(version, True)]
        assert loop.http.get(f"/v1/lineage/{version}", headers=ADMIN).status_code == 200

    def test_blocked_version_gets_409_and_is_not_served(self, loop: LiveLoop) -> None:
        good, bad = write_checkpoint(loop, "u1"), write_checkpoint(loop, "u2")
        gate.override(loop.settings.checkpoints, bad, "trained by a flood")
        loop.restart_serve()

        models = loop.http.get("/v1/models", headers=ADMIN).json()
        rows = [(model["blocked_reason"], model["serving"]) for model in models]
        assert rows == [("", True), ("trained by a flood", False)]
        status = loop.http.get("/readyz").json()
        assert (status["model_version"], status["blocked_reason"]) == (good, f"{bad} is blocked: trained by a flood")
        assert "headrace_serve_update_blocked 1.0" in loop.http.get("/metrics").text
        assert loop.recommend(log=False)["model_version"] == good
        assert_problem(post_rollback(loop, version=bad), 409)

        gate.override(loop.settings.checkpoints, bad, "")
        loop.restart_serve()
        assert loop.http.get("/readyz").json()["model_version"] == bad
        assert "headrace_serve_update_blocked 0.0" in loop.http.get("/metrics").text

    def test_invalid_rollback_request_is_rejected(self, loop: LiveLoop) -> None:
        version = write_checkpoint(loop, "u1")

        for skip in ({"7": [[0, 1]]}, {"0": [[5, 5]]}, {"0": [[-1, 5]]}, {"0": "all"}, [1]):
            assert_problem(post_rollback(loop, version=version, skip=skip), 422)
        assert_problem(post_rollback(loop), 422)
        assert_problem(loop.http.post("/v1/models/rollback", content="{", headers=JSON | ADMIN), 400)
        assert_problem(loop.http.post("/v1/models/rollback", content="{}", headers=ADMIN), 415)
        assert len(loop.read_values(CONTROL)) == 1
        assert post_rollback(loop, version=version, skip={"0": [[1, 2]]}).status_code == 202
        assert decode_command(loop.read_values(CONTROL)[-1]) == RollbackCommand(version, {"0": [(1, 2)]})
        assert_problem(post_rollback(loop, version=version, skip_impressions={"0": [[5, 5]]}), 422)
        assert post_rollback(loop, version=version, skip_impressions={"0": [[1, 2]]}).status_code == 202
        assert decode_command(loop.read_values(CONTROL)[-2]) == ExcludeActionsCommand({"0": [(1, 2)]})
        write_checkpoint(loop, "u2")
        loop.log.trim(EXAMPLES, 0, loop.log.end_offset(EXAMPLES, 0))
        assert_problem(post_rollback(loop, version=version), 409)

    def test_alarms_are_listed_as_raised(self, loop: LiveLoop) -> None:
        assert loop.http.get("/v1/alarms", headers=ADMIN).json() == []
        alarms = [{"id": f"a{n}", "ts": NOW, "kind": "drift"} for n in range(3)]
        loop.log.append(ALARMS, 0, [(None, msgspec.json.encode(alarm)) for alarm in alarms])

        assert loop.http.get("/v1/alarms", headers=ADMIN).json() == alarms


def write_checkpoint(loop: LiveLoop, user: str) -> str:
    """Send a click, train on it and write a checkpoint; returns its version."""
    loop.send_events(make_event(user_id=user))
    loop.run_until_idle()
    loop.log.append(CONTROL, 0, [(None, encode_command(CheckpointCommand()))])
    loop.learn_worker.step(0.0)
    return f"{loop.learn_worker.progress.epoch:06d}-{loop.learn_worker.progress.step:09d}"


def post_rollback(loop: LiveLoop, **fields: Any) -> httpx.Response:
    return loop.http.post("/v1/models/rollback", json=fields, headers=ADMIN)
