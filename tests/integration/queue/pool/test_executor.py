"""Rules of single runs at the edges: lost replies, deadlines, texts and answers that are odd."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from schemas.enums import EventState, Priority
from tests.integration.creations import OPERATIONS, data_of, made
from tests.integration.intake_acts import until
from tests.integration.ledger_acts import events
from tests.integration.worker_bench import Bench, encord_of, in_seconds, with_encord
from tests.processes import no_more_files
from tests.sandbox_process import SIMULATED
from worker.byte_budget import ByteBudget
from worker.encord.api.client import MlModelsApi
from worker.encord.api.throttle import ThrottledTransport
from worker.encord.creation.keys import ambiguous_key
from worker.errors import FencedError, TrainmasterError
from worker.files.file_access import AllowedFiles
from worker.files.remote_files import MAX_IMAGE_BYTES
from worker.queue.circuit_breaker import CircuitBreaker
from worker.queue.lane_slots import LaneSlots
from worker.queue.ledger.cancellation import cancel
from worker.queue.ledger.dead_letters import DeadLetters
from worker.queue.ledger.ledger import Ledger
from worker.queue.ledger.models import RowState
from worker.queue.pool.endings import ERRORS_KEPT
from worker.queue.pool.retry import RetryPolicy
from worker.queue.run_context import FIRST_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from redis.asyncio import Redis

    from schemas.commands import Command
    from worker.queue.ledger.keys import Keys
    from worker.queue.pool.executor import Executor
    from worker.queue.run_context import RunContext


class LosingLedger(Ledger):
    """The ledger, but for the reply to one checkpoint, which gets lost after it was done.

    Attributes:
        keeps: how many checkpoints keep their reply before; None where all do.
    """

    keeps: int | None = None

    async def checkpoint(self, *arguments: Any, **options: Any) -> Any:
        """Records; then fails once as a connection does that ends before the reply."""
        recorded = await super().checkpoint(*arguments, **options)
        if self.keeps == 0:
            self.keeps = None
            raise RedisConnectionError("the reply was lost")
        if self.keeps is not None:
            self.keeps -= 1
        return recorded


@pytest.fixture
def ledger(redis: Redis, keys: Keys) -> LosingLedger:
    return LosingLedger(
        redis, keys, lease_seconds=30, retention_seconds=600, reply_retention_seconds=600
    )


@pytest.mark.parametrize("command_type", sorted(OPERATIONS))
async def test_a_lost_reply_to_an_intent_leaves_no_doubt_for_nothing_was_sent(
    bench: Bench, ledger: LosingLedger, command_type: str
) -> None:
    data = data_of(bench, command_type)
    sent = await bench.send(command_type, data)
    run = bench.begin(await bench.claim(sent))
    ledger.keeps = 0
    with pytest.raises(RedisConnectionError):
        await bench.executor.carry_out(run)
    assert made(bench, command_type, data) == 0
    terminal = await bench.end(sent)
    assert terminal["type"] == f"{command_type}.succeeded"
    assert "in_doubt" not in await bench.states(sent)
    assert made(bench, command_type, data) == 1


async def test_a_lost_reply_to_the_checkpoint_of_a_creation_tells_of_its_start_no_second_time(
    bench: Bench, ledger: LosingLedger
) -> None:
    """The checkpoint is repeated word for word, by which Redis knows that it has it."""
    data = data_of(bench, "train")
    sent = await bench.send("train", data)
    ledger.keeps = 1
    await bench.attempt(sent)
    assert vars(ledger)["keeps"] is None, "the reply to the second checkpoint was lost"
    assert await bench.states(sent) == ["accepted", "started", "succeeded"]
    assert made(bench, "train", data) == 1


async def test_a_success_tells_the_seconds_since_its_command_was_accepted(bench: Bench) -> None:
    """With all that it waited, not those of its last attempt alone."""
    sent = await bench.send("list_models", {})
    # As if it had been accepted an hour ago.
    await bench.redis.hincrby(bench.ledger.keys.command(sent), "m", -3_600_000)
    assert 3600 <= (await bench.end(sent))["data"]["duration_seconds"] < 7200


async def test_a_dead_letter_tells_of_the_last_errors_and_of_no_more_than_ten(bench: Bench) -> None:
    """What a command fails of may be another thing than what it began with."""
    bench.executor = replace(bench.executor, policy=RetryPolicy(ERRORS_KEPT + 2, 0.01, 0.01))
    broken = {"operation": "list_models", "effect": "status"}
    bench.sandbox.faults({**broken, "status": 502, "count": 2}, {**broken, "status": 503})
    sent = await bench.send("list_models", {})
    await bench.end(sent)
    letter = await DeadLetters(bench.redis, bench.ledger.keys).get(sent)
    assert letter is not None
    assert letter.attempts == ERRORS_KEPT + 2
    assert len(letter.history) == ERRORS_KEPT
    assert {past["status"] for past in letter.history} == {503}


async def test_files_on_disks_never_take_more_memory_than_bodies_may(
    bench: Bench, tmp_path: Path
) -> None:
    """A file is larger than what is reserved at first: that is given back before it waits."""
    picture = tmp_path / "a.jpg"
    picture.write_bytes(b"x" * 3 * FIRST_BYTES)
    files = AllowedFiles((tmp_path,), "data.data_path", MAX_IMAGE_BYTES)
    budget = ByteBudget(8 * FIRST_BYTES)
    dependencies = replace(bench.executor.dependencies, bodies=budget)
    bench.executor = replace(bench.executor, dependencies=dependencies)
    used: list[int] = []

    async def read(run: RunContext[Command]) -> None:
        assert await run.read_file(files, picture, 2) == picture.read_bytes()
        used.append(budget.used_bytes)
        run.release()

    sent = [await bench.send("list_models", {}) for _ in range(4)]
    # One after the other, for a claim takes whatever comes first.
    runs = [bench.begin(await bench.claim(command_id)) for command_id in sent]
    async with asyncio.timeout(60):
        await asyncio.gather(*map(read, runs))
    assert max(used) <= budget.most_bytes
    assert budget.used_bytes == 0


async def test_nothing_is_created_when_the_deadline_passes_while_the_api_is_asked(
    bench: Bench,
) -> None:
    data = data_of(bench, "create_model")
    bench.sandbox.faults({"operation": "list_models", "effect": "latency", "seconds": 1.5})
    sent = await bench.send("create_model", data, deadline=in_seconds(1))
    terminal = await bench.end(sent)
    assert terminal["data"]["error"]["code"] == "deadline_exceeded"
    bench.sandbox.faults()
    assert made(bench, "create_model", data) == 0


async def test_a_command_that_may_start_only_past_its_deadline_never_starts(bench: Bench) -> None:
    """Whichever clock is a little ahead, the worker's or that of Redis."""
    sent = await bench.send("list_models", {}, notbefore=in_seconds(60), deadline=in_seconds(30))
    finish = await bench.attempt(sent)
    assert finish is not None
    terminal = (await bench.told(sent))[-1]
    assert terminal["data"]["error"]["code"] == "deadline_exceeded"


