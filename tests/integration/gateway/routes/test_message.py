"""`GET /v1/commands/{id}/message`: what a command was sent with, for as long as it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from tests.integration.intake_acts import good, take_in
from tests.integration.ledger_acts import MODEL_UUID, end_one
from worker.gateway.access.tokens import Scope
from worker.gateway.message_json import MOST_BYTES
from worker.gateway.views.messages import MOST_CHARACTERS

if TYPE_CHECKING:
    import httpx
    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import Bury, MakeToken
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

PREDICT = {
    "task": "classification",
    "project_uuid": MODEL_UUID,
    "project_model_uuid": MODEL_UUID,
    "training_uuid": MODEL_UUID,
}


def message_of(http: httpx.Client, command_id: str) -> dict[str, Any]:
    answer = http.get(f"/v1/commands/{command_id}/message")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def refusal(http: httpx.Client, command_id: str) -> tuple[int, str, str]:
    answer = http.get(f"/v1/commands/{command_id}/message")
    told = answer.json()
    return answer.status_code, told["code"], told["detail"]


async def test_a_command_that_has_not_ended_is_shown_as_it_was_sent(
    gateway: GatewayServer, redis: Redis, ledger: Ledger
) -> None:
    text = good(id="night/1", correlationid="c-1", tenant="a")
    await take_in(redis, ledger, text)
    assert message_of(gateway.http, "night%2F1") == {
        "id": "night/1",
        "type": "get_model",
        "state": "accepted",
        "kept_in": "ledger",
        "message": orjson.loads(text),
        "text": None,
        "left_out": [],
    }


async def test_a_picture_in_base64_is_left_out_and_what_is_left_out_is_named(
    gateway: GatewayServer, redis: Redis, ledger: Ledger
) -> None:
    for size in (MOST_CHARACTERS, MOST_CHARACTERS + 4):
        data = {**PREDICT, "data_base64": "A" * size}
        await take_in(
            redis, ledger, orjson.dumps({"type": "predict", "id": str(size), "data": data})
        )
    whole = message_of(gateway.http, str(MOST_CHARACTERS))
    assert (len(whole["message"]["data"]["data_base64"]), whole["left_out"]) == (
        MOST_CHARACTERS,
        [],
    )
    cut = message_of(gateway.http, str(MOST_CHARACTERS + 4))
    assert cut["left_out"] == ["data.data_base64"]
    assert cut["message"]["data"] == PREDICT


async def test_a_claim_check_is_shown_and_not_followed(
    gateway: GatewayServer, redis: Redis, ledger: Ledger
) -> None:
    sent = {"type": "predict", "id": "checked", "dataref": "/etc/hostname"}
    await take_in(redis, ledger, orjson.dumps(sent))
    assert message_of(gateway.http, "checked")["message"] == sent


async def test_what_ended_well_is_forgotten_and_the_answer_says_so(
    gateway: GatewayServer, redis: Redis, ledger: Ledger
) -> None:
    await end_one(redis, ledger, good(id="ended"))
    status, code, detail = refusal(gateway.http, "ended")
    assert (status, code) == (404, "no_message")
    assert "succeeded" in detail


async def test_the_copy_that_outlives_a_success_is_shown_until_it_is_gone(
    gateway: GatewayServer, redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    text = good(id="kept")
    await end_one(redis, ledger, text, keeps_text=True)
    told = message_of(gateway.http, "kept")
    assert (told["state"], told["kept_in"]) == ("succeeded", "ledger")
    assert told["message"] == orjson.loads(text)
    await redis.delete(keys.sent("kept"))
    assert refusal(gateway.http, "kept")[:2] == (404, "no_message")


async def test_what_failed_is_shown_from_its_dead_letter_until_that_is_gone(
    gateway: GatewayServer, redis: Redis, ledger: Ledger, bury: Bury, keys: Keys
) -> None:
    # A letter of an earlier command of this id, and a later one of a message under it.
    bury("lost", text=b'{"type":"get_model","data":{"model_uuid":"old"}}')
    text = good(id="lost")
    await end_one(redis, ledger, text, fails=True)
    bury("lost", code="idempotency_conflict", text=b"{}", at_ms=2**42)
    told = message_of(gateway.http, "lost")
    assert (told["state"], told["kept_in"], told["type"]) == ("failed", "dead_letter", "get_model")
    assert told["message"] == orjson.loads(text)
    await redis.delete(keys.dead_letters)
    status, code, detail = refusal(gateway.http, "lost")
    assert (status, code) == (404, "no_message")
    assert "replayed or deleted" in detail


def test_what_was_rejected_is_shown_even_where_it_is_no_json(
    gateway: GatewayServer, bury: Bury
) -> None:
    bury("odd", code="invalid_command", command_type="train", text=b'{"type":"train","n":1e400}')
    bury("torn", code="not_json", command_type="command", text=b"\xff{")
    bury("long", code="not_json", command_type="command", text=b"\xc3\xa9" * MOST_CHARACTERS + b"x")
    bury("vast", code="too_large", command_type="command", text=b"[" + b" " * MOST_BYTES + b"]")
    odd = message_of(gateway.http, "odd")
    assert (odd["state"], odd["type"], odd["message"]["type"]) == ("rejected", "train", "train")
    torn = message_of(gateway.http, "torn")
    assert (torn["message"], torn["text"], torn["left_out"]) == (None, "\ufffd{", [])
    long = message_of(gateway.http, "long")
    assert (long["text"], long["left_out"]) == ("é" * MOST_CHARACTERS, ["text"])
    vast = message_of(gateway.http, "vast")
    assert (len(vast["text"]), vast["left_out"]) == (MOST_CHARACTERS, ["text"])


def test_what_no_worker_has_read_is_told_from_what_nobody_sent(gateway: GatewayServer) -> None:
    headers = {"Content-Type": "application/json"}
    assert gateway.http.post("/v1/commands", content=good(id="new"), headers=headers).is_success
    status, code, detail = refusal(gateway.http, "new")
    assert (status, code) == (404, "no_message")
    assert "No worker has read" in detail
    assert refusal(gateway.http, "nobody")[:2] == (404, "unknown_id")


async def test_a_token_of_some_types_sees_no_message_of_others(
    gateway: GatewayServer, redis: Redis, ledger: Ledger, bury: Bury, make_token: MakeToken
) -> None:
    await take_in(redis, ledger, good(id="open"))
    bury("dead")
    with gateway.client(make_token(Scope.READ, types=["train"])) as http:
        for command_id in ("open", "dead"):
            assert refusal(http, command_id)[:2] == (404, "unknown_id")
    with gateway.client(make_token(Scope.READ, types=["get_model"])) as http:
        for command_id in ("open", "dead"):
            assert message_of(http, command_id)["type"] == "get_model"
    with gateway.client(make_token(Scope.SUBMIT)) as http:
        assert refusal(http, "open")[:2] == (403, "forbidden")
