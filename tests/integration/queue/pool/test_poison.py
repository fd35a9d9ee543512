"""Rules of claims without an end: how many make a command poison, and which don't count."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
import pytest
from structlog.testing import capture_logs

from schemas.enums import Priority
from tests.integration.backfill_bench import data, working, write_lines
from tests.integration.intake_acts import until
from tests.integration.ledger_acts import events, now_ms
from tests.integration.worker_bench import SLOW, running_runner, until_ended
from worker.queue.ledger.dead_letters import DeadLetters
from worker.queue.ledger.models import SUSPECT_CLAIMS
from worker.queue.telemetry import Listener

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.integration.worker_bench import Bench
    from worker.queue.ledger.models import Lease, RunResult
    from worker.queue.telemetry import RunStart, Settled

MAX_CLAIMS = 3
FAILS_ONCE = {"operation": "get_model", "effect": "status", "status": 503, "count": 1}


@pytest.fixture
def bench(bench: Bench) -> Bench:
    bench.sandbox.faults()
    bench.sandbox.reset_truth()
    bench.executor = replace(bench.executor, max_claims=MAX_CLAIMS)
    return bench


async def send_get(bench: Bench, **attributes: Any) -> str:
    return await bench.send(
        "get_model", {"model_uuid": str(bench.sandbox.create_model())}, **attributes
    )


async def claim(bench: Bench, command_id: str) -> Lease:
    """Claims a command as whoever finds its lease over, be it a suspect or not."""
    keys = bench.ledger.keys
    for due in (keys.due_interactive, keys.due_bulk, keys.due_suspect):
        await bench.redis.zadd(due, {command_id: 0}, xx=True)
    (lease,) = (await bench.ledger.claim(10, bulk_most=10, suspects=1)).leases
    assert lease.command_id == command_id
    return lease


async def run(bench: Bench, command_id: str) -> RunResult:
    """Claims a command, runs it and records how that ended."""
    finish = await bench.executor.carry_out(bench.begin(await claim(bench, command_id)))
    assert await bench.ledger.finish([finish]) == [True]
    return finish


async def counts(bench: Bench, command_id: str) -> tuple[int, int]:
    """Returns a command's attempts, and its claims without an end."""
    row = bench.ledger.keys.command(command_id)
    attempts, claims = await bench.redis.hmget(row, "a", "c")
    assert attempts is not None
    assert claims is not None
    return int(attempts), int(claims)


def calls(bench: Bench) -> int:
    """Returns how often the API was asked for a model."""
    told = bench.sandbox.truth()["calls"].get("get_model")
    return 0 if told is None else int(told["total"])


async def test_a_command_runs_as_often_as_it_may_be_claimed(bench: Bench) -> None:
    """Its last claim is as good as the first."""
    sent = await send_get(bench)
    for number in range(1, MAX_CLAIMS):
        await claim(bench, sent)
        assert await counts(bench, sent) == (0, number), "its worker was killed: the claim counts"
    await run(bench, sent)
    assert await bench.states(sent) == ["accepted", "succeeded"]
    assert calls(bench) == 1


@pytest.mark.parametrize("lane", list(Priority))
async def test_a_command_whose_claims_ran_out_fails_as_poison_and_never_reaches_the_api(
    bench: Bench, lane: Priority
) -> None:
    sent = await send_get(bench, priority=lane, replyto="sender", correlationid="c")
    text = await bench.redis.get(bench.ledger.keys.text(sent))
    for _ in range(MAX_CLAIMS):
        await claim(bench, sent)
    await run(bench, sent)
    assert calls(bench) == 0, "it was claimed once more, and not run"

    error = {
        "code": "poison",
        "message": "claimed 3 times without an end; it seems to kill its worker",
    }
    assert await bench.states(sent) == ["accepted", "failed"]
    failed = (await bench.told(sent))[-1]
    assert failed["type"] == "get_model.failed"
    assert failed["data"] == {"error": error, "attempts": 1}
    assert failed["correlationid"] == "c"
    replies = await events(bench.redis, bench.ledger.keys.replies("sender"))
    assert replies[-1] == failed

    (letter,) = [found async for found in DeadLetters(bench.redis, bench.ledger.keys).list()]
    assert (letter.command_id, letter.type, letter.reason) == (sent, "get_model", "poison")
    assert (letter.error, letter.attempts, letter.lane) == (error, 1, lane)
    assert (letter.text, orjson.loads(letter.text)["id"]) == (text, sent)
    assert [past["code"] for past in letter.history] == ["poison"]


async def test_the_next_suspect_is_claimed_once_the_end_of_the_last_one_is_recorded(
    bench: Bench,
) -> None:
    """It may kill this process before: an end that is lost counts as a claim without one."""
    found = Suspects()
    bench.ledger.telemetry = found
    sent = []
    for _ in range(6):
        sent.append(await send_get(bench))
        for _ in range(SUSPECT_CLAIMS):
            await claim(bench, sent[-1])
    await bench.redis.zadd(bench.ledger.keys.due_interactive, dict.fromkeys(sent, 0), xx=True)
    async with running_runner(bench, concurrency=8):
        for each in sent:
            await until_ended(bench, each)
    assert (found.claimed_in_all, found.most_without_an_end) == (6, 1)


