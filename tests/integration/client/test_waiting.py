"""Ends of commands as a client waits for them, told by a real worker."""

from __future__ import annotations

import asyncio
import inspect
import json
import pickle
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.integration.client.both import KINDS
from tests.integration.client.told import Told
from trainmaster_client import (
    AddressError,
    AsyncClient,
    AsyncConsumer,
    Client,
    CommandCancelledError,
    CommandFailedError,
    CommandId,
    CommandRejectedError,
    Consumer,
    Ending,
    Event,
    Observer,
    RedisUnavailableError,
    ResultElsewhereError,
    WaitTimeoutError,
)
from trainmaster_client.driver import Driver
from trainmaster_client.events import event_of
from trainmaster_client.names import Names
from trainmaster_client.steps import Ask, Listen, Patience
from trainmaster_client.waiting import Wait
from worker.embedded import EmbeddedRedis
from worker.queue.ledger.connection import connect
from worker.queue.ledger.keys import Keys
from worker.queue.ledger.queries import LedgerReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.console import Served
    from trainmaster_client.steps import Steps

NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def worked(open_client: Callable[..., Any], served: Served, redis_url: str) -> Any:
    """A client on a namespace that a worker serves."""
    return open_client(redis_url, namespace=served.console.namespace)


def test_a_run_returns_the_result(worked: Any) -> None:
    assert list(worked.run("list_models", {"order_by": "title"})) == ["models"]


def test_a_failure_is_raised_with_its_code_and_its_event(worked: Any) -> None:
    with pytest.raises(CommandFailedError, match="not_found") as caught:
        worked.run("get_model", {"model_uuid": NOBODY}, id=f"failing-{uuid.uuid4()}")
    assert caught.value.code == "not_found"
    assert caught.value.details["status"] == 404
    assert caught.value.event is not None
    assert caught.value.event.command_id == caught.value.command_id


@pytest.mark.parametrize("priority", ["interactive", "bulk"])
def test_a_rejection_names_each_wrong_field(worked: Any, priority: str) -> None:
    """In whichever stream the command was added."""
    with pytest.raises(CommandRejectedError) as caught:
        worked.run("get_model", {"model_uuid": "none"}, priority=priority)
    assert caught.value.code == "invalid_command"
    assert [each["path"] for each in caught.value.details["problems"]] == ["data.model_uuid"]


def test_a_cancellation_is_raised(worked: Any, served: Served) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    command_id = worked.submit("list_models", {}, id=f"c-{uuid.uuid4()}", notbefore=later)
    threading.Thread(target=_cancel_once_there, args=(served, command_id)).start()
    with pytest.raises(CommandCancelledError):
        worked.wait(command_id).result()


def _cancel_once_there(served: Served, command_id: str) -> None:
    while served.console.run("cancel", command_id).code:
        time.sleep(0.1)


def test_the_same_id_again_ends_with_the_first_one_s_result(worked: Any) -> None:
    command_id = f"again-{uuid.uuid4()}"
    first = worked.run("list_models", {}, id=command_id)
    assert worked.run("list_models", {}, id=command_id) == first


def test_another_command_with_a_known_id_is_rejected_and_not_taken_for_it(worked: Any) -> None:
    command_id = f"conflict-{uuid.uuid4()}"
    worked.run("list_models", {}, id=command_id)
    with pytest.raises(CommandRejectedError) as caught:
        worked.run("list_models", {"query": "other"}, id=command_id)
    assert caught.value.code == "idempotency_conflict"


@pytest.mark.parametrize("command_id", ["a\nb", "x" * 256, "", 5], ids=repr)
def test_a_command_whose_id_no_worker_can_read_is_told_as_rejected(
    worked: Any, command_id: Any
) -> None:
    """Its rejection names its entry, not the id; it was told as a command that nobody knows."""
    with pytest.raises(CommandRejectedError) as caught:
        worked.run("list_models", {}, id=command_id, timeout=60)
    assert caught.value.code == "invalid_command"


def test_who_has_only_the_id_learns_an_end_long_past_and_one_to_come(worked: Any) -> None:
    past = str(worked.submit("list_models", {}, id=f"past-{uuid.uuid4()}"))
    assert worked.wait(past).succeeded
    assert worked.wait(past).event.type == "list_models.succeeded"
    soon = datetime.now(UTC) + timedelta(seconds=1)
    coming = str(worked.submit("list_models", {}, id=f"soon-{uuid.uuid4()}", notbefore=soon))
    assert worked.wait(coming).succeeded


