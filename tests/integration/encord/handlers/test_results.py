"""Every command type against the real sandbox: results, events, refusals, retries."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import orjson
import pytest
from jsonschema import Draft202012Validator

import schemas.documents
from tests.integration.creations import attach_data, train_data
from tests.integration.ledger_acts import events, now_ms
from tests.sandbox_process import SIMULATED, SandboxProcess
from worker.encord.handlers.predict import KEPT_BYTES
from worker.queue.ledger.cancellation import CancelStatus, cancel
from worker.queue.ledger.dead_letters import DeadLetters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.worker_bench import Bench

SCHEMA = Path(schemas.documents.__file__).parent / "generated" / "events.schema.json"
EVENTS = Draft202012Validator(orjson.loads(SCHEMA.read_bytes()))


@pytest.fixture
async def bench(bench: Bench) -> AsyncIterator[Bench]:
    """The bench; every event that the test made has to fit the published schema."""
    yield bench
    for event in await events(bench.redis, bench.ledger.keys.events):
        EVENTS.validate(event)


async def test_a_model_from_its_creation_to_its_deletion(bench: Bench) -> None:
    """Each command type that needs no weights has the result that the contract's table names."""
    sandbox = bench.sandbox
    title = f"Street {uuid4()}"
    features = list(sandbox.features("fasterRcnn"))
    made = await bench.carry(
        "create_model", {"features": features, "model": "fasterRcnn", "title": title}
    )
    model = made["model_group"]["model_uuid"]
    assert made["model_iterations"] == []
    assert made["model_group"]["title"] == title

    trained = await bench.carry("train", train_data(sandbox, model))
    training = trained["training_uuid"]
    assert set(trained) == {"training_uuid", "iteration"}
    assert trained["iteration"]["training_uuid"] == training
    both = {"model_uuid": model, "training_uuid": training}
    assert await bench.carry("watch_training", both) == trained
    unwaited = await bench.carry("train", train_data(sandbox, model, epochs=2, wait=False))
    assert unwaited["iteration"] is None

    assert (await bench.carry("get_model", {"model_uuid": model}))["model_iterations"]
    listed = await bench.carry("list_models", {"query": title})
    assert [found["model_group"]["model_uuid"] for found in listed["models"]] == [model]
    changed = await bench.carry("update_model", {"model_uuid": model, "description": "new"})
    assert changed["model_group"]["description"] == "new"
    learned = await bench.carry("get_training_data", both)
    assert len(learned["training_data"]) == 8

    project = {"project_uuid": sandbox.project()["project_uuid"]}
    attached = await bench.carry("attach", attach_data(sandbox, model))
    attachment = {**project, "project_model_uuid": attached["project_model"]["project_model_uuid"]}
    assert attached["project_model"]["model_uuid"] == model
    listed = await bench.carry("list_attachments", project)
    assert attached["project_model"] in [each["project_model"] for each in listed["attachments"]]
    updated = await bench.carry(
        "update_attachment",
        {
            **attachment,
            "features_mapping": sandbox.features("fasterRcnn"),
            "iteration_policy": "manualSelection",
            "training_uuids": [training],
        },
    )
    assert updated["project_model"]["iteration_policy"] == "manualSelection"
    assert await bench.carry("detach", attachment) is None
    assert await bench.carry("delete_training_iteration", both) is None
    assert await bench.carry("delete_model", {"model_uuid": model}) is None
    types = {event["type"] for event in await events(bench.redis, bench.ledger.keys.events)}
    assert {"train.accepted", "train.started", "train.succeeded"} <= types


@pytest.fixture(scope="module")
def attached(sandbox: SandboxProcess) -> dict[str, Any]:
    """The parts of a predict, of a model that was really trained, a little, and attached."""
    sandbox.faults()
    model = sandbox.create_model()
    labels = [item["label_uuid"] for item in sandbox.items()[:2]]
    training = sandbox.create_training(model, labelsUuids=labels)
    while sandbox.status(model, training, 30)["status"] == "pending":
        pass
    return {
        "task": "object_detection",
        "project_uuid": sandbox.project()["project_uuid"],
        "project_model_uuid": sandbox.attach(model),
        "training_uuid": training,
        "model_uuid": model,
    }


