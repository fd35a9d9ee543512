"""One act for every script: what is there before it, and the call that a caller repeats."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import orjson

from schemas.enums import Priority
from schemas.events import ErrorCode
from tests.integration.backfilling import (
    LEASE_MS,
    NAME,
    Backfilling,
    begin,
    command,
    make_plan,
    store_of,
)
from tests.integration.ledger_acts import (
    TEXT,
    accept_one,
    lease_one,
    new_command,
    open_group,
    read_entry,
)
from trainmaster_client import Event, Message
from trainmaster_client.names import CommandStream
from worker.backfill.keys import backfill_key
from worker.backfill.status import BackfillState, Origin
from worker.backfill.store import FeedItem, LeadToken, Transition
from worker.encord.creation.orphans import OrphanedCreation, Orphans
from worker.encord.creation.resolution import Resolution, resolve
from worker.gateway.keys import answer_key
from worker.gateway.submission.submission import prepare
from worker.gateway.submission.submitter import Submitter
from worker.integrations.follower_store import NOBODY, FollowerStore, rewind
from worker.integrations.keys import follower_key
from worker.integrations.sink_config import RedisSink
from worker.queue.intake.list_bridge import ListForwarder, ListSource
from worker.queue.ledger.cancellation import cancel
from worker.queue.ledger.dead_letters import DeadLetter, DeadLetters
from worker.queue.ledger.deadlines import Deadlines
from worker.queue.ledger.holds import Holds
from worker.queue.ledger.keys import GROUP, member_row_id
from worker.queue.ledger.ledger import Ledger
from worker.queue.ledger.lua import load_script
from worker.queue.ledger.models import Phase, Rejection, RowState, RunResult
from worker.queue.ledger.redis_clock import RedisClock
from worker.sinks.deferred import CommandQueue, DeferredEvent, SinkStore
from worker.sinks.destinations import DeliveryError
from worker.sinks.keys import follower_name
from worker.sinks.redis_target import RedisTarget
from worker.webhooks.deliveries import Deliveries
from worker.webhooks.keys import open_window_key, window_key, windows_key
from worker.webhooks.records import Delivery, Effects, RuleRecord, RuleResult, WindowEnd, WindowItem
from worker.webhooks.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

DAY_SECONDS = 24 * 3600
YEAR_2200_MS = 7_258_118_400_000


def ledger_of(redis: Redis, keys: Keys) -> Ledger:
    return Ledger(redis, keys, lease_seconds=30, retention_seconds=600, reply_retention_seconds=600)


def clock_of(redis: Redis, keys: Keys) -> RedisClock:
    return RedisClock(redis, keys, lease_seconds=30)


@dataclass
class World:
    """A namespace with what an act needs, made by a client that may do everything."""

    redis: Redis
    keys: Keys
    folder: Path
    known: dict[str, Any] = field(default_factory=dict)

    @property
    def ledger(self) -> Ledger:
        return ledger_of(self.redis, self.keys)

    @property
    def replies(self) -> str:
        return self.keys.replies("desk")


Act: TypeAlias = "Callable[[Redis], Awaitable[Any]]"
Prepare: TypeAlias = "Callable[[World], Awaitable[Act]]"


async def accepting(world: World) -> Act:
    await open_group(world.redis, world.keys)
    batch = [
        new_command(
            await read_entry(world.redis, world.keys),
            command_id,
            replies=world.replies,
            not_before_ms=YEAR_2200_MS,
            deadline_ms=YEAR_2200_MS,
            event=f'{{"of": "{command_id}"}}'.encode(),
        )
        for command_id in ("one", "two")
    ]
    return lambda redis: ledger_of(redis, world.keys).accept(batch)


async def accepting_made_ids(world: World) -> Act:
    await open_group(world.redis, world.keys)
    batch = [new_command(await read_entry(world.redis, world.keys), id_is_made=True)]
    await world.ledger.accept(batch)
    return lambda redis: ledger_of(redis, world.keys).accept(batch)


async def rejecting(world: World) -> Act:
    await open_group(world.redis, world.keys)
    batch = [
        Rejection(
            await read_entry(world.redis, world.keys, b"bad"),
            orjson.dumps({"n": number}),
            orjson.dumps({"letter": number}),
            world.replies,
        )
        for number in range(2)
    ]
    return lambda redis: ledger_of(redis, world.keys).reject(batch)


async def claiming(world: World) -> Act:
    """One row of each lane, a suspect, one that becomes a suspect, and one that is broken."""
    redis, keys = world.redis, world.keys
    await open_group(redis, keys)
    for command_id in ("one", "old", "suspect", "broken"):
        await accept_one(redis, world.ledger, command_id)
    await accept_one(redis, world.ledger, "bulk", lane=Priority.BULK)
    await redis.hset(keys.command("old"), "c", "2")
    await redis.hset(keys.command("suspect"), "c", "3")
    await redis.zrem(keys.due_interactive, "suspect")
    await redis.zadd(keys.due_suspect, {"suspect": 1})
    await redis.delete(keys.text("broken"))

    return lambda client: ledger_of(client, keys).claim(10, bulk_first=1, bulk_most=10, suspects=1)


async def claiming_in_pauses(world: World) -> Act:
    redis, keys = world.redis, world.keys
    await open_group(redis, keys)
    await accept_one(redis, world.ledger)
    for lane, until in ((Priority.BULK, YEAR_2200_MS), (Priority.INTERACTIVE, 1)):
        pause = {"until": str(until), "probe_ms": "60000"}
        await redis.hset(keys.paused(lane), mapping=pause)  # type: ignore[arg-type]
    return lambda client: ledger_of(client, keys).claim(10, bulk_most=10)


async def claiming_in_a_hold(world: World) -> Act:
    await open_group(world.redis, world.keys)
    await accept_one(world.redis, world.ledger)
    await world.redis.set(world.keys.hold, "1000 1 told", px=900_000)
    return lambda client: ledger_of(client, world.keys).claim(10, bulk_most=10)


async def claiming_of_an_ended_backfill(world: World) -> Act:
    night = await begin(world.redis, world.keys, world.ledger, world.folder)
    await night.feed(2)
    await world.redis.hset(world.keys.group(NAME), "state", "cancelled")
    return lambda client: ledger_of(client, world.keys).claim(10, bulk_most=10)


async def claiming_expired(world: World) -> Act:
    redis, keys = world.redis, world.keys
    await open_group(redis, keys)
    for command_id in ("one", "broken", "running"):
        await accept_one(redis, world.ledger, command_id, deadline_ms=1)
    await redis.zadd(keys.due_suspect, {"one": 1})
    await redis.zrem(keys.due_interactive, "one")
    await redis.delete(keys.text("broken"))
    await redis.hset(keys.command("running"), "s", "in_doubt")
    return lambda client: Deadlines(client, keys, lease_seconds=30).claim(10)


async def renewing(world: World) -> Act:
    lease = await lease_one(world.redis, world.ledger)
    return lambda client: ledger_of(client, world.keys).renew([lease])


async def noting(world: World) -> Act:
    keys = world.keys
    lease = await lease_one(world.redis, world.ledger)
    await world.redis.set(keys.lock("old"), "one")
    await world.redis.set(keys.lock("new"), "ended")
    await world.redis.hset(keys.command("ended"), mapping={"s": "cancelled", "e": "1"})
    return lambda client: ledger_of(client, keys).checkpoint(
        lease,
        {},
        phase=Phase.APPLIED,
        state=RowState.POLLING,
        event=b'{"n": 1}',
        replies=world.replies,
        take_lock=keys.lock("new"),
        drop_lock=keys.lock("old"),
        lock_lapses=True,
    )


def finishing(state: RowState) -> Prepare:
    async def prepare(world: World) -> Act:
        keys = world.keys
        lease = await lease_one(world.redis, world.ledger, deadline_ms=YEAR_2200_MS)
        await world.redis.set(keys.lock("x"), "one")
        end = RunResult(
            lease,
            state,
            1,
            event=b'{"n": 1}',
            replies=world.replies,
            dead_letter=b"{}" if state is RowState.FAILED else b"",
            drop_lock=keys.lock("x"),
            progress={},
            phase=Phase.APPLIED,
            errors=[{"code": "rate_limited"}],
            failure="no",
        )
        return lambda client: ledger_of(client, keys).finish([end])

    return prepare


def finishing_an_item(failure: str) -> Prepare:
    async def prepare(world: World) -> Act:
        night = await begin(world.redis, world.keys, world.ledger, world.folder)
        await world.redis.hset(world.keys.group(NAME), "most_failures", "1")
        await night.feed(2)
        lease = (await night.claim())[0]

        async def act(client: Redis) -> None:
            ledger = ledger_of(client, world.keys)
            worker = Backfilling(client, world.keys, ledger, night.store, night.plan)
            await worker.settle(lease, failure)

        return act

    return prepare


async def finishing_a_backfill(world: World) -> Act:
    lease = await lease_one(world.redis, world.ledger, NAME, command_type="backfill")
    await begin(world.redis, world.keys, world.ledger, world.folder, by=lease)
    end = RunResult(lease, RowState.FAILED, 1, event=b"{}", dead_letter=b"{}", failure="no")
    return lambda client: ledger_of(client, world.keys).finish([end])


async def cancelling(world: World) -> Act:
    lease = await lease_one(
        world.redis,
        world.ledger,
        replies=world.replies,
        deadline_ms=YEAR_2200_MS,
        text=TEXT[:-1] + b',"replyto":"desk"}',
    )
    await world.ledger.checkpoint(lease, {}, phase=Phase.INTENDED)
    return lambda client: cancel(
        client, world.keys, "one", retention_seconds=600, reply_retention_seconds=600
    )


async def cancelling_a_backfill(world: World) -> Act:
    lease = await lease_one(world.redis, world.ledger, NAME, command_type="backfill")
    await begin(world.redis, world.keys, world.ledger, world.folder, by=lease)
    return lambda client: cancel(
        client, world.keys, NAME, retention_seconds=600, reply_retention_seconds=600
    )


async def resolving(world: World) -> Act:
    lease = await lease_one(
        world.redis,
        world.ledger,
        replies=world.replies,
        text=TEXT[:-1] + b',"replyto":"desk"}',
    )
    await world.ledger.checkpoint(lease, {}, phase=Phase.IN_DOUBT)
    return lambda client: resolve(
        client, world.keys, "one", Resolution(None, "me"), reply_retention_seconds=600
    )


async def forgetting_consumers(world: World) -> Act:
    await open_group(world.redis, world.keys)
    await world.redis.xgroup_createconsumer(world.keys.commands, GROUP, "gone")
    return lambda client: load_script(client, "forget_consumers")(
        keys=[world.keys.commands], args=[GROUP, 0, "gone"]
    )


async def hastening(world: World) -> Act:
    redis, keys = world.redis, world.keys
    lease = await lease_one(redis, world.ledger)
    errors = [{"code": ErrorCode.RATE_LIMITED}]
    await world.ledger.finish([
        RunResult(lease, RowState.RETRYING, 1, delay_seconds=900, errors=errors)
    ])
    return lambda client: Holds(client, keys).release()


async def holding(world: World) -> Act:
    return lambda client: ledger_of(client, world.keys).hold(60)


async def minding_the_clock(world: World) -> Act:
    await world.redis.set(world.keys.clock, f"{YEAR_2200_MS} 0")
    return lambda client: clock_of(client, world.keys).mind()


async def moving_back(world: World) -> Act:
    lease = await lease_one(world.redis, world.ledger)
    await world.ledger.finish([RunResult(lease, RowState.RETRYING, 1, delay_seconds=900)])
    return lambda client: clock_of(client, world.keys).move_back(600_000)


def moving(which: str) -> Prepare:
    async def prepare(world: World) -> Act:
        keys = world.keys
        pushed = ListSource.inbox(keys) if which == "inbox" else ListSource.celery(keys)
        push = world.redis.rpush if pushed.oldest == "LEFT" else world.redis.lpush
        for text in (b"one", b"two", b"three"):
            await push(pushed.name, text)
        await world.redis.rpush(pushed.moving, b"moving")

        return lambda client: ListForwarder(client, keys, pushed, 100).move_once()

    return prepare


async def restoring(world: World) -> Act:
    """Rows that stand in no due set: a whole one, a late one, an item's, and two that are lost."""
    redis, keys = world.redis, world.keys
    night = await begin(redis, keys, world.ledger, world.folder)
    await night.feed(1)
    await open_group(redis, keys)
    for command_id in ("one", "two", "half", "run"):
        await accept_one(redis, world.ledger, command_id, deadline_ms=YEAR_2200_MS)
    await redis.hset(keys.command("run"), "n", "2")
    await redis.delete(keys.text("run"), keys.command("two"))
    await redis.delete(keys.text("half"))
    await redis.delete(keys.due_interactive, keys.due_bulk, keys.deadlines, keys.group_open(NAME))
    await redis.set(keys.text(member_row_id(NAME, 9)), "{}")
    await redis.zadd(keys.due_suspect, {"half": 1})
    await redis.hset(keys.command("half"), "n", "0")
    ids = [b"one", b"two", b"half", b"run", *(member_row_id(NAME, n).encode() for n in (0, 9))]
    sets = [keys.due_interactive, keys.due_bulk, keys.due_suspect, keys.deadlines]
    return lambda client: load_script(client, "restore")(
        keys=sets, args=[keys.prefix, 30_000, 1, *ids]
    )


