"""Rules of holds: what the API asks for is cut, looked at again and again, and lifted by people."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import orjson
import pytest

from schemas.enums import Priority
from tests.console import Console, running_worker, wait_until
from tests.integration.ledger_acts import (
    accept_one,
    lease_one,
    new_command,
    now_ms,
    open_group,
    read_entry,
)
from worker.queue.ledger.holds import Holds, HoldScope, RefusalBoard
from worker.queue.ledger.models import Phase, RowState, RunResult

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from redis.asyncio import Redis

    from tests.sandbox_process import SandboxProcess
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

LIMITED: dict[str, Any] = {
    "operation": "get_model",
    "effect": "status",
    "status": 429,
    "headers": {"Retry-After": "86400"},
    "count": 1,
}


def worker_console(
    redis_url: str, namespace: str, sandbox: SandboxProcess, folder: Path, **more: str
) -> Console:
    return Console(
        redis_url,
        namespace,
        ENCORD_DOMAIN=sandbox.told["domain"],
        ENCORD_SSH_KEY_FILE=sandbox.told["key_file"],
        TRAINMASTER_RESULT_STORE=str(folder / "results"),
        TRAINMASTER_LOG_FORMAT="json",
        **more,
    )


@pytest.fixture
def held(redis_url: str, namespace: str, sandbox: SandboxProcess, tmp_path: Path) -> Console:
    """A console whose worker is told to wait for a day by its first `get_model`."""
    sandbox.faults(LIMITED)
    return worker_console(redis_url, namespace, sandbox, tmp_path)


def hold_all(console: Console, sandbox: SandboxProcess) -> None:
    """Sends the command whose answer holds the fleet, and waits for the hold."""
    model = sandbox.create_model()
    console.run("submit", "get_model", f"model_uuid={model}", "--id", "first")
    wait_until(lambda: console.run("holds", "--json").lines != [], "the hold")


async def test_a_hold_of_a_day_is_cut_and_shown_with_its_reason(
    held: Console, sandbox: SandboxProcess, tmp_path: Path
) -> None:
    with running_worker(held, tmp_path / "worker.log"):
        hold_all(held, sandbox)
        (hold,) = held.run("holds", "--json").lines
        assert hold["scope"] == "fleet"
        assert 200_000 < hold["rest_ms"] <= 300_000
        assert "429" in hold["reason"]
        said = held.run("holds").out
        assert said.splitlines()[1].startswith("all workers ")
        assert "the API answered 429" in said
        found = {line["check"]: line for line in held.run("doctor", "--json").lines}
        assert "trainmaster holds release" in found["ledger.hold"]["advice"]
        assert held.run("holds", "release").code == 0


async def test_a_release_lets_go_on_within_a_second_what_waited_and_what_was_told_to_wait(
    held: Console, sandbox: SandboxProcess, tmp_path: Path
) -> None:
    with running_worker(held, tmp_path / "worker.log"):
        hold_all(held, sandbox)
        held.run("submit", "list_models", "--id", "second")
        released = held.run("holds", "release", "--json").lines[0]
        assert [hold["scope"] for hold in released["released"]] == ["fleet"]
        assert released["commands"] == 1
        for command_id in ("first", "second"):
            wait_until(
                lambda: held.run("status", command_id, "--json").lines[0]["state"] == "succeeded",  # noqa: B023 - used at once
                f"the end of {command_id}",
            )
        assert held.run("holds").out == "no holds: workers claim what is due\n"


async def test_who_deletes_the_hold_in_redis_has_every_worker_go_on(
    held: Console, sandbox: SandboxProcess, redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    """No worker keeps a memory of it: two are running, and both were told."""
    with (
        running_worker(held, tmp_path / "worker.log"),
        running_worker(held, tmp_path / "other.log"),
    ):
        hold_all(held, sandbox)
        # Both have looked at the hold by the time at which a few more wait.
        for number in range(4):
            held.run("submit", "list_models", "--id", f"more-{number}")
        await redis.delete(keys.hold)
        async with asyncio.timeout(60):
            for number in range(4):
                while await redis.hget(keys.command(f"more-{number}"), "s") != b"succeeded":
                    await asyncio.sleep(0.05)


async def test_a_hold_that_someone_stored_for_a_day_is_cut_too(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    await accept_one(redis, ledger)
    await redis.set(keys.hold, b"1", px=86_400_000)
    assert (await ledger.claim(1)).held_seconds <= 300
    assert await redis.pttl(keys.hold) <= 300_000
    await ledger.hold(86_400)
    assert await redis.pttl(keys.hold) <= 300_000


async def test_a_release_hastens_only_what_a_429_told_to_come_back(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """What waits for a notbefore, a training or a failing server is left where it stands."""
    await open_group(redis, keys)
    errors = {
        "limited": ("server_error", "rate_limited"),
        "failing": ("rate_limited", "server_error"),
        "training": ("rate_limited",),
    }
    for command_id in errors:
        await accept_one(redis, ledger, command_id, lane=Priority.BULK)
    await accept_one(redis, ledger, "later", not_before_ms=await now_ms(redis) + 60_000)
    for lease in (await ledger.claim(9, bulk_most=9)).leases:
        state = RowState.POLLING if lease.command_id == "training" else RowState.RETRYING
        past = [
            {"at": "x", "code": code, "message": 'says "at":'} for code in errors[lease.command_id]
        ]
        code = "" if state is RowState.POLLING else errors[lease.command_id][-1]
        await ledger.finish([
            RunResult(lease, state, 1, delay_seconds=60, errors=past, failure=code)
        ])
    await ledger.hold(30)
    released = await Holds(redis, keys).release()
    assert (len(released.holds), released.commands) == (1, 1)
    (lease,) = (await ledger.claim(9, bulk_most=9)).leases
    assert lease.command_id == "limited"


async def test_a_release_hastens_the_poll_of_a_training_that_a_429_put_off(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """And none that fails for another reason, or only waits for its turn."""
    await open_group(redis, keys)
    failures = {"limited": "rate_limited", "failing": "server_error", "waiting": ""}
    for command_id in failures:
        await accept_one(redis, ledger, command_id)
    for lease in (await ledger.claim(9)).leases:
        code = failures[lease.command_id]
        await ledger.finish([RunResult(lease, RowState.POLLING, 0, delay_seconds=60, failure=code)])
    assert (await Holds(redis, keys).release()).commands == 1
    (lease,) = (await ledger.claim(9)).leases
    assert (lease.command_id, lease.state) == ("limited", RowState.POLLING)


async def test_a_release_hastens_no_training_that_was_started_since_the_429(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """It is being polled: whoever claimed it too would fence that run."""
    lease = await lease_one(redis, ledger)
    retried = RunResult(lease, RowState.RETRYING, 1, failure="rate_limited")
    assert await ledger.finish([retried]) == [True]
    (lease,) = (await ledger.claim(1)).leases
    await ledger.checkpoint(lease, {"uuid": "u"}, phase=Phase.APPLIED, state=RowState.POLLING)
    assert (await Holds(redis, keys).release()).commands == 0


async def test_a_release_hastens_no_poll_that_has_come_through_since_the_429(
    redis: Redis, ledger: Ledger
) -> None:
    """It waits for its training again, and not for the end of an error."""
    lease = await lease_one(redis, ledger)
    limited = RunResult(lease, RowState.POLLING, 0, failure="rate_limited")
    assert await ledger.finish([limited]) == [True]
    (lease,) = (await ledger.claim(1)).leases
    assert await ledger.finish([RunResult(lease, RowState.POLLING, 0, delay_seconds=60)]) == [True]
    assert (await Holds(redis, ledger.keys).release()).commands == 0


async def test_a_row_whose_code_is_none_keeps_no_other_from_being_hastened(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    odd: tuple[str | bytes, ...] = ("5", "null", "", "rate_limited ", b"\xff")
    for number in range(len(odd) + 1):
        await accept_one(redis, ledger, f"c{number}")
    error = {"at": "x", "code": "rate_limited", "message": "later"}
    for lease in (await ledger.claim(20)).leases:
        await ledger.finish([
            RunResult(
                lease, RowState.RETRYING, 1, delay_seconds=60, errors=[error], failure=error["code"]
            )
        ])
    for number, code in enumerate(odd):
        await redis.hset(keys.command(f"c{number}"), "w", code)
    assert (await Holds(redis, keys).release()).commands == 1


async def test_a_release_hastens_them_all_however_many_wait_and_whatever_stands_between(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """More than are looked at in one step, and every third of them waits for something else."""
    await open_group(redis, keys)
    entry = await read_entry(redis, keys)
    await ledger.accept([new_command(entry, f"c-{number}") for number in range(1500)])
    leases = (await ledger.claim(1500)).leases
    ends = [
        RunResult(
            lease,
            RowState.RETRYING,
            1,
            delay_seconds=3600,
            failure="server_error" if number % 3 == 0 else "rate_limited",
        )
        for number, lease in enumerate(leases)
    ]
    assert await ledger.finish(ends) == [True] * 1500
    assert (await Holds(redis, keys).release()).commands == 1000
    assert await ledger.count_due() == (1000, 0, 0)


async def test_a_release_passes_over_none_where_what_it_hastened_is_out_of_its_sight_at_once(
    redis: Redis, ledger: Ledger, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a millisecond what is due now is not later than the time that it began with."""
    monkeypatch.setattr("worker.queue.ledger.holds._PAGE", 3)
    await open_group(redis, keys)
    entry = await read_entry(redis, keys)
    await ledger.accept([new_command(entry, f"c-{number}") for number in range(12)])
    delay, code = 3600, "rate_limited"
    ends = [
        RunResult(lease, RowState.RETRYING, 1, delay_seconds=delay, failure=code)
        for lease in (await ledger.claim(12)).leases
    ]
    await ledger.finish(ends)
    holds = Holds(redis, keys)
    soon = await holds.now_ms() + 60_000

    async def now_ms() -> int:
        return soon

    monkeypatch.setattr(holds, "now_ms", now_ms)
    assert (await holds.release()).commands == 12