async def test_being_told_to_slow_down_costs_no_attempt(bench: Bench) -> None:
    """Eight times is more than the attempts that any call of this bench has."""
    bench.sandbox.faults({
        "operation": "list_models",
        "effect": "status",
        "status": 429,
        "headers": {"Retry-After": "0"},
        "count": 8,
    })
    sent = await bench.send("list_models", {})
    terminal = await bench.end(sent)
    assert terminal["type"] == "list_models.succeeded"
    assert terminal["data"]["attempts"] == 1
    retries = [event for event in await bench.told(sent) if "attempt" in event["data"]]
    assert [retry["data"]["attempt"] for retry in retries] == [1] * 8
    assert len({retry["id"] for retry in retries}) == 8, "each is an event of its own"


async def test_a_shortage_of_this_machine_costs_no_attempt(bench: Bench, tmp_path: Path) -> None:
    """Eight times without a file that it may open is more than the attempts of this bench."""
    file = tmp_path / "data.json"
    file.write_bytes(b"{}")
    sent = await bench.send("list_models", None, dataref=str(file))
    await bench.redis.ping()
    with no_more_files():
        for _ in range(8):
            await bench.attempt(sent)
    terminal = await bench.end(sent)
    assert terminal["type"] == "list_models.succeeded"
    assert terminal["data"]["attempts"] == 1
    retries = [event["data"] for event in await bench.told(sent) if "attempt" in event["data"]]
    assert [retry["error"]["code"] for retry in retries] == ["resource_exhausted"] * 8


