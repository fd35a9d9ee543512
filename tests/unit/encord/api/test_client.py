"""Rules of the seventeen operations that the SDK can't judge: paging, odd answers, long polls."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from schemas.enums import IterationPolicy, ModelArchitecture, OrderBy, TrainingState
from schemas.events import ErrorCode
from tests.signatures import check_signature
from tests.stub_api import Answer, StubApi, reply
from worker.encord.api import client as client_module
from worker.encord.api.client import MlModelsApi
from worker.encord.api.signing import RequestSigner
from worker.encord.api.transport import Transport
from worker.errors import BadResponseError, ConnectionLostError
from worker.http.timeouts import Timeouts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from worker.http.response import Response

pytestmark = pytest.mark.asyncio

KEY = Ed25519PrivateKey.generate()
ONE = UUID("11111111-1111-4111-8111-111111111111")
TWO = UUID("22222222-2222-4222-8222-222222222222")

MODEL = {
    "modelGroup": {
        "createdAt": "2026-01-02T03:04:05",
        "description": "",
        "features": ["car"],
        "model": "resnet999",
        "modelUuid": str(ONE),
        "title": "Cars",
        "type": "panoptic",
        "isNew": True,
    },
    "modelIterations": [],
}
ITERATION = {
    "batchSize": 4,
    "createdAt": "2026-01-02T03:04:05Z",
    "duration": 12,
    "epochs": 2,
    "lossLog": {"1": 0.93},
    "trainingUuid": str(TWO),
}


def page(*results: object, **more: object) -> Answer:
    """Returns an answer with a page."""
    return reply(200, json.dumps({"results": results, **more}).encode())


@pytest_asyncio.fixture
async def api(stub: StubApi) -> AsyncIterator[MlModelsApi]:
    """A client of the stub."""
    signer = RequestSigner(KEY)
    timeouts = Timeouts(connect=1, read=0.5, write=1, pool=1)
    async with Transport(stub.url, signer, timeouts=timeouts) as transport:
        yield MlModelsApi(transport)


async def test_pages_are_asked_for_when_they_are_needed(stub: StubApi, api: MlModelsApi) -> None:
    """The next page is not loaded before the last result of this one is taken."""
    stub.answers.extend([page(MODEL, MODEL, nextPageToken="a/b=c+d&e?"), page(MODEL)])
    models = api.list_models(order_by=OrderBy.TITLE, order_asc=True, query="my cars")
    assert [await anext(models) for _ in range(2)]
    assert len(stub.recorded) == 1
    assert [model async for model in models]
    first = "/v2/public/ml-models?orderBy=title&orderAsc=True&query=my+cars"
    second = f"{first}&pageToken=a%2Fb%3Dc%2Bd%26e%3F"
    assert [each.target for each in stub.recorded] == [first, second]


@pytest.mark.parametrize("end", [{}, {"nextPageToken": None}])
async def test_paging_ends_at_a_null_or_an_absent_token(
    stub: StubApi, api: MlModelsApi, end: dict[str, None]
) -> None:
    """Both say that this was the last page; an empty page in between is no end."""
    stub.answers.extend([page(nextPageToken="x"), page(MODEL, **end)])
    assert len([model async for model in api.list_models()]) == 1


async def test_a_repeated_page_token_ends_the_paging_with_an_error(
    stub: StubApi, api: MlModelsApi
) -> None:
    """A server that goes round in circles can't keep us for ever."""
    stub.answers.extend([page(MODEL, nextPageToken=token) for token in ("a", "b", "a")])
    with pytest.raises(BadResponseError, match="same next page"):
        [model async for model in api.list_models()]
    assert len(stub.recorded) == 3