async def test_a_longer_hold_counts_and_a_shorter_one_does_not(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await ledger.hold(5, "the API answered 429: slow down")
    await ledger.hold(60, "the API answered 429: much slower")
    await ledger.hold(1, "the API answered 429: a little")
    (hold,) = await Holds(redis, keys).list()
    assert hold.rest_ms is not None
    assert 50_000 < hold.rest_ms <= 60_000
    assert hold.reason.endswith("much slower")


async def test_a_release_takes_refusals_off_the_board_so_that_their_workers_ask_at_once(
    redis: Redis, keys: Keys
) -> None:
    """One that its worker did not tell again for a while is of a worker that is gone."""
    holds = Holds(redis, keys)
    board = RefusalBoard(holds, "here")
    await board.refuse("the API does not know the key")
    now = await holds.now_ms()
    gone = {"reason": "as well", "since_ms": now - 200_000, "seen_ms": now - 100_000}
    await redis.hset(keys.refused, "gone", orjson.dumps(gone))
    (hold,) = await holds.list()
    assert (hold.scope, hold.worker, hold.rest_ms) == (HoldScope.WORKER, "here", None)
    assert await board.is_told()
    assert (await holds.release()).holds == [hold]
    assert not await board.is_told()
    assert await holds.list() == []
    await board.refuse("the API does not know the key")
    await board.admit()
    assert await holds.list() == []


async def test_a_word_of_others_among_those_of_refused_workers_hides_none_and_is_released(
    redis: Redis, keys: Keys
) -> None:
    holds = Holds(redis, keys)
    await RefusalBoard(holds, "here").refuse("the API does not know the key")
    seen = {"seen_ms": await holds.now_ms(), "reason": 5, "since_ms": 1e308}
    others = ["", "no json", "[]", '{"seen_ms":"x"}', '{"reason":"r"}', orjson.dumps(seen)]
    odd = {f"odd-{number}": value for number, value in enumerate(others)}
    await cast("Any", redis).hset(keys.refused, mapping=odd)
    assert [each.worker for each in await holds.list()] == ["here", "odd-5"]
    await holds.release()
    assert not await redis.exists(keys.refused)


async def test_a_hold_is_shown_with_no_longer_rest_than_it_was_to_have(
    redis: Redis, keys: Keys
) -> None:
    """Where Redis' clock went back its key lives on, and no worker waits for that."""
    holds = Holds(redis, keys)
    text = f"5000 {await holds.now_ms()} the API answered 429"
    await redis.set(keys.hold, text, px=3_600_000)
    (hold,) = await holds.list()
    assert hold.rest_ms is not None
    assert hold.rest_ms <= 5000


@pytest.mark.parametrize(
    "value", [b"", b"by hand", b"wait 5 minutes", b"5 minutes more", b"\xff 1 2"]
)
async def test_a_hold_of_any_other_text_counts_from_now_for_as_long_as_its_key_lives(
    redis: Redis, keys: Keys, value: bytes
) -> None:
    holds = Holds(redis, keys)
    await redis.set(keys.hold, value, px=3_600_000)
    before = await holds.now_ms()
    (hold,) = await holds.list()
    assert hold.reason == "the API asked for a pause"
    assert hold.since_ms >= before
    assert hold.rest_ms is not None
    assert hold.rest_ms > 5000


async def test_a_refusal_tells_since_when_however_often_it_is_told_again(
    redis: Redis, keys: Keys
) -> None:
    holds = Holds(redis, keys)
    board = RefusalBoard(holds, "worker")
    await board.refuse("the first")
    (first,) = await holds.list()
    await until_later(holds, first.since_ms)
    await board.refuse("the second")
    (again,) = await holds.list()
    assert (again.since_ms, again.reason) == (first.since_ms, "the second")
    await board.admit()
    assert await holds.list() == []
    await board.refuse("anew")
    (anew,) = await holds.list()
    assert anew.since_ms > first.since_ms


async def until_later(holds: Holds, than_ms: int) -> None:
    """Waits until Redis' clock shows another millisecond."""
    async with asyncio.timeout(60):
        while await holds.now_ms() <= than_ms:
            await asyncio.sleep(0.002)


def test_without_a_hold_a_release_says_so(console: Console) -> None:
    assert console.run("holds", "release").out == "there was no hold\n"
    assert console.run("holds", "--json").out == ""
    assert console.run("holds", "--namespace", "x", "release").code == 2