async def taking_permits(world: World) -> Act:
    permits = world.keys.inflight
    await world.redis.zadd(permits, {"lost": 1, "far": YEAR_2200_MS})
    return lambda client: load_script(client, "take_permit")(keys=[permits], args=["p", 1, 60_000])


async def taking_turns(world: World) -> Act:
    return lambda client: load_script(client, "take_turns")(
        keys=[world.keys.rate], args=[1, 1000, 1_000_000]
    )


async def testifying(world: World) -> Act:
    keys = world.keys
    lease = await lease_one(world.redis, world.ledger)
    await world.redis.set(keys.lock("creation"), "one")
    attested = OrphanedCreation("a-uuid", None, keys.lock("created"), 600)
    return lambda client: Orphans(client, keys).leave(
        lease, attested, drop_lock=keys.lock("creation")
    )


async def opening(world: World) -> Act:
    plan = make_plan(world.folder)
    return lambda client: store_of(client, world.keys).open(
        NAME, plan, Origin.CONSOLE, "bf-1", event=b"{}", render=str(world.folder)
    )


async def opening_for_a_command(world: World) -> Act:
    lease = await lease_one(world.redis, world.ledger, NAME, command_type="backfill")
    plan = make_plan(world.folder)
    return lambda client: store_of(client, world.keys).open_for(lease, plan)