def predict_data(attached: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {name: value for name, value in attached.items() if name != "model_uuid"} | more


def read(path: Path | str) -> bytes:
    return Path(path).read_bytes()


async def test_weights_come_as_a_link_that_can_be_followed(
    attached: dict[str, Any], bench: Bench
) -> None:
    both = {name: attached[name] for name in ("model_uuid", "training_uuid")}
    link = await bench.carry("get_weights_download_link", both)
    assert bench.sandbox.http.get(link["url"]).status_code == 200


async def test_an_item_by_uuid_by_path_and_by_bytes_is_the_same_item(
    attached: dict[str, Any], bench: Bench, tmp_path: Path
) -> None:
    item = bench.sandbox.items("heldout")[0]
    content = read(item["file"])
    (tmp_path / "item").write_bytes(content)
    sources = (
        {"data_uuid": item["data_uuid"]},
        {"data_path": str(tmp_path / "item")},
        {"data_base64": base64.b64encode(content).decode()},
    )
    frames = []
    for source in sources:
        result = await bench.carry("predict", predict_data(attached, conf_thresh=0.0, **source))
        frames.append(_bare(result["frames"]))
    assert set(frames[0]) == {str(number) for number in range(item["frames"])}
    assert frames[1:] == [frames[0]] * 2


async def test_what_a_prediction_on_a_file_was_sent_with_outlives_its_success(
    attached: dict[str, Any], bench: Bench, tmp_path: Path
) -> None:
    """So that people see the picture; one in base64 is too much to keep, however small it is."""
    item = bench.sandbox.items("heldout")[0]
    (tmp_path / "item").write_bytes(read(item["file"]))
    keys = bench.ledger.keys
    for source, is_kept in (
        ({"data_path": str(tmp_path / "item")}, True),
        ({"data_uuid": item["data_uuid"]}, False),
        ({"data_base64": base64.b64encode(read(item["file"])).decode()}, False),
        ({"data_path": str(tmp_path / "item"), "correlationid": "c" * KEPT_BYTES}, False),
    ):
        more = {"correlationid": str(source.pop("correlationid", "c"))}
        sent = await bench.send("predict", predict_data(attached, **source), **more)
        text = await bench.redis.get(keys.text(sent))
        await bench.end(sent)
        kept = await bench.redis.get(keys.sent(sent))
        assert kept == (text if is_kept else None), source
        assert not await bench.redis.exists(keys.text(sent))


def _bare(value: Any) -> Any:
    """Returns frames without what each call makes anew."""
    if isinstance(value, list):
        return [_bare(each) for each in value]
    if isinstance(value, dict):
        return {
            name: _bare(each)
            for name, each in value.items()
            if name not in {"created_at", "object_id", "classification_uuid"}
        }
    return value


async def test_a_frame_range_keeps_the_frames_own_numbers(
    attached: dict[str, Any], bench: Bench
) -> None:
    clip = next(item for item in bench.sandbox.items("heldout") if item["frames"] > 2)
    source = {"data_uuid": clip["data_uuid"], "frame_range_from": 1, "frame_range_to": 2}
    result = await bench.carry("predict", predict_data(attached, **source))
    assert set(result["frames"]) == {"1", "2"}


async def test_a_path_outside_the_roots_fails_and_never_reaches_the_api(
    attached: dict[str, Any], bench: Bench
) -> None:
    before = bench.sandbox.truth()["calls"].get("predict_object_detection")
    sent = await bench.send("predict", predict_data(attached, data_path="/etc/hostname"))
    terminal = await bench.end(sent)
    assert terminal["type"] == "predict.failed"
    assert terminal["data"]["error"]["code"] == "invalid_input"
    assert terminal["data"]["error"]["problems"][0]["path"] == "data.data_path"
    assert bench.sandbox.truth()["calls"].get("predict_object_detection") == before


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "invalid_arguments"),
        (403, "not_authorised"),
        (404, "not_found"),
        (409, "already_exists"),
        (422, "invalid_arguments"),
    ],
)
async def test_a_refusal_fails_at_once_and_lies_in_the_dead_letters(
    bench: Bench, status: int, code: str
) -> None:
    bench.sandbox.faults({"operation": "get_model", "effect": "status", "status": status})
    sent = await bench.send("get_model", {"model_uuid": str(uuid4())})
    terminal = await bench.end(sent)
    assert await bench.states(sent) == ["accepted", "failed"]
    assert (terminal["data"]["error"]["code"], terminal["data"]["attempts"]) == (code, 1)
    letter = await DeadLetters(bench.redis, bench.ledger.keys).get(sent)
    assert letter is not None
    assert (letter.reason, orjson.loads(letter.text)["id"]) == (code, sent)