async def test_a_lone_command_outlives_an_outage_that_is_longer_than_its_attempts(
    bench: Bench,
) -> None:
    """Its few failures open no breaker by their number; before it fails the API is asked."""

    async def works() -> bool:
        try:
            async for _ in MlModelsApi(encord_of(bench).transport).list_models():
                break
        except TrainmasterError:
            return False
        return True

    breaker = CircuitBreaker(works, failures=1000, minimum_seconds=0.05, maximum_seconds=0.05)
    bench.executor = replace(bench.executor, breaker=breaker)
    bench.sandbox.faults({"operation": "*", "effect": "status", "status": 503})
    sent = await bench.send("list_models", {})
    try:
        for _ in range(9):
            await bench.attempt(sent)
        assert await bench.state(sent) == "retrying"
        assert breaker.is_open
        bench.sandbox.faults()
        assert (await bench.end(sent))["type"] == "list_models.succeeded"
        await until(lambda: _is(not breaker.is_open))
    finally:
        await breaker.aclose()


async def _is(holds: bool) -> bool:
    return holds


async def test_a_training_that_may_be_anothers_is_adopted_by_nobody(bench: Bench) -> None:
    """The API tells neither what a training started from nor its mapping."""
    data = data_of(bench, "train")
    other = {**data, "pretrained_weights_type": "fasterRcnnR50C41X"}
    operation = OPERATIONS["train"]
    bench.sandbox.faults(
        SIMULATED,
        {"operation": operation, "effect": "reset", "count": 1},
        {"operation": operation, "effect": "commit_then_fail", "after": 1, "count": 1},
    )
    lost = await bench.send("train", data, deadline=in_seconds(5))
    made_unseen = await bench.send("train", other, deadline=in_seconds(5))
    for sent in (lost, made_unseen):
        await bench.attempt(sent)
    assert made(bench, "train", data) == 1
    for sent in (lost, made_unseen):
        terminal = await bench.end(sent)
        assert terminal["data"]["error"]["code"] == "outcome_unknown"


async def test_a_lookalike_that_knows_its_own_training_keeps_nobody_in_doubt(bench: Bench) -> None:
    data = data_of(bench, "train")
    other = {**data, "pretrained_weights_type": "fasterRcnnR50C41X"}
    assert (await bench.end(await bench.send("train", other)))["type"] == "train.succeeded"
    bench.sandbox.faults(
        SIMULATED,
        {"operation": OPERATIONS["train"], "effect": "commit_then_fail", "count": 1},
    )
    sent = await bench.send("train", data)
    assert (await bench.end(sent))["type"] == "train.succeeded"
    assert "in_doubt" in await bench.states(sent)
    assert made(bench, "train", data) == 2


async def test_a_lookalike_that_ended_unknown_long_ago_keeps_nobody_in_doubt(bench: Bench) -> None:
    """What it may have created was listed before the command in doubt began, if it exists."""
    data = data_of(bench, "train")
    other = {**data, "pretrained_weights_type": "fasterRcnnR50C41X", "timeout_seconds": 3600}
    rival = await doubted(bench, "train", other)
    keys = bench.ledger.keys
    await cancel(bench.redis, keys, rival, retention_seconds=600, reply_retention_seconds=600)
    bench.sandbox.faults(
        SIMULATED,
        {"operation": "get_model", "effect": "latency", "seconds": 0.2, "count": 1},
        {"operation": OPERATIONS["train"], "effect": "commit_then_fail", "count": 1},
    )
    sent = await bench.send("train", data)
    await bench.attempt(sent)
    (alike,) = [str(key, "utf-8") async for key in bench.redis.scan_iter(ambiguous_key(keys, "*"))]
    found = cast("list[bytes]", await bench.redis.zrange(alike, 0, -1))
    (member,) = [member for member in found if member.endswith(rival.encode())]
    recorded = json.loads(await bench.redis.hget(keys.command(sent), "p") or b"null")
    assert recorded["at"] - recorded["asked_at"] >= 0.2, (
        "what is listed may be as old as the question"
    )
    # Its hour, and the day for which a rival counts at least, end just when the baseline was asked.
    entered_at = recorded["asked_at"] - 3600 - 24 * 3600
    await bench.redis.zadd(alike, {member: entered_at})
    await bench.attempt(sent)
    assert await bench.state(sent) == "in_doubt"
    await bench.redis.zadd(alike, {member: entered_at - 0.1})
    assert (await bench.end(sent))["type"] == "train.succeeded"
    assert made(bench, "train", data) == 1