async def leading(world: World) -> Act:
    night = await begin(world.redis, world.keys, world.ledger, world.folder)
    token, _ = await night.lead()
    await world.redis.hset(backfill_key(world.keys, NAME), "leader_until", str(YEAR_2200_MS))
    return lambda client: store_of(client, world.keys).lead(
        NAME, token, lease_ms=LEASE_MS, progress=(b"{}", "1 of 3"), replies=world.replies
    )


async def feeding(world: World) -> Act:
    night = await begin(world.redis, world.keys, world.ledger, world.folder)
    token, standing = await night.lead()
    items = [
        FeedItem(b"", b"{}"),
        FeedItem(orjson.dumps(command(1))),
        FeedItem(b"", b"{}"),
        FeedItem(b"{}"),
    ]
    return lambda client: store_of(client, world.keys).feed(
        standing, token, items, "4", exhausted=True, passed={"link": 2}, epoch=""
    )


async def _with_results(world: World) -> tuple[Backfilling, LeadToken, str]:
    night = await begin(world.redis, world.keys, world.ledger, world.folder)
    token, _ = await night.feed(3)
    for lease in (await night.claim())[:2]:
        await night.settle(lease)
    found = await night.store.results(NAME, "-", "+")
    return night, token, f"{found[0][0]} {found[-1][0]} {len(found)}"