async def test_a_list_without_end_is_given_up(
    stub: StubApi, api: MlModelsApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page names one that was never named before, and holds nothing or little."""
    monkeypatch.setattr(client_module, "MAX_PAGES", 50)
    stub.answers.extend([page(nextPageToken=str(number)) for number in range(200)])
    with pytest.raises(BadResponseError, match="goes on after 50 pages") as caught:
        [model async for model in api.list_models()]
    assert caught.value.code is ErrorCode.BAD_RESPONSE
    assert len(stub.recorded) == 50
    stub.answers.clear()
    stub.answers.extend([page(MODEL, nextPageToken=str(number)) for number in range(49)])
    stub.answers.append(page(MODEL))
    assert len([model async for model in api.list_models()]) == 50


async def test_a_list_is_read_up_to_so_many_entries(
    stub: StubApi, api: MlModelsApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_LISTED", 5)
    stub.answers.extend([page(MODEL, MODEL, nextPageToken="a"), page(MODEL, MODEL, MODEL)])
    assert len([model async for model in api.list_models()]) == 5
    stub.default = page(*[MODEL] * 6)
    with pytest.raises(BadResponseError, match="goes on after 5 entries"):
        [model async for model in api.list_models()]


async def test_each_change_goes_out_signed_on_a_connection_of_its_own(
    stub: StubApi, api: MlModelsApi
) -> None:
    """Only there it is sent at most once; reads share one. Half a MiB of labels is signed too."""
    names: dict[str, Any] = {"project_uuid": ONE, "project_model_uuid": ONE}
    whole: dict[str, Any] = {"features": ["car"], "model": ModelArchitecture.RESNET_18}
    chosen: dict[str, Any] = {"features_mapping": {}, "iteration_policy": IterationPolicy.USE_ALL}
    model, attachment = json.dumps(MODEL).encode(), json.dumps(ATTACHMENT).encode()
    changes: list[tuple[bytes, Callable[[], Awaitable[object]]]] = [
        (
            model,
            lambda: api.create_model(**whole, title="x"),
        ),
        (model, lambda: api.update_model(model_uuid=ONE, title="x")),
        (
            f'"{TWO}"'.encode(),
            lambda: api.create_training_job(
                model_uuid=ONE,
                batch_size=1,
                epochs=1,
                features_mapping={},
                labels_uuids=[TWO] * 12_000,
            ),
        ),
        (
            attachment,
            lambda: api.create_model_attachment(project_uuid=ONE, model_uuid=ONE, **chosen),
        ),
        (attachment, lambda: api.update_model_attachment(**names, **chosen)),
        (b"null", lambda: api.delete_model(model_uuid=ONE)),
        (b"null", lambda: api.delete_training_iteration(model_uuid=ONE, training_uuid=TWO)),
        (b"null", lambda: api.delete_model_attachment(**names)),
    ]
    for answer, change in changes:
        stub.answers.extend([reply(200, model), reply(200, answer)])
        await api.get_model(model_uuid=ONE)
        await change()
    reads, changed = stub.recorded[::2], stub.recorded[1::2]
    assert {each.method for each in reads} == {"GET"}
    assert "GET" not in {each.method for each in changed}
    assert len({each.connection for each in reads}) == 1
    assert len({each.connection for each in changed}) == len(changes)
    assert max(len(each.body) for each in changed) > 65_536
    for each in stub.recorded:
        check_signature(each, KEY.public_key())


async def test_newer_values_and_fields_are_taken(
    stub: StubApi, api: MlModelsApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown values of enumerations stay strings, unknown fields are dropped, UTC is assumed.

    A time without an offset is UTC wherever the worker stands.
    """
    stub.default = reply(200, json.dumps(MODEL).encode())
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        model = await api.get_model(model_uuid=ONE)
    time.tzset()
    assert model.model_dump(mode="json") == {
        "model_group": {
            "created_at": "2026-01-02T03:04:05Z",
            "description": "",
            "features": ["car"],
            "model": "resnet999",
            "model_uuid": str(ONE),
            "title": "Cars",
            "type": "panoptic",
        },
        "model_iterations": [],
    }


@pytest.mark.parametrize(
    ("reads", "before", "each", "after"),
    [
        ("_MODELS", b'{"results":[', b"{}", b"]}"),
        ("_ATTACHMENTS", b'{"results":[', b"0", b"]}"),
        ("_TRAINING_DATA", b'{"results":[', b"{}", b"]}"),
        ("_MODEL", b'{"modelGroup":{"features":[', b"0", b"]}}"),
        ("_MODEL", b'{"modelIterations":[', b"{}", b"]}"),
        ("_ATTACHMENT", b'{"projectModel":{"featuresMapping":{', b'"%d":{}', b"}}}"),
        ("_CLASSIFICATIONS", b'{"result":{', b'"%d":{}', b"}}"),
        ("_CLASSIFICATIONS", b'{"result":{', b'"x%d":null', b"}}"),
        ("_DETECTIONS", b'{"result":{', b'"%d":[{},{}]', b"}}"),
        ("_DETECTIONS", b'{"result":{"0":[', b"{}", b"]}}"),
        ("_SEGMENTATIONS", b'{"result":{"0":[{"polygon":[', b"{}", b"]}]}}"),
    ],
)
async def test_of_a_reply_that_is_wrong_all_through_few_problems_are_looked_for(
    reads: str, before: bytes, each: bytes, after: bytes
) -> None:
    """Each takes a kilobyte of memory: for a reply of a megabyte it would be three gigabytes."""
    entries = [each % number if b"%d" in each else each for number in range(1_000)]
    with pytest.raises(ValidationError) as caught:
        getattr(client_module, reads)(before + b",".join(entries) + after)
    assert caught.value.error_count() < 20


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (204, b""),
        (200, b"{"),
        (200, b"null"),
        (200, b"[]"),
        (200, b"\xff"),
        (200, b'{"modelGroup": {}, "modelIterations": []}'),
        (200, b"[" * 100_000),
    ],
)
async def test_a_success_without_its_body_is_a_bad_response(
    stub: StubApi, api: MlModelsApi, status: int, body: bytes
) -> None:
    """A change that reports success with nonsense has an unknown outcome and is not repeated."""
    stub.default = reply(status, body)
    with pytest.raises(BadResponseError) as caught:
        await api.create_model(features=["car"], model=ModelArchitecture.RESNET_18, title="Cars")
    assert caught.value.code is ErrorCode.BAD_RESPONSE
    assert caught.value.problems
    assert len(stub.recorded) == 1