@pytest.mark.parametrize("odd", ["its progress", "its state", "its type"])
async def test_a_lookalike_whose_row_someone_wrote_over_ends_no_doubt(
    bench: Bench, odd: str
) -> None:
    """It may have created one; a defect would fail the other command, and not say what to check."""
    data = data_of(bench, "train")
    rival = await doubted(bench, "train", {**data, "pretrained_weights_type": "fasterRcnnR50C41X"})
    bench.sandbox.faults(
        SIMULATED,
        {"operation": OPERATIONS["train"], "effect": "commit_then_fail", "count": 1},
    )
    sent = await bench.send("train", data)
    await bench.attempt(sent)
    row = bench.ledger.keys.command(rival)
    if odd == "its type":
        await bench.redis.set(row, "no hash")
    else:
        await bench.redis.hset(row, odd[4], b"[]" if odd == "its progress" else b"\xff")
    await bench.attempt(sent)
    assert await bench.state(sent) == "in_doubt"


async def doubted(bench: Bench, command_type: str, data: dict[str, Any], **attributes: Any) -> str:
    """Returns the id of a command in doubt, whose POST came to nothing."""
    reset = {"operation": OPERATIONS[command_type], "effect": "reset", "count": 1}
    bench.sandbox.faults(SIMULATED, reset)
    sent = await bench.send(command_type, data, **attributes)
    await bench.attempt(sent)
    assert await bench.state(sent) == "in_doubt"
    bench.sandbox.faults(SIMULATED)
    return sent


async def test_a_model_that_differs_in_anything_from_the_lost_one_is_never_adopted(
    bench: Bench,
) -> None:
    data = data_of(bench, "create_model") | {"description": "the lost one"}
    features, title = data["features"], data["title"]
    sent = await doubted(bench, "create_model", data)
    create = bench.sandbox.create_model
    create(title=f"{title} too", description="the lost one")
    create(title=title, description="another one")
    create(title=title, description="the lost one", features=[*reversed(features), "more"])
    create(title=title, description="the lost one", features=features[:1])
    create("maskRcnn", title=title, description="the lost one", features=features)
    assert made(bench, "create_model", data) == 5
    await bench.attempt(sent)
    assert await bench.state(sent) == "in_doubt"
    lost = create(title=title, description="the lost one")
    terminal = await bench.end(sent)
    assert terminal["data"]["result"]["model_group"]["model_uuid"] == lost


async def test_a_training_that_differs_in_anything_listed_from_the_lost_one_is_never_adopted(
    bench: Bench,
) -> None:
    data = data_of(bench, "train")
    model, labels = data["model_uuid"], data["labels_uuids"]
    more = [item["label_uuid"] for item in bench.sandbox.items()[: len(labels) + 1]]
    sent = await doubted(bench, "train", data)
    create = bench.sandbox.create_training
    others = [
        (model, create(model, batchSize=data["batch_size"] + 1)),
        (model, create(model, epochs=data["epochs"] + 1)),
        (model, create(model, labelsUuids=labels[1:])),
        (model, create(model, labelsUuids=more)),
    ]
    another_model = bench.sandbox.create_model()
    others.append((another_model, create(another_model)))
    for of, training in others:
        bench.sandbox.ended(of, training)
    await bench.attempt(sent)
    assert await bench.state(sent) == "in_doubt"
    lost = create(model)
    bench.sandbox.ended(model, lost)
    assert (await bench.end(sent))["data"]["result"]["training_uuid"] == lost