def test_ends_of_many_are_told_by_id_and_an_observer_sees_each_event(worked: Any) -> None:
    seen: list[Event] = []

    class Seeing(Observer):
        def on_event(self, event: Event) -> None:
            seen.append(event)

    commands = [{"type": "list_models", "data": {}} for _ in range(30)]
    commands += [{"type": "get_model", "data": {"model_uuid": NOBODY}}]
    ids = worked.submit_many(commands)
    endings = worked.wait_all(ids, observer=Seeing())
    assert [endings[each].state for each in ids] == ["succeeded"] * 30 + ["failed"]
    ends = [event.command_id for event in seen if event.is_end]
    assert sorted(ends) == sorted(ids)
    assert sum(event.state == "accepted" for event in seen) == 31


def test_ends_are_read_from_the_client_s_own_reply_stream(
    open_client: Callable[..., Any], served: Served, redis_url: str
) -> None:
    name = f"r-{uuid.uuid4().hex[:8]}"
    client = open_client(redis_url, namespace=served.console.namespace, reply_to=name)
    assert "models" in client.run("list_models", {})
    assert {each.command_type for each in client.events(reply_to=name)} == {"list_models"}


def test_what_a_client_knows_of_a_command_is_what_the_ledger_knows(
    worked: Any, served: Served, redis_url: str
) -> None:
    """Its own reading of rows, against the workers'."""
    later = datetime.now(UTC) + timedelta(hours=1)
    waiting = worked.submit("list_models", {}, id=f"w-{uuid.uuid4()}", notbefore=later)
    failed = worked.submit("get_model", {"model_uuid": NOBODY}, id=f"f-{uuid.uuid4()}")
    worked.wait(failed)
    while worked.status(waiting) is None:
        time.sleep(0.05)
    assert worked.status(f"nobody-{uuid.uuid4()}") is None

    async def rows() -> list[Any]:
        redis = connect(redis_url)
        inspector = LedgerReader(redis, Keys(served.console.namespace))
        found = [await inspector.status(each) for each in (waiting, failed)]
        await redis.aclose()
        return found

    for row, command_id in zip(asyncio.run(rows()), (waiting, failed), strict=True):
        status = worked.status(command_id)
        assert (status.command_id, status.type, status.state) == (row.id, row.type, row.state)
        assert (status.attempts, status.ended) == (row.attempts, row.ended)
        assert round(status.accepted_at.timestamp() * 1000) == row.accepted_at_ms
        assert status.end_entry == row.last_event_id


def test_of_several_failed_attempts_the_latest_is_the_last_error(
    worked: Any, served: Served
) -> None:
    served.sandbox.faults(
        {"operation": "list_models", "effect": "status", "status": 500, "count": 1},
        {"operation": "list_models", "effect": "status", "status": 503},
    )
    command_id = worked.submit("list_models", {}, id=f"e-{uuid.uuid4()}")
    while (status := worked.status(command_id)) is None or status.attempts < 2:
        time.sleep(0.02)
    served.sandbox.faults()
    worked.wait(command_id, timeout=60)
    assert status.last_error["status"] == 503


def test_a_wait_that_takes_too_long_names_what_has_not_ended_and_what_has(
    client: Any, told: Told
) -> None:
    """No worker is there; the observer is told that nobody takes the command."""
    untaken: list[int] = []

    class Seeing(Observer):
        def on_untaken(self, commands: int) -> None:
            untaken.append(commands)

    ids = client.submit_many([{"type": "list_models", "id": each} for each in ("a", "b")])
    told.tell("list_models.succeeded", "a", result=1, attempts=1)
    begun = time.monotonic()
    with pytest.raises(WaitTimeoutError, match="not ended within 3 s: b") as caught:
        client.wait_all(ids, timeout=3, observer=Seeing())
    assert time.monotonic() - begun >= 3
    assert caught.value.command_ids == ("b",)
    assert caught.value.endings["a"].result() == 1
    assert untaken == [1]


def test_once_the_time_is_up_a_last_look_tells_what_has_ended(client: Any, told: Told) -> None:
    by_event, by_row, never = client.submit_many([
        {"type": "list_models", "id": each} for each in ("event", "row", "never")
    ])
    told.redis.xdel(told.names.commands(), by_row.entry_id)
    row: dict[str, str] = {"t": "list_models", "s": "succeeded", "m": "1", "e": "2"}
    told.redis.hset(told.names.command("row"), mapping=row)  # type: ignore[arg-type]
    told.tell("list_models.succeeded", "event", result=1)
    for timeout in (0, -1):
        assert client.wait(by_event, timeout=timeout).result() == 1
        assert client.wait(by_row, timeout=timeout).succeeded
        assert client.wait("row", timeout=timeout).succeeded
        with pytest.raises(WaitTimeoutError):
            client.wait(never, timeout=timeout)


def test_a_short_wait_does_not_block_for_longer() -> None:
    wait = Wait(Names("trainmaster"), [CommandId("a", "5-0")])
    step = next(wait.until_ended(0.05, Patience(0)))
    assert isinstance(step, Listen)
    assert 1 <= step.command[step.command.index("BLOCK") + 1] <= 50


