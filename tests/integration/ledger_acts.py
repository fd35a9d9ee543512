"""What the ledger's tests do again and again: send, accept, claim, and look at what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest

from schemas.enums import Priority
from schemas.json_text import decode_json
from tests.conftest import REPLY_SECONDS, RETENTION_SECONDS
from worker.embedded import find_servers
from worker.queue.intake.validation import Entry, validate
from worker.queue.ledger.cancellation import CancelOutcome, cancel
from worker.queue.ledger.dead_letters import dead_letter_json
from worker.queue.ledger.keys import COMMAND_FIELD, EVENT_FIELD, GROUP, Keys
from worker.queue.ledger.models import AcceptStatus, Lease, NewCommand, RowState, RunResult
from worker.queue.ledger.streams import entries_between
from worker.queue.ledger.workers import WorkerStatus

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.ledger import Ledger
MODEL_UUID = "2f1c8a52-6f0f-4a57-9a0b-1f0a4d6c9e01"
# What a worker at rest tells of itself.
WORKER_STATUS = WorkerStatus(
    name="host-1-ab",
    host="host",
    pid=1,
    version="1.2.3",
    python="3.12.1",
    started_ms=1_000,
    seen_ms=0,
    slots=20,
    slots_used=0,
    loop_lag_seconds=0.25,
    breaker_open=False,
    stopping=False,
)
TEXT = orjson.dumps({"type": "get_model", "data": {"model_uuid": MODEL_UUID}})

every_server = pytest.mark.parametrize(
    "redis_server",
    find_servers() or [None],  # without one the fixture fails; an empty list would skip
    indirect=True,
    ids=lambda server: "none" if server is None else server.name,
    scope="session",
)
"""Runs a test on each server of this machine that is new enough."""


async def open_group(redis: Redis, keys: Keys) -> None:
    """Creates the consumer group as a worker does."""
    await redis.xgroup_create(keys.commands, GROUP, id="0", mkstream=True)


async def read_entry(redis: Redis, keys: Keys, text: bytes = TEXT) -> bytes:
    """Adds an entry and reads it as a consumer, so that it is pending; returns its id."""
    added = cast("bytes", await redis.xadd(keys.commands, {COMMAND_FIELD: text}))
    await redis.xreadgroup(GROUP, "tester", {keys.commands: ">"})
    return added


def new_command(entry_id: bytes, command_id: str = "one", **changes: Any) -> NewCommand:
    """Returns a new command; what is not told is like any other."""
    values: dict[str, Any] = {
        "entry_id": entry_id,
        "command_id": command_id,
        "command_type": "get_model",
        "fingerprint": b"\x00\xff" * 8,
        "lane": Priority.INTERACTIVE,
        "not_before_ms": 0,
        "text": TEXT,
        "event": b'{"type":"get_model.accepted"}',
        "replies": "",
    }
    return NewCommand(**{**values, **changes})


async def accept_one(
    redis: Redis, ledger: Ledger, command_id: str = "one", **changes: Any
) -> AcceptStatus:
    """Sends and accepts one command; the group must be there."""
    entry_id = await read_entry(redis, ledger.keys, changes.get("text", TEXT))
    return (await ledger.accept([new_command(entry_id, command_id, **changes)]))[0]


async def lease_one(redis: Redis, ledger: Ledger, command_id: str = "one", **changes: Any) -> Lease:
    """Sends, accepts and claims one command."""
    await open_group(redis, ledger.keys)
    await accept_one(redis, ledger, command_id, **changes)
    (lease,) = (await ledger.claim(10, bulk_most=10)).leases
    return lease


def letter_of(command_id: str, text: bytes, command_type: str = "get_model") -> bytes:
    """Returns the dead letter of a command that was `not_found`, as its stream holds it."""
    error = {"code": "not_found", "message": "m"}
    return dead_letter_json(
        command_id=command_id,
        command_type=command_type,
        error=error,
        text=text,
        at_ms=1000,
        attempts=1,
        history=[],
    )


async def end_one(
    redis: Redis, ledger: Ledger, text: bytes, *, fails: bool = False, keeps_text: bool = False
) -> None:
    """Takes a command in that nothing else is due beside, and ends it; a failure is `not_found`."""
    command = orjson.loads(text)
    lease = await lease_one(redis, ledger, command["id"], command_type=command["type"], text=text)
    letter = letter_of(command["id"], text, command["type"])
    state = RowState.FAILED if fails else RowState.SUCCEEDED
    end = RunResult(
        lease,
        state,
        1,
        event=orjson.dumps({"type": f"{command['type']}.{state}"}),
        dead_letter=letter if fails else b"",
        keeps_text=keeps_text,
    )
    assert await ledger.finish([end]) == [True]


async def events(redis: Redis, stream: str) -> list[dict[str, Any]]:
    """Returns all events of a stream, oldest first."""
    return [
        decode_json(fields[EVENT_FIELD])
        for _, fields in await entries_between(redis, stream, "-", "+")
    ]


async def raw_events(redis: Redis, stream: str) -> list[bytes]:
    """Returns all events of a stream as they lie there."""
    return [fields[EVENT_FIELD] for _, fields in await entries_between(redis, stream, "-", "+")]


async def now_ms(redis: Redis) -> int:
    """Returns the server's time in ms."""
    seconds, microseconds = await redis.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


async def snapshot(redis: Redis, keys: Keys) -> dict[bytes, bytes | None]:
    """Returns every key of the namespace with its serialised value."""
    found = sorted([key async for key in redis.scan_iter(match=f"*{keys.namespace}*", count=1000)])
    return {key: await redis.dump(key) for key in found}


TRAIN: dict[str, Any] = {
    "type": "train",
    "data": {
        "model_uuid": MODEL_UUID,
        "batch_size": 1,
        "epochs": 1,
        "features_mapping": {MODEL_UUID: {"a": ["b"]}},
        "labels_uuids": [MODEL_UUID],
    },
}

LIST: dict[str, Any] = {"type": "list_models", "data": {}}


async def accept(redis: Redis, ledger: Ledger, **command: Any) -> None:
    """Takes a command in as the intake does."""
    keys = ledger.keys
    if not await redis.exists(keys.commands):
        await redis.xgroup_create(keys.commands, GROUP, id="0", mkstream=True)
    text = orjson.dumps(command)
    entry_id = cast("bytes", await redis.xadd(keys.commands, {COMMAND_FIELD: text}))
    await redis.xreadgroup(GROUP, "tester", {keys.commands: ">"})
    verdict = validate(Entry(entry_id, {COMMAND_FIELD: text}), keys)
    assert isinstance(verdict, NewCommand)
    await ledger.accept([verdict])


async def lease(redis: Redis, ledger: Ledger, **command: Any) -> Lease:
    """Takes a command in and claims it as a worker does."""
    await accept(redis, ledger, **command)
    (claimed,) = (await ledger.claim(1, bulk_most=1)).leases
    return claimed


async def cancelled(redis: Redis, keys: Keys, command_id: str = "one") -> CancelOutcome:
    return await cancel(
        redis,
        keys,
        command_id,
        retention_seconds=RETENTION_SECONDS,
        reply_retention_seconds=REPLY_SECONDS,
    )