async def test_an_attachment_that_differs_or_is_older_than_the_lost_one_is_never_adopted(
    bench: Bench,
) -> None:
    data = data_of(bench, "attach")
    model, attach = data["model_uuid"], bench.sandbox.attach
    attach(model)
    sent = await doubted(bench, "attach", data)
    mapping = data["features_mapping"]
    turned = dict(zip(mapping, reversed(mapping.values()), strict=True))
    assert turned != mapping
    training = bench.sandbox.create_training(model)
    bench.sandbox.ended(model, training)
    attach(model, iterationPolicy="manualSelection", trainingUuids=[training])
    attach(model, featuresMapping=turned)
    attach(model, project=1)
    attach(bench.sandbox.create_model())
    await bench.attempt(sent)
    assert await bench.state(sent) == "in_doubt"
    lost = attach(model)
    terminal = await bench.end(sent)
    assert terminal["data"]["result"]["project_model"]["project_model_uuid"] == lost


async def test_an_attachment_that_may_be_anothers_is_adopted_by_nobody(bench: Bench) -> None:
    """The API does not list which trainings were selected, so either may have created it."""
    data = data_of(bench, "attach") | {"iteration_policy": "manualSelection"}
    model = data["model_uuid"]
    trainings = [bench.sandbox.create_training(model) for _ in range(2)]
    for training in trainings:
        bench.sandbox.ended(model, training)
    sent = [
        await doubted(bench, "attach", {**data, "training_uuids": [training]})
        for training in trainings
    ]
    bench.sandbox.attach(model, iterationPolicy="manualSelection", trainingUuids=trainings[:1])
    for command_id in sent:
        await bench.attempt(command_id)
        assert await bench.state(command_id) == "in_doubt"


async def test_of_two_that_may_be_the_lost_one_none_is_adopted(bench: Bench) -> None:
    """One of them is somebody else's, and nothing tells which."""
    data = data_of(bench, "create_model")
    sent = await doubted(bench, "create_model", data)
    created = {bench.sandbox.create_model(title=data["title"]) for _ in range(2)}
    await bench.attempt(sent)
    assert await bench.state(sent) == "in_doubt"
    # An identical command that is in doubt as well may have created the other one.
    for uuid in created:
        bench.sandbox.http.delete(f"/v2/public/ml-models/{uuid}").raise_for_status()
    twin = await doubted(bench, "create_model", data)
    created = {bench.sandbox.create_model(title=data["title"]) for _ in range(2)}
    ends = [await bench.end(each) for each in (sent, twin)]
    assert {end["data"]["result"]["model_group"]["model_uuid"] for end in ends} == created


class MarkedGate(ThrottledTransport):
    """The gate, but something comes between the answer to a change and whoever waits for it."""

    def __init__(self, gate: ThrottledTransport, then: Callable[[], Awaitable[None]]) -> None:
        super().__init__(gate._transport, None, None)
        self._then = then

    def until(self, *_: Any, **__: Any) -> ThrottledTransport:
        """Stays the same for each run: none of these has a deadline."""
        return self

    async def send(self, *arguments: Any, fresh: bool = False, **options: Any) -> Any:
        """Sends at once; what comes of it waits."""
        response = await super().send(*arguments, fresh=fresh, **options)
        if fresh:
            await self._then()
        return response


def with_gate(bench: Bench, then: Callable[[], Awaitable[None]]) -> Executor:
    """Returns the bench's attempts behind such a gate."""
    dependencies = bench.executor.dependencies
    return replace(
        bench.executor,
        dependencies=with_encord(
            dependencies, transport=MarkedGate(encord_of(bench).transport, then)
        ),
    )