async def test_a_failing_api_is_asked_again_and_each_try_is_told(bench: Bench) -> None:
    bench.sandbox.faults(
        {"operation": "list_models", "effect": "status", "status": 503, "count": 1},
        {"operation": "list_models", "effect": "truncated", "after": 1, "count": 1},
        {"operation": "list_models", "effect": "status", "status": 408, "after": 2, "count": 1},
    )
    sent = await bench.send("list_models", {})
    terminal = await bench.end(sent)
    assert await bench.states(sent) == ["accepted", *["retrying"] * 3, "succeeded"]
    assert terminal["data"]["attempts"] == 4
    retries = (await bench.told(sent))[1:4]
    codes = [event["data"]["error"]["code"] for event in retries]
    assert codes == ["server_error", "connection_lost", "server_error"]
    assert [event["data"]["attempt"] for event in retries] == [1, 2, 3]
    assert len({event["id"] for event in retries}) == 3


async def test_attempts_are_bounded_and_the_dead_letter_knows_them_all(bench: Bench) -> None:
    bench.sandbox.faults({"operation": "list_models", "effect": "status", "status": 500})
    sent = await bench.send("list_models", {})
    terminal = await bench.end(sent)
    assert terminal["type"] == "list_models.failed"
    assert terminal["data"]["attempts"] == 5
    letter = await DeadLetters(bench.redis, bench.ledger.keys).get(sent)
    assert letter is not None
    assert [error["code"] for error in letter.history] == ["server_error"] * 5


async def test_retry_after_is_honoured_to_the_second(bench: Bench) -> None:
    bench.sandbox.faults({
        "operation": "list_models",
        "effect": "status",
        "status": 429,
        "headers": {"Retry-After": "90"},
    })
    sent = await bench.send("list_models", {})
    before = await now_ms(bench.redis)
    await bench.attempt(sent)
    due = await bench.redis.zscore(bench.ledger.keys.due_interactive, sent)
    assert due is not None
    assert before + 90_000 <= due <= await now_ms(bench.redis) + 90_000
    retrying = (await bench.told(sent))[-1]["data"]
    assert retrying["error"] == {**retrying["error"], "code": "rate_limited", "status": 429}


async def test_past_its_deadline_nothing_is_started(bench: Bench) -> None:
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    before = bench.sandbox.truth()["calls"].get("create_model")
    data = {"features": ["a"], "model": "resnet18", "title": "late"}
    sent = await bench.send("create_model", data, deadline=past)
    terminal = await bench.end(sent)
    assert terminal["data"]["error"]["code"] == "deadline_exceeded"
    assert bench.sandbox.truth()["calls"].get("create_model") == before


async def test_a_deadline_ends_the_wait_for_a_training(bench: Bench) -> None:
    bench.sandbox.faults({**SIMULATED, "training": "stalled"})
    model = bench.sandbox.create_model()
    soon = (datetime.now(UTC) + timedelta(seconds=4)).isoformat()
    sent = await bench.send("train", train_data(bench.sandbox, model), deadline=soon)
    terminal = await bench.end(sent)
    assert terminal["data"]["error"]["code"] == "deadline_exceeded"
    assert await bench.states(sent) == ["accepted", "started", "failed"]