async def cutting(world: World) -> Act:
    _, token, cut = await _with_results(world)
    return lambda client: store_of(client, world.keys).begin_part(NAME, token, cut)


async def shelving(world: World) -> Act:
    night, token, cut = await _with_results(world)
    await night.store.begin_part(NAME, token, cut)
    return lambda client: store_of(client, world.keys).commit_part(NAME, token, cut)


def steering(before: BackfillState, after: BackfillState) -> Prepare:
    async def prepare(world: World) -> Act:
        night = await begin(world.redis, world.keys, world.ledger, world.folder)
        await night.feed(3)
        await world.redis.hset(world.keys.group(NAME), "state", before)
        await world.redis.zrem(world.keys.due_bulk, member_row_id(NAME, 0))
        turn = Transition({before}, after, reason="because", event=b"{}", result=b"{}")
        return lambda client: store_of(client, world.keys).transition(NAME, turn)

    return prepare


def following(*, leads: bool) -> Prepare:
    async def prepare(world: World) -> Act:
        """Someone takes the lead, or records a position as the leader."""
        for milliseconds in (1, 2):
            await world.redis.xadd(world.keys.events, {"event": "{}"}, id=f"{milliseconds}-0")
        store = FollowerStore(world.redis, world.keys, "sinks.ops")
        taken = await store.lead(NOBODY, lease_ms=LEASE_MS, holder="me") if leads else None

        def act(redis: Redis) -> Awaitable[Any]:
            of = FollowerStore(redis, world.keys, "sinks.ops")
            if taken is None:
                return of.lead(NOBODY, lease_ms=LEASE_MS, holder="me")
            return of.lead(
                taken.token,
                lease_ms=LEASE_MS,
                holder="me",
                position=("1-0", 1),
                known=("1-0", taken.position),
            )

        return act

    return prepare