def test_a_wait_ends_in_time_though_every_read_finds_further_events(
    redis_url: str, told: Told
) -> None:
    """Where others are busy, and Redis is some milliseconds away, there are always more."""

    def amid_others(steps: Steps[None]) -> Steps[None]:
        step, reads = next(steps), 0
        with suppress(StopIteration):
            while reads < 10:
                if isinstance(step, Listen):
                    reads += 1
                    told.tell("list_models.accepted", "another")
                step = steps.send((yield step))
        assert reads < 10

    wait = Wait(told.names, ["nobody"])
    driver = Driver(redis_url, told.names.prefix)
    driver.run(amid_others(wait.until_ended(0, Patience(0))))
    driver.close()
    assert wait.waiting == ["nobody"]


def test_of_many_commands_that_nobody_takes_only_some_are_read_at_once() -> None:
    """Each may have a mebibyte."""
    wait = Wait(Names("trainmaster"), [CommandId(f"c-{n}", f"5-{n}") for n in range(120)])
    steps = wait.until_ended(0, Patience(0))
    step, pages = next(steps), []
    while isinstance(step, Ask) and step.commands[0][0] == "XRANGE":
        pages.append(len(step.commands))
        step = steps.send([[]] * pages[-1])
    assert pages == [50, 50, 20]


def test_a_string_is_one_id_and_not_as_many_as_it_has_letters(client: Any, told: Told) -> None:
    command_id = client.submit("list_models", {}, id="ab")
    told.tell("list_models.succeeded", "ab", result=1)
    assert list(client.wait_all(command_id)) == ["ab"]


def test_errors_come_whole_out_of_a_pool_of_processes() -> None:
    text = b'{"id":"i","type":"x.failed","subject":"a","time":"","data":{"error":{"code":"c"}}}'
    event = event_of(b"1-1", {b"event": text})
    errors: list[Exception] = [
        CommandFailedError("a", "failed", event),
        WaitTimeoutError(["a"], 3, {"b": Ending("b", "failed", event)}),
        RedisUnavailableError("away", ("a",)),
        AddressError("names no host"),
    ]
    for error in errors:
        copied = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
        assert (type(copied), str(copied)) == (type(error), str(error))
        assert vars(copied) == vars(error)


async def test_more_calls_wait_at_once_than_redis_py_has_connections(
    redis_url: str, told: Told
) -> None:
    async with AsyncClient(redis_url, namespace=told.names.namespace, patience_seconds=0) as client:
        commands = [{"type": "list_models", "id": f"c-{number}"} for number in range(130)]
        ids = await client.submit_many(commands)
        waits = [asyncio.create_task(client.wait(each)) for each in ids]
        # None has an end yet, and none may give up.
        while told.redis.info("clients")["connected_clients"] < 130:
            assert not any(each.done() for each in waits)
            await asyncio.sleep(0.05)
        for number in range(130):
            told.tell("list_models.succeeded", f"c-{number}", result=number)
        endings = await asyncio.gather(*waits)
    assert [each.result() for each in endings] == list(range(130))


async def test_a_cancelled_call_ends_cancelled_though_it_was_done(
    redis_url: str, namespace: str
) -> None:
    """redis-py swallows a good part of cancellations."""
    async with AsyncClient(redis_url, namespace=namespace) as client:
        for number in range(60):
            calls = [asyncio.create_task(client.status("a")) for _ in range(3)]
            for _ in range(number % 20):
                await asyncio.sleep(0)
            open_calls = [each for each in calls if each.cancel()]
            await asyncio.wait(calls)
            assert all(each.cancelled() for each in open_calls)


def test_a_wait_goes_on_over_a_restart_of_redis(
    open_client: Callable[..., Any], tmp_path: Path
) -> None:
    troubles: list[BaseException] = []

    class Seeing(Observer):
        def on_trouble(self, error: BaseException) -> None:
            troubles.append(error)

    with EmbeddedRedis(tmp_path) as server:
        client = open_client(server.url)
        command_id = client.submit("list_models", {}, id="a")

        # A server ends with the thread that started it, so the wait is in the other one.
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(client.wait_all, [command_id], observer=Seeing())
            time.sleep(0.5)
            server.kill()
            while not troubles:
                time.sleep(0.01)
            server.start()
            told = Told(server.url, "trainmaster")
            told.tell("list_models.succeeded", "a", result="after", attempts=1)
            told.close()
            assert waiting.result()["a"].result() == "after"
    assert len(troubles) == 1


