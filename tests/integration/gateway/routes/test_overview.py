"""`GET /v1/overview`: one look at how all is."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from schemas.enums import Priority
from tests.console import wait_until
from tests.stream_events import event_text
from worker.gateway.access.tokens import Scope
from worker.queue.ledger.lanes import Lanes

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import Bury, MakeToken
    from worker.queue.ledger.keys import Keys

OPEN = ("accepted", "started", "progressed", "retrying", "in_doubt", "resolved")
ENDED = ("succeeded", "failed", "cancelled", "rejected")


def overview(gateway: GatewayServer) -> dict[str, Any]:
    answer = gateway.http.get("/v1/overview")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def test_it_tells_what_the_ledger_holds(
    gateway: GatewayServer, redis: Redis, keys: Keys, bury: Bury
) -> None:
    now = time.time() * 1000
    later = now + 1_000_000
    await redis.zadd(keys.due_interactive, {"a": now - 60_000, "b": now - 1_000, "c": later})
    await redis.zadd(keys.due_bulk, {"d": later})
    await redis.zadd(keys.due_suspect, {"e": now})
    await redis.xadd(keys.commands, {"command": b"1"})
    await redis.xadd(keys.bulk_commands, {"command": b"2"})
    await redis.rpush(keys.inbox, b"3")
    await Lanes(redis, keys).pause(Priority.BULK, "nearly all fail", 30)
    bury("dead")
    wait_until(lambda: gateway.http.get("/v1/overview").status_code == 200, "the model")
    told = overview(gateway)
    interactive, bulk = told["lanes"]
    assert 60 <= interactive.pop("oldest_due_seconds") < 120
    assert interactive == {"lane": "interactive", "due": 2, "open": 3, "paused": False}
    assert bulk == {
        "lane": "bulk",
        "due": 0,
        "open": 1,
        "oldest_due_seconds": None,
        "paused": True,
    }
    assert (told["suspects"], told["unread_messages"], told["dead_letters"]) == (1, 3, 1)
    assert told["events_kept"] == 0
    assert told["read_model"] == {"behind_events": 0, "behind_seconds": 0}
    assert told["states"] == dict.fromkeys((*OPEN, *ENDED), 0)
    assert abs(datetime.fromisoformat(told["at"]).timestamp() * 1000 - now) < 60_000


async def test_it_tells_what_the_events_have_told(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    now_ms = int(time.time() * 1000)
    begun_ms = now_ms - 600_000

    async def add(command_id: str, state: str, at_ms: int, **more: Any) -> None:
        text = event_text(command_id, f"train.{state}", at_ms=at_ms, **more)
        await redis.xadd(keys.events, {"event": text})

    for number in range(10):
        await add(f"c{number}", "accepted", begun_ms)
    for number in range(8):
        await add(f"c{number}", "succeeded", begun_ms + 120_000)
    await add("c8", "failed", begun_ms + 180_000)
    # It is told twice, as when a worker repeats what Redis did not acknowledge.
    await add("c8", "failed", begun_ms + 180_000)
    await add("bad", "rejected", begun_ms)
    # Under the id of a command that goes on, which it does not touch.
    await add("c9", "rejected", begun_ms, origin="another")
    await add("old", "accepted", begun_ms - 7_200_000)

    def is_there() -> bool:
        answer = gateway.http.get("/v1/overview")
        return answer.status_code == 200 and answer.json()["states"]["accepted"] == 2

    wait_until(is_there, "the model")
    told = overview(gateway)
    states = {state: number for state, number in told["states"].items() if number}
    assert states == {"accepted": 2, "succeeded": 8, "failed": 1, "rejected": 1}
    minutes = {each["at"]: each for each in told["minutes"]}
    assert len(minutes) == 60
    ats = [datetime.fromisoformat(each) for each in minutes]
    assert ats == [ats[0] + timedelta(minutes=each) for each in range(60)]
    assert timedelta(0) <= datetime.fromisoformat(told["at"]) - ats[-1] < timedelta(minutes=1)

    def of(at_ms: int) -> dict[str, Any]:
        at = datetime.fromtimestamp(at_ms // 60_000 * 60, UTC)
        found = minutes[at.isoformat().replace("+00:00", "Z")]
        return {name: value for name, value in found.items() if name != "at" and value}

    assert of(begun_ms) == {"accepted": 10, "rejected": 2}
    two = of(begun_ms + 120_000)
    assert two.pop("p50_seconds") == pytest.approx(120, rel=0.05)
    assert two.pop("p99_seconds") == pytest.approx(120, rel=0.05)
    assert two == {"succeeded": 8}
    assert of(begun_ms + 180_000)["failed"] == 1
    assert told["events_kept"] == 23
    assert told["read_model"]["behind_events"] == 0


def test_who_may_see_a_few_types_does_not_see_all(
    gateway: GatewayServer, make_token: MakeToken
) -> None:
    with gateway.client(make_token(Scope.READ, types=["train"])) as http:
        assert http.get("/v1/overview").status_code == 403
    with gateway.client(make_token(Scope.OPERATE)) as http:
        assert http.get("/v1/overview").status_code == 403