async def reading_events(world: World) -> Act:
    await world.redis.xadd(world.keys.events, {"event": "{}"})
    return lambda redis: FollowerStore(redis, world.keys, "sinks.ops").read("0-0", 10)


DELIVERY = Delivery("door", "one", "submitted", 1_700_000_000_000, {"x": "1"}, b"{}")
OLD_DELIVERY = Delivery("door", "old", "submitted", 1_700_000_000_000, {"x": "1"}, b"{}")


def window_item(window: str, number: int) -> WindowItem:
    return WindowItem(
        window=window,
        new_id=f"{window}/{number:032x}",
        milliseconds=60_000,
        head=orjson.dumps({"source": "door", "rule": window, "key": "", "due_at": 1}),
        text=orjson.dumps({
            "id": "old",
            "type": "submitted",
            "received_at": 1_700_000_000_000,
            "headers": {},
            "body": {"n": number},
            "depth": 0,
            "attributes": None,
        }),
    )


def deliveries_of(redis: Redis, keys: Keys) -> Deliveries:
    return Deliveries(redis, keys, retention_seconds=600)


def effects(result: RuleResult = RuleResult.SUBMITTED) -> Effects:
    """Commands for both streams, dead letters, and what joins one window and opens another."""
    return Effects(
        [RuleRecord("rule", result, ("a", "b"))],
        [
            Message("a", b"a", CommandStream.COMMON),
            Message("b", b"b", CommandStream.BULK),
            Message("c", b"c", CommandStream.COMMON),
        ],
        [b"letter a", b"letter b"],
        [window_item("open", 2), window_item("new", 3)],
    )


async def receiving(world: World) -> Act:
    before = Effects(
        [RuleRecord("rule", RuleResult.COALESCED)], window_items=[window_item("open", 1)]
    )
    await deliveries_of(world.redis, world.keys).record(OLD_DELIVERY, before)
    return lambda client: deliveries_of(client, world.keys).record(DELIVERY, effects())


async def receiving_again(world: World) -> Act:
    deliveries = deliveries_of(world.redis, world.keys)
    before = Effects(
        [RuleRecord("rule", RuleResult.COALESCED)], window_items=[window_item("open", 1)]
    )
    await deliveries.record(OLD_DELIVERY, before)
    known = await deliveries.get(OLD_DELIVERY.name)
    return lambda client: deliveries_of(client, world.keys).record(
        OLD_DELIVERY, effects(), replayed=known
    )


