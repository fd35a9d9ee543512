"""Many commands cancelled or sent again by a filter: what a dry run counts is what is done."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from schemas.enums import Priority
from tests.integration.ledger_acts import MODEL_UUID, accept_one, new_command, open_group
from worker.gateway.access.tokens import Scope
from worker.gateway.routes import bulk, dead_letters
from worker.gateway.views import dead_letters as letters
from worker.queue.ledger.models import RowState
from worker.queue.ledger.queries import LedgerReader

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.backfilling import Backfilling
    from tests.integration.gateway.conftest import Bury, MakeToken
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

CANCEL = "/v1/commands/cancel"
REPLAY = "/v1/commands/replay"


async def accept_all(redis: Redis, ledger: Ledger) -> None:
    """Accepts ten commands: two types, two lanes, two correlation ids, a minute apart."""
    await redis.xgroup_create(ledger.keys.commands, "intake", mkstream=True)
    commands = []
    for number in range(10):
        command = {"type": "get_model", "data": {"model_uuid": MODEL_UUID}}
        text = orjson.dumps(command | {"correlationid": f"night-{number // 5}"})
        entry = f"{(number + 1) * 60_000}-1".encode()
        await redis.xadd(ledger.keys.commands, {"command": text}, id=entry)
        commands.append(
            new_command(
                entry,
                f"id-{number}",
                command_type="get_model" if number % 2 else "list_models",
                lane=Priority.BULK if number > 7 else Priority.INTERACTIVE,
                text=text,
            )
        )
    await ledger.accept(commands)


async def states(redis: Redis, keys: Keys) -> Counter[str]:
    reader = LedgerReader(redis, keys)
    rows = [await reader.status(f"id-{number}") for number in range(10)]
    return Counter(row.state for row in rows if row is not None)


@pytest.mark.parametrize(
    ("choice", "count"),
    [
        ({"all": True}, 10),
        ({"type": "get_model"}, 5),
        ({"correlationid": "night-1"}, 5),
        ({"correlationid": "night-1", "type": "get_model"}, 3),
        ({"ids": ["id-3", "id-4", "nobody"]}, 2),
        ({"state": "accepted"}, 10),
        ({"state": "running"}, 0),
        ({"since": "2020-01-01T00:00:00Z"}, 10),
        ({"until": "2020-01-01T00:00:00Z"}, 0),
        ({"type": "unheard"}, 0),
    ],
    ids=str,
)
async def test_what_a_dry_run_counts_is_then_cancelled(
    gateway: GatewayServer, redis: Redis, ledger: Ledger, choice: dict[str, Any], count: int
) -> None:
    await accept_all(redis, ledger)
    dry = gateway.http.post(CANCEL, json=choice).json()
    assert (dry["dry_run"], dry["matched"], dry["done"]) == (True, count, 0)
    assert dry["outcomes"] == ({"accepted": count} if count else {})
    assert await states(redis, ledger.keys) == {"accepted": 10}
    done = gateway.http.post(CANCEL, json={**choice, "dry_run": False}).json()
    assert (done["matched"], done["done"]) == (count, count)
    assert sorted(done["ids"]) == sorted(dry["ids"])
    found = await states(redis, ledger.keys)
    assert (found["cancelled"], found["accepted"]) == (count, 10 - count)


async def test_every_one_of_many_is_cancelled(
    gateway: GatewayServer, redis: Redis, ledger: Ledger
) -> None:
    entry = b"1-1"
    await redis.xadd(ledger.keys.commands, {"command": "{}"}, id=entry)
    await redis.xgroup_create(ledger.keys.commands, "intake")
    await ledger.accept([new_command(entry, f"id-{number:04}") for number in range(1500)])
    done = gateway.http.post(CANCEL, json={"type": "get_model", "dry_run": False}).json()
    assert (done["matched"], done["done"], len(done["ids"])) == (1500, 1500, 1000)
    assert await redis.zcard(ledger.keys.due_interactive) == 0


async def test_one_cancellation_is_for_so_many_and_says_whether_others_fit(
    gateway: GatewayServer, redis: Redis, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MOST_AT_A_TIME", 4)
    await accept_all(redis, ledger)
    dry = gateway.http.post(CANCEL, json={"all": True}).json()
    assert (dry["matched"], dry["more"]) == (4, True)
    told = []
    for _ in range(3):
        done = gateway.http.post(CANCEL, json={"all": True, "dry_run": False}).json()
        told.append((done["done"], done["more"]))
    assert told == [(4, True), (4, True), (2, False)]
    assert await states(redis, ledger.keys) == {"cancelled": 10}


def test_one_replay_or_purge_is_for_so_many_and_what_is_refused_keeps_no_other_waiting(
    gateway: GatewayServer, bury: Bury, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters, "MOST_AT_A_TIME", 4)
    monkeypatch.setattr(dead_letters, "MOST_AT_A_TIME", 4)
    for number in range(6):
        bury(f"doubtful-{number}", code="outcome_unknown", at_ms=1000 + number)
    for number in range(6):
        bury(f"id-{number}", at_ms=2000 + number)
    told = []
    for _ in range(2):
        done = gateway.http.post(REPLAY, json={"state": "failed", "dry_run": False}).json()
        told.append((done["matched"], done["done"], done["more"]))
    assert told == [(10, 4, True), (8, 2, False)]
    told = []
    for _ in range(2):
        done = gateway.http.post("/v1/dead-letters/purge", json={"all": True, "dry_run": False})
        told.append((done.json()["matched"], done.json()["done"], done.json()["more"]))
    assert told == [(4, 4, True), (2, 2, False)]


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        (CANCEL, {}, "no_filter"),
        (CANCEL, {"dry_run": False}, "no_filter"),
        (REPLAY, {"dry_run": False}, "no_filter"),
        (CANCEL, {"state": "failed"}, "invalid_parameters"),
        (REPLAY, {"state": "running"}, "invalid_parameters"),
        (CANCEL, {"tpye": "train"}, "invalid_parameters"),
        (CANCEL, {"all": True, "dry_run": "false"}, "invalid_parameters"),
        (CANCEL, {"since": "yesterday"}, "invalid_parameters"),
        (CANCEL, {"ids": ["a"] * 10_001}, "invalid_parameters"),
    ],
)
async def test_what_does_not_say_which_are_meant_does_nothing(
    gateway: GatewayServer, redis: Redis, ledger: Ledger, path: str, body: Any, code: str
) -> None:
    await accept_all(redis, ledger)
    refused = gateway.http.post(path, json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, code), refused.text
    assert await states(redis, ledger.keys) == {"accepted": 10}


def test_what_is_no_small_json_object_is_refused(gateway: GatewayServer) -> None:
    json = {"content-type": "application/json"}
    for body, status, code in (
        (b"{", 400, "not_json"),
        (b'{"all": true, "all": false}', 400, "not_json"),
        (b"[]", 422, "invalid_parameters"),
        (b"\xff", 400, "not_json"),
        (b" " * 5_000_000, 413, "too_large"),
    ):
        refused = gateway.http.post(CANCEL, content=body, headers=json)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
    told = gateway.http.post(CANCEL, content=b"all=1", headers={"content-type": "text/plain"})
    assert (told.status_code, told.json()["code"]) == (415, "media_type_not_taken")


async def test_a_token_of_some_types_cancels_only_them(
    gateway: GatewayServer, redis: Redis, ledger: Ledger, make_token: MakeToken
) -> None:
    await accept_all(redis, ledger)
    with gateway.client(make_token(Scope.OPERATE, types=["get_model"])) as http:
        done = http.post(CANCEL, json={"all": True, "dry_run": False}).json()
        assert (done["matched"], done["done"]) == (5, 5)
    assert (await states(redis, ledger.keys))[RowState.ACCEPTED] == 5


def test_commands_that_failed_are_sent_again_by_filter(gateway: GatewayServer, bury: Bury) -> None:
    for number in range(4):
        bury(f"id-{number}", at_ms=(number + 1) * 1000)
    bury("rejected", code="invalid_command", at_ms=9000)
    bury("doubtful", code="outcome_unknown", at_ms=9001)
    for dry_run in (True, False):
        body = {"state": "failed", "dry_run": dry_run}
        told = gateway.http.post(REPLAY, json=body).json()
        assert (told["matched"], told["done"]) == (5, 0 if dry_run else 4)
        assert told["outcomes"] == {"replayed": 4, "outcome_unknown": 1}
    named = gateway.http.post(REPLAY, json={"ids": ["doubtful"], "dry_run": False}).json()
    assert (named["matched"], named["done"]) == (1, 1)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/commands/one/cancel"),
        ("POST", "/v1/holds/release"),
        ("POST", "/v1/lanes/bulk/resume"),
        ("POST", "/v1/sinks/ops/resume"),
        ("POST", "/v1/backfills/night/pause"),
        ("POST", "/v1/backfills/night/resume"),
        ("POST", "/v1/backfills/night/cancel"),
        ("POST", "/v1/backfills/night/retry-failed"),
        ("DELETE", "/v1/dead-letters/KEY"),
        ("POST", "/v1/dead-letters/KEY/replay"),
        ("POST", "/v1/commands/dead/replay"),
        ("POST", "/v1/commands/cancel"),
    ],
)
async def test_a_parameter_that_nobody_would_look_at_is_refused_before_anything_is_done(
    gateway: GatewayServer, redis: Redis, keys: Keys, bury: Bury, method: str, path: str
) -> None:
    """Who says `dry_run` where there is none means that nothing is to be done."""
    at = path.replace("KEY", bury("dead"))
    asked = gateway.http.request(method, f"{at}?dry_run=true")
    assert (asked.status_code, asked.json()["code"]) == (422, "invalid_parameters")
    assert "dry_run" in asked.json()["detail"]
    if "replay" not in path and path != "/v1/commands/cancel":
        for body in (b'{"dry_run": true}', b"[]"):
            said = gateway.http.request(method, at, content=body)
            assert (said.status_code, said.json()["code"]) == (422, "invalid_parameters")
    assert await redis.xlen(keys.dead_letters) == 1
    assert not await redis.xlen(keys.commands)
    assert gateway.http.get("/v1/actions").json()["items"] == []


async def test_items_of_a_backfill_are_cancelled_with_it_and_never_by_a_filter(
    gateway: GatewayServer, night: Backfilling
) -> None:
    await open_group(night.redis, night.keys)
    await accept_one(night.redis, night.ledger, "one", command_type="predict")
    await night.feed(5)
    for choice in ({"all": True}, {"type": "predict"}):
        told = gateway.http.post(CANCEL, json=choice).json()
        assert (told["matched"], told["ids"]) == (1, ["one"])


@pytest.mark.parametrize(
    ("since", "until", "count"),
    [
        ("1970-01-01T00:00:01Z", "1970-01-01T00:00:01.001Z", 1),
        ("1970-01-01T00:00:01.001Z", "1970-01-01T00:00:02Z", 0),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z", 0),
        ("1970-01-01T00:00:00Z", None, 10),
        (None, "1970-01-01T00:00:02Z", 1),
    ],
)
async def test_a_span_of_time_begins_with_its_first_moment_and_ends_before_its_last(
    gateway: GatewayServer,
    redis: Redis,
    ledger: Ledger,
    since: str | None,
    until: str | None,
    count: int,
) -> None:
    await accept_all(redis, ledger)
    await redis.hset(ledger.keys.command("id-3"), "m", "1000")
    choice = {name: at for name, at in (("since", since), ("until", until)) if at is not None}
    assert gateway.http.post(CANCEL, json=choice).json()["matched"] == count


async def test_who_names_commands_names_each_once_and_none_that_has_ended(
    gateway: GatewayServer, redis: Redis, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "_TEXTS", 2)
    await accept_all(redis, ledger)
    named = {"ids": [f"id-{number}" for number in (1, 1, 2, 3, 6, 7, 8, 9)]}
    told = gateway.http.post(CANCEL, json={**named, "correlationid": "night-1"}).json()
    assert told["ids"] == ["id-6", "id-7", "id-8", "id-9"]
    done = gateway.http.post(CANCEL, json={"ids": ["id-1", "id-1"], "dry_run": False}).json()
    assert (done["matched"], done["done"], done["outcomes"]) == (1, 1, {"cancelled": 1})
    assert done["more"] is False
    assert gateway.http.post(CANCEL, json={"ids": ["id-1"]}).json()["matched"] == 0


async def test_as_many_as_one_act_is_for_leave_no_others(
    gateway: GatewayServer, redis: Redis, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MOST_AT_A_TIME", 10)
    monkeypatch.setattr(bulk, "MAX_NAMED", 3)
    await accept_all(redis, ledger)
    told = gateway.http.post(CANCEL, json={"all": True}).json()
    assert (told["matched"], told["more"], len(told["ids"])) == (10, False, 3)


async def test_a_token_of_some_types_does_not_cancel_others_by_naming_them(
    gateway: GatewayServer, redis: Redis, ledger: Ledger, make_token: MakeToken
) -> None:
    await accept_all(redis, ledger)
    named = {"ids": ["id-0", "id-1"], "dry_run": False}
    with gateway.client(make_token(Scope.OPERATE, types=["get_model"])) as http:
        done = http.post(CANCEL, json=named).json()
    assert (done["ids"], done["done"]) == (["id-1"], 1)


def test_a_replay_of_many_takes_no_more_than_the_filter_says(
    gateway: GatewayServer, bury: Bury
) -> None:
    text = orjson.dumps({"type": "get_model", "data": {"model_uuid": MODEL_UUID}})
    bury("id-0", at_ms=999, text=text)
    bury("id-1", at_ms=1000, text=text)
    bury("rejected", at_ms=1500, code="invalid_command", command_type="train")
    bury("id-2", at_ms=1999, text=text)
    bury("id-3", at_ms=2000, text=text)
    span = {"since": "1970-01-01T00:00:01Z", "until": "1970-01-01T00:00:02Z"}
    for choice, ids in (
        (span, ["id-1", "rejected", "id-2"]),
        ({**span, "state": "failed"}, ["id-1", "id-2"]),
        ({**span, "type": "train"}, ["rejected"]),
        ({**span, "ids": ["id-2", "id-3"]}, ["id-2"]),
    ):
        assert gateway.http.post(REPLAY, json=choice).json()["ids"] == ids, choice


def test_an_id_that_looks_like_the_key_of_another_letter_names_its_command_alone(
    gateway: GatewayServer, bury: Bury
) -> None:
    """A command that was sent without an id has that of its entry, and so have letters."""
    other = bury("other", at_ms=1000)
    bury(other, at_ms=2000)
    done = gateway.http.post(REPLAY, json={"ids": [other], "dry_run": False}).json()
    assert (done["done"], done["ids"]) == (1, [other])
    assert gateway.http.get(f"/v1/dead-letters/{other}").json()["id"] == "other"


async def test_what_came_after_the_count_is_not_cancelled(
    gateway: GatewayServer, redis: Redis, ledger: Ledger
) -> None:
    await open_group(redis, ledger.keys)
    await accept_one(redis, ledger, "counted")
    dry = gateway.http.post(CANCEL, json={"all": True}).json()
    await accept_one(redis, ledger, "later")
    act = {"all": True, "until": dry["until"], "dry_run": False}
    done = gateway.http.post(CANCEL, json=act).json()
    assert (dry["ids"], done["ids"], done["done"]) == (["counted"], ["counted"], 1)
    assert done["until"] == dry["until"]


@pytest.mark.parametrize("path", [REPLAY, "/v1/dead-letters/replay", "/v1/dead-letters/purge"])
def test_what_died_after_the_count_stays(gateway: GatewayServer, bury: Bury, path: str) -> None:
    bury("counted")
    dry = gateway.http.post(path, json={"all": True}).json()
    later = bury("later", at_ms=int(time.time() * 1000) + 60_000)
    act = {"all": True, "until": dry["until"], "dry_run": False}
    done = gateway.http.post(path, json=act).json()
    assert (done["matched"], done["done"]) == (1, 1)
    assert gateway.http.get(f"/v1/dead-letters/{later}").status_code == 200
