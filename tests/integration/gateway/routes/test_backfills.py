"""`/v1/backfills`: seen, paused, resumed and cancelled, with a worker and without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration import backfilling
from tests.integration.backfilling import NAME, Backfilling
from tests.integration.gateway.manifests import (
    BACKFILLS,
    start,
)
from tests.integration.ledger_acts import accept_one, new_command, read_entry
from worker.backfill.status import BackfillState, Origin
from worker.gateway.access.tokens import Scope

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import MakeToken, ServeGateway
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger


@pytest.fixture
def gateway(serve_gateway: ServeGateway, uploads: Path) -> Iterator[GatewayServer]:
    """A gateway that takes manifests."""
    with serve_gateway(gateway_uploads=str(uploads), gateway_upload_bytes=100_000) as served:
        yield served


async def test_backfills_are_listed_page_by_page_and_shown(
    gateway: GatewayServer, night: Backfilling
) -> None:
    for number in range(3):
        await night.store.open(f"more-{number}", night.plan, Origin.QUEUE, "entry")
    seen: list[str] = []
    cursor: str | None = None
    while cursor is not None or not seen:
        query = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = gateway.http.get(BACKFILLS, params=query).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert sorted(seen) == ["more-0", "more-1", "more-2", NAME]
    assert gateway.http.get(BACKFILLS, params={"cursor": "x"}).json()["code"] == "invalid_cursor"
    shown = gateway.http.get(f"{BACKFILLS}/{NAME}").json()
    assert (shown["state"], shown["origin"]) == ("running", "queue")
    missing = gateway.http.get(f"{BACKFILLS}/nobody")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_backfill")


async def test_a_backfill_that_someone_wrote_over_says_so_and_hides_no_other(
    gateway: GatewayServer, night: Backfilling
) -> None:
    await night.store.open("day", night.plan, Origin.QUEUE, "entry")
    await night.redis.hset(night.keys.group(NAME), "failed", "none")
    listed = gateway.http.get(BACKFILLS).json()["items"]
    assert {each["id"]: each["state"] for each in listed} == {"day": "running", NAME: "unreadable"}
    shown = gateway.http.get(f"{BACKFILLS}/{NAME}").json()
    assert "failed is 'none', which is no number" in shown["reason"]
    refused = gateway.http.post(f"{BACKFILLS}/{NAME}/cancel")
    assert (refused.status_code, refused.json()["code"]) == (409, "unreadable_backfill")
    assert gateway.http.get("/metrics").status_code == 200


async def test_a_backfill_is_paused_resumed_and_cancelled_without_a_worker(
    gateway: GatewayServer, night: Backfilling
) -> None:
    path = f"{BACKFILLS}/{NAME}"
    for act, state in (("pause", "paused"), ("pause", "paused"), ("resume", "running")):
        assert gateway.http.post(f"{path}/{act}").json()["state"] == state
    assert gateway.http.post(f"{path}/cancel").json()["state"] == "cancelling"
    assert (await night.standing()).state is BackfillState.CANCELLING
    for act in ("pause", "resume", "cancel", "retry-failed"):
        assert gateway.http.post(f"{BACKFILLS}/nobody/{act}").status_code == 404


async def test_one_of_a_console_is_cancelled_by_its_leader_alone(
    gateway: GatewayServer, redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    (tmp_path / "night").mkdir()
    night = await backfilling.begin(redis, keys, ledger, tmp_path / "night")
    path = f"{BACKFILLS}/{NAME}/cancel"
    refused = gateway.http.post(path)
    assert (refused.status_code, refused.json()["code"]) == (409, "no_leader")
    assert (await night.standing()).state is BackfillState.RUNNING
    await night.lead()
    assert gateway.http.post(path).json()["state"] == "cancelling"


async def test_a_command_that_no_worker_has_begun_is_seen_and_cancelled(
    gateway: GatewayServer, redis: Redis, ledger: Ledger
) -> None:
    assert start(gateway.http, id="night").status_code == 202
    path = f"{BACKFILLS}/night"
    early = gateway.http.post(f"{path}/cancel")
    assert (early.status_code, early.json()["code"]) == (409, "not_read_yet")
    await redis.xgroup_create(ledger.keys.commands, "intake", id="0")
    entry = await read_entry(redis, ledger.keys)
    await ledger.accept([new_command(entry, "night", command_type="backfill")])
    assert gateway.http.get(path).json()["state"] == "accepted"
    assert gateway.http.post(f"{path}/cancel").json()["state"] == "cancelled"
    await accept_one(redis, ledger, "model")
    assert gateway.http.get(f"{BACKFILLS}/model").status_code == 404


async def test_a_token_of_other_types_knows_no_backfills(
    gateway: GatewayServer, night: Backfilling, make_token: MakeToken
) -> None:
    with gateway.client(make_token(Scope.READ, Scope.OPERATE, types=["train"])) as http:
        assert http.get(BACKFILLS).json()["items"] == []
        for path in ("", "/results", "/results/summary.json"):
            assert http.get(f"{BACKFILLS}/{NAME}{path}").status_code == 404
        for act in ("pause", "resume", "cancel", "retry-failed"):
            assert http.post(f"{BACKFILLS}/{NAME}/{act}").status_code == 404
    assert (await night.standing()).state is BackfillState.RUNNING
