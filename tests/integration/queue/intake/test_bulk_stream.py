"""Rules of the stream for bulk commands: read after the common one, and never mixed up with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from redis.exceptions import ResponseError

from schemas.enums import Priority
from tests.integration.intake_acts import good, intake_of, running, until
from tests.integration.ledger_acts import MODEL_UUID, events, new_command
from trainmaster_client import Client
from worker.queue.intake.validation import Entry
from worker.queue.ledger.dead_letters import DeadLetters
from worker.queue.ledger.keys import COMMAND_FIELD, GROUP, CommandStream
from worker.queue.ledger.models import AcceptStatus
from worker.queue.ledger.queries import LedgerReader
from worker.queue.ledger.replay import Edit, Replay, prepare_replay
from worker.queue.ledger.streams import entries_between, of_one_stream
from worker.queue.telemetry import Listener

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.console import Console
    from worker.queue.intake.consumer import StreamConsumer
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

COMMON, BULK = CommandStream.COMMON, CommandStream.BULK
ENTRY = "1234567890123-5"
OTHER = {"model_uuid": MODEL_UUID.replace("2", "3")}


@pytest.fixture(autouse=True)
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look ahead ends where it has seen all, however slow the machine is."""
    monkeypatch.setattr("worker.queue.intake.look_ahead._LONGEST_LOOK_SECONDS", 60.0)


async def open_groups(redis: Redis, keys: Keys) -> None:
    for stream in CommandStream:
        await redis.xgroup_create(keys.stream(stream), GROUP, id="0", mkstream=True)


async def add(
    redis: Redis, keys: Keys, stream: CommandStream, text: bytes, entry: str = "*"
) -> None:
    await redis.xadd(keys.stream(stream), {COMMAND_FIELD: text}, id=entry)


async def all_read(redis: Redis, keys: Keys) -> bool:
    return not (await redis.xlen(keys.commands) or await redis.xlen(keys.bulk_commands))


async def read_all(redis: Redis, ledger: Ledger, **options: Any) -> None:
    """Lets an intake take in what both streams hold."""
    async with running(intake_of(redis, ledger, **options).read):
        await until(lambda: all_read(redis, ledger.keys))


async def pending(redis: Redis, keys: Keys) -> int:
    return sum([
        (await redis.xpending(keys.stream(stream), GROUP))["pending"] for stream in CommandStream
    ])


async def subjects(redis: Redis, keys: Keys) -> list[str]:
    return [event["subject"] for event in await events(redis, keys.events)]


@pytest.mark.parametrize(
    ("attributes", "lane"),
    [
        ({}, Priority.BULK),
        ({"priority": None}, Priority.BULK),
        ({"priority": "bulk"}, Priority.BULK),
        ({"priority": "interactive"}, Priority.INTERACTIVE),
    ],
)
async def test_a_command_in_the_bulk_stream_is_bulk_unless_it_says_otherwise(
    redis: Redis, ledger: Ledger, keys: Keys, attributes: dict[str, Any], lane: Priority
) -> None:
    await add(redis, keys, BULK, good(id="a", **attributes))
    await add(redis, keys, COMMON, good(id="b", priority=attributes.get("priority")))
    await read_all(redis, ledger)
    assert await redis.zscore(keys.due(lane), "a") is not None
    common = Priority(attributes.get("priority") or "interactive")
    assert await redis.zscore(keys.due(common), "b") is not None
    assert await pending(redis, keys) == 0


