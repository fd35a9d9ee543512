"""What `doctor` checks of the Redis server: its settings, whether it takes writes, its clock."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Final, cast

from redis.exceptions import ResponseError

from schemas.enums import Priority
from worker.backfill.keys import backfills_key
from worker.cli.doctor.checks import Finding, Level, judge_clock, permitted
from worker.cli.output import safe_text
from worker.queue.ledger.refusals import REFUSALS, word_of
from worker.queue.ledger.server import OLDEST_VERSION, SAFE_POLICY, ServerFacts, server_facts

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

_FULL_SHARE: Final = 0.8
# The greatest milliseconds of a stream's id: from there on few ids or none are left.
_GREATEST_ID: Final = 2**64 - 1
_WRITE: Final = "redis.write"
_TYPES: Final = "redis.types"
# The key that is tried is gone by itself, whoever may not delete it.
_TRIED_MS: Final = 5_000


async def check_server(redis: Redis, keys: Keys) -> list[Finding]:
    """Returns what is found at the server and of the keys that all share.

    Raises:
        redis.exceptions.RedisError: Redis can't be asked.
    """
    return [
        *await permitted("redis.server", _check_settings(redis)),
        *await permitted("redis.write", _check_writes(redis, keys)),
        *await permitted("redis.types", _check_types(redis, keys)),
        *await permitted("redis.streams", _check_streams(redis, keys)),
        *await permitted("redis.clock", _check_clock(redis)),
    ]


async def _check_settings(redis: Redis) -> list[Finding]:
    return judge_server(await server_facts(redis))


def judge_server(facts: ServerFacts) -> list[Finding]:
    """Returns what a server's settings mean for a ledger in it."""
    return [
        _judge_version(facts),
        _judge_policy(facts),
        _judge_persistence(facts),
        _judge_memory(facts),
    ]


def _judge_version(facts: ServerFacts) -> Finding:
    if facts.version < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        return Finding(
            "redis.version",
            Level.FAIL,
            f"{facts.shown_version} is too old",
            f"use Redis {oldest} or newer, or any Valkey",
        )
    return Finding("redis.version", Level.OK, facts.shown_version)


def _judge_policy(facts: ServerFacts) -> Finding:
    check, advice = "redis.policy", f"set maxmemory-policy to {SAFE_POLICY}"
    if facts.policy is None:
        return Finding(check, Level.WARN, "the server does not report its maxmemory-policy", advice)
    if facts.policy != SAFE_POLICY:
        return Finding(check, Level.FAIL, f"{facts.policy}: a full server deletes commands", advice)
    return Finding(check, Level.OK, SAFE_POLICY)


def _judge_persistence(facts: ServerFacts) -> Finding:
    check = "redis.persistence"
    advice = "set appendonly yes and appendfsync always"
    if facts.appends is None:
        return Finding(check, Level.WARN, "the server does not report whether it persists", advice)
    if not facts.appends:
        return Finding(
            check, Level.WARN, "no append-only file: a crash of Redis loses commands", advice
        )
    if facts.keeps_what_it_acknowledged:
        return Finding(check, Level.OK, "appendonly yes, appendfsync always")
    if facts.fsync is None:
        message = "append-only file; the server does not report its appendfsync"
    else:
        message = f"appendfsync {facts.fsync}: a crash of Redis may lose the last second"
    return Finding(check, Level.WARN, message, advice)


def _judge_memory(facts: ServerFacts) -> Finding:
    used = facts.used_bytes / 1_048_576
    if not facts.limit_bytes:
        return Finding(
            "redis.memory",
            Level.OK,
            f"{used:.0f} MiB used, no maxmemory",
        )
    share = facts.used_bytes / facts.limit_bytes
    message = f"{used:.0f} of {facts.limit_bytes / 1_048_576:.0f} MiB used"
    if share < _FULL_SHARE:
        return Finding("redis.memory", Level.OK, message)
    return Finding(
        "redis.memory",
        Level.WARN,
        message,
        "raise maxmemory, or keep ids and events for a shorter time: a full server accepts nothing",
    )


async def _check_writes(redis: Redis, keys: Keys) -> list[Finding]:
    try:
        await redis.set(keys.trial, uuid.uuid4().hex, px=_TRIED_MS)
    except ResponseError as exc:
        return [judge_refusal(exc)]
    return [Finding(_WRITE, Level.OK, "Redis accepts writes")]


def judge_refusal(error: ResponseError) -> Finding:
    """Returns what it means that Redis refused a write.

    Raises:
        redis.exceptions.NoPermissionError: this user may not write; that says nothing of others.
    """
    word = word_of(error)
    if word == "NOPERM":
        raise error
    said, advice = REFUSALS.get(word, ("it refused a write", "look at the server's log"))
    answer = safe_text(" ".join(str(error).split())[:200])
    return Finding(_WRITE, Level.FAIL, f"{said} ({answer})", advice)


async def _check_types(redis: Redis, keys: Keys) -> list[Finding]:
    """Returns which of the shared keys have another type than ours."""
    wanted = {
        keys.commands: "stream",
        keys.bulk_commands: "stream",
        keys.events: "stream",
        keys.dead_letters: "stream",
        keys.actions: "stream",
        keys.inbox: "list",
        keys.processing: "list",
        keys.celery_queue: "list",
        keys.celery_processing: "list",
        keys.wake_ups: "list",
        keys.due_interactive: "zset",
        keys.due_bulk: "zset",
        keys.due_suspect: "zset",
        keys.deadlines: "zset",
        keys.inflight: "zset",
        backfills_key(keys): "zset",
        **{keys.paused(lane): "hash" for lane in Priority},
    }
    pipe = redis.pipeline(transaction=False)
    for key in wanted:
        pipe.type(key)
    found = cast("list[bytes]", await pipe.execute())
    wrong = [
        Finding(
            _TYPES,
            Level.FAIL,
            f"{key} is a {kind.decode()} and should be a {wanted[key]}",
            f"somebody else wrote it: look at it, then move it away: RENAME '{key}' NEW-NAME",
        )
        for key, kind in zip(wanted, found, strict=True)
        if kind not in {b"none", wanted[key].encode()}
    ]
    return wrong or [Finding(_TYPES, Level.OK, "every key has its type")]


async def _check_streams(redis: Redis, keys: Keys) -> list[Finding]:
    """Returns which streams accept no more entries: their last id is nearly the greatest."""
    found = []
    streams = (keys.commands, keys.bulk_commands, keys.events, keys.dead_letters, keys.actions)
    for stream in streams:
        if not await redis.exists(stream):
            continue
        info = await redis.xinfo_stream(stream)
        last = info["last-generated-id"].decode()
        if int(last.partition("-")[0]) >= _GREATEST_ID:
            said = f"{stream} accepts no more entries: someone added one with the id {last}"
            advice = "what waits stays where it is; operations.md says how to recreate the stream"
            found.append(Finding("redis.streams", Level.FAIL, said, advice))
    return found


async def _check_clock(redis: Redis) -> list[Finding]:
    begun = time.time()
    seconds, microseconds = await redis.time()
    ended = time.time()
    ahead = seconds + microseconds / 1_000_000 - (begun + ended) / 2
    return [judge_clock("redis.clock", ahead, (ended - begun) / 2, "Redis' clock")]
