"""Commands over HTTP: how far each is, waited for, cancelled, resolved."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
import pytest

from tests.integration.intake_acts import good, intake_of, running, until
from worker.queue.ledger.queries import LedgerReader

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

YEAR_2200 = "2200-01-01T00:00:00Z"


def send(gateway: GatewayServer, body: bytes) -> httpx.Response:
    headers = {"content-type": "application/json"}
    return gateway.http.post("/v1/commands", content=body, headers=headers)


async def test_a_command_is_told_of_from_before_it_is_read_to_its_end(
    gateway: GatewayServer, redis: Redis, ledger: Ledger
) -> None:
    location = send(gateway, good(id="a/b c%2Fd")).json()["location"]
    assert location == f"/v1/commands/{quote('a/b c%2Fd', safe='')}"
    assert gateway.http.get(location).json()["state"] == "submitted"

    async def accepted() -> bool:
        return bool(gateway.http.get(location).json()["state"] == "accepted")

    async with running(intake_of(redis, ledger).read):
        await until(accepted)
    assert gateway.http.post(f"{location}/cancel").json()["status"] == "cancelled"
    told = gateway.http.get(location, params={"wait": 30}).json()
    assert (told["id"], told["state"], told["type"]) == ("a/b c%2Fd", "cancelled", "get_model")
    assert told["ended_at"] is not None


@pytest.mark.parametrize("command_id", [".", "..", "a/b c%2Fd", "-", "é", "a&id=b"])
async def test_what_no_address_can_hold_is_named_by_the_query(
    gateway: GatewayServer, redis: Redis, ledger: Ledger, command_id: str
) -> None:
    send(gateway, good(id=command_id))
    named = {"id": command_id}
    assert gateway.http.get("/v1/command", params=named).json()["state"] == "submitted"
    reader = LedgerReader(redis, ledger.keys)

    async def accepted() -> bool:
        return await reader.status(command_id) is not None

    async with running(intake_of(redis, ledger).read):
        await until(accepted)
    message = gateway.http.get("/v1/command/message", params=named).json()
    assert message["message"]["id"] == command_id
    assert gateway.http.post("/v1/command/cancel", params=named).json()["status"] == "cancelled"
    told = gateway.http.get("/v1/command", params={**named, "wait": 30}).json()
    assert (told["id"], told["state"]) == (command_id, "cancelled")
    for query in ("", "?id=", f"?id={quote(command_id, safe='')}&id=b"):
        answer = gateway.http.get(f"/v1/command{query}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_those_who_wait_are_answered_at_the_end_and_share_one_reader(
    gateway: GatewayServer, redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    await redis.xadd(keys.commands, {"command": good(id="long", notbefore=YEAR_2200)})
    reader = LedgerReader(redis, keys)

    async def accepted() -> bool:
        return await reader.status("long") is not None

    async with running(intake_of(redis, ledger).read):
        await until(accepted)
    before = int((await redis.info("clients"))["blocked_clients"])
    async with httpx.AsyncClient(base_url=gateway.url, timeout=90, trust_env=False) as http:
        waiting = [
            asyncio.ensure_future(http.get("/v1/commands/long", params={"wait": 60}))
            for _ in range(50)
        ]

        async def all_wait() -> bool:
            return bool(gateway.app.state.gateway.events.watchers == 50)

        await until(all_wait)
        assert (await redis.info("clients"))["blocked_clients"] <= before + 3
        assert (await http.get("/v1/commands/long", params={"wait": 0.1})).status_code == 200
        await http.post("/v1/commands/long/cancel")
        answers = await asyncio.gather(*waiting)
        late = await http.get("/v1/commands/long", params={"wait": 60})
    assert {answer.json()["state"] for answer in (*answers, late)} == {"cancelled"}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/commands/nobody", 404, "unknown_id"),
        ("GET", "/v1/commands/%00", 404, "unknown_id"),
        ("GET", f"/v1/commands/{'a' * 300}", 404, "unknown_id"),
        ("POST", "/v1/commands/nobody/cancel", 404, "unknown_id"),
        ("GET", "/v1/commands/%ff", 400, "invalid_address"),
        ("POST", "/v1/commands/a%fe/cancel", 400, "invalid_address"),
        ("POST", "/v1/command/cancel?id=a%fe", 400, "invalid_address"),
        ("POST", "/v1/dead-letters/%ff/replay", 400, "invalid_address"),
        ("GET", "/v1/backfills/%ff", 400, "invalid_address"),
        ("GET", "/v1/deliveries/a/%ff", 400, "invalid_address"),
        ("GET", "/v1/commands/nobody?wait=nan", 422, "invalid_parameters"),
        ("GET", "/v1/commands/nobody?wait=61", 422, "invalid_parameters"),
        ("GET", "/v1/commands/nobody?wait=soon", 422, "invalid_parameters"),
        ("GET", "/v1/commands/a/b", 404, "not_found"),
        ("GET", "/v1/commands/a/../../healthz", 404, "not_found"),
        ("GET", "/v1/%63ommands/nobody", 404, "not_found"),
        ("DELETE", "/v1/commands/nobody", 405, "method_not_allowed"),
        ("GET", "/nothing", 404, "not_found"),
    ],
)
def test_what_is_not_there_is_a_problem(
    gateway: GatewayServer, method: str, path: str, status: int, code: str
) -> None:
    # As it stands: httpx itself would tidy the path.
    url = httpx.URL(gateway.url).copy_with(raw_path=path.encode())
    answer = gateway.http.request(method, url)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_doubt_can_be_settled_only_where_there_is_one(gateway: GatewayServer) -> None:
    at = "/v1/commands/nobody/resolve"
    assert gateway.http.post(at, json={}).status_code == 422
    assert gateway.http.post(at, json={"created": "x"}).status_code == 422
    assert gateway.http.post(at, json={"not_created": True, "other": 1}).status_code == 422
    assert gateway.http.post(at, json={"not_created": True}).status_code == 404
