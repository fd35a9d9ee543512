"""Who did what over HTTP: each act of an operator is recorded, and nothing else is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest

from schemas.enums import Priority
from tests.integration import backfilling
from tests.integration.backfilling import NAME, Backfilling
from tests.integration.ledger_acts import TRAIN, accept, lease
from tests.integration.sinks.endpoints import SECRET as SINK_SECRET
from tests.integration.webhooks.posting import GET_MODEL, HEAD, SECRET, signed, submitted
from worker.acts import Act
from worker.backfill.leader import Leader
from worker.backfill.status import Origin
from worker.gateway.access.tokens import Scope
from worker.gateway.app import create_app
from worker.gateway_settings import GatewaySettings
from worker.queue.ledger.actions import Action, ActionLog
from worker.queue.ledger.lanes import Lanes
from worker.queue.ledger.models import Phase
from worker.queue.ledger.streams import entries_between

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    import httpx
    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import Bury, MakeToken, ServeGateway
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

SINK: Final = """
[sinks.ops]
types = ["*.retrying"]
[sinks.ops.webhook]
url = "http://127.0.0.1:9/?key=hidden"
secrets = [{ env = "OPS_SECRET" }]
allow_private = true
"""
# What a command holds and nobody is told.
HIDDEN: Final = "33333333-3333-4333-8333-333333333333"


@pytest.fixture
def gateway(
    serve_gateway: ServeGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[GatewayServer]:
    """A gateway with a sink, a source, and a place for manifests."""
    monkeypatch.setenv("ENCORD_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("OPS_SECRET", SINK_SECRET)
    file = tmp_path / "integrations.toml"
    file.write_text(HEAD + GET_MODEL + SINK)
    with serve_gateway(integrations_file=file, gateway_uploads=str(tmp_path / "up")) as served:
        yield served


@dataclass(frozen=True)
class Desk:
    """What an operator acts on, brought into the state that an act needs."""

    gateway: GatewayServer
    ledger: Ledger
    redis: Redis
    bury: Bury
    folder: Path

    async def nothing(self) -> None:
        """Does nothing: some acts can always be done."""

    async def an_open_command(self) -> None:
        await accept(self.redis, self.ledger, type="list_models", data={}, id="one")

    async def a_doubt(self) -> None:
        held = await lease(self.redis, self.ledger, **TRAIN, id="one")
        await self.ledger.checkpoint(held, {"at": 1.0}, phase=Phase.IN_DOUBT)

    async def a_letter(self) -> None:
        self.bury("one")

    async def a_paused_lane(self) -> None:
        await Lanes(self.redis, self.ledger.keys).pause(Priority.BULK, "nearly all fail", 30)

    async def a_backfill(self) -> Backfilling:
        (self.folder / NAME).mkdir()
        store = backfilling.store_of(self.redis, self.ledger.keys)
        plan = backfilling.make_plan(self.folder / NAME)
        await store.open(NAME, plan, Origin.QUEUE, "1-1")
        return Backfilling(self.redis, self.ledger.keys, self.ledger, store, plan)

    async def a_paused_backfill(self) -> None:
        await self.a_backfill()
        self.gateway.http.post(f"/v1/backfills/{NAME}/pause").raise_for_status()
        await self.redis.delete(self.ledger.keys.actions)

    async def a_failed_backfill(self) -> None:
        night = await self.a_backfill()
        async with night.working("not_found"):
            await Leader(night.store, NAME, announces=True).work(seconds=60)

    async def a_delivery(self) -> None:
        post = signed(submitted("uid-1"))
        answer = self.gateway.http.post(
            "/v1/webhooks/encord", content=post.body, headers=post.headers
        )
        answer.raise_for_status()


@dataclass(frozen=True)
class Deed:
    """An act as it is sent, and what is recorded of it."""

    operation: str
    path: str
    act: Act
    subject: str | None
    given: Callable[[Desk], Awaitable[Any]] = Desk.nothing
    body: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    method: str = "POST"

    def send(self, http: httpx.Client, **changes: Any) -> httpx.Response:
        body = {**self.body, **changes}
        return http.request(self.method, self.path, json=body or None)


DEEDS: Final = [
    Deed(
        "cancel_command",
        "/v1/commands/one/cancel",
        Act.COMMAND_CANCEL,
        "one",
        Desk.an_open_command,
        details={"state_before": "accepted"},
    ),
    Deed(
        "resolve_command",
        "/v1/commands/one/resolve",
        Act.COMMAND_RESOLVE,
        "one",
        Desk.a_doubt,
        {"not_created": True},
        {"created": None},
    ),
    Deed(
        "replay_command",
        "/v1/commands/one/replay",
        Act.COMMAND_REPLAY,
        "one",
        Desk.a_letter,
        {"data": {"model_uuid": HIDDEN}, "id": "other"},
        {"key": "1000-0", "type": "get_model", "edited": ["data"], "new_id": "other"},
    ),
    Deed(
        "cancel_commands",
        "/v1/commands/cancel",
        Act.COMMANDS_CANCEL,
        None,
        Desk.an_open_command,
        {"type": "list_models", "dry_run": False},
        {"filter": {"type": "list_models"}, "matched": 1, "outcomes": {"cancelled": 1}},
    ),
    Deed(
        "replay_commands",
        "/v1/commands/replay",
        Act.COMMANDS_REPLAY,
        None,
        Desk.a_letter,
        {"all": True, "dry_run": False},
        {"filter": {"all": True}, "matched": 1, "outcomes": {"replayed": 1}, "more": False},
    ),
    Deed(
        "delete_dead_letter",
        "/v1/dead-letters/one",
        Act.DEAD_LETTER_PURGE,
        "one",
        Desk.a_letter,
        details={"key": "1000-0", "type": "get_model", "reason": "not_found"},
        method="DELETE",
    ),
    Deed(
        "replay_dead_letter",
        "/v1/dead-letters/one/replay",
        Act.DEAD_LETTER_REPLAY,
        "one",
        Desk.a_letter,
        {"data": {"model_uuid": HIDDEN}},
        {
            "key": "1000-0",
            "type": "get_model",
            "edited": ["data"],
            "new_id": "one.replay-1000-0",
        },
    ),
    Deed(
        "replay_dead_letters",
        "/v1/dead-letters/replay",
        Act.DEAD_LETTERS_REPLAY,
        None,
        Desk.a_letter,
        {"keys": ["one"], "merge": {"model_uuid": HIDDEN}, "dry_run": False},
        {
            "filter": {"keys": ["one"]},
            "edited": ["merge"],
            "matched": 1,
            "outcomes": {"replayed": 1},
            "more": False,
        },
    ),
    Deed(
        "purge_dead_letters",
        "/v1/dead-letters/purge",
        Act.DEAD_LETTERS_PURGE,
        None,
        Desk.a_letter,
        {"until": "2020-01-01T00:00:00Z", "dry_run": False},
        {
            "filter": {"until": "2020-01-01T00:00:00+00:00"},
            "matched": 1,
            "purged": 1,
            "more": False,
        },
    ),
    Deed(
        "release_holds",
        "/v1/holds/release",
        Act.HOLDS_RELEASE,
        None,
        details={"holds": 0, "commands": 0},
    ),
    Deed(
        "resume_lane",
        "/v1/lanes/bulk/resume",
        Act.LANE_RESUME,
        "bulk",
        Desk.a_paused_lane,
        details={"was_paused": True},
    ),
    Deed(
        "pause_backfill",
        f"/v1/backfills/{NAME}/pause",
        Act.BACKFILL_PAUSE,
        NAME,
        Desk.a_backfill,
    ),
    Deed(
        "resume_backfill",
        f"/v1/backfills/{NAME}/resume",
        Act.BACKFILL_RESUME,
        NAME,
        Desk.a_paused_backfill,
    ),
    Deed(
        "stop_backfill",
        f"/v1/backfills/{NAME}/cancel",
        Act.BACKFILL_CANCEL,
        NAME,
        Desk.a_backfill,
        details={"state_before": "running"},
    ),
    Deed(
        "retry_failed_items",
        f"/v1/backfills/{NAME}/retry-failed",
        Act.BACKFILL_RETRY_FAILED,
        NAME,
        Desk.a_failed_backfill,
        details={"new_id": f"{NAME}.retry", "failed": backfilling.ITEMS},
    ),
    Deed(
        "pause_sink",
        "/v1/sinks/ops/pause",
        Act.SINK_PAUSE,
        "ops",
        body={"reason": "night"},
        details={"reason": "night"},
    ),
    Deed(
        "resume_sink",
        "/v1/sinks/ops/resume",
        Act.SINK_RESUME,
        "ops",
        details={"was_paused": False},
    ),
    Deed(
        "recover_sink",
        "/v1/sinks/ops/recover",
        Act.SINK_RECOVER,
        "ops",
        body={"since": "2026-01-01T00:00:00Z"},
        details={"since": "2026-01-01T00:00:00+00:00", "events": 0},
    ),
    Deed(
        "replay_delivery",
        "/v1/deliveries/encord/uid-1/replay",
        Act.DELIVERY_REPLAY,
        "encord/uid-1",
        Desk.a_delivery,
        {"again": True},
        {"again": True, "commands": 1, "windows": 0, "dead_letters": 0},
    ),
]
# Acts of many tell what they would do unless they are told otherwise; these if they are asked to.
DRY: Final = {"replay_command", "replay_dead_letter", "replay_delivery"}


@pytest.fixture
def desk(gateway: GatewayServer, ledger: Ledger, redis: Redis, bury: Bury, tmp_path: Path) -> Desk:
    return Desk(gateway, ledger, redis, bury, tmp_path)


async def recorded(redis: Redis, keys: Keys) -> list[Action]:
    return [each async for each in ActionLog(redis, keys).list()]


def test_each_address_for_operators_is_an_act_that_is_looked_at_here() -> None:
    app = create_app(GatewaySettings(redis_url="redis://127.0.0.1:1", namespace="actions"))
    for_operators = {
        operation["operationId"]
        for methods in app.openapi()["paths"].values()
        for operation in methods.values()
        if any(scheme == {"HTTPBearer": ["operate"]} for scheme in operation.get("security", []))
    }
    assert {deed.operation for deed in DEEDS} == for_operators


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.operation)
async def test_an_act_is_recorded_once_with_who_did_it(
    desk: Desk, make_token: MakeToken, keys: Keys, deed: Deed
) -> None:
    await deed.given(desk)
    secret = make_token(Scope.OPERATE, Scope.READ)
    with desk.gateway.client(secret) as http:
        answer = deed.send(http)
        assert answer.status_code < 300, answer.text
        (found,) = await recorded(desk.redis, keys)
        assert (found.who, found.act, found.subject) == ("test", deed.act, deed.subject)
        # Several tokens may have one name.
        details = {**deed.details, "token": "_".join(secret.split("_", 2)[:2])}
        assert found.details == details
        ((_, fields),) = await entries_between(desk.redis, keys.actions, "-", "+")
        assert HIDDEN not in str(fields)
        (told,) = http.get("/v1/actions").json()["items"]
    assert (told["id"], told["who"], told["act"]) == (found.id, "test", deed.act)
    assert (told["subject"], told["details"]) == (deed.subject, details)


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.operation)
async def test_what_is_refused_or_only_tried_is_not_recorded(
    desk: Desk, make_token: MakeToken, keys: Keys, deed: Deed
) -> None:
    await deed.given(desk)
    for secret in (make_token(Scope.READ), make_token(Scope.OPERATE, types=["delete_model"])):
        with desk.gateway.client(secret) as http:
            dry = {"dry_run": True} if "dry_run" in deed.body else {}
            answer = deed.send(http, **dry)
            assert answer.status_code in {403, 404} or answer.json()["dry_run"], answer.text
    with desk.gateway.client(make_token(Scope.OPERATE)) as http:
        if "dry_run" in deed.body or deed.operation in DRY:
            assert deed.send(http, dry_run=True).status_code == 200
        if deed.body:
            assert deed.send(http, unheard="of").status_code == 422
    assert await recorded(desk.redis, keys) == []


async def test_the_second_of_two_that_cancel_has_done_nothing(desk: Desk, keys: Keys) -> None:
    await desk.an_open_command()
    for _ in range(2):
        desk.gateway.http.post("/v1/commands/one/cancel").raise_for_status()
    (found,) = await recorded(desk.redis, keys)
    assert (found.who, found.act) == ("this machine", Act.COMMAND_CANCEL)


async def test_what_changes_nothing_is_not_recorded(desk: Desk, keys: Keys) -> None:
    await desk.a_backfill()
    for act in ("resume", "pause", "pause", "resume", "resume"):
        desk.gateway.http.post(f"/v1/backfills/{NAME}/{act}").raise_for_status()
    found = [each.act for each in await recorded(desk.redis, keys)]
    assert found == [Act.BACKFILL_RESUME, Act.BACKFILL_PAUSE]


async def test_an_act_that_comes_as_a_command_is_recorded_once_with_who_sent_it(
    desk: Desk, make_token: MakeToken, keys: Keys
) -> None:
    cancel = {"type": "cancel", "id": "c-1", "data": {"command_id": "one"}}
    resolve = {"type": "resolve", "data": {"command_id": "two", "not_created": True}}
    many = [{"type": "cancel", "data": {"command_id": str(each)}} for each in range(20)]
    secret = make_token(Scope.SUBMIT, Scope.OPERATE)
    with desk.gateway.client(secret) as http:
        for body in (cancel, cancel, [{**resolve, "id": "r-1"}, {"type": "list_models"}], many):
            assert http.post("/v1/commands", json=body).status_code in {202, 207}
    token = "_".join(secret.split("_", 2)[:2])
    found = await recorded(desk.redis, keys)
    assert [(each.who, each.act, each.subject) for each in found] == [
        ("test", Act.COMMANDS_CANCEL, None),
        ("test", Act.COMMAND_RESOLVE, "two"),
        ("test", Act.COMMAND_CANCEL, "one"),
    ]
    assert found[0].details["sent"] == 20
    assert found[1].details == {"sent_as": "r-1", "token": token}
    assert found[2].details == {"sent_as": "c-1", "token": token}


async def test_acts_of_all_kinds_that_come_in_one_request_are_recorded(
    desk: Desk, keys: Keys
) -> None:
    cancels = [{"type": "cancel", "data": {"command_id": str(each)}} for each in range(2)]
    data = {"command_id": "two", "not_created": True}
    body = [*cancels, {"type": "resolve", "id": "r-1", "data": data}]
    desk.gateway.http.post("/v1/commands", json=body).raise_for_status()
    found = [(each.act, each.subject) for each in await recorded(desk.redis, keys)]
    assert found == [(Act.COMMAND_RESOLVE, "two"), (Act.COMMANDS_CANCEL, None)]


async def test_an_act_is_done_and_answered_though_its_entry_is_refused(
    desk: Desk, keys: Keys
) -> None:
    await desk.a_letter()
    await desk.redis.set(keys.actions, "no stream")
    assert desk.gateway.http.delete("/v1/dead-letters/one").status_code == 204
    assert await desk.redis.xlen(keys.dead_letters) == 0
    assert desk.gateway.http.get("/v1/actions").status_code == 503


async def test_acts_are_listed_page_by_page_and_by_a_filter(desk: Desk) -> None:
    http = desk.gateway.http
    for name in ("pause", "resume", "pause"):
        http.post(f"/v1/sinks/ops/{name}").raise_for_status()
    http.post("/v1/holds/release").raise_for_status()
    seen: list[str] = []
    cursor: str | None = None
    while cursor is not None or not seen:
        query = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = http.get("/v1/actions", params=query).json()
        seen += [item["act"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert seen == ["holds.release", "sink.pause", "sink.resume", "sink.pause"]
    for choice, count in (
        ({"act": "sink.pause"}, 2),
        ({"subject": "ops"}, 3),
        ({"who": "this machine"}, 4),
        ({"who": "nobody"}, 0),
    ):
        assert len(http.get("/v1/actions", params=choice).json()["items"]) == count, choice
    refused: list[tuple[dict[str, Any], str]] = [
        ({"cursor": "x"}, "invalid_cursor"),
        ({"act": "dance"}, "invalid_parameters"),
        ({"limit": 0}, "invalid_parameters"),
    ]
    for wrong, code in refused:
        answer = http.get("/v1/actions", params=wrong)
        assert (answer.status_code, answer.json()["code"]) == (422, code), wrong


def test_who_may_see_a_few_types_sees_no_acts(
    gateway: GatewayServer, make_token: MakeToken
) -> None:
    for secret in (make_token(Scope.READ, types=["train"]), make_token(Scope.OPERATE)):
        with gateway.client(secret) as http:
            assert http.get("/v1/actions").status_code == 403
