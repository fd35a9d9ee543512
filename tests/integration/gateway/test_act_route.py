"""Acts under an `Idempotency-Key`: done once, however often they are asked for."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import orjson

from tests.integration.intake_acts import good, take_in
from worker.gateway import act_route
from worker.gateway.access.tokens import Scope
from worker.gateway.keys import answer_key
from worker.queue.ledger.keys import COMMAND_FIELD
from worker.queue.ledger.lua import load_script

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


def begin(redis: BlockingRedis, keys: Keys, path: str) -> str:
    """Notes that another process has begun an act; returns where."""
    parts = ["", "POST", path, "", "k"]
    record = answer_key(keys, hashlib.sha256(orjson.dumps(parts)).hexdigest())
    redis.set(record, f"{hashlib.sha256(b'{}').hexdigest()}bof another")
    return record


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
    begin(raw_redis, keys, REPLAY)
    told = act(gateway.http, REPLAY)
    assert (told.status_code, told.json()["code"]) == (409, "not_answered_yet")
    assert sent(raw_redis, keys) == []


def test_who_waits_for_an_act_that_is_refused_is_judged_anew(
    gateway: GatewayServer, raw_redis: BlockingRedis, keys: Keys
) -> None:
    """A browser that sends a request once more does so while the first is under way."""
    at = "/v1/commands/nobody/cancel"
    record = begin(raw_redis, keys, at)
    with ThreadPoolExecutor(1) as thread:
        told = thread.submit(act, gateway.http, at)
        raw_redis.set(record, "-")
    assert told.result().json()["code"] == "unknown_id"


def test_what_is_refused_before_any_act_is_refused_again(
    gateway: GatewayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(act_route, "WAIT_SECONDS", 0.3)
    told = [act(gateway.http, "/v1/lanes/no-lane/resume").json()["code"] for _ in range(2)]
    assert told == ["invalid_parameters"] * 2


def test_what_redis_refuses_is_done_once_it_takes_it(
    gateway: GatewayServer,
    bury: Bury,
    raw_redis: BlockingRedis,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(act_route, "WAIT_SECONDS", 0.3)
    bury("same", code="invalid_command")
    raw_redis.set(keys.commands, "of somebody else")
    assert act(gateway.http, REPLAY).json()["code"] == "redis_unavailable"
    raw_redis.delete(keys.commands)
    assert act(gateway.http, REPLAY).status_code == 202


def test_a_full_server_is_helped_by_acts_with_a_key_too(
    gateway: GatewayServer, bury: Bury, raw_redis: BlockingRedis
) -> None:
    at = f"/v1/dead-letters/{bury('large')}"
    raw_redis.config_set("maxmemory", "1")
    try:
        told = [gateway.http.delete(at, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    finally:
        raw_redis.config_set("maxmemory", "0")
    assert [each.status_code for each in told] == [204, 204]


def test_the_answer_of_what_did_nothing_is_not_kept(
    gateway: GatewayServer, bury: Bury, raw_redis: BlockingRedis, keys: Keys
) -> None:
    """Dry runs tell a thousand ids, or a whole command, and there may be any number of them."""
    bury("same", code="invalid_command")
    assert act(gateway.http, REPLAY, body={"dry_run": True}).status_code == 200
    assert act(gateway.http, REPLAY, body={"dry_run": True}).status_code == 200
    (record,) = raw_redis.scan_iter(answer_key(keys, "*"))
    assert raw_redis.get(record) == b"-"
    assert act(gateway.http, REPLAY, body={"dry_run": False}).status_code == 202


async def test_an_act_whose_beginning_got_no_reply_begins_all_the_same(
    redis: Redis, keys: Keys
) -> None:
    begins = load_script(redis, "begin_act", "worker.gateway")
    record = [answer_key(keys, "one")]
    for _ in range(2):
        assert await begins(keys=record, args=["mine", 60, 0]) is None
    assert await begins(keys=record, args=["of another", 60, 0]) == b"mine"
    # What has expired may have been done.
    await redis.delete(*record)
    assert await begins(keys=record, args=["of another", 60, 1]) == b""