async def sealing(world: World) -> Act:
    """One window that is due, one that was sealed before and replaced, and one that is gone."""
    redis, keys = world.redis, world.keys
    items = [window_item(name, number) for number, name in enumerate(("due", "replaced", "gone"))]
    await deliveries_of(redis, keys).record(OLD_DELIVERY, Effects(window_items=items))
    await redis.zadd(
        windows_key(keys), {item.new_id: number for number, item in enumerate(items, 1)}
    )
    await redis.hset(open_window_key(keys, "replaced"), "id", "another")
    await redis.delete(window_key(keys, items[2].new_id))
    return lambda client: Windows(client, keys).seal(60)


async def restoring_windows(world: World) -> Act:
    """Two windows whose set was deleted."""
    redis, keys = world.redis, world.keys
    items = [window_item(name, number) for number, name in enumerate(("one", "two"))]
    await deliveries_of(redis, keys).record(OLD_DELIVERY, Effects(window_items=items))
    await redis.delete(windows_key(keys))
    return lambda client: Windows(client, keys).restore()


async def closing(world: World) -> Act:
    redis, keys = world.redis, world.keys
    await deliveries_of(redis, keys).record(
        OLD_DELIVERY, Effects(window_items=[window_item("due", 1)])
    )
    await redis.zadd(windows_key(keys), {window_item("due", 1).new_id: 1})
    windows = Windows(redis, keys)
    await windows.seal(60)
    window = await windows.read(window_item("due", 1).new_id)
    assert window is not None
    made = effects()
    return lambda client: Windows(client, keys).close(
        window, WindowEnd(RuleResult.SUBMITTED, ("a",)), made.commands, made.dead_letters
    )


async def submitting_over_http(world: World) -> Act:
    await world.redis.xadd(world.keys.bulk_commands, {"command": "{}"})
    commands = [
        b'{"type":"list_models","data":{},"id":"one"}',
        b'{"type":"list_models","data":{},"id":"two","priority":"bulk"}',
    ]
    submissions = [prepare(each) for each in commands]
    return lambda client: Submitter(client, world.keys).submit(submissions)


async def replaying(world: World) -> Act:
    text = b'{"type":"list_models","data":{},"id":"a"}'
    letter = DeadLetter("5-0", "a", "list_models", "server_error", {}, text, 3, [], 5)
    await world.redis.xadd(world.keys.dead_letters, {"text": text}, id=letter.key)
    await world.redis.xadd(world.keys.commands, {"command": "{}"})
    return lambda redis: DeadLetters(redis, world.keys).replay(letter)


async def beginning_an_act(world: World) -> Act:
    key = answer_key(world.keys, "cancel")
    return lambda redis: load_script(redis, "begin_act", "worker.gateway")(
        keys=[key], args=["begun", 600, 0]
    )


async def ending_an_act(world: World) -> Act:
    key = answer_key(world.keys, "cancel")
    await world.redis.set(key, "begun", ex=600)
    return lambda redis: load_script(redis, "end_act", "worker.gateway")(
        keys=[key], args=["begun", "answered", 600]
    )


async def rewinding(world: World) -> Act:
    await world.redis.hset(follower_key(world.keys, "f"), "position", "9-0")
    return lambda redis: rewind(redis, world.keys, "f", "3-0")


async def waiting_sink(world: World) -> tuple[int, list[DeferredEvent]]:
    """Returns the token of a sink's leader, and two events of which the first is put off."""
    store = FollowerStore(world.redis, world.keys, follower_name("ops"))
    taken = await store.lead(NOBODY, lease_ms=LEASE_MS, holder="me")
    found = []
    for number in range(2):
        event = Event(f"{number + 1}-0", {"subject": "one"})
        found.append(DeferredEvent(event.entry_id, event, b'{"number": %d}' % number))
    sink = SinkStore(world.redis, world.keys, "ops")
    assert await sink.defer(taken.token, found[0], CommandQueue(tries=1))
    return taken.token, found


