"""`GET /v1/commands` of a gateway that follows the events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.intake_acts import good, intake_of, running, until
from worker.gateway.access.tokens import Scope
from worker.queue.ledger.streams import entries_between

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import MakeToken
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger


async def test_commands_are_listed_by_what_their_events_have_told(
    gateway: GatewayServer, redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    for number in range(5):
        await redis.xadd(
            keys.commands, {"command": good(id=f"night/{number}", correlationid=f"c{number % 2}")}
        )
    await redis.xadd(keys.commands, {"command": b'{"type":"train","id":"bad"}'})

    async def listed() -> bool:
        answer = gateway.http.get("/v1/commands")
        return answer.status_code == 200 and len(answer.json()["items"]) == 6

    async with running(intake_of(redis, ledger).read):
        await until(listed)
    get = gateway.http.get
    answer = get("/v1/commands", params={"limit": 4})
    # Who goes on from there misses nothing.
    newest, _ = (await entries_between(redis, keys.events, "-", "+"))[-1]
    assert answer.headers["last-event-id"] == newest.decode()
    first = answer.json()
    second = get("/v1/commands", params={"limit": 4, "cursor": first["next_cursor"]}).json()
    ids = [each["id"] for each in (*first["items"], *second["items"])]
    assert sorted(ids) == ["bad", *(f"night/{number}" for number in range(5))]
    assert second["next_cursor"] is None

    def found(**wanted: str) -> set[str]:
        return {each["id"] for each in get("/v1/commands", params=wanted).json()["items"]}

    assert found(state="rejected") == {"bad"}
    assert found(type="get_model", correlationid="c1") == {"night/1", "night/3"}
    assert found(id="night/4") == {"night/4"}
    assert found(text="IGHT/2") == {"night/2"}
    assert found(since="2999-01-01T00:00:00Z") == set()

    def count(**wanted: str) -> dict[str, Any]:
        told: dict[str, Any] = get("/v1/command-count", params=wanted).json()
        return told

    assert count() == {"count": 6, "exact": True}
    assert count(state="rejected") == {"count": 1, "exact": True}
    assert count(type="get_model", correlationid="c1") == {"count": 2, "exact": True}
    assert count(id="night/") == {"count": 5, "exact": True}
    assert count(text="IGHT/2") == {"count": 1, "exact": True}
    assert count(until="2000-01-01T00:00:00Z") == {"count": 0, "exact": True}
    # A command may have this id, too.
    await redis.xadd(keys.commands, {"command": good(id="count")})
    async with running(intake_of(redis, ledger).read):
        await until(lambda: _is(get("/v1/commands/count").status_code == 200))
    assert get("/v1/commands/count").json()["id"] == "count"
    (rejected,) = get("/v1/commands", params={"state": "rejected"}).json()["items"]
    assert rejected["error"]["code"] == "invalid_command"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("state=suceeded", "Did you mean 'succeeded'"),
        ("type=trian", "Did you mean 'train'"),
        ("cursor=x", "cursor"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("since=yesterday", "since must be a valid datetime"),
        ("since=2026-01-01T00:00:00", "since must have an offset"),
        ("staet=failed", "staet"),
    ],
)
def test_a_list_says_what_is_wrong_with_its_question(
    gateway: GatewayServer, query: str, said: str
) -> None:
    answer = gateway.http.get(f"/v1/commands?{query}")
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    answer = gateway.http.get(f"/v1/command-count?{query}")
    assert answer.status_code == 422
    # Of these a count has none, and says so.
    assert said in answer.json()["detail"] or query.partition("=")[0] in answer.json()["detail"]


async def _is(told: bool) -> bool:
    return told


async def test_who_may_see_a_few_types_lists_and_counts_these(
    gateway: GatewayServer, make_token: MakeToken
) -> None:
    with gateway.client(make_token(Scope.READ, types=["train"])) as http:
        for path in ("/v1/commands", "/v1/command-count"):
            assert http.get(path).status_code == 403
            assert http.get(f"{path}?type=attach").status_code == 403
            assert http.get(f"{path}?type=train").status_code in {200, 503}
    with gateway.client(make_token(Scope.SUBMIT)) as http:
        assert http.get("/v1/command-count").status_code == 403
