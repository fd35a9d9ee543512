"""`/v1/holds` and `/v1/lanes`: seen and ended over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.enums import Priority
from worker.gateway.access.tokens import Scope
from worker.queue.ledger.holds import Holds
from worker.queue.ledger.lanes import Lanes

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import MakeToken
    from worker.queue.ledger.keys import Keys


async def test_holds_are_listed_and_released(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    assert gateway.http.get("/v1/holds").json() == {"items": []}
    await redis.set(keys.hold, "60000 1000 the API wants a pause", px=60_000)
    holds = Holds(redis, keys)
    await holds.refuse("worker-1", "the API refuses its key", await holds.now_ms())
    fleet, worker = gateway.http.get("/v1/holds").json()["items"]
    assert (fleet["scope"], fleet["worker"]) == ("fleet", None)
    assert 0 < fleet["rest_seconds"] <= 60
    assert (worker["scope"], worker["worker"], worker["rest_seconds"]) == (
        "worker",
        "worker-1",
        None,
    )
    released = gateway.http.post("/v1/holds/release").json()
    assert len(released["released"]) == 2
    assert gateway.http.get("/v1/holds").json() == {"items": []}


async def test_lanes_are_listed_and_resumed(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    await Lanes(redis, keys).pause(Priority.BULK, "nearly all fail", 30)
    interactive, bulk = gateway.http.get("/v1/lanes").json()["items"]
    assert (interactive["lane"], interactive["paused"]) == ("interactive", False)
    assert (bulk["lane"], bulk["paused"], bulk["reason"]) == ("bulk", True, "nearly all fail")
    path = "/v1/lanes/bulk/resume"
    assert gateway.http.post(path).json() == {"lane": "bulk", "resumed": True}
    assert gateway.http.post(path).json() == {"lane": "bulk", "resumed": False}
    assert gateway.http.post("/v1/lanes/slow/resume").status_code == 422


def test_who_may_send_a_few_types_can_not_act_on_all(
    gateway: GatewayServer, make_token: MakeToken
) -> None:
    with gateway.client(make_token(Scope.OPERATE, Scope.READ, types=["train"])) as http:
        assert http.get("/v1/lanes").status_code == 200
        for path in ("/v1/lanes/bulk/resume", "/v1/holds/release"):
            assert http.post(path).status_code == 403
    with gateway.client(make_token(Scope.OPERATE)) as http:
        assert http.get("/v1/holds").status_code == 403
        assert http.post("/v1/holds/release").status_code == 200