async def deferring(world: World) -> Act:
    token, (_, second) = await waiting_sink(world)
    lane = CommandQueue(tries=2)
    return lambda redis: SinkStore(redis, world.keys, "ops").defer(token, second, lane)


def settling(unsent: str) -> Prepare:
    async def prepare(world: World) -> Act:
        token, (first, _) = await waiting_sink(world)
        return lambda redis: SinkStore(redis, world.keys, "ops").settle(token, first, unsent)

    return prepare


async def recovering(world: World) -> Act:
    token, waiting = await waiting_sink(world)
    sink = SinkStore(world.redis, world.keys, "ops")
    await sink.defer(token, waiting[1], None)
    for each in waiting:
        await sink.settle(token, each, "refused")
    return lambda redis: SinkStore(redis, world.keys, "ops").recover(0)


def appending(**told: Any) -> Prepare:
    async def prepare(world: World) -> Act:
        key = world.keys.replies("copy")
        config = RedisSink.model_validate(dict.fromkeys(told, key) | {"maxlen": 10})
        event = Event("1-0", {"id": "one"})
        return lambda redis: _send(RedisTarget(config, redis), event)

    return prepare


async def _send(target: RedisTarget, event: Event) -> None:
    try:
        await target.send(event, b"{}")
    except DeliveryError as exc:
        raise (exc.__cause__ or exc) from None


ACTS: Final[dict[str, dict[str, Prepare]]] = {
    "accept": {"chosen ids": accepting, "made ids": accepting_made_ids},
    "reject": {"": rejecting},
    "claim": {
        "all lanes": claiming,
        "pauses": claiming_in_pauses,
        "a hold": claiming_in_a_hold,
        "an ended backfill": claiming_of_an_ended_backfill,
    },
    "claim_expired": {"": claiming_expired},
    "renew": {"": renewing},
    "checkpoint": {"": noting},
    "finish": {
        "succeeded": finishing(RowState.SUCCEEDED),
        "failed": finishing(RowState.FAILED),
        "retrying": finishing(RowState.RETRYING),
        "an item": finishing_an_item(""),
        "a bad item": finishing_an_item("no"),
        "a backfill": finishing_a_backfill,
    },
    "cancel": {"a command": cancelling, "a backfill": cancelling_a_backfill},
    "resolve": {"": resolving},
    "forget_consumers": {"": forgetting_consumers},
    "hasten": {"": hastening},
    "hold": {"": holding},
    "mind_clock": {"": minding_the_clock},
    "move_back": {"": moving_back},
    "move_inbox": {"inbox": moving("inbox"), "celery": moving("celery")},
    "restore": {"": restoring},
    "submit": {"": submitting_over_http},
    "replay": {"": replaying},
    "begin_act": {"": beginning_an_act},
    "end_act": {"": ending_an_act},
    "take_permit": {"": taking_permits},
    "take_turns": {"": taking_turns},
    "leave_orphan": {"": testifying},
    "open": {"by the console": opening, "by a command": opening_for_a_command},
    "lead": {"": leading},
    "feed": {"": feeding},
    "follow": {"a new one": following(leads=False), "its leader": following(leads=True)},
    "read_events": {"": reading_events},
    "rewind": {"": rewinding},
    "defer": {"": deferring},
    "settle_deferred": {"delivered": settling(""), "unsent": settling("refused")},
    "recover": {"": recovering},
    "append_stream": {"": appending(stream=True)},
    "append_list": {"": appending(list=True)},
    "begin_part": {"": cutting},
    "commit_part": {"": shelving},
    "receive": {"a new delivery": receiving, "a replay": receiving_again},
    "seal_windows": {"": sealing},
    "close_window": {"": closing},
    "restore_windows": {"": restoring_windows},
    "transition": {
        "resume": steering(BackfillState.PAUSED, BackfillState.RUNNING),
        "cancel": steering(BackfillState.RUNNING, BackfillState.CANCELLING),
        "end": steering(BackfillState.RUNNING, BackfillState.SUCCEEDED),
    },
}
