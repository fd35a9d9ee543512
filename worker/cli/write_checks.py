"""The part of `doctor` that tries whether Redis takes writes, and looks at what keys hold."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final, cast

from redis.exceptions import ResponseError

from schemas.enums import Priority
from schemas.wording import counted
from worker.backfill.keys import backfills_key
from worker.cli.findings import Finding, Level
from worker.cli.output import safe_text
from worker.queue.intake.list_bridge import unread_lists

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

_WRITE: Final = "redis.write"
_TYPES: Final = "redis.types"
UNREAD_LIST_ADVICE: Final = (
    "a Celery app has priority_steps or sep of its own: take them out of its "
    "broker_transport_options, and move the messages to the list celery (LMOVE)"
)
# The key that is tried is gone by itself, whoever may not delete it.
_TRIED_MS: Final = 5_000

# By the first word of what the server answers; what passes by itself says so.
_CAUSES: Final = {
    "NOREPLICAS": (
        "too few replicas are connected: min-replicas-to-write is not met",
        (
            "bring replicas back, or lower it: CONFIG SET min-replicas-to-write 0; "
            "workers wait and go on by themselves"
        ),
    ),
    "READONLY": (
        "this server is a replica, so it takes no writes",
        "let TRAINMASTER_REDIS_URL lead to the primary; sentinel:// finds it after each failover",
    ),
    "OOM": (
        "the server is full: maxmemory is reached",
        "raise maxmemory, or keep ids and events for a shorter time",
    ),
    "MISCONF": (
        "the server can't write to its disk",
        "look at the server's log: is its disk full?",
    ),
    "MASTERDOWN": (
        "this server is a replica that has lost its primary",
        "let TRAINMASTER_REDIS_URL lead to the primary, or promote a replica",
    ),
    "CLUSTERDOWN": (
        "the cluster is down",
        "look at CLUSTER INFO; workers wait and go on by themselves",
    ),
    "BUSY": (
        "a script of somebody keeps the server busy",
        "end it: SCRIPT KILL",
    ),
}


async def check_writes(redis: Redis, keys: Keys) -> list[Finding]:
    """Returns whether the server takes a write.

    Raises:
        redis.exceptions.NoPermissionError: this user may not write.
        redis.exceptions.RedisError: Redis can't be asked.
    """
    try:
        await redis.set(keys.trial, uuid.uuid4().hex, px=_TRIED_MS)
    except ResponseError as exc:
        return [judge_refusal(exc)]
    return [Finding(_WRITE, Level.OK, "Redis takes writes")]


def judge_refusal(error: ResponseError) -> Finding:
    """Returns what it means that Redis refused a write.

    Raises:
        redis.exceptions.NoPermissionError: this user may not write; that says nothing of others.
    """
    # redis-py takes the word off where it has a class of its own for it.
    word = _WORDS.get(type(error).__name__) or str(error).partition(" ")[0]
    if word == "NOPERM":
        raise error
    said, advice = _CAUSES.get(word, ("it refused a write", "look at the server's log"))
    answer = safe_text(" ".join(str(error).split())[:200])
    return Finding(_WRITE, Level.FAIL, f"{said} ({answer})", advice)


_WORDS: Final = {
    "ReadOnlyError": "READONLY",
    "OutOfMemoryError": "OOM",
    "MasterDownError": "MASTERDOWN",
    "ClusterDownError": "CLUSTERDOWN",
    "NoPermissionError": "NOPERM",
}


async def check_types(redis: Redis, keys: Keys) -> list[Finding]:
    """Returns which of the shared keys hold something that is none of ours.

    Raises:
        redis.exceptions.RedisError: Redis can't be asked.
    """
    wanted = {
        keys.commands: "stream",
        keys.bulk_commands: "stream",
        keys.events: "stream",
        keys.dead_letters: "stream",
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
    return wrong or [Finding(_TYPES, Level.OK, "every key holds what it should")]


async def check_celery_lists(redis: Redis, keys: Keys) -> list[Finding]:
    """Returns the lists that Celery made for priorities of its own, which no worker reads.

    Raises:
        redis.exceptions.RedisError: Redis can't be asked.
    """
    return [
        Finding("celery.lists", Level.WARN, tell_unread_list(name, messages), UNREAD_LIST_ADVICE)
        for name, messages in (await unread_lists(redis, keys)).items()
    ]


def tell_unread_list(name: str, messages: int) -> str:
    """Returns what a list is that no worker reads."""
    return f"{safe_text(repr(name))} holds {counted(messages, 'message')}, and no worker reads it"