def test_each_outage_is_told_and_has_all_of_the_patience() -> None:
    """Else a program that runs for weeks would be given up on at its second one."""
    troubles: list[BaseException] = []
    patience = Patience(60, troubles.append)
    for number in range(1, 3):
        for _ in range(2):
            next(patience.failed(ConnectionError()))
            assert len(troubles) == number
        patience.worked()


def test_an_item_of_a_backfill_with_the_command_s_id_is_not_its_end(
    client: Any, told: Told
) -> None:
    command_id = client.submit("list_models", {}, id="night/1")
    text = (
        b'{"id":"i","type":"predict.succeeded","subject":"night/1","time":"",'
        b'"source":"/trainmaster/backfills/night","data":{"result":"item"}}'
    )
    told.redis.xadd(told.names.events(), {"event": text})
    told.tell("list_models.succeeded", "night/1", result="command")
    assert client.wait(command_id, timeout=60).result() == "command"


@pytest.mark.parametrize("before_ms", [0, 500])
def test_the_end_of_an_earlier_command_of_the_same_id_is_not_that_of_another_one(
    client: Any, told: Told, before_ms: int
) -> None:
    """It may have come in the same moment, or after the first of those that are waited for."""
    first = CommandId("first", "1000-0")
    again = CommandId("again", "2000-0")
    ends = (
        ("again", "900-0/succeeded", 2000 - before_ms, "list_models.succeeded", {"result": 1}),
        ("first", "1000-0/succeeded", 2100, "list_models.succeeded", {"result": 2}),
        ("again", "2000-0/rejected", 2200, "list_models.rejected", {"error": {"code": "c"}}),
    )
    for subject, event_id, at_ms, event_type, data in ends:
        text = told.text(event_type, subject, event_id=event_id, **data)
        told.redis.xadd(told.names.events(), {"event": text}, id=f"{at_ms}-0")
    ended = client.wait_all([first, again], timeout=60)
    assert ended["first"].result() == 2
    with pytest.raises(CommandRejectedError):
        ended["again"].result()


def test_both_kinds_have_the_same_methods_with_the_same_arguments() -> None:
    def public(of: type) -> dict[str, list[str]]:
        return {
            name: [] if isinstance(value, property) else list(inspect.signature(value).parameters)
            for name, value in vars(of).items()
            if not name.startswith("_")
        }

    assert public(Client) == public(AsyncClient)
    assert public(Consumer) == public(AsyncConsumer)
    assert set(KINDS) == {"blocking", "looped"}


def test_a_result_that_is_in_no_event_is_told_and_not_taken_for_none(
    client: Any, told: Told
) -> None:
    command_id = client.submit("list_models", {}, id="large")
    text = (
        b'{"id":"i","type":"list_models.succeeded","subject":"large","time":"",'
        b'"source":"/trainmaster","dataref":"file:///r/1.json","data":{"result":null}}'
    )
    told.redis.xadd(told.names.events(), {"event": text})
    ending = client.wait(command_id, timeout=60)
    assert ending.succeeded
    with pytest.raises(ResultElsewhereError, match=r"not here: at file:///r/1\.json") as caught:
        ending.result()
    assert pickle.loads(pickle.dumps(caught.value)).dataref == "file:///r/1.json"  # noqa: S301
    with pytest.raises(ResultElsewhereError, match="no longer kept"):
        replace(ending, event=None).result()
    deletion = client.submit("delete_model", {}, id="none")
    told.tell("delete_model.succeeded", "none", result=None)
    assert client.wait(deletion, timeout=60).result() is None


def test_a_wait_ends_with_a_command_the_entry_of_whose_end_someone_wrote_over(
    client: Any, redis_url: str, namespace: str
) -> None:
    row = Names(namespace).command("a")
    with redis.Redis.from_url(redis_url) as raw:
        for odd in (b"of somebody else", b"\xff", b"18446744073709551616-0"):
            raw.hset(row, mapping={"s": "succeeded", "e": "1", "v": odd})
            told = client.status("a")
            assert (told.state, told.end_entry) == ("succeeded", None)
            (ending,) = client.wait_all(["a"], timeout=30).values()
            assert (ending.state, ending.event) == ("succeeded", None)


def test_an_end_is_found_in_a_stream_whose_numbers_are_nearly_used_up(
    client: Any, redis_url: str, namespace: str
) -> None:
    names, entry = Names(namespace), "18446744073709551615-18446744073709551614"
    ended = {"id": "i", "type": "list_models.succeeded", "subject": "a", "time": "", "data": {}}
    with redis.Redis.from_url(redis_url) as raw:
        raw.xadd(names.events(), {"event": json.dumps(ended)}, id=entry)
        raw.hset(names.command("a"), mapping={"s": "succeeded", "e": "1", "v": entry})
    assert client.status("a").end_entry == entry
    (ending,) = client.wait_all(["a"], timeout=30).values()
    assert ending.event is not None
    assert ending.event.entry_id == entry
