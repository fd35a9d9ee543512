"""A doubt that a person settles: adopted as if the API had told, or sent once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from schemas.parsing import InvalidCommandError
from tests.console import Console
from tests.integration.ledger_acts import events
from tests.sandbox_process import SIMULATED
from trainmaster_client import AsyncClient
from worker.encord.creation.orphans import OrphanedCreation, Orphans
from worker.encord.creation.resolution import Resolution, ResolveOutcome, ResolveStatus, resolve
from worker.queue.ledger.cancellation import cancel
from worker.queue.ledger.queries import LedgerReader

if TYPE_CHECKING:
    from tests.integration.worker_bench import Bench

# A training is in no list while it runs.
HIDDEN: dict[str, Any] = {**SIMULATED, "seconds": 8}
LOST: dict[str, Any] = {"effect": "commit_then_fail", "status": 502, "count": 1}
NEVER_SENT: dict[str, Any] = {"effect": "status", "status": 502, "count": 1}


async def settle(bench: Bench, command_id: str, created: str | None) -> ResolveOutcome:
    return await resolve(
        bench.redis,
        bench.ledger.keys,
        command_id,
        Resolution(None if created is None else UUID(created), "Ada"),
        reply_retention_seconds=60,
    )


def training(bench: Bench, model: str) -> dict[str, Any]:
    body = bench.sandbox.training_body()
    return {
        "model_uuid": model,
        "batch_size": body["batchSize"],
        "epochs": body["epochs"],
        "features_mapping": body["featuresMapping"],
        "labels_uuids": body["labelsUuids"],
    }


async def doubtful_training(bench: Bench, fault: dict[str, Any], **attributes: Any) -> str:
    """Sends a `train` whose answer is lost; what it created is in no list."""
    bench.sandbox.faults(HIDDEN, {**fault, "operation": "create_training_job"})
    sent = await bench.send("train", training(bench, bench.sandbox.create_model()), **attributes)
    await bench.attempt(sent)
    await bench.attempt(sent)
    assert await bench.state(sent) == "in_doubt"
    return sent


def trainings(bench: Bench) -> list[str]:
    """Returns the uuids of all trainings that were ever created."""
    created = bench.sandbox.truth()["created"]["trainings"]
    return [each["training_uuid"] for each in created]


async def test_what_a_person_found_is_adopted_as_if_the_api_had_told(bench: Bench) -> None:
    before = trainings(bench)
    sent = await doubtful_training(bench, LOST, replyto="desk")
    (uuid,) = set(trainings(bench)) - set(before)
    assert await settle(bench, sent, uuid) == ResolveOutcome(ResolveStatus.RESOLVED, "in_doubt")
    await bench.attempt(sent)
    assert await bench.state(sent) == "polling"
    end = await bench.end(sent)
    assert end["data"]["result"]["training_uuid"] == uuid
    assert await bench.states(sent) == ["accepted", "in_doubt", "resolved", "started", "succeeded"]
    told = (await bench.told(sent))[2]
    assert told["data"] == {"created": uuid, "by": "Ada"}
    replies = await events(bench.redis, bench.ledger.keys.replies("desk"))
    assert [event["type"] for event in replies].count("train.resolved") == 1
    row = await LedgerReader(bench.redis, bench.ledger.keys).status(sent)
    assert row is not None
    assert row.resolution is not None
    assert (row.resolution["by"], row.resolution["created"]) == ("Ada", uuid)
    assert set(trainings(bench)) - set(before) == {uuid}


async def test_what_was_not_created_is_sent_once_more(bench: Bench) -> None:
    before = trainings(bench)
    sent = await doubtful_training(bench, NEVER_SENT)
    assert trainings(bench) == before
    bench.sandbox.faults(SIMULATED)
    assert (await settle(bench, sent, None)).status is ResolveStatus.RESOLVED
    end = await bench.end(sent)
    assert await bench.states(sent) == ["accepted", "in_doubt", "resolved", "started", "succeeded"]
    assert [end["data"]["result"]["training_uuid"]] == list(set(trainings(bench)) - set(before))


async def test_what_the_lost_run_left_word_of_is_adopted_whatever_a_person_said(
    bench: Bench,
) -> None:
    """It stood still until its lease had ended, and learned what it had created after all."""
    before = trainings(bench)
    sent = await doubtful_training(bench, LOST)
    (uuid,) = set(trainings(bench)) - set(before)
    lease = bench.begin(await bench.claim(sent)).lease
    owner = bench.ledger.keys.lock(f"training:{uuid}")
    orphans = Orphans(bench.redis, bench.ledger.keys)
    await orphans.leave(lease, OrphanedCreation(uuid, None, owner, 600), drop_lock="")
    bench.sandbox.faults(SIMULATED)
    assert (await settle(bench, sent, None)).status is ResolveStatus.RESOLVED
    assert (await bench.end(sent))["data"]["result"]["training_uuid"] == uuid
    assert set(trainings(bench)) - set(before) == {uuid}


async def test_a_call_that_is_lost_again_is_in_doubt_again(bench: Bench) -> None:
    sent = await doubtful_training(bench, NEVER_SENT)
    bench.sandbox.faults(HIDDEN, {**NEVER_SENT, "operation": "create_training_job"})
    await settle(bench, sent, None)
    await bench.attempt(sent)
    assert await bench.state(sent) == "in_doubt"
    bench.sandbox.faults(SIMULATED)
    assert (await settle(bench, sent, None)).status is ResolveStatus.RESOLVED
    await bench.end(sent)
    states = await bench.states(sent)
    assert states == [
        *("accepted", "in_doubt", "resolved", "in_doubt", "resolved", "started", "succeeded")
    ]


async def test_what_is_not_there_leaves_the_doubt_and_says_so(bench: Bench, redis_url: str) -> None:
    sent = await doubtful_training(bench, LOST)
    nothing = str(uuid4())
    await settle(bench, sent, nothing)
    await bench.attempt(sent)
    assert await bench.state(sent) == "in_doubt"
    last = (await bench.told(sent))[-1]
    assert last["type"] == "train.in_doubt"
    message = last["data"]["error"]["message"]
    assert message == f"Ada said that training {nothing} was created, and there is none"
    status = Console(redis_url, bench.ledger.keys.namespace).run("status", sent)
    assert "so the doubt goes on" in " ".join(status.out.split())
    ended = await cancel(
        bench.redis, bench.ledger.keys, sent, retention_seconds=60, reply_retention_seconds=60
    )
    assert (ended.leaves, ended.in_doubt) == ({}, True), "what is not there does not go on"
    assert nothing not in str((await bench.told(sent))[-1]["data"])


@pytest.mark.parametrize("status", [403, 500])
async def test_an_api_that_does_not_tell_leaves_what_a_person_said_to_be_asked_for_again(
    bench: Bench, status: int
) -> None:
    """That it may not be seen, or not now, says nothing of whether it is there."""
    sent = await doubtful_training(bench, LOST)
    (created,) = trainings(bench)[-1:]
    await settle(bench, sent, created)
    before = await bench.states(sent)
    refused = {"operation": "get_training_status", "effect": "status", "status": status}
    bench.sandbox.faults(HIDDEN, refused)
    await bench.attempt(sent)
    assert await bench.states(sent) == before, "nothing is told of it"
    bench.sandbox.faults(SIMULATED)
    ended = await bench.end(sent)
    assert ended["data"]["result"]["training_uuid"] == created


async def test_what_is_another_command_s_is_not_adopted_twice(bench: Bench) -> None:
    bench.sandbox.faults(SIMULATED)
    model = bench.sandbox.create_model()
    owned = (await bench.carry("train", training(bench, model)))["training_uuid"]
    bench.sandbox.faults(HIDDEN, {**LOST, "operation": "create_training_job"})
    sent = await bench.send("train", training(bench, model))
    await bench.attempt(sent)
    await bench.attempt(sent)
    await settle(bench, sent, owned)
    await bench.attempt(sent)
    assert await bench.state(sent) == "in_doubt"
    assert "another command's" in (await bench.told(sent))[-1]["data"]["error"]["message"]


@pytest.mark.parametrize("created", [True, False])
async def test_a_run_that_still_asks_records_nothing_more(bench: Bench, created: bool) -> None:
    """It began before the person spoke; what it found comes too late."""
    before = trainings(bench)
    sent = await doubtful_training(bench, LOST)
    (uuid,) = set(trainings(bench)) - set(before)
    run = bench.begin(await bench.claim(sent))
    await settle(bench, sent, uuid if created else None)
    states = await bench.states(sent)
    assert await bench.ledger.finish([await bench.executor.carry_out(run)]) == [False]
    assert await bench.states(sent) == states


async def test_who_is_in_no_doubt_is_left_as_it_is(bench: Bench) -> None:
    waiting = await bench.send("list_models", {})
    assert await settle(bench, waiting, None) == ResolveOutcome(
        ResolveStatus.NOT_IN_DOUBT, "accepted"
    )
    await bench.end(waiting)
    ended = await settle(bench, waiting, None)
    assert ended == ResolveOutcome(ResolveStatus.ALREADY_ENDED, "succeeded")
    assert (await settle(bench, "nobody", None)).status is ResolveStatus.UNKNOWN_ID


async def test_the_same_word_again_is_as_the_first(bench: Bench) -> None:
    """As of a command that is run again after its worker died."""
    sent = await doubtful_training(bench, NEVER_SENT)
    for _ in range(2):
        assert (await settle(bench, sent, None)).status is ResolveStatus.RESOLVED
    assert (await bench.states(sent)).count("resolved") == 1
    other = await settle(bench, sent, str(uuid4()))
    assert other.status is ResolveStatus.NOT_IN_DOUBT


async def test_a_suspect_that_is_settled_stays_one_and_is_due_once(bench: Bench) -> None:
    """Beside others it may take these with it, and in two due sets it would be claimed twice."""
    sent = await doubtful_training(bench, NEVER_SENT)
    keys = bench.ledger.keys
    await bench.redis.zrem(keys.due_interactive, sent)
    await bench.redis.zadd(keys.due_suspect, {sent: "+inf"})
    assert (await settle(bench, sent, None)).status is ResolveStatus.RESOLVED
    assert await bench.redis.zscore(keys.due_interactive, sent) is None
    assert await bench.ledger.count_due() == (0, 0, 1)


@pytest.mark.parametrize("kind", ["create_model", "attach"])
async def test_models_and_attachments_are_settled_too(bench: Bench, kind: str) -> None:
    model = bench.sandbox.create_model()
    features = bench.sandbox.features("fasterRcnn")
    project = bench.sandbox.project()["project_uuid"]
    title = f"doubtful {uuid4()}"
    operation, data = {
        "create_model": (
            "create_model",
            {"features": list(features), "model": "fasterRcnn", "title": title},
        ),
        "attach": (
            "create_model_attachment",
            {
                "project_uuid": project,
                "model_uuid": model,
                "features_mapping": features,
                "iteration_policy": "useAll",
            },
        ),
    }[kind]
    bench.sandbox.faults({**NEVER_SENT, "operation": operation})
    sent = await bench.send(kind, data)
    await bench.attempt(sent)
    assert await bench.state(sent) == "in_doubt"
    # Someone made it by hand meanwhile, and says so.
    made = bench.sandbox.create_model() if kind == "create_model" else bench.sandbox.attach(model)
    await settle(bench, sent, made)
    leaves = await bench.redis.hget(bench.ledger.keys.command(sent), "z")
    assert not leaves, "a cancellation tells of no training"
    before = await bench.states(sent)
    looked_for = {"create_model": "get_model", "attach": "list_model_attachments"}[kind]
    bench.sandbox.faults({"operation": looked_for, "effect": "status", "status": 403})
    await bench.attempt(sent)
    assert await bench.states(sent) == before, "that it may not be seen says nothing"
    bench.sandbox.faults()
    result = (await bench.end(sent))["data"]["result"]
    group = result["model_group" if kind == "create_model" else "project_model"]
    assert made in group.values()


async def test_a_training_that_a_person_found_is_named_by_a_cancellation(bench: Bench) -> None:
    before = trainings(bench)
    sent = await doubtful_training(bench, LOST)
    (uuid,) = set(trainings(bench)) - set(before)
    await settle(bench, sent, uuid)
    outcome = await cancel(
        bench.redis, bench.ledger.keys, sent, retention_seconds=60, reply_retention_seconds=60
    )
    assert outcome.leaves["training_uuid"] == uuid


async def test_the_command_the_client_and_the_console_do_the_same(
    bench: Bench, redis_url: str
) -> None:
    namespace = bench.ledger.keys.namespace
    sent = await doubtful_training(bench, NEVER_SENT)
    check = (await bench.told(sent))[-1]["data"]["check"]
    assert f"trainmaster resolve {sent} --created UUID, or --not-created" in check
    console = Console(redis_url, namespace)
    assert console.run("resolve", sent).code == 2
    assert console.run("resolve", "nobody", "--not-created").code == 1
    said = await bench.carry("resolve", {"command_id": sent, "not_created": True, "by": "Bo"})
    assert said == {"resolved": True, "state": "in_doubt"}
    status = console.run("status", sent)
    assert "by Bo: nothing was created" in status.out
    again = console.run("resolve", sent, "--created", str(uuid4()))
    assert (again.code, again.out.split(": ")[1]) == (1, "it is not in doubt")
    wrong = await bench.send("resolve", {"command_id": "nobody", "not_created": True})
    assert (await bench.end(wrong))["data"]["error"]["code"] == "not_found"
    async with AsyncClient(redis_url, namespace=namespace) as client:
        assert [event.data["by"] async for event in client.events(["resolved"])] == ["Bo"]


async def test_a_phase_that_a_newer_version_recorded_is_never_taken_for_none(bench: Bench) -> None:
    """Two versions may run side by side: what one does not know, it does not send again."""
    before = trainings(bench)
    sent = await doubtful_training(bench, NEVER_SENT)
    await bench.redis.hset(bench.ledger.keys.command(sent), "h", "unheard of")
    bench.sandbox.faults(SIMULATED)
    with pytest.raises(InvalidCommandError, match="phase"):
        bench.begin(await bench.claim(sent))
    assert trainings(bench) == before


@pytest.mark.parametrize("odd", ["[]", "{", '"in_doubt"'])
async def test_a_row_that_someone_wrote_over_is_in_no_doubt_and_can_be_cancelled(
    bench: Bench, odd: str
) -> None:
    sent = await bench.send("list_models", {})
    row = bench.ledger.keys.command(sent)
    await bench.redis.hset(row, mapping={"p": odd, "r": odd})
    assert (await settle(bench, sent, None)).status is ResolveStatus.NOT_IN_DOUBT
    outcome = await cancel(
        bench.redis, bench.ledger.keys, sent, retention_seconds=60, reply_retention_seconds=60
    )
    assert outcome.status == "cancelled"