async def test_of_what_is_wrong_with_an_answer_the_first_things_are_told(
    stub: StubApi, api: MlModelsApi
) -> None:
    """They go into an event, and there may be thousands."""
    stub.default = reply(200, b'{"results": [%s]}' % b",".join([b"{}"] * 1_000))
    with pytest.raises(BadResponseError) as caught:
        _ = [each async for each in api.list_models()]
    assert 0 < len(caught.value.problems) <= 10


@pytest.mark.parametrize("answer", [reply(204), reply(200, b""), reply(200, b"whatever")])
async def test_a_deletion_needs_no_body(stub: StubApi, api: MlModelsApi, answer: Answer) -> None:
    """Both successes do."""
    stub.default = answer
    await api.delete_model(model_uuid=ONE)
    await api.delete_training_iteration(model_uuid=ONE, training_uuid=TWO)
    await api.delete_model_attachment(project_uuid=ONE, project_model_uuid=TWO)
    assert {each.method for each in stub.recorded} == {"DELETE"}


@pytest.mark.parametrize(
    ("body", "state"),
    [
        ({"status": "pending", "result": None}, TrainingState.PENDING),
        ({"status": "error"}, TrainingState.ERROR),
        ({"status": "done", "result": ITERATION}, TrainingState.DONE),
        ({"status": "paused", "result": None}, "paused"),
    ],
)
async def test_a_poll_asks_once(stub: StubApi, api: MlModelsApi, body: object, state: str) -> None:
    """The status comes back as it is; waiting is not the client's business."""
    stub.default = reply(200, json.dumps(body).encode())
    status = await api.get_training_status(model_uuid=ONE, training_uuid=TWO)
    assert status.status == state
    assert (status.result is not None) == (state == "done")
    assert [each.target.partition("?")[2] for each in stub.recorded] == ["timeoutSeconds=0"]