class Suspects(Listener):
    """Counts what is claimed, and how much of it is not recorded as ended."""

    def __init__(self) -> None:
        self.claimed_in_all = 0
        self.most_without_an_end = 0
        self._open = 0

    def run_begun(self, start: RunStart) -> None:  # noqa: ARG002 - all count alike
        self.claimed_in_all += 1
        self._open += 1
        self.most_without_an_end = max(self.most_without_an_end, self._open)

    def settled(self, batch: Sequence[Settled]) -> None:
        self._open -= len(batch)


async def test_an_attempt_that_failed_has_ended_so_claims_are_counted_anew(bench: Bench) -> None:
    bench.sandbox.faults(FAILS_ONCE)
    sent = await send_get(bench)
    await claim(bench, sent)
    await run(bench, sent)
    assert await counts(bench, sent) == (1, 0)
    for number in range(1, MAX_CLAIMS):
        await claim(bench, sent)
        assert await counts(bench, sent) == (1, number)
    await run(bench, sent)
    assert await bench.states(sent) == ["accepted", "retrying", "succeeded"]
    assert (await bench.told(sent))[-1]["data"]["attempts"] == 2


@pytest.mark.parametrize("lane", list(Priority))
async def test_a_worker_that_is_stopped_gives_back_what_it_holds_uncounted(
    bench: Bench, lane: Priority
) -> None:
    """However often that happens, the command is due at once, and neither poison nor a suspect."""
    bench.sandbox.faults(FAILS_ONCE)
    sent = await send_get(bench, priority=lane)
    await run(bench, sent)
    keys, told = bench.ledger.keys, await bench.told(sent)
    errors = await bench.redis.hget(keys.command(sent), "x")
    assert errors
    bench.sandbox.faults(SLOW)
    for _ in range(MAX_CLAIMS + 1):
        await bench.redis.zadd(keys.due(lane), {sent: 0}, xx=True)
        async with running_runner(bench, concurrency=2) as runner:
            await until(lambda: has_begun(bench, sent))
            assert runner.running == 1
        assert await counts(bench, sent) == (1, 0)
        assert await bench.state(sent) == "retrying", "as it was before"
        assert await bench.redis.hget(keys.command(sent), "x") == errors
        due_at = await bench.redis.zscore(keys.due(lane), sent)
        assert due_at is not None
        assert due_at <= await now_ms(bench.redis), "for the next worker, at once"
    assert await bench.told(sent) == told
    bench.sandbox.faults()
    await run(bench, sent)
    last = (await bench.told(sent))[-1]
    assert (last["type"], last["data"]["attempts"]) == ("get_model.succeeded", 2)


async def test_a_stop_gives_back_no_claim_but_its_own(bench: Bench) -> None:
    """Deploys between its kills would let a command that kills workers live on and on."""
    bench.sandbox.faults(SLOW)
    sent = await send_get(bench)
    for number in range(1, MAX_CLAIMS):
        await claim(bench, sent)
        await bench.redis.zadd(bench.ledger.keys.due(Priority.INTERACTIVE), {sent: 0})
        async with running_runner(bench, concurrency=2):
            await until(lambda: has_begun(bench, sent))
            await until(partial(_claimed, bench, sent, number + 1))
        assert await counts(bench, sent) == (0, number)
    await claim(bench, sent)
    await run(bench, sent)
    assert (await bench.told(sent))[-1]["data"]["error"]["code"] == "poison"


async def test_a_run_that_a_key_of_its_own_refuses_counts_as_none_that_kills_its_worker(
    stub_bench: Bench, tmp_path: Path
) -> None:
    """However often; it goes on once the key is put right."""
    bench = replace(stub_bench, executor=replace(stub_bench.executor, max_claims=MAX_CLAIMS))
    keys = bench.ledger.keys
    source = write_lines(tmp_path / "items.jsonl", {"data_uuid": str(UUID(int=1))})
    sent = await bench.send("backfill", data(source))
    await bench.redis.set(keys.group_results(sent), "of somebody else")
    with capture_logs() as logs:
        async with working(bench, lease_seconds=0.01):

            async def was_refused_often() -> bool:
                # Each claim uses up a token, and so does its end.
                token = await bench.redis.hget(keys.command(sent), "n")
                return int(token or 0) > 2 * (MAX_CLAIMS + 2)

            await until(was_refused_often)
            assert await bench.states(sent) == ["accepted"]
            await bench.redis.delete(keys.group_results(sent))
            await until_ended(bench, sent)
    assert (await bench.states(sent))[-1] == "succeeded"
    told = [line for line in logs if line["event"] == "run.refused"]
    assert len(told) > MAX_CLAIMS
    assert told[0]["error"].startswith("WRONGTYPE")
    assert not [line for line in logs if line["event"] == "redis.lost"], "others go on"


async def _claimed(bench: Bench, command_id: str, claims: int) -> bool:
    return await counts(bench, command_id) == (0, claims)


async def has_begun(bench: Bench, command_id: str) -> bool:
    return await bench.state(command_id) == "running"
