"""Lists that can't be answered: each address says so, and why, and nothing else is kept waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.console import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.gateway.conftest import ServeGateway


def test_each_list_says_that_it_can_not_be_answered_and_why(
    serve_gateway: ServeGateway, tmp_path: Path
) -> None:
    folder = tmp_path / "gateway"
    folder.write_text("no folder")
    with serve_gateway(gateway_folder=folder) as gateway:
        wait_until(lambda: gateway.http.get("/readyz").status_code == 503, "the trouble")
        for path in (
            "/v1/commands",
            "/v1/command-count",
            "/v1/commands/one/events",
            "/v1/overview",
            "/v1/trainings",
        ):
            answer = gateway.http.get(path)
            told = answer.json()
            assert (answer.status_code, told["code"]) == (503, "read_model_unavailable"), path
            assert "TRAINMASTER_GATEWAY_FOLDER" in told["detail"], path
            assert answer.headers["retry-after"] == "1"
        # What the ledger itself tells is told all the same.
        assert gateway.http.get("/v1/commands/one").json()["code"] == "unknown_id"
        assert gateway.http.get("/metrics").status_code == 200
        sent = gateway.http.post("/v1/commands", json={"type": "list_models", "data": {}})
        assert sent.status_code == 202


@pytest.mark.parametrize("path", ["/v1/trainings", "/v1/commands"])
def test_lists_that_are_being_made_say_so(
    serve_gateway: ServeGateway, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait(_: object) -> None:
        return

    monkeypatch.setattr("worker.gateway.read_model.follower.Follower._follow_if_free", wait)
    with serve_gateway() as gateway:
        answer = gateway.http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (503, "read_model_unavailable")
        assert "being made" in answer.json()["detail"]
        assert gateway.http.get("/readyz").status_code == 200