@pytest.mark.parametrize(("asked", "sent"), [(-5, 0), (0, 0), (60, 60), (604_800, 60)])
async def test_a_long_poll_is_at_most_60_seconds(
    stub: StubApi, api: MlModelsApi, asked: int, sent: int
) -> None:
    """The API's limit is kept."""
    stub.default = reply(200, b'{"status": "pending"}')
    await api.get_training_status(model_uuid=ONE, training_uuid=TWO, timeout_seconds=asked)
    assert stub.recorded[0].target.endswith(f"?timeoutSeconds={sent}")


async def test_a_long_poll_outlasts_the_read_timeout(stub: StubApi, api: MlModelsApi) -> None:
    """The wait that we ask for is added, or each long poll would fail."""
    stub.default = replace(reply(200, b'{"status": "pending"}'), delay_seconds=0.9)
    assert await api.get_training_status(model_uuid=ONE, training_uuid=TWO, timeout_seconds=1)
    with pytest.raises(ConnectionLostError):
        await api.get_training_status(model_uuid=ONE, training_uuid=TWO)


async def test_a_long_poll_has_all_of_the_read_timeout_once_the_wait_is_over(
    stub: StubApi,
) -> None:
    """A training that ends in the last second of the wait is told after it."""
    seconds: list[float | None] = []

    class Noting(Transport):
        async def send(self, *args: Any, **options: Any) -> Response:
            seconds.append(options["read_timeout_seconds"])
            return await super().send(*args, **options)

    stub.default = reply(200, b'{"status": "pending"}')
    async with Noting(stub.url, RequestSigner(KEY), timeouts=Timeouts(read=30)) as transport:
        for wait in (0, 60):
            await MlModelsApi(transport).get_training_status(
                model_uuid=ONE, training_uuid=TWO, timeout_seconds=wait
            )
    assert seconds == [30, 90]


async def test_predictions_come_by_frame_number(stub: StubApi, api: MlModelsApi) -> None:
    """Keys are integers; a frame without anything is an empty list or None."""
    names: dict[str, Any] = {"project_uuid": ONE, "project_model_uuid": TWO, "training_uuid": TWO}
    stub.default = reply(200, b'{"result": {"0": [], "12": []}}')
    assert await api.predict_object_detection(**names, data_uuid=ONE) == {0: [], 12: []}
    assert await api.predict_instance_segmentation(**names, data_uuid=ONE) == {0: [], 12: []}
    stub.default = reply(200, b'{"result": {"0": null}}')
    assert await api.predict_classification(**names, data_uuid=ONE) == {0: None}


async def test_links_are_strings(stub: StubApi, api: MlModelsApi) -> None:
    """A bare JSON string is the link; anything else is a bad response without the link in it."""
    stub.answers.extend([reply(200, b'"https://x/y?s=1"'), reply(200, b'{"url": "s3cret"}')])
    assert (
        await api.get_weights_download_link(model_uuid=ONE, training_uuid=TWO) == "https://x/y?s=1"
    )
    with pytest.raises(BadResponseError) as caught:
        await api.get_weights_download_link(model_uuid=ONE, training_uuid=TWO)
    assert "s3cret" not in f"{caught.value}{caught.value.problems}"


@pytest.mark.parametrize(
    "text", ["".join(map(chr, range(128))), "Größe 5\u00b5m", "\U0001f600", "", "\x7f", '\\"/']
)
async def test_a_text_leaves_with_the_bytes_that_the_sdk_would_send(
    stub: StubApi, api: MlModelsApi, text: str
) -> None:
    stub.default = reply(200, json.dumps(MODEL).encode())
    await api.update_model(model_uuid=ONE, title=text, description=f"{text}{text}")
    body = stub.recorded[0].body
    assert body == json.dumps({"description": f"{text}{text}", "title": text}).encode()


ATTACHMENT: dict[str, Any] = {
    "modelGroup": MODEL["modelGroup"],
    "projectModel": {
        "createdAt": "2026-01-02T03:04:05Z",
        "iterationPolicy": "useAll",
        "modelUuid": str(ONE),
        "projectModelUuid": str(ONE),
        "projectUuid": str(ONE),
        "featuresMapping": {},
    },
    "projectModelIterations": [],
}
DONE = {"status": "done", "result": ITERATION}


