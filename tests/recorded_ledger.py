"""A ledger with a row in each state, to be recorded by a release and read by every later tree.

`python -m tests.recorded_ledger FILE`, run with a release's own code, records it as JSON: each key
with its type and what it holds, and what a worker of that release reads there.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from schemas.commands import COMMAND_CLASSES
from schemas.enums import EventState, PartFormat, SourceFormat
from schemas.events import ErrorCode
from tests.conftest import LEASE_SECONDS, REPLY_SECONDS, RETENTION_SECONDS, TEXT_SECONDS
from tests.integration.ledger_acts import LIST, TRAIN, accept, cancelled, lease
from worker.backfill.plan import FailureLimits, Plan, SourcePlan
from worker.backfill.status import BackfillState, Origin
from worker.backfill.store import NOBODY, BackfillStore, FeedItem
from worker.embedded import EmbeddedRedis
from worker.encord.creation.ambiguous import AmbiguousCreations, Creator
from worker.encord.creation.orphans import OrphanedCreation, Orphans
from worker.encord.creation.resolution import Resolution, resolve
from worker.queue.intake.envelope import SUBMIT_TASK
from worker.queue.ledger.connection import connect
from worker.queue.ledger.epoch import Epoch
from worker.queue.ledger.keys import GROUP, Keys
from worker.queue.ledger.ledger import Ledger
from worker.queue.ledger.models import LANE_CODES, Phase, RowState, RunResult
from worker.queue.pool.tasks import RUN_TASK

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis.asyncio import Redis

    from worker.queue.ledger.models import Lease

NIGHT: Final = "night"
UUID: Final = "0b4f3c1e-5a58-4f53-8f0a-0c5d2f6f7a10"
ERROR: Final = {"at": "2026-11-27T00:00:00Z", "code": "server_error", "message": "status 503"}
PREDICT: Final[dict[str, Any]] = {
    "type": "predict",
    "priority": "bulk",
    "data": {
        "task": "object_detection",
        "project_uuid": UUID,
        "project_model_uuid": UUID,
        "training_uuid": UUID,
        "data_uuid": UUID,
    },
}
# In 2100; nothing is due by then, whenever it is read.
LATE: Final = "2100-01-01T00:00:00Z"
FAR_MS: Final = 4_102_444_800_000
DOUBT: Final[dict[str, Any]] = {
    "at": 1_764_000_000.5,
    "asked_at": 1_764_000_000.0,
    "baseline": [UUID],
}
Shape = dict[str, dict[str, Any]]


async def make_rows(redis: Redis, ledger: Ledger) -> None:
    """Makes a row in each state and phase, and whatever else a worker leaves behind."""
    keys = ledger.keys
    await Epoch(redis, keys).enter()
    await _make_ends(redis, ledger)
    await _make_creations(redis, ledger)
    held = await _lease(redis, ledger, **LIST, id="retrying", correlationid="c-1")
    retry = RunResult(held, RowState.RETRYING, 2, errors=[ERROR], failure="server_error")
    assert await ledger.finish([retry]) == [True]
    await _lease(redis, ledger, **LIST, id="running")
    await _make_backfill(redis, ledger)
    await accept(redis, ledger, **LIST, id="accepted", replyto="me")
    await accept(redis, ledger, **LIST, id="late", priority="bulk", notbefore=LATE, deadline=LATE)


async def _lease(redis: Redis, ledger: Ledger, **command: Any) -> Lease:
    """Takes a command in and claims it, whatever else is due."""
    keys = ledger.keys
    for due in (keys.due_interactive, keys.due_bulk):
        for row_id in cast("list[bytes]", await redis.zrange(due, 0, -1)):
            await redis.zadd(due, {row_id: FAR_MS}, xx=True)
    return await lease(redis, ledger, **command)


async def _make_ends(redis: Redis, ledger: Ledger) -> None:
    for state in (RowState.SUCCEEDED, RowState.FAILED):
        held = await _lease(redis, ledger, **LIST, id=state.value)
        end = RunResult(
            held,
            state,
            1,
            event=b'{"type":"list_models.end"}',
            dead_letter=b'{"id":"failed"}' if state is RowState.FAILED else b"",
            keeps_text=state is RowState.SUCCEEDED,
        )
        assert await ledger.finish([end]) == [True]
    await accept(redis, ledger, **LIST, id="cancelled")
    await cancelled(redis, ledger.keys, "cancelled")


async def _make_creations(redis: Redis, ledger: Ledger) -> None:
    keys = ledger.keys
    for phase in (Phase.INTENDED, Phase.IN_DOUBT, Phase.RESOLVED, Phase.WITHDRAWN, Phase.APPLIED):
        held = await _lease(redis, ledger, **TRAIN, id=phase.value)
        creator = Creator.of(held, phase.value, 3600)
        await AmbiguousCreations(redis, keys, RETENTION_SECONDS).enter("training:1", creator, 1.0)
        lock = keys.lock(f"creating-training:{phase}")
        await ledger.checkpoint(held, DOUBT, phase=Phase.INTENDED, take_lock=lock, lock_lapses=True)
        if phase is Phase.INTENDED:
            continue
        if phase is Phase.APPLIED:
            await _make_polling(ledger, held, lock)
            continue
        doubt = {**DOUBT, "error": ERROR, "check": "look"}
        wait = RunResult(
            held,
            RowState.IN_DOUBT,
            0,
            event=b'{"type":"train.in_doubt"}',
            progress=doubt,
            phase=Phase.IN_DOUBT,
            drop_lock=lock,
        )
        assert await ledger.finish([wait]) == [True]
        if phase is not Phase.IN_DOUBT:
            created = uuid.UUID(UUID) if phase is Phase.RESOLVED else None
            told = Resolution(created, "someone")
            await resolve(redis, keys, held.command_id, told, reply_retention_seconds=60)
        else:
            word = OrphanedCreation(UUID, None, keys.lock("training:orphan"), 3600)
            await Orphans(redis, keys).leave(held, word, drop_lock="")


async def _make_polling(ledger: Ledger, held: Lease, lock: str) -> None:
    progress = {"uuid": UUID, "result": None, "at": 1_764_000_000.5}
    await ledger.checkpoint(
        held,
        progress,
        phase=Phase.APPLIED,
        state=RowState.POLLING,
        leaves={"training_uuid": UUID, "note": "the training goes on at the API"},
        event=b'{"type":"train.started"}',
        take_lock=ledger.keys.lock(f"training:{UUID}"),
        drop_lock=lock,
    )
    poll = RunResult(held, RowState.POLLING, 0, progress={**progress, "failures": 1}, failure="x")
    assert await ledger.finish([poll]) == [True]


async def _make_backfill(redis: Redis, ledger: Ledger) -> None:
    keys = ledger.keys
    store = store_of(redis, keys)
    plan = Plan(
        common={"task": "object_detection"},
        source=SourcePlan("/items.jsonl", SourceFormat.JSONL, {"data_uuid": "uuid"}),
        output="/results",
        limits=FailureLimits(10, 0.5),
        context={"correlationid": "c-2"},
    )
    await store.open(NIGHT, plan, Origin.CONSOLE, "1-0", b'{"type":"backfill.accepted"}')
    token, status = await store.lead(NIGHT, NOBODY, lease_ms=60_000)
    assert status is not None
    item = json.dumps(PREDICT).encode()
    items = [FeedItem(item), FeedItem(item), FeedItem(b"", b'{"item":2,"state":"failed"}')]
    assert await store.feed(status, token, items, "3", exhausted=True, passed={"hidden": 1})
    await store.expect(NIGHT, 3)
    member = (await ledger.claim(1, bulk_most=1)).leases[0]
    end = RunResult(member, RowState.SUCCEEDED, 1, member_result=b'{"item":0}')
    assert await ledger.finish([end]) == [True]
    results = [entry_id for entry_id, _ in await store.results(NIGHT, "-", "+")]
    await store.begin_part(NIGHT, token, f"{results[0]} {results[0]} 1")
    await store.lead(NIGHT, token, lease_ms=0)


def store_of(redis: Redis, keys: Keys) -> BackfillStore:
    """Returns the backfills of a namespace."""
    return BackfillStore(
        redis, keys, retention_seconds=RETENTION_SECONDS, reply_retention_seconds=REPLY_SECONDS
    )


def ledger_of(redis: Redis, keys: Keys) -> Ledger:
    """Returns the ledger of a namespace."""
    return Ledger(
        redis,
        keys,
        lease_seconds=LEASE_SECONDS,
        retention_seconds=RETENTION_SECONDS,
        reply_retention_seconds=REPLY_SECONDS,
        text_retention_seconds=TEXT_SECONDS,
    )


async def dumped(redis: Redis, keys: Keys) -> dict[str, dict[str, Any]]:
    """Returns each key of a namespace without its prefix, with its type and what it holds."""
    client: Any = redis
    found = {}
    async for key in client.scan_iter(match=f"{keys.prefix}*", count=1000):
        kind = (await client.type(key)).decode()
        match kind:
            case "string":
                value: Any = _text(await client.get(key))
            case "hash":
                value = {_text(k): _text(v) for k, v in (await client.hgetall(key)).items()}
            case "set":
                value = sorted(map(_text, await client.smembers(key)))
            case "zset":
                told = await client.zrange(key, 0, -1, withscores=True)
                value = [[_text(member), score] for member, score in told]
            case "stream":
                value = [
                    [_text(entry), {_text(k): _text(v) for k, v in fields.items()}]
                    for entry, fields in await client.xrange(key)
                ]
            case _:
                raise AssertionError(f"{key!r} is a {kind}")
        found[_text(key).removeprefix(keys.prefix)] = {"type": kind, "value": value}
    return dict(sorted(found.items()))


async def restore(redis: Redis, keys: Keys, recorded: dict[str, dict[str, Any]]) -> None:
    """Puts into a namespace what was recorded; whatever was due at any time is due now."""
    client: Any = redis
    for name, told in recorded.items():
        key, value = f"{keys.prefix}{name}", told["value"]
        match told["type"]:
            case "string":
                await client.set(key, _bytes(value))
            case "hash":
                await client.hset(key, mapping={_bytes(k): _bytes(v) for k, v in value.items()})
            case "set":
                await client.sadd(key, *map(_bytes, value))
            case "zset":
                due = name.startswith("due:")
                scores = {_bytes(member): 0 if due else score for member, score in value}
                await client.zadd(key, scores)
            case _:
                for entry, fields in value:
                    told_fields = {_bytes(k): _bytes(v) for k, v in fields.items()}
                    await client.xadd(key, told_fields, id=entry)
    if not await client.exists(keys.commands):
        await client.xgroup_create(keys.commands, GROUP, id="0", mkstream=True)


def shape_of(recorded: dict[str, dict[str, Any]]) -> Shape:
    """Returns the families of keys, each with its type and the fields of its hashes or entries.

    What an id, a digest or a time makes different each time is left out.
    """
    shape: Shape = {}
    for name, told in recorded.items():
        family = name if name.startswith(("due:", "commands:")) else name.partition(":")[0]
        known = shape.setdefault(family, {"type": told["type"], "fields": []})
        assert known["type"] == told["type"], family
        if told["type"] == "hash":
            known["fields"] = sorted({*known["fields"], *told["value"]})
        elif told["type"] == "stream":
            names = {field for _, fields in told["value"] for field in fields}
            known["fields"] = sorted({*known["fields"], *names})
    return shape


def names() -> dict[str, list[str]]:
    """Returns what stands in Redis, in messages and in events by its name."""

    def values(kind: Iterable[Any]) -> list[str]:
        return sorted(map(str, kind))

    return {
        "states": values(RowState),
        "phases": values(Phase),
        "lanes": values(LANE_CODES.values()),
        "backfill states": values(BackfillState),
        "origins": values(Origin),
        "source formats": values(SourceFormat),
        "part formats": values(PartFormat),
        "event states": values(EventState),
        "error codes": values(ErrorCode),
        "commands": values(COMMAND_CLASSES),
        "tasks": values([RUN_TASK, SUBMIT_TASK]),
        "consumer group": [GROUP],
    }


async def read_by_a_worker(redis: Redis, keys: Keys) -> dict[str, Any]:
    """Returns what a worker reads: each lease, and the backfill."""
    claim = await ledger_of(redis, keys).claim(100, bulk_most=100, suspects=1)
    status = await store_of(redis, keys).look(NIGHT)
    assert status is not None
    # The token and the claims are those of whoever reads; the rest was written.
    left_out = {"token", "command", "claims", "text", "probe"}
    leases = {
        each.row_id: {k: v for k, v in asdict(each).items() if k not in left_out}
        for each in claim.leases
    }
    moments = {"read_at", "read_at_ms", "led_ms"}
    told = {k: v for k, v in asdict(status).items() if k not in moments}
    told["plan"].pop("unread", None)
    return cast("dict[str, Any]", json.loads(json.dumps({"leases": leases, "backfill": told})))


async def _record(url: str) -> dict[str, Any]:
    redis = connect(url)
    try:
        keys = Keys("recorded")
        await make_rows(redis, ledger_of(redis, keys))
        recorded = await dumped(redis, keys)
        again = Keys("again")
        await restore(redis, again, recorded)
        return {"names": names(), "keys": recorded, "read": await read_by_a_worker(redis, again)}
    finally:
        await redis.aclose()


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _bytes(value: str) -> bytes:
    return value.encode("latin-1")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder)) as server:
        found = asyncio.run(_record(server.url))
    Path(sys.argv[1]).write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
