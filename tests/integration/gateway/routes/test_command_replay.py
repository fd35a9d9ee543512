"""`POST /v1/commands/{id}/replay`: what failed is sent again by its id, and nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from tests.integration.intake_acts import good, take_in
from tests.integration.ledger_acts import end_one
from worker.gateway.access.tokens import Scope
from worker.queue.ledger.keys import COMMAND_FIELD
from worker.queue.ledger.streams import entries_between

if TYPE_CHECKING:
    import httpx
    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import Bury, MakeToken
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

OTHER_UUID = "9d3c8a52-6f0f-4a57-9a0b-1f0a4d6c9e02"


def replay(http: httpx.Client, command_id: str, **body: Any) -> httpx.Response:
    return http.post(f"/v1/commands/{command_id}/replay", json=body)


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def unread(redis: Redis, keys: Keys) -> list[dict[str, Any]]:
    found = await entries_between(redis, keys.commands, "-", "+")
    return [orjson.loads(fields[COMMAND_FIELD]) for _, fields in found]


async def test_a_command_that_failed_is_sent_again_mended_under_an_id_of_its_own(
    gateway: GatewayServer, redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await end_one(redis, ledger, good(id="gone"), fails=True)
    edit = {"data": {"model_uuid": OTHER_UUID}, "attributes": {"tenant": "a"}, "id": "mended"}
    dry = replay(gateway.http, "gone", **edit, dry_run=True)
    assert (dry.status_code, dry.json()["sent"]) == (200, False)
    assert await unread(redis, keys) == []

    done = replay(gateway.http, "gone", **edit)
    assert (done.status_code, done.headers["location"]) == (202, "/v1/commands/mended")
    (command,) = await unread(redis, keys)
    assert command == done.json()["command"]
    assert command["data"] == {"model_uuid": OTHER_UUID}
    assert (command["id"], command["causationid"], command["tenant"]) == ("mended", "gone", "a")
    assert refused(replay(gateway.http, "gone")) == (404, "unknown_dead_letter")
    assert len(await unread(redis, keys)) == 1


async def test_without_an_edit_it_goes_as_it_was_under_an_id_that_is_made(
    gateway: GatewayServer, bury: Bury, redis: Redis, keys: Keys
) -> None:
    key = bury("gone", code="invalid_command")
    done = replay(gateway.http, "gone")
    assert (done.status_code, done.json()["id"]) == (202, f"gone.replay-{key}")
    assert [each["id"] for each in await unread(redis, keys)] == [f"gone.replay-{key}"]


async def test_what_goes_on_or_ended_well_is_not_sent_again(
    gateway: GatewayServer, redis: Redis, ledger: Ledger, bury: Bury, keys: Keys
) -> None:
    await end_one(redis, ledger, good(id="ended"))
    await take_in(redis, ledger, good(id="open"))
    for command_id in ("ended", "open"):
        # A message that was rejected for its id is none of the command.
        bury(command_id, code="idempotency_conflict")
    answer = replay(gateway.http, "ended")
    assert refused(answer) == (404, "unknown_dead_letter")
    assert "succeeded" in answer.json()["detail"]
    assert refused(replay(gateway.http, "open")) == (409, "not_ended")
    headers = {"Content-Type": "application/json"}
    assert gateway.http.post("/v1/commands", content=good(id="new"), headers=headers).is_success
    assert refused(replay(gateway.http, "new")) == (409, "not_ended")
    assert refused(replay(gateway.http, "nobody")) == (404, "unknown_id")
    assert [each["id"] for each in await unread(redis, keys)] == ["new"]


async def test_what_may_be_done_is_sent_again_only_once_somebody_says_so(
    gateway: GatewayServer, bury: Bury, redis: Redis, keys: Keys
) -> None:
    for code in ("outcome_unknown", "data_loss"):
        bury(code, code=code)
        for unsaid in ({}, {"may_be_done": False}, {"dry_run": True}):
            answer = replay(gateway.http, code, **unsaid)
            assert refused(answer) == (409, code)
            assert "may_be_done" in answer.json()["detail"]
        assert await unread(redis, keys) == []
        done = replay(gateway.http, code, may_be_done=True)
        assert (done.status_code, done.json()["may_be_done"]) == (202, True)
        await redis.delete(keys.commands)


async def test_a_new_id_must_be_free_for_the_same_data_under_a_known_one_do_nothing(
    gateway: GatewayServer, bury: Bury, redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    await take_in(redis, ledger, good(id="known"))
    headers = {"Content-Type": "application/json"}
    assert gateway.http.post("/v1/commands", content=good(id="new"), headers=headers).is_success
    bury("gone")
    for taken in ("known", "new"):
        assert refused(replay(gateway.http, "gone", id=taken)) == (422, "idempotency_conflict")
    for wrong in ("", " ", "\n", "x" * 256):
        assert refused(replay(gateway.http, "gone", id=wrong)) == (422, "invalid_parameters")
    assert refused(replay(gateway.http, "gone", data={})) == (422, "invalid_command")
    assert refused(replay(gateway.http, "gone", attributes={"id": "x"}))[0] == 422
    assert [each["id"] for each in await unread(redis, keys)] == ["new"]
    assert await redis.xlen(keys.dead_letters) == 1


async def test_an_id_that_looks_like_the_key_of_another_letter_is_an_id(
    gateway: GatewayServer, bury: Bury, redis: Redis, keys: Keys
) -> None:
    key = bury("other")
    assert refused(replay(gateway.http, key)) == (404, "unknown_id")
    assert gateway.http.get(f"/v1/commands/{key}/message").status_code == 404
    assert await redis.xlen(keys.dead_letters) == 1


async def test_a_token_sends_again_only_what_it_may_see_and_send(
    gateway: GatewayServer, bury: Bury, redis: Redis, keys: Keys, make_token: MakeToken
) -> None:
    bury("foreign", command_type="train", text=b'{"type":"train"}')
    bury("mine")
    with gateway.client(make_token(Scope.OPERATE, types=["get_model"])) as http:
        assert refused(replay(http, "foreign")) == (404, "unknown_id")
        turned = {"attributes": {"type": "list_models"}, "data": {}}
        assert refused(replay(http, "mine", **turned)) == (403, "forbidden")
        assert await unread(redis, keys) == []
        assert replay(http, "mine").status_code == 202
    with gateway.client(make_token(Scope.READ)) as http:
        assert refused(replay(http, "foreign")) == (403, "forbidden")


async def test_what_a_token_may_not_see_is_no_command_whatever_became_of_it(
    gateway: GatewayServer, redis: Redis, ledger: Ledger, make_token: MakeToken
) -> None:
    await take_in(redis, ledger, good(id="open"))
    headers = {"Content-Type": "application/json"}
    assert gateway.http.post("/v1/commands", content=good(id="new"), headers=headers).is_success
    with gateway.client(make_token(Scope.OPERATE, types=["train"])) as http:
        for command_id in ("open", "new", "nobody"):
            assert refused(replay(http, command_id)) == (404, "unknown_id")
