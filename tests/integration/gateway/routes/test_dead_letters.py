"""`/v1/dead-letters`: listed by filter and page, shown whole, replayed and deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson
import pytest

from tests.integration.ledger_acts import MODEL_UUID
from worker.gateway.access.tokens import Scope
from worker.gateway.routes import dead_letters
from worker.queue.ledger.dead_letters import FIELD, DeadLetters, dead_letter_json
from worker.queue.ledger.keys import COMMAND_FIELD

if TYPE_CHECKING:
    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import Bury, MakeToken
    from worker.queue.ledger.keys import Keys

LETTERS = "/v1/dead-letters"


def ids_of(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


def test_letters_are_listed_newest_first_by_filter_and_page(
    gateway: GatewayServer, bury: Bury
) -> None:
    for number in range(7):
        code = "not_found" if number % 2 else "poison"
        bury(f"id-{number}", code=code, at_ms=(number + 1) * 1000)
    http = gateway.http
    everything = [f"id-{number}" for number in reversed(range(7))]
    assert ids_of(http.get(LETTERS)) == everything
    assert ids_of(http.get(LETTERS, params={"reason": "not_found"})) == everything[1::2]
    assert ids_of(http.get(LETTERS, params={"type": "train"})) == []
    since, until = "1970-01-01T00:00:03Z", "1970-01-01T00:00:05Z"
    assert ids_of(http.get(LETTERS, params={"since": since})) == everything[:5]
    assert ids_of(http.get(LETTERS, params={"since": since, "until": until})) == ["id-3", "id-2"]

    seen: list[str] = []
    cursor: str | None = None
    while cursor is not None or not seen:
        page = http.get(LETTERS, params={"limit": 3} | ({"cursor": cursor} if cursor else {}))
        # What dies meanwhile is on no later page.
        bury("late", at_ms=9_000_000 + len(seen))
        seen += ids_of(page)
        cursor = page.json()["next_cursor"]
    assert seen == everything


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"cursor": "x"}, "invalid_cursor"),
        ({"cursor": f"{2**64}-0"}, "invalid_cursor"),
        ({"limit": "0"}, "invalid_parameters"),
        ({"limit": "1001"}, "invalid_parameters"),
        ({"since": "yesterday"}, "invalid_parameters"),
        ({"resaon": "poison"}, "invalid_parameters"),
    ],
)
def test_a_wrong_query_is_told(gateway: GatewayServer, query: dict[str, str], code: str) -> None:
    answer = gateway.http.get(LETTERS, params=query)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


@pytest.mark.parametrize("more", [{}, {"until": "2999-01-01T00:00:00Z"}])
def test_what_dies_after_the_question_is_not_among_those_that_are_sent_again(
    gateway: GatewayServer, bury: Bury, more: dict[str, str]
) -> None:
    """Or what fails again at once would be sent again and again by the same request."""
    bury("before")
    bury("after", at_ms=4_000_000_000_000)
    body = {"all": True, "dry_run": True, **more}
    told = gateway.http.post(f"{LETTERS}/replay", json=body).json()
    assert (told["matched"], told["ids"]) == (1, ["before"])


def test_a_time_before_all_streams_is_the_beginning(gateway: GatewayServer, bury: Bury) -> None:
    bury("a")
    assert ids_of(gateway.http.get(LETTERS, params={"since": "0001-01-01T00:00:00Z"})) == ["a"]
    assert ids_of(gateway.http.get(LETTERS, params={"until": "0001-01-01T00:00:00Z"})) == []


def test_a_letter_is_shown_whole_by_its_key_or_its_commands_id(
    gateway: GatewayServer, bury: Bury
) -> None:
    key = bury("a/b ?", text=b'{"type": "get_model"}')
    by_key = gateway.http.get(f"{LETTERS}/{key}").json()
    by_id = gateway.http.get(f"{LETTERS}/{quote('a/b ?', safe='')}").json()
    assert by_key == by_id
    assert (by_key["text"], by_key["text_base64"]) == ('{"type": "get_model"}', None)
    assert by_key["history"]
    bad = bury("bad", text=b"\xff", code="not_json")
    shown = gateway.http.get(f"{LETTERS}/{bad}").json()
    assert (shown["text"], shown["text_base64"], shown["state"]) == (None, "/w==", "rejected")
    missing = gateway.http.get(f"{LETTERS}/nobody")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_dead_letter")


def sent(raw_redis: Any, keys: Keys) -> list[dict[str, Any]]:
    streams = (keys.commands, keys.bulk_commands)
    entries = [entry for stream in streams for entry in raw_redis.xrange(stream)]
    return [orjson.loads(fields[COMMAND_FIELD]) for _, fields in entries]


def test_a_replay_sends_the_command_under_a_new_id_and_removes_the_letter(
    gateway: GatewayServer, bury: Bury, raw_redis: Any, keys: Keys
) -> None:
    key = bury("old")
    dry = gateway.http.post(f"{LETTERS}/{key}/replay", json={"dry_run": True})
    assert (dry.status_code, dry.json()["sent"]) == (200, False)
    assert sent(raw_redis, keys) == []

    done = gateway.http.post(f"{LETTERS}/{key}/replay")
    assert done.status_code == 202
    (command,) = sent(raw_redis, keys)
    assert command == done.json()["command"] == dry.json()["command"]
    assert command["causationid"] == "old"
    assert done.headers["location"] == f"/v1/commands/{quote(command['id'], safe='')}"
    assert gateway.http.post(f"{LETTERS}/{key}/replay").status_code == 404
    assert len(sent(raw_redis, keys)) == 1


def test_a_replay_can_mend_data_and_attributes(
    gateway: GatewayServer, bury: Bury, raw_redis: Any, keys: Keys
) -> None:
    text = orjson.dumps({"type": "get_model", "id": "odd", "data": {}, "priority": "bulk"})
    path = f"{LETTERS}/{bury('odd', text=text, code='invalid_command')}/replay"
    refused = gateway.http.post(path)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_command")
    assert refused.json()["problems"][0]["path"] == "data.model_uuid"
    wrong_edits: tuple[dict[str, Any], ...] = (
        {"attributes": {"id": "mine"}},
        {"attributes": {"data": 1}},
        {"attributes": {"UPPER": 1}},
        {"date": {}},
        {"dry_run": "yes"},
        {"data": []},
    )
    for edit in wrong_edits:
        wrong = gateway.http.post(path, json=edit)
        assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_parameters"), edit
    mended = {"merge": {"model_uuid": MODEL_UUID}, "attributes": {"priority": None, "tenant": "a"}}
    assert gateway.http.post(path, json=mended).status_code == 202
    (command,) = sent(raw_redis, keys)
    assert command["data"] == {"model_uuid": MODEL_UUID}
    assert (command.get("priority"), command["tenant"]) == (None, "a")


def test_a_replay_of_what_may_be_done_is_sent_only_by_name(
    gateway: GatewayServer, bury: Bury, raw_redis: Any, keys: Keys
) -> None:
    bury("sure")
    doubtful = bury("doubtful", code="outcome_unknown")
    for dry_run in (True, False):
        answer = gateway.http.post(f"{LETTERS}/replay", json={"all": True, "dry_run": dry_run})
        told = answer.json()
        assert (told["matched"], told["done"]) == (2, 0 if dry_run else 1)
        assert told["outcomes"] == {"replayed": 1, "outcome_unknown": 1}
    assert [command["causationid"] for command in sent(raw_redis, keys)] == ["sure"]
    done = gateway.http.post(f"{LETTERS}/{doubtful}/replay")
    assert (done.status_code, done.json()["may_be_done"]) == (202, True)


@pytest.mark.parametrize("act", ["replay", "purge"])
def test_many_are_replayed_or_deleted_by_filter_and_never_by_none(
    gateway: GatewayServer, bury: Bury, raw_redis: Any, keys: Keys, act: str
) -> None:
    for number in range(6):
        code = "not_found" if number % 2 else "poison"
        command = {"type": "get_model", "data": {"model_uuid": MODEL_UUID}}
        text = orjson.dumps(command | {"correlationid": f"night-{number // 3}"})
        bury(f"id-{number}", code=code, text=text, at_ms=(number + 1) * 1000)
    path = f"{LETTERS}/{act}"
    for nothing in ({}, {"dry_run": False}):
        refused = gateway.http.post(path, json=nothing)
        assert (refused.status_code, refused.json()["code"]) == (422, "no_filter")

    def matched(**choice: Any) -> list[str]:
        told = gateway.http.post(path, json=choice).json()
        assert (told["dry_run"], told["done"]) == (True, 0)
        return sorted(told["ids"])

    assert matched(all=True) == [f"id-{number}" for number in range(6)]
    assert matched(reason="not_found") == ["id-1", "id-3", "id-5"]
    assert matched(reason="not_found", correlationid="night-0") == ["id-1"]
    assert matched(since="1970-01-01T00:00:02Z", until="1970-01-01T00:00:04Z") == ["id-1", "id-2"]
    assert matched(keys=["id-0", "nobody"]) == ["id-0"]
    assert matched(state="rejected") == []
    done = gateway.http.post(path, json={"reason": "poison", "dry_run": False}).json()
    assert (done["matched"], done["done"]) == (3, 3)
    assert ids_of(gateway.http.get(LETTERS)) == ["id-5", "id-3", "id-1"]
    assert len(sent(raw_redis, keys)) == (3 if act == "replay" else 0)


def test_a_letter_is_deleted_once(gateway: GatewayServer, bury: Bury) -> None:
    key = bury("a")
    assert gateway.http.delete(f"{LETTERS}/{key}").status_code == 204
    assert gateway.http.delete(f"{LETTERS}/{key}").status_code == 404


def test_a_token_of_some_types_knows_only_their_letters(
    gateway: GatewayServer, bury: Bury, make_token: MakeToken, raw_redis: Any, keys: Keys
) -> None:
    bury("mine", command_type="get_model")
    bury("foreign", command_type="train", text=b'{"type": "train"}')
    token = make_token(Scope.READ, Scope.OPERATE, types=["get_model"])
    with gateway.client(token) as http:
        assert ids_of(http.get(LETTERS)) == ["mine"]
        assert http.get(f"{LETTERS}/foreign").status_code == 404
        assert http.post(f"{LETTERS}/foreign/replay").status_code == 404
        assert http.delete(f"{LETTERS}/foreign").status_code == 404
        purged = http.post(f"{LETTERS}/purge", json={"all": True}).json()
        assert purged["ids"] == ["mine"]
        # Nor may an edit turn a letter into a command of another type.
        turned = {
            "attributes": {"type": "create_model"},
            "data": {"title": "t", "features": ["a"], "model": "fasterRcnn"},
        }
        refused = http.post(f"{LETTERS}/mine/replay", json=turned)
        assert refused.status_code == 403, refused.text
        assert sent(raw_redis, keys) == []


def test_what_others_put_into_the_stream_is_passed_over(
    gateway: GatewayServer, raw_redis: Any, keys: Keys
) -> None:
    raw_redis.xadd(keys.dead_letters, {"odd": "1"})
    raw_redis.xadd(keys.dead_letters, {FIELD: b"{}"})
    letter = dead_letter_json(
        command_id="x",
        command_type="train",
        error={"code": "of_a_newer_version", "message": "m"},
        text=b"{}",
        at_ms=1,
        attempts=1,
        history=[],
    )
    raw_redis.xadd(keys.dead_letters, {FIELD: letter})
    assert ids_of(gateway.http.get(LETTERS)) == ["x"]
    assert gateway.http.post(f"{LETTERS}/replay", json={"all": True}).json()["matched"] == 1


def test_what_somebody_else_has_sent_meanwhile_is_not_sent_twice(
    gateway: GatewayServer, bury: Bury, raw_redis: Any, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        bury(f"id-{number}", at_ms=1000 + number)
    get = DeadLetters.get

    async def get_late(store: DeadLetters, key: str) -> Any:
        # All were read in one go; of this one somebody else was quicker.
        raw_redis.xdel(keys.dead_letters, "1001-1")
        return await get(store, key)

    monkeypatch.setattr(DeadLetters, "get", get_late)
    told = gateway.http.post(f"{LETTERS}/replay", json={"all": True, "dry_run": False}).json()
    assert (told["matched"], told["done"]) == (3, 2)
    assert told["outcomes"] == {"replayed": 2, "gone": 1}
    assert [command["causationid"] for command in sent(raw_redis, keys)] == ["id-0", "id-2"]


def test_of_many_letters_those_that_a_token_may_not_send_stay(
    gateway: GatewayServer, bury: Bury, make_token: MakeToken, raw_redis: Any, keys: Keys
) -> None:
    bury("get")
    # What it was sent as and what its letter says may differ: the text is what would be sent.
    bury("list", text=b'{"type": "list_models", "data": {}}')
    with gateway.client(make_token(Scope.OPERATE, types=["get_model"])) as http:
        told = http.post(f"{LETTERS}/replay", json={"all": True, "dry_run": False}).json()
    assert told["outcomes"] == {"replayed": 1, "forbidden": 1}
    assert [command["causationid"] for command in sent(raw_redis, keys)] == ["get"]


def test_more_letters_than_one_call_deletes_are_all_deleted(
    gateway: GatewayServer, bury: Bury, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "MAX_PAGE", 2)
    monkeypatch.setattr(dead_letters, "MAX_NAMED", 3)
    for number in range(5):
        bury(f"id-{number}", at_ms=1000 + number)
    told = gateway.http.post(f"{LETTERS}/purge", json={"all": True, "dry_run": False}).json()
    assert (told["matched"], told["done"], told["outcomes"]) == (5, 5, {"purged": 5})
    assert told["ids"] == ["id-0", "id-1", "id-2"]
    assert ids_of(gateway.http.get(LETTERS)) == []