async def test_what_is_in_the_common_stream_goes_before_what_is_in_the_bulk_stream(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """Though the bulk stream is not left out for as long as the common one is full."""
    for number in range(40):
        await add(redis, keys, BULK, good(id=f"b{number}"))
        await add(redis, keys, COMMON, good(id=f"c{number}"))
    await read_all(redis, ledger, batch=1)
    told = await subjects(redis, keys)
    assert len(told) == 80
    first_40 = [subject[0] for subject in told[:40]]
    assert first_40.count("c") >= 36
    assert first_40.count("b") >= 2, "who keeps the common stream full must not starve bulk"


async def test_the_intake_is_behind_while_the_common_stream_has_more_than_it_read(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_groups(redis, keys)
    told: list[bool] = []
    intake = intake_of(redis, ledger, batch=10, on_caught_up=lambda: told.append(True))
    intake._resume.clear()
    intake._pace.count = 10
    for stream, number in ((COMMON, 15), (BULK, 30)):
        for each in range(number):
            await add(redis, keys, stream, good(id=f"{number}-{each}"))
    behind = []
    for _ in range(3):
        await intake._read_once()
        behind.append(intake.behind)
    assert behind == [True, False, False], "what is left then is bulk"
    assert told == [True], "what was held back is called"


async def test_an_intake_that_was_behind_never_waits_to_find_that_nothing_more_is_there(
    redis: Redis, ledger: Ledger, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it knows, the bulk stream is left out and bulk commands are held back."""
    # For ever, as Redis reads it: who waits comes back when the connection gives up, by an error.
    monkeypatch.setattr("worker.queue.intake.consumer.BLOCK_MILLISECONDS", 0)
    await open_groups(redis, keys)
    told: list[bool] = []
    intake = intake_of(redis, ledger, on_caught_up=lambda: told.append(True))
    intake._resume.clear()
    for number in range(intake._pace.count):
        await add(redis, keys, COMMON, good(id=f"c-{number}"))
    await intake._read_once()
    assert (intake.behind, told) == (True, [])
    await intake._read_once()
    assert (intake.behind, told) == (False, [True])


async def add_backlog(redis: Redis, keys: Keys, commands: int, priority: str) -> None:
    pipe = redis.pipeline(transaction=False)
    for number in range(commands):
        pipe.xadd(keys.commands, {COMMAND_FIELD: good(id=f"b-{number}", priority=priority)})
    await pipe.execute()


def reads_ten(redis: Redis, ledger: Ledger, **options: Any) -> StreamConsumer:
    """Returns an intake whose next read takes ten entries."""
    intake = intake_of(redis, ledger, batch=10, **options)
    intake._resume.clear()
    intake._pace.count = 10
    return intake


async def test_what_stands_behind_many_bulk_commands_in_the_common_stream_goes_before_them(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """What can't be accepted stays for its turn, and each is accepted or rejected once."""
    await open_groups(redis, keys)
    await add_backlog(redis, keys, 6_000, "bulk")
    told: list[int] = []
    intake = reads_ten(redis, ledger, on_accepted=told.append)
    await add(redis, keys, COMMON, good(id="first"))
    await add(redis, keys, COMMON, b"no command")
    await add(redis, keys, COMMON, good(id="first", data=OTHER))
    await add(redis, keys, COMMON, good(id="b-7", priority="interactive"))
    await add(redis, keys, COMMON, good())
    nameless = (await entries_between(redis, keys.commands, "-", "+"))[-1][0].decode()
    await intake._read_once()
    asked = ["first", "b-7", nameless]
    assert await subjects(redis, keys) == [*asked, *(f"b-{n}" for n in range(10) if n != 7)]
    assert sum(told) == 12
    assert await redis.zscore(keys.due(Priority.INTERACTIVE), "b-7") is not None
    assert await redis.zscore(keys.due(Priority.INTERACTIVE), "first") is not None
    assert await redis.xlen(keys.commands) == 5_990 + 2, "what is to be rejected waits"
    async with running(intake.read):
        await add(redis, keys, COMMON, good(id="second"))
        await until(lambda: all_read(redis, keys))
    found = await events(redis, keys.events)
    of_type = [event["type"].rpartition(".")[2] for event in found]
    assert (of_type.count("accepted"), of_type.count("rejected")) == (6_003, 2)
    assert len({event["id"] for event in found}) == len(found)
    assert await pending(redis, keys) == 0


async def test_what_is_accepted_out_of_turn_is_counted_once(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    counts: list[int] = []

    class Counting(Listener):
        def accepted(self, count: int) -> None:
            counts.append(count)

    ledger.telemetry = Counting()
    await open_groups(redis, keys)
    await add_backlog(redis, keys, 12, "bulk")
    await add(redis, keys, COMMON, good(id="first"))
    intake = reads_ten(redis, ledger)
    for _ in range(2):
        await intake._read_once()
    assert await subjects(redis, keys) == ["first", *(f"b-{number}" for number in range(12))]
    assert sum(counts) == 13


async def test_an_entry_that_another_worker_holds_is_accepted_once_though_it_is_looked_at(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_groups(redis, keys)
    await add_backlog(redis, keys, 100, "bulk")
    intake = reads_ten(redis, ledger)
    await intake._read_once()
    for name in "ab":
        await add(redis, keys, COMMON, good(id=name))
    held = of_one_stream(await redis.xreadgroup(GROUP, "other", {keys.commands: ">"}, count=10))
    last = await entries_between(redis, keys.commands, "-", "+")
    held += of_one_stream(await redis.xreadgroup(GROUP, "other", {keys.commands: ">"}, count=80))
    assert held[-1] == last[-3], "one bulk command is left to be read, and it is not the newest"
    intake._ahead._next_look = 0
    await intake._read_once()
    assert {"a", "b"} <= set(await subjects(redis, keys))
    other = intake_of(redis, ledger, consumer="other")
    await other._acceptor._handle([
        Entry(entry_id, fields) for entry_id, fields in [*held, *last[-2:]]
    ])
    assert len(await subjects(redis, keys)) == 102
    assert await pending(redis, keys) == 0
    assert await redis.xlen(keys.commands) == 0


async def test_only_one_worker_looks_ahead_and_another_one_does_once_it_is_gone(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_groups(redis, keys)
    await add_backlog(redis, keys, 100, "bulk")
    await reads_ten(redis, ledger, consumer="first")._read_once()
    await add(redis, keys, COMMON, good(id="a"))
    second = reads_ten(redis, ledger, consumer="second")
    await second._read_once()
    assert "a" not in await subjects(redis, keys)
    assert 0 < await redis.pttl(keys.look_ahead) <= 5_000
    await redis.delete(keys.look_ahead)
    second._ahead._next_look = 0
    await second._read_once()
    assert "a" in await subjects(redis, keys)


async def test_nobody_looks_through_a_backlog_of_interactive_commands(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_groups(redis, keys)
    await add_backlog(redis, keys, 100, "interactive")
    await reads_ten(redis, ledger)._read_once()
    assert len(await subjects(redis, keys)) == 10
    assert not await redis.exists(keys.look_ahead)


async def test_a_look_at_large_entries_is_bounded_by_bytes(
    redis: Redis, ledger: Ledger, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And by the entries of one read, where nothing told that the next ones are large."""
    pages = []

    async def counted(*args: Any) -> Any:
        found = await entries_between(*args)
        pages.append(len(found))
        return found

    monkeypatch.setattr("worker.queue.intake.look_ahead.entries_between", counted)
    await open_groups(redis, keys)
    await add_backlog(redis, keys, 200, "bulk")
    pipe = redis.pipeline(transaction=False)
    for number in range(60):
        data = {"model_uuid": MODEL_UUID, "title": "x" * 10_000}
        text = good(id=f"{number}", type="update_model", data=data, priority="bulk")
        pipe.xadd(keys.commands, {COMMAND_FIELD: text})
    await pipe.execute()
    await reads_ten(redis, ledger, batch_bytes=50_000)._read_once()
    assert sum(pages) == 250
    assert max(pages) <= 10
    assert max(pages[-10:]) <= 5


async def test_what_was_looked_at_is_not_looked_at_again(
    redis: Redis, ledger: Ledger, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else no look would come further than what can be looked at in one."""
    looked = 0

    async def counted(*args: Any) -> Any:
        nonlocal looked
        found = await entries_between(*args)
        looked += len(found)
        return found

    monkeypatch.setattr("worker.queue.intake.look_ahead.entries_between", counted)
    await open_groups(redis, keys)
    await add_backlog(redis, keys, 100, "bulk")
    intake = reads_ten(redis, ledger)
    await intake._read_once()
    assert looked == 90
    await add(redis, keys, COMMON, good(id="late"))
    intake._ahead._next_look = 0
    await intake._read_once()
    assert looked == 91


async def test_what_could_not_be_accepted_out_of_turn_is_looked_at_again(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_groups(redis, keys)
    await add_backlog(redis, keys, 300, "bulk")
    await add(redis, keys, COMMON, good(id="first"))
    intake = reads_ten(redis, ledger)
    await redis.set(keys.deadlines, "not a set")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await intake._read_once()
    await redis.delete(keys.deadlines)
    intake._ahead._next_look = 0
    await intake._read_once()
    assert (await subjects(redis, keys))[0] == "first"


async def test_where_redis_refuses_the_look_the_reads_in_turn_go_on(
    redis: Redis, ledger: Ledger, keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    await open_groups(redis, keys)
    await add_backlog(redis, keys, 100, "bulk")
    await redis.rpush(keys.look_ahead, "not a text")
    intake = reads_ten(redis, ledger)
    for number in range(1, 4):
        await intake._read_once()
        assert len(await subjects(redis, keys)) == 10 * number
    said = capsys.readouterr().out
    assert said.count("intake.look_ahead_refused") == 1
    assert keys.look_ahead in said


async def test_a_look_over_messages_that_take_long_to_judge_lets_others_have_their_turn(
    redis: Redis, ledger: Ledger, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or no lease would be renewed meanwhile."""
    monkeypatch.setattr("worker.queue.intake.acceptance.SLOW_SECONDS", -1)
    await open_groups(redis, keys)
    await add_backlog(redis, keys, 20, "bulk")
    for _ in range(20):
        await add(redis, keys, COMMON, b"no command")
    entries = await entries_between(redis, keys.commands, "-", "+")
    intake = reads_ten(redis, ledger)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await intake._acceptor.handle_ahead([
        Entry(entry_id, fields) for entry_id, fields in entries[20:]
    ])
    counting.cancel()
    assert turns >= 20


async def test_a_stream_that_was_made_anew_is_looked_at_whatever_ids_it_has(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """As after Redis' clock went back: ids that were looked at say nothing of it."""
    await open_groups(redis, keys)
    intake = reads_ten(redis, ledger)
    await add_backlog(redis, keys, 100, "bulk")
    await intake._read_once()
    await redis.delete(keys.commands)
    await redis.xgroup_create(keys.commands, GROUP, id="0", mkstream=True)
    await intake._read_once()
    for number in range(100):
        entry = f"1000-{number + 1}"
        await add(redis, keys, COMMON, good(id=f"n-{number}", priority="bulk"), entry)
    await add(redis, keys, COMMON, good(id="late"), "1001-1")
    intake._ahead._next_look = 0
    intake._pace.count = 10
    await intake._read_once()
    assert "late" in await subjects(redis, keys)


async def test_bulk_entries_that_an_accept_refused_are_read_again_once_it_is_not(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_groups(redis, keys)
    await redis.set(keys.deadlines, "no set")
    for number in range(3):
        await add(redis, keys, BULK, good(id=f"b{number}"))
    # Nobody takes anything over for an hour.
    async with running(intake_of(redis, ledger, consumer_idle_seconds=3600).read):
        await until(lambda: has_pending(redis, keys, 3))
        await redis.delete(keys.deadlines)
        await until(lambda: all_read(redis, keys))
    assert sorted(await subjects(redis, keys)) == ["b0", "b1", "b2"]


async def has_pending(redis: Redis, keys: Keys, number: int) -> bool:
    return await pending(redis, keys) == number


async def test_entries_of_the_same_id_in_both_streams_are_two_commands(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await add(redis, keys, COMMON, good(), ENTRY)
    await add(redis, keys, BULK, good(), ENTRY)
    await read_all(redis, ledger)
    told = await events(redis, keys.events)
    assert [event["subject"] for event in told] == [ENTRY, f"b{ENTRY}~1"]
    assert [event["id"] for event in told] == [f"{ENTRY}/accepted", f"b{ENTRY}/accepted"]
    assert await redis.zcard(keys.due_interactive) == await redis.zcard(keys.due_bulk) == 1
    assert await redis.hget(keys.command(f"b{ENTRY}~1"), "q") == f"b{ENTRY}".encode()


async def test_an_entry_s_id_that_the_bulk_stream_used_first_is_not_used_again(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await add(redis, keys, BULK, good(data=OTHER), ENTRY)
    await read_all(redis, ledger)
    await add(redis, keys, COMMON, good(), ENTRY)
    await read_all(redis, ledger)
    assert await subjects(redis, keys) == [ENTRY, f"{ENTRY}~1"]
    assert await redis.get(keys.text(ENTRY)) == good(data=OTHER)
    assert await redis.get(keys.text(f"{ENTRY}~1")) == good()


@pytest.mark.parametrize("data", [OTHER, {"model_uuid": MODEL_UUID}], ids=["other", "same"])
@pytest.mark.parametrize("stream", CommandStream)
async def test_an_id_that_a_producer_chose_is_never_that_of_a_command_without_one(
    redis: Redis, ledger: Ledger, keys: Keys, stream: CommandStream, data: dict[str, Any]
) -> None:
    """It may look like the entry's, and the commands may be the same: both are carried out."""
    origin = stream.origin(ENTRY)
    taken = [ENTRY, f"{origin}~1", f"{origin}~2"]
    for number, command_id in enumerate(taken):
        await add(redis, keys, COMMON, good(id=command_id, data=data), f"1-{number + 1}")
    await add(redis, keys, stream, good(), ENTRY)
    await read_all(redis, ledger)
    told = await events(redis, keys.events)
    assert [event["subject"] for event in told] == [*taken, f"{origin}~3"]
    assert {event["type"] for event in told} == {"get_model.accepted"}


async def test_a_command_without_an_id_whose_ids_are_all_taken_is_rejected_not_lost(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    for number, command_id in enumerate([ENTRY, *(f"b{ENTRY}~{n}" for n in range(1, 20))]):
        await add(redis, keys, COMMON, good(id=command_id), f"1-{number + 1}")
    await read_all(redis, ledger)
    await add(redis, keys, BULK, good(), ENTRY)
    await read_all(redis, ledger)
    told = (await events(redis, keys.events))[-1]
    assert (told["type"], told["id"]) == ("get_model.rejected", f"b{ENTRY}/rejected")
    assert told["data"]["error"]["code"] == "idempotency_conflict"
    assert await pending(redis, keys) == 0


@pytest.mark.parametrize("stream", CommandStream)
async def test_an_entry_that_comes_again_finds_its_own_row_under_whatever_id(
    redis: Redis, ledger: Ledger, keys: Keys, stream: CommandStream
) -> None:
    """Its reply was lost: the worker has made the row, and reads the entry once more."""
    await open_groups(redis, keys)
    other = BULK if stream is COMMON else COMMON
    await add(redis, keys, other, good(), ENTRY)
    await read_all(redis, ledger)
    for _ in range(3):
        await redis.delete(keys.stream(stream))
        await redis.xgroup_create(keys.stream(stream), GROUP, id="0", mkstream=True)
        await add(redis, keys, stream, good(), ENTRY)
        await read_all(redis, ledger)
    assert await subjects(redis, keys) == [ENTRY, f"{stream.origin(ENTRY)}~1"]
    assert await redis.zcard(keys.due_interactive) == await redis.zcard(keys.due_bulk) == 1


async def test_a_made_id_that_is_taken_leaves_the_entry_pending_until_it_has_another(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_groups(redis, keys)
    await add(redis, keys, BULK, good(), ENTRY)
    await redis.xreadgroup(GROUP, "tester", {keys.bulk_commands: ">"})
    await redis.hset(keys.command(ENTRY), mapping={"f": "x", "q": "1-1"})
    made = new_command(ENTRY.encode(), ENTRY, id_is_made=True)
    assert await ledger.accept([made], BULK) == [AcceptStatus.TAKEN]
    assert await pending(redis, keys) == 1
    made = new_command(ENTRY.encode(), "another", id_is_made=True)
    assert await ledger.accept([made], BULK) == [AcceptStatus.ACCEPTED]
    assert await ledger.accept([made], BULK) == [AcceptStatus.DUPLICATE]
    assert await pending(redis, keys) == 0


async def test_a_bad_message_in_the_bulk_stream_is_rejected_once_and_told_apart(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    for stream in CommandStream:
        await add(redis, keys, stream, b"not JSON", ENTRY)
    await read_all(redis, ledger)
    told = await events(redis, keys.events)
    assert [event["id"] for event in told] == [f"{ENTRY}/rejected", f"b{ENTRY}/rejected"]
    assert len([letter async for letter in DeadLetters(redis, keys).list()]) == 2
    assert await pending(redis, keys) == 0


@pytest.mark.parametrize("stream", CommandStream)
async def test_what_a_dead_worker_had_read_of_either_stream_is_taken_over(
    redis: Redis, ledger: Ledger, keys: Keys, stream: CommandStream
) -> None:
    await open_groups(redis, keys)
    for number in range(5):
        await add(redis, keys, stream, good(id=f"id-{number}"))
    await redis.xreadgroup(GROUP, "dead", {keys.stream(stream): ">"})
    assert [each["pending"] for each in await LedgerReader(redis, keys).consumers()] == [5]
    intake = intake_of(redis, ledger, consumer_idle_seconds=0.05, batch=2)
    async with running(intake.take_over):
        await until(lambda: all_read(redis, keys))
    assert len(await events(redis, keys.events)) == 5


@pytest.mark.parametrize("stream", CommandStream)
async def test_a_worker_reads_again_what_it_had_read_of_either_stream(
    redis: Redis, ledger: Ledger, keys: Keys, stream: CommandStream
) -> None:
    await open_groups(redis, keys)
    for number in range(5):
        await add(redis, keys, stream, good(id=f"id-{number}"))
    await redis.xreadgroup(GROUP, "tester", {keys.stream(stream): ">"})
    await redis.xdel(
        keys.stream(stream),
        (await entries_between(redis, keys.stream(stream), "-", "+"))[0][0].decode(),
    )
    await read_all(redis, ledger, batch=2)
    assert await subjects(redis, keys) == [f"id-{number}" for number in range(1, 5)]
    assert await pending(redis, keys) == 0


async def test_a_stopping_worker_leaves_both_groups(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await add(redis, keys, BULK, good(id="a"))
    await read_all(redis, ledger)
    await intake_of(redis, ledger).leave()
    assert await LedgerReader(redis, keys).consumers() == []


async def test_a_bulk_stream_that_is_none_keeps_nobody_from_the_common_one(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await redis.set(keys.bulk_commands, "a text")
    intake = intake_of(redis, ledger)
    async with running(intake.read):
        for number in range(3):
            await add(redis, keys, COMMON, good(id=f"id-{number}"))
            await until(lambda: _is_empty(redis, keys.commands))
    assert len(await events(redis, keys.events)) == 3


async def _is_empty(redis: Redis, stream: str) -> bool:
    return not await redis.xlen(stream)


async def test_a_producer_and_the_console_choose_the_stream_by_priority(
    redis: Redis, keys: Keys, redis_url: str, console: Console
) -> None:
    data = {"model_uuid": MODEL_UUID}

    def send() -> None:
        with Client(redis_url, namespace=keys.namespace) as producer:
            producer.submit("get_model", data, priority=Priority.BULK)
            producer.submit("get_model", data, priority="interactive")
            producer.submit_many([{"type": "get_model", "data": data, "priority": "bulk"}])
            producer.submit("get_model", data)

    await asyncio.to_thread(send)
    pairs = ("get_model", f"model_uuid={MODEL_UUID}")
    (sent,) = console.run("submit", "--json", "--priority", "bulk", *pairs).lines
    assert sent["stream"] == keys.bulk_commands
    assert console.run("submit", *pairs).code == 0
    assert [await redis.xlen(keys.stream(stream)) for stream in CommandStream] == [3, 3]


@pytest.mark.parametrize(
    ("changes", "stream"), [({}, BULK), ({"priority": None}, COMMON)], ids=["as it was", "changed"]
)
async def test_a_replay_goes_to_the_stream_of_the_lane_that_its_command_had(
    redis: Redis, ledger: Ledger, keys: Keys, changes: dict[str, Any], stream: CommandStream
) -> None:
    """Also where the command was a bulk one by its stream alone."""
    await add(redis, keys, BULK, orjson.dumps({"type": "get_model", "id": "a", "data": {}}))
    await read_all(redis, ledger)
    letters = DeadLetters(redis, keys)
    letter = await letters.get("a")
    edit = Edit({"model_uuid": MODEL_UUID}, attributes=changes)
    made = prepare_replay("a", letter, edit, await letters.now(), may_be_done=True)
    assert isinstance(made, Replay)
    await letters.replay(made.letter)
    ((_, fields),) = await entries_between(redis, keys.stream(stream), "-", "+")
    assert orjson.loads(fields[COMMAND_FIELD]).get("priority") == (
        "bulk" if stream is BULK else None
    )


async def test_doctor_and_list_tell_what_waits_in_the_bulk_stream(
    redis: Redis, keys: Keys, console: Console
) -> None:
    await redis.xgroup_create(keys.commands, GROUP, id="0", mkstream=True)
    await add(redis, keys, BULK, good(id="a"))

    def found() -> dict[str, Any]:
        lines = console.run("doctor", "--json").lines
        return next(line for line in lines if line["check"] == "intake.bulk")

    assert found()["level"] == "warn", "no worker reads it"
    assert ", 1 in the bulk stream," in console.run("list").out
    await redis.xgroup_create(keys.bulk_commands, GROUP, id="0")
    assert (found()["level"], "1 command to read" in found()["message"]) == ("ok", True)
