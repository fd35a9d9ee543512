"""Ends of commands as a client waits for them, told by a real worker."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.client.both import KINDS
from tests.client.told import Told
from trainmaster_client import (
    AsyncClient,
    AsyncConsumer,
    Client,
    CommandCancelledError,
    CommandFailedError,
    CommandRejectedError,
    Consumer,
    Event,
    Observer,
    WaitTimeoutError,
)
from worker.embedded import EmbeddedRedis
from worker.ledger.connection import connect
from worker.ledger.inspection import Inspector
from worker.ledger.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.console import Served

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


def test_a_rejection_names_each_wrong_field(worked: Any) -> None:
    with pytest.raises(CommandRejectedError) as caught:
        worked.run("get_model", {"model_uuid": "none"})
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
        inspector = Inspector(redis, Keys(served.console.namespace))
        found = [await inspector.status(each) for each in (waiting, failed)]
        await redis.aclose()
        return found

    for row, command_id in zip(asyncio.run(rows()), (waiting, failed), strict=True):
        status = worked.status(command_id)
        assert (status.command_id, status.type, status.state) == (row.id, row.type, row.state)
        assert (status.attempts, status.ended) == (row.attempts, row.ended)
        assert round(status.accepted_at.timestamp() * 1000) == row.accepted_at_ms
        assert status.end_entry == row.last_event_id


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


def test_both_kinds_have_the_same_methods_with_the_same_arguments() -> None:
    def public(of: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(value).parameters)
            for name, value in vars(of).items()
            if not name.startswith("_")
        }

    assert public(Client) == public(AsyncClient)
    assert public(Consumer) == public(AsyncConsumer)
    assert set(KINDS) == {"blocking", "looped"}
