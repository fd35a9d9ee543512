"""Who did what on the command line: each act is recorded, and `trainmaster actions` shows it."""

from __future__ import annotations

import os
import pwd
import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
from redis import Redis as BlockingRedis

from schemas.enums import Priority
from tests.integration import backfilling
from tests.integration.backfilling import NAME, Backfilling
from tests.integration.ledger_acts import MODEL_UUID, TEXT, TRAIN, accept, lease, letter_of
from tests.integration.sinks.endpoints import SECRET as SINK_SECRET
from tests.integration.webhooks.posting import (
    GET_MODEL,
    HEAD,
    SECRET,
    integrations_of,
    receiver_of,
    signed,
    submitted,
)
from worker.acts import Act
from worker.backfill.leader import Leader
from worker.backfill.status import Origin
from worker.integrations.keys import follower_key
from worker.queue.ledger.dead_letters import FIELD
from worker.queue.ledger.epoch import Epoch
from worker.queue.ledger.lanes import Lanes
from worker.queue.ledger.models import Phase
from worker.sinks.keys import follower_name

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.console import Console
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

SINK: Final = """
[sinks.ops]
[sinks.ops.webhook]
url = "http://127.0.0.1:9/?key=hidden"
secrets = [{ env = "OPS_SECRET" }]
allow_private = true
"""


@pytest.fixture
def desk(console: Console, tmp_path: Path) -> Console:
    """A console with a file of a source and a sink."""
    file = tmp_path / "integrations.toml"
    file.write_text(HEAD + GET_MODEL + SINK)
    console.environment |= {
        "TRAINMASTER_INTEGRATIONS_FILE": str(file),
        "ENCORD_WEBHOOK_SECRET": SECRET,
        "OPS_SECRET": SINK_SECRET,
    }
    return console


def who() -> str:
    return f"cli:{pwd.getpwuid(os.geteuid()).pw_name}@{socket.gethostname()}"


def acts(console: Console, *options: str) -> list[dict[str, Any]]:
    """Returns what is recorded, oldest first."""
    said = console.run("actions", "--json", *options)
    assert said.code == 0, said.err
    return said.lines[::-1]


def do(console: Console, *arguments: str, code: int = 0) -> None:
    said = console.run(*arguments)
    assert said.code == code, said.err


async def bury(redis: Redis, keys: Keys, *ids: str) -> None:
    for number, command_id in enumerate(ids):
        at = f"1000-{number + 1}"
        await redis.xadd(keys.dead_letters, {FIELD: letter_of(command_id, TEXT)}, id=at)


def short(found: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(each["act"], each["subject"]) for each in found]


async def test_what_is_done_to_commands_is_recorded_with_who_did_it(
    desk: Console, redis: Redis, ledger: Ledger
) -> None:
    held = await lease(redis, ledger, **TRAIN, id="doubt")
    await ledger.checkpoint(held, {"at": 1.0}, phase=Phase.IN_DOUBT)
    for number in range(3):
        await accept(redis, ledger, type="list_models", data={}, id=f"id-{number}")
    do(desk, "resolve", "doubt", "--created", MODEL_UUID, "--by", "ann")
    do(desk, "cancel", "id-0")
    do(desk, "cancel", "id-0", "id-1", "id-2")
    do(desk, "cancel", "nobody", code=1)
    found = acts(desk)
    assert {each["who"] for each in found} == {who()}
    assert short(found) == [
        (Act.COMMAND_RESOLVE, "doubt"),
        (Act.COMMAND_CANCEL, "id-0"),
        (Act.COMMANDS_CANCEL, None),
    ]
    resolved, _, cancelled = (each["details"] for each in found)
    assert resolved == {"created": MODEL_UUID, "by": "ann"}
    assert cancelled == {
        "filter": {"ids": ["id-0", "id-1", "id-2"]},
        "matched": 3,
        "outcomes": {"already_ended": 1, "cancelled": 2},
    }


async def test_what_is_done_to_dead_letters_is_recorded_and_a_dry_run_is_not(
    desk: Console, redis: Redis, keys: Keys
) -> None:
    await bury(redis, keys, *"abcdef")
    do(desk, "dead-letters", "replay", "--all", "--dry-run")
    do(desk, "dead-letters", "replay", "a", "--set", f"model_uuid={MODEL_UUID}")
    do(desk, "dead-letters", "replay", "b", "c")
    do(desk, "dead-letters", "replay", "nobody", code=1)
    do(desk, "dead-letters", "purge", "d", "--yes")
    do(desk, "dead-letters", "purge", "--reason", "not_found", "--yes")
    do(desk, "dead-letters", "purge", "--reason", "not_found", "--yes")
    found = acts(desk)
    assert short(found) == [
        (Act.DEAD_LETTER_REPLAY, "a"),
        (Act.DEAD_LETTERS_REPLAY, None),
        (Act.DEAD_LETTER_PURGE, "d"),
        (Act.DEAD_LETTERS_PURGE, None),
    ]
    one, many, _, purged = (each["details"] for each in found)
    assert (one["key"], one["edited"], one["outcomes"]) == ("1000-1", ["set"], {"replayed": 1})
    assert MODEL_UUID not in str(one)
    assert (many["filter"], many["matched"]) == ({"keys": ["b", "c"]}, 2)
    assert purged == {"filter": {"reason": "not_found"}, "matched": 2, "purged": 2}


