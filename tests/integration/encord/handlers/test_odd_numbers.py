"""Numbers of the API that are odd and valid come through to the event as they are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from schemas.json_text import decode_json
from tests.integration.worker_bench import Bench, open_bench
from tests.stub_api import Answer, StubApi, reply
from worker.queue.ledger.queries import LedgerReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.sandbox_process import SandboxProcess
    from worker.queue.ledger.ledger import Ledger

LOSSES: dict[str, Any] = {"1": 2**64, "2": -(2**70), "3": {"deep": [10**30, 0.25]}, "4": 2**63}


@pytest.fixture
async def bench(
    redis: Redis, ledger: Ledger, sandbox: SandboxProcess, stub: StubApi, tmp_path: Path
) -> AsyncIterator[Bench]:
    """The bench on an API that writes longer numbers than the sandbox can."""
    async with open_bench(redis, ledger, sandbox, tmp_path, domain=stub.url) as opened:
        yield opened


def iteration(training_uuid: str) -> dict[str, Any]:
    """Returns a finished training as the API tells it."""
    return {
        "batchSize": 4,
        "createdAt": "2026-01-31T12:00:00Z",
        "duration": 60,
        "epochs": 4,
        "lossLog": LOSSES,
        "trainingUuid": training_uuid,
    }


def answer(body: Any) -> Answer:
    """Returns the answer of a call that succeeds."""
    return reply(200, json.dumps(body).encode())


async def test_a_training_whose_losses_exceed_64_bits_succeeds_with_just_these_losses(
    bench: Bench, stub: StubApi
) -> None:
    training = str(uuid4())
    status = {"status": "done", "result": iteration(training)}
    stub.answers.append(answer(status))
    both = {"model_uuid": str(uuid4()), "training_uuid": training}
    result = await bench.carry("watch_training", both)
    assert result["iteration"]["loss_log"] == LOSSES


async def test_what_is_created_keeps_such_losses_in_its_row_and_in_its_event(
    bench: Bench, stub: StubApi
) -> None:
    """The row holds what was created before the event is written, and people may look at it."""
    data = {
        "features": list(bench.sandbox.features("resnet18")),
        "model": "resnet18",
        "title": f"wide {uuid4()}",
    }
    group = {
        "createdAt": "2026-01-31T12:00:00Z",
        "description": "",
        "modelUuid": str(uuid4()),
        "type": "classification",
        **data,
    }
    model = {"modelGroup": group, "modelIterations": [iteration(str(uuid4()))]}
    stub.answers.extend([answer({"results": []}), answer(model)])
    sent = await bench.send("create_model", data)
    run = bench.begin(await bench.claim(sent))
    finish = await bench.executor.carry_out(run)
    row = await LedgerReader(bench.redis, bench.ledger.keys).status(sent)
    assert row is not None
    assert row.progress is not None
    assert row.progress["result"]["model_iterations"][0]["loss_log"] == LOSSES
    await bench.ledger.finish([finish])
    result = (await bench.told(sent))[-1]["data"]["result"]
    assert result["model_iterations"][0]["loss_log"] == LOSSES


async def test_a_result_in_the_store_has_such_losses_too(
    bench: Bench, stub: StubApi, tmp_path: Path
) -> None:
    losses = {str(number): 2**64 + number for number in range(20_000)}
    training = str(uuid4())
    result = {**iteration(training), "lossLog": losses}
    stub.answers.append(answer({"status": "done", "result": result}))
    both = {"model_uuid": str(uuid4()), "training_uuid": training}
    assert await bench.carry("watch_training", both) is None
    (stored,) = (tmp_path / "results").iterdir()
    assert decode_json(stored.read_bytes())["iteration"]["loss_log"] == losses
