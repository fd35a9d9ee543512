"""`/v1/sinks`: seen, paused, resumed, and what could not be sent is sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.integration.integrations.published import event_text, publish, wait_until
from tests.integration.sinks.endpoints import SECRET, Endpoint
from worker.gateway.access.tokens import Scope
from worker.sinks.keys import unsent_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import MakeToken, ServeGateway
    from worker.queue.ledger.keys import Keys

ACTS: Final = ("pause", "resume", "recover")


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    """Where the sink's events go."""
    async with Endpoint().serving() as serving:
        yield serving


@pytest.fixture
def gateway(
    serve_gateway: ServeGateway,
    tmp_path: Path,
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[GatewayServer]:
    """A gateway that sends what is tried again to the endpoint."""
    monkeypatch.setenv("OPS_SECRET", SECRET)
    file = tmp_path / "integrations.toml"
    file.write_text(
        f"""
        [sinks.ops]
        types = ["*.retrying"]
        [sinks.ops.webhook]
        url = "{endpoint.url}?key=hidden"
        secrets = [{{ env = "OPS_SECRET" }}]
        allow_private = true
        """
    )
    with serve_gateway(integrations_file=file) as served:
        yield served


async def test_a_sink_is_seen_paused_resumed_and_sends_again(
    gateway: GatewayServer, endpoint: Endpoint, redis: Redis, keys: Keys
) -> None:
    http = gateway.http

    def look() -> dict[str, Any]:
        (sink,) = http.get("/v1/sinks").json()["items"]
        return dict(sink)

    await wait_until(lambda: look()["running"])
    await publish(redis, keys, "a", range(3))
    await wait_until(lambda: len(endpoint.events()) == 3)
    await wait_until(lambda: look()["delivered"] == 3)
    # Its position is written after what was delivered.
    await wait_until(lambda: look()["behind_events"] == 0)
    seen = look()
    assert seen["destination"] == f"http://127.0.0.1:{endpoint.port}"
    assert (seen["state"], seen["paused"], seen["reason"]) == ("running", False, None)
    assert (seen["behind_events"], seen["unsent"], seen["failed_attempts"]) == (0, 0, 0)
    paused = http.post("/v1/sinks/ops/pause", json={"reason": "night"}).json()
    assert (paused["state"], paused["paused"], paused["reason"]) == ("paused", True, "night")
    resumed = http.post("/v1/sinks/ops/resume").json()
    assert (resumed["paused"], resumed["reason"]) == (False, None)
    asked = {"since": "2020-01-01T00:00:00Z", "all": True}
    again = http.post("/v1/sinks/ops/recover", json=asked)
    assert again.json() == {"name": "ops", "events": None, "recovered": True}
    await wait_until(lambda: len(endpoint.received) == 6)
    for answer in (http.get("/v1/sinks"), again):
        assert "hidden" not in answer.text
        assert SECRET not in answer.text


async def test_what_could_not_be_sent_is_listed_page_by_page_and_sent_again(
    gateway: GatewayServer, endpoint: Endpoint, redis: Redis, keys: Keys
) -> None:
    for number in range(5):
        text = event_text("a", number, data={"secret": "of the command"})
        fields: Any = {"event": text, "entry": f"{number + 1}-0", "error": f"no {number}"}
        await redis.xadd(unsent_key(keys, "ops"), fields, id=f"{1000 + number}-0")
    await redis.xadd(unsent_key(keys, "ops"), {"event": "{}", "entry": "9-0", "error": "of others"})
    seen: list[dict[str, Any]] = []
    cursor: str | None = None
    while cursor is not None or not seen:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        answer = gateway.http.get("/v1/sinks/ops/unsent", params=query)
        assert "of the command" not in answer.text
        seen += answer.json()["items"]
        cursor = answer.json()["next_cursor"]
    assert [each["error"] for each in seen] == ["no 4", "no 3", "no 2", "no 1", "no 0"]
    assert seen[0] == {
        "id": "1004-0",
        "at": "1970-01-01T00:00:01.004000Z",
        "event_id": "a/retrying/4",
        "type": "train.retrying",
        "subject": "a",
        "time": seen[0]["time"],
        "error": "no 4",
    }
    recovered = gateway.http.post("/v1/sinks/ops/recover").json()
    assert (recovered["name"], recovered["recovered"]) == ("ops", True)
    assert recovered["events"] >= 5
    await wait_until(lambda: len(endpoint.events()) == 5)


def test_wrong_names_and_bodies_are_told(gateway: GatewayServer) -> None:
    http = gateway.http
    for act in ACTS:
        answer = http.post(f"/v1/sinks/opps/{act}")
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_sink"), act
        assert "ops" in answer.json()["detail"]
    assert http.get("/v1/sinks/opps/unsent").status_code == 404
    for path, body in (
        ("pause", {"reason": ""}),
        ("pause", {"why": "x"}),
        ("recover", {"all": True}),
        ("recover", {"since": "yesterday"}),
    ):
        answer = http.post(f"/v1/sinks/ops/{path}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameters"), body
    wrong = http.get("/v1/sinks/ops/unsent", params={"cursor": "x"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_cursor")


def test_who_may_see_a_few_types_sees_no_sinks(
    gateway: GatewayServer, make_token: MakeToken
) -> None:
    with gateway.client(make_token(Scope.READ, Scope.OPERATE, types=["train"])) as http:
        answers = [http.get("/v1/sinks"), http.get("/v1/sinks/ops/unsent")]
        answers += [http.post(f"/v1/sinks/ops/{act}") for act in ACTS]
    assert {answer.status_code for answer in answers} == {403}


def test_without_a_file_there_are_no_sinks(serve_gateway: ServeGateway) -> None:
    with serve_gateway() as gateway:
        assert gateway.http.get("/v1/sinks").json() == {"items": []}


async def test_only_what_could_not_be_sent_since_a_time_is_sent_again(
    gateway: GatewayServer, endpoint: Endpoint, redis: Redis, keys: Keys
) -> None:
    for number in range(5):
        text = event_text("a", number)
        fields: Any = {"event": text, "entry": f"{1000 + number}-0", "error": "no"}
        await redis.xadd(unsent_key(keys, "ops"), fields, id=f"{5000 + number}-0")
    # By when it happened, not by when its tries ended.
    body = {"since": "1970-01-01T00:00:01.003Z"}
    recovered = gateway.http.post("/v1/sinks/ops/recover", json=body).json()
    assert recovered == {"name": "ops", "events": 2, "recovered": True}
    await wait_until(lambda: len(endpoint.events()) == 2)
    left = gateway.http.get("/v1/sinks/ops/unsent").json()["items"]
    assert [each["id"] for each in left] == ["5002-0", "5001-0", "5000-0"]
