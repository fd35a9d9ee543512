"""`GET /v1/commands/{id}/result`: from the event, or from the result store and nowhere else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import orjson
import pytest

from schemas.enums import EventState
from schemas.parsing import parse_command
from tests.integration.ledger_acts import TEXT, accept_one, open_group
from worker.gateway.access.tokens import Scope
from worker.queue.ledger.event_builder import build_event
from worker.queue.ledger.models import RowState, RunResult
from worker.queue.pool.results import ResultStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import MakeToken, ServeGateway
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

LARGE: Final = {"frames": {"0": [{"name": "car", "confidence": 0.123456789012345678}]}}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The workers' result store."""
    folder = tmp_path / "results"
    folder.mkdir()
    return folder


@pytest.fixture
def gateway(serve_gateway: ServeGateway, store: Path) -> Iterator[GatewayServer]:
    """A gateway that reaches it."""
    with serve_gateway(result_store=str(store)) as served:
        yield served


async def end(
    redis: Redis,
    ledger: Ledger,
    command_id: str,
    result: Any,
    dataref: str | None = None,
) -> None:
    """Has a command accepted and succeed."""
    await accept_one(redis, ledger, command_id)
    (lease,) = (await ledger.claim(10, bulk_most=10)).leases
    event = build_event(
        parse_command(TEXT).command,
        lease.entry_id,
        command_id,
        EventState.SUCCEEDED,
        {"result": result, "attempts": 1, "duration_seconds": 1.5},
        dataref=dataref,
        now=time.time(),
    )
    assert await ledger.finish([RunResult(lease, RowState.SUCCEEDED, 1, event=event)]) == [True]


async def test_a_result_is_sent_from_its_event_or_from_the_result_store(
    gateway: GatewayServer, store: Path, redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    await open_group(redis, keys)
    await end(redis, ledger, "small", {"models": [1, None]})
    payload = orjson.dumps(LARGE)
    for entry in ("17-0", "b17-0"):
        dataref = await ResultStore(str(store), 10).keep(entry, payload)
        assert dataref is not None
        await end(redis, ledger, f"large-{entry}", None, dataref)
        answer = gateway.http.get(f"/v1/commands/large-{entry}/result")
        assert (answer.status_code, answer.content) == (200, payload), answer.text
        assert answer.headers["content-length"] == str(len(payload))
        assert answer.headers["content-type"] == "application/json"
    assert gateway.http.get("/v1/commands/small/result").json() == {"models": [1, None]}


async def test_nothing_is_read_but_what_lies_in_the_store_under_a_workers_name(
    gateway: GatewayServer, store: Path, redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    await open_group(redis, keys)
    name = "17-0-0123456789abcdef.json"
    outside = store.parent / name
    outside.write_bytes(b"secret")
    (store / "notes.json").write_bytes(b"secret")
    (store / "18-0-0123456789abcdef.json").symlink_to(outside)
    for number, dataref in enumerate([
        f"file://{outside}",
        f"file://{store}/../{name}",
        f"file://{store}/notes.json",
        f"file://{store}/18-0-0123456789abcdef.json",
        f"file://{store}/20-0-0123456789abcdef.json",
        f"{store}/{name}",
        f"https://example.com/{name}",
        "file:///etc/passwd",
        "",
    ]):
        await end(redis, ledger, f"odd-{number}", None, dataref or "x")
        answer = gateway.http.get(f"/v1/commands/odd-{number}/result")
        assert (answer.status_code, answer.json()["code"]) == (404, "result_elsewhere"), dataref


async def test_what_has_no_result_says_why(
    gateway: GatewayServer,
    redis: Redis,
    keys: Keys,
    ledger: Ledger,
    make_token: MakeToken,
) -> None:
    await open_group(redis, keys)
    await end(redis, ledger, "done", [])
    await accept_one(redis, ledger, "open")
    answer = gateway.http.get("/v1/commands/open/result")
    assert (answer.status_code, answer.json()["code"]) == (404, "no_result")
    assert "state is accepted" in answer.json()["detail"]
    assert gateway.http.get("/v1/commands/nobody/result").json()["code"] == "unknown_id"
    with gateway.client(make_token(Scope.READ, types=["predict"])) as http:
        assert http.get("/v1/commands/done/result").json()["code"] == "unknown_id"
    with gateway.client(make_token(Scope.READ)) as http:
        assert http.get("/v1/commands/done/result").json() == []
        await redis.delete(keys.events)
        answer = http.get("/v1/commands/done/result")
        assert (answer.status_code, answer.json()["code"]) == (404, "no_result")


async def test_a_store_that_does_not_answer_is_told(
    serve_gateway: ServeGateway, redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    await open_group(redis, keys)
    url = "http://127.0.0.1:9/results"
    await end(redis, ledger, "far", None, f"{url}/17-0-0123456789abcdef.json")
    with serve_gateway(result_store=url) as gateway:
        answer = gateway.http.get("/v1/commands/far/result")
    assert (answer.status_code, answer.json()["code"]) == (502, "results_unreadable")