class Held:
    """Answers that are held back until a test lets them through."""

    def __init__(self) -> None:
        self.has_come = asyncio.Event()
        self.may_go = asyncio.Event()

    async def __call__(self) -> None:
        """Waits."""
        self.has_come.set()
        await self.may_go.wait()

    async def come(self) -> None:
        """Waits for an answer."""
        async with asyncio.timeout(60):
            await self.has_come.wait()


async def test_what_an_identical_command_has_just_created_is_adopted_by_no_command_in_doubt(
    bench: Bench,
) -> None:
    """It is there to be seen, and its own command does not know of it yet."""
    data = data_of(bench, "create_model")
    doubting = await doubted(bench, "create_model", data)
    sent = await bench.send("create_model", data)
    held = Held()
    holding = with_gate(bench, held)
    creating = asyncio.create_task(holding.carry_out(holding.begin(await bench.claim(sent))))
    await held.come()
    assert made(bench, "create_model", data) == 1
    await bench.attempt(doubting)
    assert await bench.state(doubting) == "in_doubt"
    held.may_go.set()
    await bench.ledger.finish([await creating])
    assert await bench.state(sent) == "succeeded"
    await bench.attempt(doubting)
    assert await bench.state(doubting) == "in_doubt", "it is owned now"


async def test_word_of_a_creation_that_another_command_owns_by_now_is_not_taken(
    bench: Bench,
) -> None:
    """A run without a lease tells of what an identical command in doubt has adopted meanwhile."""
    data = data_of(bench, "create_model")
    adopter = await doubted(bench, "create_model", data)
    frozen = await bench.send("create_model", data)
    held = Held()
    holding = with_gate(bench, held)
    late = asyncio.create_task(holding.carry_out(holding.begin(await bench.claim(frozen))))
    await held.come()
    # Its lease is over: the next holder doubts, and lets the identical command adopt.
    await bench.attempt(frozen)
    assert await bench.state(frozen) == "in_doubt"
    assert (await bench.end(adopter))["type"] == "create_model.succeeded"
    held.may_go.set()
    with pytest.raises(FencedError):
        await late
    await bench.attempt(frozen)
    assert await bench.state(frozen) == "in_doubt", "what it is told of is the other's"
    lost = bench.sandbox.create_model(title=data["title"])
    terminal = await bench.end(frozen)
    assert terminal["data"]["result"]["model_group"]["model_uuid"] == lost


@pytest.mark.parametrize("command_type", sorted(OPERATIONS))
async def test_a_creation_whose_answer_finds_no_memory_is_in_doubt(
    bench: Bench, command_type: str
) -> None:
    """No deadline may end it before the API was asked, as it would end one that retries."""

    async def exhaust() -> None:
        raise MemoryError

    data = data_of(bench, command_type)
    sent = await bench.send(command_type, data)
    exhausted = with_gate(bench, exhaust)
    finish = await exhausted.carry_out(exhausted.begin(await bench.claim(sent)))
    await bench.ledger.finish([finish])
    assert await bench.state(sent) == "in_doubt"
    assert (await bench.end(sent))["type"] == f"{command_type}.succeeded"
    assert made(bench, command_type, data) == 1


@pytest.mark.parametrize("command_type", ["delete_model", "delete_training_iteration", "detach"])
async def test_a_lost_reply_to_the_checkpoint_of_a_deletion_excuses_no_not_found(
    bench: Bench, ledger: LosingLedger, command_type: str
) -> None:
    """Nothing had been sent when the reply was lost, so nothing of this command was deleted."""
    sent = await bench.send(command_type, absent(bench, command_type))
    ledger.keeps = 0
    terminal = await bench.end(sent)
    assert terminal["data"]["error"]["code"] == "not_found"


async def test_a_lost_reply_to_the_withdrawal_of_a_deletion_excuses_no_not_found(
    bench: Bench, ledger: LosingLedger
) -> None:
    """The 429 proves that nothing was deleted, whatever becomes of the checkpoint that says so."""
    refusal = {"operation": "delete_model", "effect": "status", "status": 429, "count": 1}
    bench.sandbox.faults({**refusal, "headers": {"Retry-After": "0"}})
    sent = await bench.send("delete_model", absent(bench, "delete_model"))
    ledger.keeps = 1
    terminal = await bench.end(sent)
    assert await bench.states(sent) == ["accepted", "retrying", "failed"]
    assert terminal["data"]["error"]["code"] == "not_found"


