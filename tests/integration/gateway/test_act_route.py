"""Acts under an `Idempotency-Key`: done once, however often they are asked for."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import orjson

from tests.integration.intake_acts import good, take_in
from worker.gateway import act_route
from worker.gateway.access.tokens import Scope
from worker.gateway.keys import answer_key
from worker.queue.ledger.keys import COMMAND_FIELD

if TYPE_CHECKING:
    import httpx
    import pytest
    from redis import Redis as BlockingRedis
    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import Bury, MakeToken
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

REPLAY: Final = "/v1/commands/same/replay"


def act(
    http: httpx.Client, path: str, key: str | None = "k", body: object = None
) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return http.post(path, json={} if body is None else body, headers=headers)


def sent(redis: BlockingRedis, keys: Keys) -> list[str]:
    entries: Any = redis.xrange(keys.commands)
    return [orjson.loads(fields[COMMAND_FIELD])["id"] for _, fields in entries]


def test_the_same_act_again_is_answered_as_the_first_time_and_done_once(
    gateway: GatewayServer, bury: Bury, raw_redis: BlockingRedis, keys: Keys
) -> None:
    """Each replay takes the newest letter of an id: the second would take another one."""
    for number in range(3):
        bury("same", code="invalid_command", at_ms=1000 + number)
    first = act(gateway.http, REPLAY)
    again = act(gateway.http, REPLAY)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert sent(raw_redis, keys) == [first.json()["id"]]
    for key in ("another", None):
        act(gateway.http, REPLAY, key)
    assert len(set(sent(raw_redis, keys))) == 3


def test_an_act_without_a_body_of_its_own_is_answered_again_too(
    gateway: GatewayServer, bury: Bury
) -> None:
    key = bury("gone")
    at = f"/v1/dead-letters/{key}"
    told = [gateway.http.delete(at, headers={"Idempotency-Key": '"k"'}) for _ in range(2)]
    assert [each.status_code for each in told] == [204, 204]
    assert gateway.http.delete(at).status_code == 404


def test_a_key_is_of_one_act_of_one_caller(
    gateway: GatewayServer, bury: Bury, make_token: MakeToken
) -> None:
    for number in range(2):
        bury("same", code="invalid_command", at_ms=1000 + number)
    ada, eve = (gateway.client(make_token(Scope.OPERATE)) for _ in range(2))
    reading = gateway.client(make_token(Scope.READ))
    with ada, eve, reading:
        assert act(ada, REPLAY).status_code == 202
        other = act(ada, REPLAY, body={"attributes": {"tenant": "a"}})
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")
        assert act(eve, REPLAY).status_code == 202
        # Nor is an answer told to who may not act.
        assert act(reading, REPLAY).status_code == 403
        assert act(eve, REPLAY, "x" * 256).json()["code"] == "invalid_header"


async def test_what_was_refused_is_judged_anew(
    gateway: GatewayServer, redis: Redis, ledger: Ledger
) -> None:
    at = "/v1/commands/late/cancel"
    assert act(gateway.http, at).json()["code"] == "unknown_id"
    await take_in(redis, ledger, good(id="late"))
    assert act(gateway.http, at).json()["status"] == "cancelled"


def test_what_was_begun_and_has_no_answer_is_not_begun_again(
    gateway: GatewayServer,
    bury: Bury,
    raw_redis: BlockingRedis,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process that began it may have been killed in its middle."""
    monkeypatch.setattr(act_route, "WAIT_SECONDS", 0.3)
    bury("same", code="invalid_command")
    parts = ["", "POST", REPLAY, "", "k"]
    name = hashlib.sha256(orjson.dumps(parts)).hexdigest()
    begun = hashlib.sha256(b"{}").hexdigest()
    raw_redis.set(answer_key(keys, name), begun)
    told = act(gateway.http, REPLAY)
    assert (told.status_code, told.json()["code"]) == (409, "not_answered_yet")
    assert sent(raw_redis, keys) == []
