"""Commands over HTTP: how far each is, waited for, cancelled, resolved."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest

from tests.integration.intake_acts import good, intake_of, running, until
from tests.integration.ledger_acts import MODEL_UUID, TRAIN, accept_one, lease, open_group
from worker.gateway.access.tokens import Scope
from worker.queue.ledger.models import Phase
from worker.queue.ledger.queries import LedgerReader

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import MakeToken
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
    both = {"created": MODEL_UUID, "not_created": True}
    assert gateway.http.post(at, json=both).status_code == 422
    assert gateway.http.post(at, json={"not_created": False}).status_code == 422


@pytest.mark.parametrize(
    ("body", "created"),
    [({"created": MODEL_UUID.upper()}, MODEL_UUID), ({"not_created": True}, None)],
)
async def test_a_doubt_that_is_settled_is_told_with_who_settled_it_and_how(
    gateway: GatewayServer,
    redis: Redis,
    ledger: Ledger,
    make_token: MakeToken,
    body: dict[str, str | bool],
    created: str | None,
) -> None:
    held = await lease(redis, ledger, **TRAIN, id="one")
    await ledger.checkpoint(held, {"at": 1.0}, phase=Phase.IN_DOUBT)
    with gateway.client(make_token(Scope.OPERATE, Scope.READ)) as http:
        done = http.post("/v1/commands/one/resolve", json=body)
        assert (done.status_code, done.json()["status"]) == (200, "resolved"), done.text
        assert done.json()["id"] == "one"
        told = http.get("/v1/commands/one").json()["resolution"]
        assert (told["by"], told["created"]) == ("test", created)
        # The same word again is as the first; another one comes too late.
        assert http.post("/v1/commands/one/resolve", json=body).json()["status"] == "resolved"
        other = {"created": str(UUID(int=1))}
        again = http.post("/v1/commands/one/resolve", json=other)
        assert (again.status_code, again.json()["code"]) == (409, "not_in_doubt")


async def test_a_command_that_has_ended_is_cancelled_no_more_and_that_is_no_error(
    gateway: GatewayServer, redis: Redis, ledger: Ledger
) -> None:
    await open_group(redis, ledger.keys)
    await accept_one(redis, ledger, "one")
    path = "/v1/commands/one/cancel"
    first, second = (gateway.http.post(path).json() for _ in range(2))
    assert first == {
        "id": "one",
        "status": "cancelled",
        "state": "accepted",
        "leaves": {},
        "in_doubt": False,
    }
    assert (second["status"], second["state"]) == ("already_ended", "cancelled")


async def test_a_token_of_some_types_acts_on_no_command_of_others(
    gateway: GatewayServer, redis: Redis, ledger: Ledger, make_token: MakeToken
) -> None:
    await open_group(redis, ledger.keys)
    await accept_one(redis, ledger, "one")
    with gateway.client(make_token(*Scope, types=["train"])) as http:
        for method, path, body in (
            ("GET", "", None),
            ("GET", "?wait=0.01", None),
            ("POST", "/cancel", None),
            ("POST", "/resolve", {"not_created": True}),
        ):
            answer = http.request(method, f"/v1/commands/one{path}", json=body)
            assert (answer.status_code, answer.json()["code"]) == (404, "unknown_id"), path
    assert gateway.http.get("/v1/commands/one").status_code == 401
    with gateway.client(make_token(Scope.READ, types=["get_model"])) as http:
        assert http.get("/v1/commands/one").json()["state"] == "accepted"