@pytest.mark.parametrize("status", [502, None], ids=["5xx", "reset"])
async def test_a_deletion_succeeds_though_the_replies_to_its_checkpoint_and_to_itself_were_lost(
    bench: Bench, ledger: LosingLedger, status: int | None
) -> None:
    model = bench.sandbox.create_model()
    operation = {"operation": "delete_model", "count": 1}
    bench.sandbox.faults({**operation, "effect": "commit_then_fail", "status": status})
    sent = await bench.send("delete_model", {"model_uuid": model})
    ledger.keeps = 0
    terminal = await bench.end(sent)
    assert terminal["type"] == "delete_model.succeeded"
    assert await bench.states(sent) == ["accepted", "retrying", "succeeded"]


@pytest.mark.parametrize("status", [429, 401])
async def test_a_refused_repetition_of_a_deletion_forgets_nothing_of_the_first(
    bench: Bench, status: int
) -> None:
    """That nothing was deleted by the second says nothing of the first, whose answer was lost."""
    model = bench.sandbox.create_model()
    operation = {"operation": "delete_model", "count": 1}
    bench.sandbox.faults(
        {**operation, "effect": "commit_then_fail", "status": 502},
        {
            **operation,
            "effect": "status",
            "status": status,
            "headers": {"Retry-After": "0"},
            "after": 1,
        },
    )
    sent = await bench.send("delete_model", {"model_uuid": model})
    terminal = await bench.end(sent)
    assert terminal["type"] == "delete_model.succeeded"
    assert await bench.states(sent) == ["accepted", "retrying", "retrying", "succeeded"]


async def test_a_creation_waits_for_its_place_until_the_deadline_by_redis_clock(
    bench: Bench,
) -> None:
    """This machine's may be an hour fast."""
    places = LaneSlots()

    def now() -> float:
        return time.time() - 3600

    transport = ThrottledTransport(encord_of(bench).transport._transport, None, None, now=now)
    dependencies = with_encord(bench.executor.dependencies, creations=places, transport=transport)
    dependencies = replace(dependencies, now=now)
    slow = replace(bench.executor, dependencies=dependencies)
    data = data_of(bench, "create_model")
    sent = await bench.send("create_model", data)
    run = slow.begin(await bench.claim(sent))
    deadline = datetime.fromtimestamp(now() + 600, UTC)
    run.command = run.command.model_copy(update={"deadline": deadline})
    async with places.slot(Priority.INTERACTIVE):
        creating = asyncio.create_task(slow.carry_out(run))
        await asyncio.sleep(0.2)
        assert not creating.done()
    await bench.ledger.finish([await creating])
    assert await bench.state(sent) == "succeeded"


def absent(bench: Bench, command_type: str) -> dict[str, Any]:
    """Returns data for the deletion of what is not there."""
    match command_type:
        case "delete_model":
            return {"model_uuid": str(uuid4())}
        case "delete_training_iteration":
            return {"model_uuid": bench.sandbox.create_model(), "training_uuid": str(uuid4())}
        case _:
            project = bench.sandbox.project()["project_uuid"]
            return {"project_uuid": project, "project_model_uuid": str(uuid4())}


async def test_a_checkpoint_says_where_the_command_stands(bench: Bench) -> None:
    """Else a worker that dies just then leaves a training that waits to look like one that runs."""
    sent = await bench.send("list_models", {}, replyto="desk")
    run = bench.begin(await bench.claim(sent))
    await run.checkpoint({"uuid": "x"})
    assert await bench.state(sent) == RowState.RUNNING
    event = (EventState.STARTED, {"training_uuid": "x"})
    await run.checkpoint({"uuid": "x", "at": 1}, state=RowState.POLLING, event=event)
    told = await events(bench.redis, bench.ledger.keys.replies("desk"))
    assert [each["type"] for each in told][-1] == "list_models.started"
    assert await bench.state(sent) == run.state == RowState.POLLING
