"""Redis in trouble: wrong types, full memory, one slot of a cluster, the oldest version."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest
import uvloop
from redis.exceptions import OutOfMemoryError, ResponseError

from schemas.enums import Priority
from tests.integration.ledger_acts import (
    accept_one,
    every_server,
    lease_one,
    new_command,
    now_ms,
    open_group,
    raw_events,
    read_entry,
    snapshot,
)
from worker.embedded import EmbeddedRedis
from worker.encord.creation.keys import orphan_key
from worker.encord.creation.orphans import OrphanedCreation, Orphans
from worker.queue.intake.consumer import StreamConsumer
from worker.queue.intake.list_bridge import ListForwarder, ListSource
from worker.queue.ledger.cancellation import CancelStatus, cancel
from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS, connect
from worker.queue.ledger.deadlines import Deadlines
from worker.queue.ledger.keys import GROUP, Keys
from worker.queue.ledger.ledger import Ledger
from worker.queue.ledger.lua import load_script
from worker.queue.ledger.models import AcceptStatus, Rejection, RowState, RunResult
from worker.queue.ledger.rate_limits import RedisLimits
from worker.queue.ledger.redis_clock import RedisClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from redis.asyncio import Redis

pytestmark = every_server

MIB = 1024 * 1024
SHARED = (
    "commands",
    "events",
    "dead_letters",
    "due_interactive",
    "due_bulk",
    "due_suspect",
    "deadlines",
)


async def misplace(redis: Redis, key: str) -> None:
    """Puts a value of another type where something else belongs."""
    await redis.delete(key)
    if key.endswith("commands"):
        await redis.hset(key, "x", "y")
    else:
        await redis.set(key, "x")


async def raises_wrong_type(act: Awaitable[Any]) -> bool:
    """Runs an act; tells whether a key of the wrong type stopped it."""
    try:
        await act
    except ResponseError as error:
        if "WRONGTYPE" not in str(error):
            raise
        return True
    return False


async def tell(redis: Redis, *words: str | bytes | int) -> Any:
    """Runs a command that the client has no method for."""
    return await redis.execute_command(*words)  # type: ignore[no-untyped-call]


async def run_cancel(redis: Redis, keys: Keys, command_id: str) -> CancelStatus:
    outcome = await cancel(
        redis, keys, command_id, retention_seconds=60, reply_retention_seconds=60
    )
    return outcome.status


@pytest.mark.parametrize("name", SHARED)
async def test_a_shared_key_of_the_wrong_type_stops_every_script_before_it_has_written(
    redis: Redis, ledger: Ledger, keys: Keys, name: str
) -> None:
    """And once the key is put right everything goes on."""
    await open_group(redis, keys)
    for command_id in ("leased", "waiting"):
        await accept_one(redis, ledger, command_id)
    await accept_one(redis, ledger, "late", deadline_ms=1)
    (lease,) = (await ledger.claim(1)).leases
    entry = await read_entry(redis, keys)
    bad = await read_entry(redis, keys, b"bad")
    kept = await redis.dump(getattr(keys, name))
    await misplace(redis, getattr(keys, name))
    before = await snapshot(redis, keys)
    replies = keys.replies("shop")
    acts: dict[str, Callable[[], Awaitable[Any]]] = {
        "accept": lambda: ledger.accept([
            new_command(entry, "new", replies=replies),
            new_command(entry, "bulk", replies=replies, lane=Priority.BULK),
        ]),
        "reject": lambda: ledger.reject([Rejection(bad, b"e", b"d", replies)]),
        "claim": lambda: ledger.claim(10, bulk_first=1, bulk_most=10, suspects=1),
        "renew": lambda: ledger.renew([lease]),
        "checkpoint": lambda: ledger.checkpoint(
            lease,
            {"a": 1},
            event=b"e",
            replies=replies,
            take_lock=keys.lock("g"),
        ),
        "finish": lambda: ledger.finish([
            RunResult(lease, RowState.FAILED, 1, event=b"e", replies=replies, dead_letter=b"d")
        ]),
        "cancel": lambda: run_cancel(redis, keys, "waiting"),
        "claim_expired": lambda: Deadlines(redis, keys, lease_seconds=30).claim(10),
    }
    touches = {
        "commands": {"accept", "reject"},
        "events": {"accept", "reject", "checkpoint", "finish", "cancel"},
        "dead_letters": {"reject", "finish"},
        "due_interactive": {
            "accept",
            "claim",
            "renew",
            "checkpoint",
            "finish",
            "cancel",
            "claim_expired",
        },
        "due_bulk": {"accept", "claim", "renew", "checkpoint", "finish", "cancel", "claim_expired"},
        "due_suspect": {"claim", "cancel", "claim_expired"},
        "deadlines": {"accept", "finish", "cancel", "claim_expired"},
    }[name]
    for act in touches:
        assert await raises_wrong_type(acts[act]()), act
        assert await snapshot(redis, keys) == before, act
    await redis.delete(getattr(keys, name))
    if kept is not None:
        await redis.restore(getattr(keys, name), 0, kept)
    for act, run in acts.items():
        assert not await raises_wrong_type(run()), act


async def test_a_key_of_the_clock_that_holds_something_else_is_written_over(
    redis: Redis, keys: Keys
) -> None:
    """Or no sweep would find what is due: a retry, a poll, the command of a worker that died."""
    await redis.hset(keys.clock, "of", "somebody else")
    now, back = await RedisClock(redis, keys, lease_seconds=30).mind()
    assert (now <= await now_ms(redis), back) == (True, 0)
    assert await redis.type(keys.clock) == b"string"


async def test_a_reply_stream_of_the_wrong_type_costs_nobody_but_its_reader(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """All events are in the events stream; the command goes its way."""
    replies = keys.replies("shop")
    await redis.set(replies, "x")
    lease = await lease_one(redis, ledger, replies=replies)
    await ledger.checkpoint(lease, {"a": 1}, event=b"recorded", replies=replies)
    await ledger.finish([RunResult(lease, RowState.SUCCEEDED, 1, event=b"done", replies=replies)])
    bad = await read_entry(redis, keys, b"bad")
    assert await ledger.reject([Rejection(bad, b"rejected", b"d", replies)]) == 1
    assert (await raw_events(redis, keys.events))[1:] == [b"recorded", b"done", b"rejected"]
    assert await redis.get(replies) == b"x"


async def test_a_row_of_the_wrong_type_is_a_conflict_and_harms_no_other_of_its_batch(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    await redis.set(keys.command("taken"), "x")
    entry = await read_entry(redis, keys)
    batch = [new_command(entry, command_id) for command_id in ("first", "taken", "last")]
    assert await ledger.accept(batch) == [
        AcceptStatus.ACCEPTED,
        AcceptStatus.CONFLICT,
        AcceptStatus.ACCEPTED,
    ]
    assert await redis.get(keys.command("taken")) == b"x"


async def test_a_run_whose_row_got_the_wrong_type_is_fenced_and_harms_no_other(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    for command_id in ("one", "two"):
        await accept_one(redis, ledger, command_id)
    one, two = (await ledger.claim(2)).leases
    await misplace(redis, keys.command("one"))
    finishes = [RunResult(lease, RowState.SUCCEEDED, 1, event=b"e") for lease in (one, two)]
    assert await ledger.renew([one, two]) == {"one"}
    assert await ledger.finish(finishes) == [False, True]
    assert (await raw_events(redis, keys.events))[2:] == [b"e"]


async def test_a_lock_of_the_wrong_type_stops_the_checkpoint_but_never_a_finish(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    lease = await lease_one(redis, ledger)
    lock = keys.lock("g")
    await redis.hset(lock, "x", "y")
    before = await snapshot(redis, keys)
    assert await raises_wrong_type(ledger.checkpoint(lease, {"a": 1}, event=b"e", take_lock=lock))
    assert await snapshot(redis, keys) == before
    finish = RunResult(lease, RowState.SUCCEEDED, 1, event=b"e", drop_lock=lock)
    assert await ledger.finish([finish]) == [True]
    assert await redis.hgetall(lock) == {b"x": b"y"}


@pytest.mark.parametrize("name", ["inbox", "processing", "commands"])
async def test_nothing_leaves_the_inbox_while_a_key_has_the_wrong_type(
    redis: Redis, keys: Keys, name: str
) -> None:
    await redis.rpush(keys.inbox, "a", "b")
    await redis.rpush(keys.processing, "c")
    await misplace(redis, getattr(keys, name))
    before = await snapshot(redis, keys)
    move = load_script(redis, "move_inbox")
    assert await raises_wrong_type(
        move(keys=[keys.inbox, keys.processing, keys.commands], args=[100, "command", "LPOP", MIB])
    )
    assert await snapshot(redis, keys) == before


async def test_a_full_redis_refuses_each_script_whole_and_works_again_after(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    for command_id in ("leased", "waiting"):
        await accept_one(redis, ledger, command_id)
    (lease,) = (await ledger.claim(1)).leases
    entry = await read_entry(redis, keys)
    bad = await read_entry(redis, keys, b"bad")
    await redis.rpush(keys.inbox, "a")
    move = load_script(redis, "move_inbox")
    await move(
        keys=[keys.processing, keys.processing, keys.commands], args=[1, "command", "LPOP", MIB]
    )
    failed = RunResult(lease, RowState.FAILED, 1, event=b"e", dead_letter=b"d")
    acts: list[Callable[[], Awaitable[Any]]] = [
        lambda: ledger.accept([new_command(entry, "new")]),
        lambda: ledger.reject([Rejection(bad, b"e", b"d", "")]),
        lambda: ledger.claim(10),
        lambda: ledger.checkpoint(lease, {"a": 1}),
        lambda: run_cancel(redis, keys, "waiting"),
        lambda: Deadlines(redis, keys, lease_seconds=30).claim(10),
        lambda: ledger.finish([failed]),
        lambda: move(
            keys=[keys.inbox, keys.processing, keys.commands], args=[100, "command", "LPOP", MIB]
        ),
    ]
    before = await snapshot(redis, keys)
    await redis.config_set("maxmemory", "1mb")
    try:
        for act in acts:
            with pytest.raises(OutOfMemoryError):
                await act()
        # A lease is kept, and what only its finder knows is written down, all the same.
        assert await ledger.renew([lease]) == set()
        attested = OrphanedCreation("u", None, keys.lock("model:u"), 600)
        await Orphans(redis, keys).leave(lease, attested, drop_lock="")
    finally:
        await redis.config_set("maxmemory", "0")
    after = await snapshot(redis, keys)
    told = {orphan_key(keys, "leased").encode(), keys.lock("model:u").encode()}
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    assert changed == told | {keys.due_interactive.encode()}
    for act in acts:
        await act()


async def test_all_keys_of_a_namespace_lie_in_one_slot_of_a_cluster(
    redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """A real cluster of one node: it refuses a script that touches two slots."""
    config = {
        "cluster-enabled": "yes",
        "cluster-config-file": str(tmp_path / "nodes.conf"),
        # Its default is the port plus 10,000, which may be no port at all.
        "cluster-port": str(_free_port()),
    }
    with EmbeddedRedis(tmp_path / "node", server=redis_server.server, config=config) as node:
        redis = connect(node.url)
        await tell(redis, "CLUSTER ADDSLOTSRANGE", 0, 16383)
        deadline = time.monotonic() + 20
        while (await tell(redis, "CLUSTER INFO"))["cluster_state"] != "ok":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        keys = Keys("some-namespace")
        ledger = Ledger(
            redis, keys, lease_seconds=30, retention_seconds=60, reply_retention_seconds=60
        )
        replies, lock = keys.replies("shop"), keys.lock("training:{other}")
        lease = await lease_one(redis, ledger, "id-{other}", replies=replies)
        await ledger.renew([lease])
        await ledger.checkpoint(lease, {}, event=b"e", replies=replies, take_lock=lock)
        await Orphans(redis, keys).leave(
            lease, OrphanedCreation("u", None, lock, 600), drop_lock=lock
        )
        await ledger.finish([
            RunResult(
                lease,
                RowState.FAILED,
                1,
                event=b"e",
                replies=replies,
                dead_letter=b"d",
                drop_lock=lock,
            )
        ])
        bad = await read_entry(redis, keys, b"bad")
        await ledger.reject([Rejection(bad, b"e", b"d", replies)])
        await ledger.hold(1)
        await accept_one(redis, ledger, "two", deadline_ms=1)
        assert (await Deadlines(redis, keys, lease_seconds=30).claim(1)).leases
        assert await run_cancel(redis, keys, "two") is CancelStatus.CANCELLED
        intake = StreamConsumer(
            redis,
            ledger,
            consumer="c",
            batch=9,
            consumer_idle_seconds=1,
            on_accepted=lambda _: None,
        )
        for pushed in (ListSource.inbox(keys), ListSource.celery(keys)):
            await redis.rpush(pushed.name, "a")
            await ListForwarder(redis, keys, pushed, 9).move_once()
        await intake.leave()
        limits = RedisLimits(redis, keys, ledger, requests_per_second=100, concurrent_requests=1)
        await limits.leave(await limits.enter())
        slots = {
            await tell(redis, "CLUSTER KEYSLOT", key) async for key in redis.scan_iter(count=1000)
        }
        assert len(slots) == 1
        await redis.aclose()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_scripts_use_no_command_newer_than_redis_7_0(redis: Redis) -> None:
    """The server itself says since when it has each of them."""
    folder = resources.files("worker.queue.ledger").joinpath("scripts")
    used = {
        name.lower()
        for script in (*folder.iterdir(), *folder.joinpath("include").iterdir())
        if script.is_file()
        for name in re.findall(r"redis\.p?call\('(\w+)'", script.read_text("utf-8"))
    }
    assert {"xadd", "hset", "zadd"} <= used
    documented = await tell(redis, "COMMAND DOCS", *used)
    entries = documented if isinstance(documented, dict) else _pairs(documented)
    since = {name: _pairs(told)[b"since"] for name, told in entries.items()}
    assert {name.decode() for name in since} == used
    assert all(tuple(map(int, version.split(b"."))) <= (7, 0, 0) for version in since.values())


def _pairs(reply: Any) -> dict[bytes, Any]:
    if isinstance(reply, dict):
        return reply
    return dict(zip(reply[::2], reply[1::2], strict=True))


async def test_an_ended_id_costs_half_a_kilobyte_at_most(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """All that stays of 2,000 predictions, without the events that everybody reads."""
    await open_group(redis, keys)
    entry = await read_entry(redis, keys)
    ids = [f"predict-street-2026-11-25-{number:08d}" for number in range(2000)]
    empty = (await redis.info("memory"))["used_memory_dataset"]
    for start in range(0, 2000, 250):
        batch = [new_command(entry, name, command_type="predict") for name in ids[start:][:250]]
        await ledger.accept(batch)
        leases = (await ledger.claim(250)).leases
        await ledger.finish([
            RunResult(lease, RowState.SUCCEEDED, 1, event=b"e") for lease in leases
        ])
    assert await redis.zcard(keys.due_interactive) == 0
    await redis.delete(keys.events)
    usage = await redis.memory_usage(keys.command(ids[0]), samples=0)
    assert usage is not None
    assert usage <= 512
    each = ((await redis.info("memory"))["used_memory_dataset"] - empty) / len(ids)
    assert each <= 512


async def test_due_times_follow_the_state_of_the_row(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """Accepted: now. Running: the lease's end. Waiting: its time. Ended: not there."""
    await open_group(redis, keys)
    later = await now_ms(redis) + 3_600_000
    await accept_one(redis, ledger, "later", not_before_ms=later)
    await accept_one(redis, ledger)
    assert await redis.zscore(keys.due_interactive, "later") == later
    for state, delay in ((RowState.RETRYING, 9), (RowState.POLLING, 60), (RowState.IN_DOUBT, 1)):
        await redis.zadd(keys.due_interactive, {"one": 0})
        (lease,) = (await ledger.claim(10)).leases
        leased = await redis.zscore(keys.due_interactive, "one")
        before = await now_ms(redis)
        await ledger.finish([RunResult(lease, state, 0, delay_seconds=delay)])
        due = await redis.zscore(keys.due_interactive, "one")
        assert due is not None
        assert leased is not None
        assert before + 29_000 < leased <= before + 30_000
        assert before + delay * 1000 <= due <= await now_ms(redis) + delay * 1000
    await redis.zadd(keys.due_interactive, {"one": 0})
    (lease,) = (await ledger.claim(10)).leases
    await ledger.finish([RunResult(lease, RowState.FAILED, 1)])
    assert await redis.zrange(keys.due_interactive, 0, -1) == [b"later"]