@pytest.mark.parametrize("color", ["#D33115", None])
async def test_a_feature_that_a_model_is_attached_to_may_have_no_colour(
    stub: StubApi, api: MlModelsApi, color: str | None
) -> None:
    """The key is always there; an ontology need not have chosen one."""
    feature = {"featureNodeUuid": "f-1", "name": "Car", "type": "boundingBox", "color": color}
    attached = {**ATTACHMENT["projectModel"], "featuresMapping": {"car": feature}}
    stub.answers.append(page({**ATTACHMENT, "projectModel": attached}))
    (found,) = [each async for each in api.list_model_attachments(project_uuid=ONE)]
    assert found.project_model.features_mapping["car"].color == color


async def _list_attachments(api: MlModelsApi, project: UUID) -> None:
    async for _ in api.list_model_attachments(project_uuid=project):
        pass


async def _attach(api: MlModelsApi, project: UUID, model: UUID) -> None:
    await api.create_model_attachment(
        project_uuid=project,
        model_uuid=model,
        features_mapping={},
        iteration_policy=IterationPolicy.USE_ALL,
    )


async def _update_attachment(api: MlModelsApi, project: UUID, attachment: UUID) -> None:
    await api.update_model_attachment(
        project_uuid=project,
        project_model_uuid=attachment,
        features_mapping={},
        iteration_policy=IterationPolicy.USE_ALL,
    )


ANOTHERS: dict[str, tuple[object, str, Callable[[MlModelsApi], Awaitable[object]]]] = {
    "get_model": (MODEL, "modelUuid", lambda api: api.get_model(model_uuid=TWO)),
    "update_model": (MODEL, "modelUuid", lambda api: api.update_model(model_uuid=TWO, title="x")),
    "get_training_status": (
        DONE,
        "trainingUuid",
        lambda api: api.get_training_status(model_uuid=ONE, training_uuid=ONE),
    ),
    "attach, project": (ATTACHMENT, "projectUuid", lambda api: _attach(api, TWO, ONE)),
    "attach, model": (ATTACHMENT, "modelUuid", lambda api: _attach(api, ONE, TWO)),
    "list_attachments": (
        {"results": [ATTACHMENT]},
        "projectUuid",
        lambda api: _list_attachments(api, TWO),
    ),
    "update_attachment, project": (
        ATTACHMENT,
        "projectUuid",
        lambda api: _update_attachment(api, TWO, ONE),
    ),
    "update_attachment, itself": (
        ATTACHMENT,
        "projectModelUuid",
        lambda api: _update_attachment(api, ONE, TWO),
    ),
    "delete_model": (MODEL, "deletion", lambda api: api.delete_model(model_uuid=TWO)),
    "delete_training_iteration": (
        DONE,
        "deletion",
        lambda api: api.delete_training_iteration(model_uuid=ONE, training_uuid=ONE),
    ),
    "detach": (
        ATTACHMENT,
        "deletion",
        lambda api: api.delete_model_attachment(project_uuid=ONE, project_model_uuid=ONE),
    ),
}


@pytest.mark.parametrize("operation", ANOTHERS)
async def test_a_reply_about_another_thing_is_a_bad_response(
    stub: StubApi, api: MlModelsApi, operation: str
) -> None:
    """What a reply says of itself is compared with what was asked."""
    said, name, call = ANOTHERS[operation]
    stub.default = reply(200, json.dumps(said).encode())
    for _ in range(2):
        with pytest.raises(BadResponseError, match=name) as caught:
            await call(api)
        assert caught.value.code is ErrorCode.BAD_RESPONSE
    first, second = (each.connection for each in stub.recorded)
    assert first != second, "the answer that was meant may still come on it"


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b"deleted", b'{"message": "done"}'])
async def test_a_deletion_may_be_answered_with_anything_but_a_result(
    stub: StubApi, api: MlModelsApi, body: bytes
) -> None:
    stub.default = reply(200, body)
    await api.delete_model(model_uuid=ONE)