async def test_a_wait_that_is_too_long_ends_though_the_training_goes_on(bench: Bench) -> None:
    bench.sandbox.faults({**SIMULATED, "training": "stalled"})
    model = bench.sandbox.create_model()
    sent = await bench.send("train", train_data(bench.sandbox, model, timeout_seconds=1))
    terminal = await bench.end(sent)
    assert terminal["data"]["error"]["code"] == "training_timeout"


async def test_a_training_that_fails_at_the_api_fails_its_command(bench: Bench) -> None:
    bench.sandbox.faults({**SIMULATED, "training": "failing"})
    model = bench.sandbox.create_model()
    sent = await bench.send("train", train_data(bench.sandbox, model))
    terminal = await bench.end(sent)
    assert terminal["data"]["error"]["code"] == "training_failed"


@pytest.mark.parametrize(
    "trouble", [{"effect": "reset"}, {"effect": "status", "status": 401}], ids=["reset", "401"]
)
async def test_no_trouble_in_asking_ends_the_wait_for_a_training(
    bench: Bench, trouble: dict[str, Any]
) -> None:
    """Seven failures are more than the attempts that any call has; a key may be in change."""
    bench.sandbox.faults(SIMULATED, {"operation": "get_training_status", "count": 7, **trouble})
    model = bench.sandbox.create_model()
    sent = await bench.send("train", train_data(bench.sandbox, model))
    terminal = await bench.end(sent)
    assert terminal["type"] == "train.succeeded"
    assert await bench.states(sent) == ["accepted", "started", "succeeded"]


async def test_a_cancelled_command_runs_no_more(bench: Bench) -> None:
    bench.sandbox.faults({**SIMULATED, "training": "stalled"})
    model = bench.sandbox.create_model()
    sent = await bench.send("train", train_data(bench.sandbox, model))
    await bench.attempt(sent)
    run = bench.begin(await bench.claim(sent))
    outcome = await cancel(
        bench.redis,
        bench.ledger.keys,
        sent,
        retention_seconds=60,
        reply_retention_seconds=60,
    )
    assert outcome.status is CancelStatus.CANCELLED
    assert outcome.leaves["training_uuid"]
    assert await bench.ledger.finish([await bench.executor.carry_out(run)]) == [False]
    assert await bench.states(sent) == ["accepted", "started", "cancelled"]


@pytest.mark.parametrize("status", [502, None], ids=["5xx", "reset"])
async def test_a_deletion_whose_answer_was_lost_has_succeeded(
    bench: Bench, status: int | None
) -> None:
    """What the second try does not find, the first one deleted."""
    model = bench.sandbox.create_model()
    bench.sandbox.faults({
        "operation": "delete_model",
        "effect": "commit_then_fail",
        "status": status,
        "count": 1,
    })
    sent = await bench.send("delete_model", {"model_uuid": model})
    terminal = await bench.end(sent)
    assert (terminal["type"], terminal["data"]["result"]) == ("delete_model.succeeded", None)


@pytest.mark.parametrize("first", [None, 429], ids=["at once", "after a 429"])
async def test_a_deletion_of_what_is_not_there_fails(bench: Bench, first: int | None) -> None:
    """A 429 proves that nothing was deleted, so it excuses no later "not found"."""
    if first is not None:
        bench.sandbox.faults({
            "operation": "delete_model",
            "effect": "status",
            "status": first,
            "count": 1,
        })
    sent = await bench.send("delete_model", {"model_uuid": str(uuid4())})
    terminal = await bench.end(sent)
    assert terminal["data"]["error"]["code"] == "not_found"


async def test_a_large_result_lies_in_the_store_and_the_event_says_where(
    bench: Bench, tmp_path: Path
) -> None:
    title = f"large {uuid4()}"
    for number in range(3):
        bench.sandbox.create_model(title=f"{title} {number}", description="x" * 100_000)
    sent = await bench.send("list_models", {"query": title})
    terminal = await bench.end(sent)
    assert terminal["data"]["result"] is None
    stored = Path(terminal["dataref"].removeprefix("file://"))
    assert stored.is_relative_to(tmp_path)
    assert len(orjson.loads(read(stored))["models"]) == 3