async def test_consumers_that_hold_nothing_are_forgotten_and_others_never(
    redis: Redis, keys: Keys
) -> None:
    await open_group(redis, keys)
    await read_entry(redis, keys)
    await redis.xgroup_createconsumer(keys.commands, GROUP, "idle")
    forget = load_script(redis, "forget_consumers")
    assert await forget(keys=[keys.commands], args=[GROUP, 60_000, ""]) == 0
    assert await forget(keys=[keys.commands], args=[GROUP, 0, "tester"]) == 0
    assert await forget(keys=[keys.commands], args=[GROUP, 0, ""]) == 1
    (left,) = await redis.xinfo_consumers(keys.commands, GROUP)
    assert left["name"] == b"tester"
    assert await forget(keys=[keys.inbox], args=[GROUP, 0, ""]) == 0


def test_a_connection_that_closes_before_a_command_is_written_is_a_passing_trouble(
    redis_url: str,
) -> None:
    """The workers' loop says so by a RuntimeError, which would end a command or a whole part."""

    async def write_too_late() -> None:
        redis = connect(redis_url)
        pool: Any = redis.connection_pool
        connection = await pool.get_connection()
        connection._writer.transport.abort()
        await asyncio.sleep(0)
        with pytest.raises(RETRYABLE_REDIS_ERRORS):
            await connection.send_command("PING", check_health=False)
        await pool.release(connection)
        assert await redis.ping(), "the next command has a connection of its own"
        await redis.aclose()

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(write_too_late(), 30))
    finally:
        loop.close()


async def test_connections_that_a_restart_of_redis_has_closed_cost_no_command(
    redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """Each of them would else be told as a loss of Redis, long after it is back."""
    with EmbeddedRedis(tmp_path / "restarted", server=redis_server.server) as server:
        redis = connect(server.url)
        pool: Any = redis.connection_pool
        idle = [await pool.get_connection() for _ in range(3)]
        for connection in idle:
            await pool.release(connection)
        server.kill()
        await asyncio.gather(*(connection._reader.read() for connection in idle))
        server.start()
        # All at the same time: one by one they would all have the same connection.
        for connection in [await _asked(pool) for _ in idle]:
            await pool.release(connection)
        await redis.aclose()


async def _asked(pool: Any) -> Any:
    connection = await pool.get_connection()
    await connection.send_command("PING", check_health=False)
    assert await connection.read_response() == b"PONG"
    return connection