async def test_what_is_done_to_holds_lanes_sinks_and_deliveries_is_recorded(
    desk: Console, redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    await Lanes(redis, keys).pause(Priority.BULK, "nearly all fail", 30)
    receiver = receiver_of(redis, keys, integrations_of(tmp_path, HEAD, GET_MODEL))
    post = signed(submitted("uid-1"))
    await receiver.receive("encord", post.headers, post.body)
    do(desk, "holds", "release")
    do(desk, "lanes", "resume", "bulk")
    do(desk, "sinks", "pause", "ops", "--reason", "night")
    do(desk, "sinks", "resume", "ops")
    do(desk, "sinks", "recover", "ops", "--since", "1h")
    # It has not come so far, and then it has.
    do(desk, "sinks", "recover", "ops", "--since", "1h", "--all")
    await redis.hset(follower_key(keys, follower_name("ops")), "position", f"{2**43}-0")
    do(desk, "sinks", "recover", "ops", "--since", "1h", "--all")
    do(desk, "webhooks", "replay", "uid-1", "--dry-run")
    do(desk, "webhooks", "replay", "uid-1", "--again")
    found = acts(desk)
    assert short(found) == [
        (Act.HOLDS_RELEASE, None),
        (Act.LANE_RESUME, "bulk"),
        (Act.SINK_PAUSE, "ops"),
        (Act.SINK_RESUME, "ops"),
        (Act.SINK_RECOVER, "ops"),
        (Act.SINK_RECOVER, "ops"),
        (Act.DELIVERY_REPLAY, "encord/uid-1"),
    ]
    assert found[2]["details"] == {"reason": "night"}
    assert found[3]["details"] == {"was_paused": True}
    assert found[4]["details"]["events"] == 0
    assert found[5]["details"]["all"]
    assert found[6]["details"]["commands"] == 1


async def test_what_is_done_to_backfills_is_recorded(
    desk: Console, redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    (tmp_path / NAME).mkdir()
    store, plan = backfilling.store_of(redis, keys), backfilling.make_plan(tmp_path / NAME)
    await store.open(NAME, plan, Origin.QUEUE, "1-1")
    for act in ("pause", "resume", "cancel", "cancel"):
        do(desk, "backfill", act, NAME)
    do(desk, "backfill", "pause", "nobody", code=1)
    night = Backfilling(redis, keys, ledger, store, plan)
    async with night.working():
        await Leader(store, NAME, announces=True).work(seconds=60)
    do(desk, "backfill", "pause", NAME)
    assert short(acts(desk)) == [
        (Act.BACKFILL_PAUSE, NAME),
        (Act.BACKFILL_RESUME, NAME),
        (Act.BACKFILL_CANCEL, NAME),
        (Act.BACKFILL_CANCEL, NAME),
    ]


def test_tokens_are_recorded_without_their_secrets(desk: Console) -> None:
    (made,) = desk.run("tokens", "create", "ci", "--scope", "read", "--json").lines
    do(desk, "tokens", "revoke", made["secret"])
    do(desk, "tokens", "revoke", "nobody", code=1)
    found = acts(desk)
    assert short(found) == [(Act.TOKEN_CREATE, "ci"), (Act.TOKEN_REVOKE, "ci")]
    prefix = f"tm_{made['id']}"
    assert [each["details"] for each in found] == [
        {"id": prefix, "scopes": ["read"]},
        {"id": prefix},
    ]
    assert made["secret"] not in str(found)


async def test_an_accepted_loss_is_recorded(desk: Console, redis: Redis, keys: Keys) -> None:
    await redis.set(keys.epoch, "lost at 2026-01-01T00:00:00Z")
    desk.run("doctor", "--accept-loss")
    assert await Epoch(redis, keys).loss() is None
    assert short(acts(desk)) == [(Act.LEDGER_ACCEPT_LOSS, None)]


def test_acts_are_shown_to_people_the_latest_first(desk: Console) -> None:
    assert desk.run("actions").out == "no acts\n"
    do(desk, "sinks", "pause", "ops", "--reason", "night")
    do(desk, "holds", "release")
    head, released, paused, rest = desk.run("actions", "--newest", "2").out.splitlines()
    assert head.split()[:3] == ["when", "who", "act"]
    assert "holds.release" in released
    assert [part for part in (who(), "sink.pause", "ops", "reason: night") if part in paused] == [
        who(),
        "sink.pause",
        "ops",
        "reason: night",
    ]
    assert "more than the 2 shown" in rest
    assert len(acts(desk, "--on", "ops")) == 1
    assert len(acts(desk, "--act", "holds.release", "--who", who(), "--since", "1h")) == 1
    assert acts(desk, "--who", "nobody") == []
    later = datetime.now(UTC) + timedelta(hours=1)
    assert acts(desk, "--since", later.isoformat()) == []


def test_an_act_is_done_and_told_though_its_entry_is_refused(
    desk: Console, redis_url: str, keys: Keys
) -> None:
    with BlockingRedis.from_url(redis_url) as redis:
        redis.set(keys.actions, "no stream")
    said = desk.run("holds", "release")
    assert (said.code, said.out) == (0, "there was no hold\n")
    assert "action.unrecorded" in said.err
    assert who() in said.err
