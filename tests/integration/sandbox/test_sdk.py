"""An independent client of the sandbox: all 17 methods of the real SDK, signatures checked."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from encord import EncordUserClient
from encord.exceptions import AuthenticationError, ResourceNotFoundError
from encord.ml_models_client import MlModelsClient
from encord.objects.ml_models import (
    ModelArchitecture,
    ModelIterationPolicy,
    ModelsListOrderBy,
    ModelType,
)

from schemas.enums import IterationPolicy, OrderBy
from schemas.enums import ModelArchitecture as OurArchitecture
from tests.integration.sdk import sdk_client
from tests.sandbox_process import SIMULATED, SandboxProcess, running_sandbox
from worker.encord.api.client import MlModelsApi
from worker.encord.api.signing import RequestSigner
from worker.encord.api.transport import Transport
from worker.errors import RequestRefusedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

ALL_METHODS = {name for name in vars(MlModelsClient) if not name.startswith("_")}

TASKS = {
    "classification": (
        ModelArchitecture.RESNET_18,
        ModelType.CLASSIFICATION,
        "classificationOption",
    ),
    "object_detection": (ModelArchitecture.FASTER_RCNN, ModelType.OBJECT_DETECTION, "boundingBox"),
    "instance_segmentation": (ModelArchitecture.MASK_RCNN, ModelType.SEGMENTATION, "polygon"),
}


class Recorder:
    """Calls the SDK's methods and remembers which."""

    def __init__(self, client: MlModelsClient, called: set[str]) -> None:
        self._client = client
        self._called = called

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Returns the SDK's method."""
        self._called.add(name)
        method: Callable[..., Any] = getattr(self._client, name)
        return method


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """The real sandbox, in a process of its own."""
    with running_sandbox(tmp_path_factory.mktemp("sdk") / "state", "--page-size", "2") as running:
        yield running


@pytest.fixture(scope="module")
def sandbox(process: SandboxProcess) -> dict[str, Any]:
    """What the sandbox's file says."""
    return process.told


@pytest.fixture(scope="module")
def called() -> set[str]:
    """The names of the methods that the tests of this module have called."""
    return set()


@pytest.fixture(scope="module")
def sdk(sandbox: dict[str, Any], called: set[str]) -> Recorder:
    """The SDK as its users make it: from a key file and a domain."""
    key = Path(sandbox["key_file"]).read_text(encoding="ascii")
    user = EncordUserClient.create_with_ssh_private_key(
        ssh_private_key=key, domain=sandbox["domain"]
    )
    return Recorder(user.ml_models, called)


@pytest.fixture(scope="module", params=sorted(TASKS))
def task(request: pytest.FixtureRequest) -> str:
    """One of the three tasks."""
    return str(request.param)


@pytest.fixture(scope="module")
def model(sdk: Recorder, task: str) -> Any:
    """A model for the task, created by the SDK."""
    architecture, _, _ = TASKS[task]
    return sdk.create_model(
        features=["one", "two"], model=architecture, title=f"SDK {task}", description=None
    )


@pytest.fixture(scope="module")
def ontology(sandbox: dict[str, Any], task: str) -> list[str]:
    """The features of the first project that fit the task; each item has one at least."""
    wanted = TASKS[task][2]
    features = sandbox["projects"][0]["ontology"]
    return [each["feature_hash"] for each in features if each["type"] == wanted]


@pytest.fixture(scope="module")
def training_uuid(sdk: Recorder, sandbox: dict[str, Any], model: Any, ontology: list[str]) -> UUID:
    """A finished training of the model, for one epoch on a few labels."""
    project = sandbox["projects"][0]
    labels = [item["label_uuid"] for item in project["data"] if item["split"] == "train"][:5]
    created = sdk.create_training_job(
        model_uuid=model.model_group.model_uuid,
        batch_size=4,
        epochs=1,
        features_mapping={
            UUID(project["project_uuid"]): {
                ontology[0]: ["one"],
                ontology[1]: ["two"],
                ontology[2]: ["two"],
            }
        },
        labels_uuids=[UUID(label) for label in labels],
        pretrained_training_uuid=None,
        pretrained_weights_type=None,
    )
    iteration = sdk.get_training_status(
        model_uuid=model.model_group.model_uuid, training_uuid=created, timeout_seconds=600
    )
    assert iteration.training_uuid == created
    assert (iteration.batch_size, iteration.epochs) == (4, 1)
    assert set(iteration.loss_log) == {"1"}
    assert isinstance(created, UUID)
    return created


@pytest.fixture(scope="module")
def attachment(
    sdk: Recorder, sandbox: dict[str, Any], model: Any, training_uuid: UUID, ontology: list[str]
) -> Any:
    """The model attached to the first project."""
    del training_uuid
    return sdk.create_model_attachment(
        project_uuid=UUID(sandbox["projects"][0]["project_uuid"]),
        features_mapping={"one": ontology[0], "two": ontology[1]},
        iteration_policy=ModelIterationPolicy.USE_LATEST,
        model_uuid=model.model_group.model_uuid,
        training_uuids=None,
    )


def test_a_model_is_created_read_changed_and_listed(sdk: Recorder, model: Any, task: str) -> None:
    """What was created is what is read, on whichever page it stands."""
    group = model.model_group
    assert group.type == TASKS[task][1]
    assert group.features == ["one", "two"]
    assert sdk.get_model(model_uuid=group.model_uuid) == model
    changed = sdk.update_model(model_uuid=group.model_uuid, title=None, description="changed")
    assert (changed.model_group.title, changed.model_group.description) == (group.title, "changed")
    for index in range(3):
        sdk.create_model(
            features=["x"], model=group.model, title=f"Page {task} {index}", description=None
        )
    listed = sdk.list_models(order_by=ModelsListOrderBy.TITLE, order_asc=True, query=None)
    titles = [each.model_group.title for each in listed]
    assert titles == sorted(titles)
    assert {f"SDK {task}", f"Page {task} 2"} <= set(titles)


def test_a_training_tells_its_data_and_weights(
    sdk: Recorder, model: Any, training_uuid: UUID
) -> None:
    """The data are the labels that were given; the link leads to bytes."""
    names = {"model_uuid": model.model_group.model_uuid, "training_uuid": training_uuid}
    assert len(list(sdk.get_training_data(**names))) == 5
    link = sdk.get_weights_download_link(**names)
    assert len(download(link)) > 1000
    listed = sdk.get_model(model_uuid=names["model_uuid"]).model_iterations
    assert [each.training_uuid for each in listed] == [training_uuid]


def download(link: str) -> bytes:
    """Returns what a link leads to, asked without any credentials."""
    answer = requests.get(link, timeout=30)
    answer.raise_for_status()
    return answer.content


def test_an_attachment_is_listed_and_changed(
    sdk: Recorder, attachment: Any, training_uuid: UUID, ontology: list[str]
) -> None:
    """Mapping and policy are what was set last."""
    project_model = attachment.project_model
    listed = list(sdk.list_model_attachments(project_uuid=project_model.project_uuid))
    assert project_model.project_model_uuid in {
        each.project_model.project_model_uuid for each in listed
    }
    changed = sdk.update_model_attachment(
        project_uuid=project_model.project_uuid,
        project_model_uuid=project_model.project_model_uuid,
        features_mapping={"one": ontology[1], "two": ontology[0]},
        iteration_policy=ModelIterationPolicy.MANUAL_SELECTION,
        training_uuids=[training_uuid],
    )
    mapping = changed.project_model.features_mapping
    assert mapping["one"].feature_node_uuid == ontology[1]
    assert [each.training_uuid for each in changed.project_model_iterations] == [training_uuid]


@pytest.mark.asyncio
async def test_predictions_come_for_items_and_files(
    sdk: Recorder, process: SandboxProcess, attachment: Any, training_uuid: UUID, task: str
) -> None:
    """A range includes both ends; a file works as an item does; our client reads the same."""
    sandbox = process.told
    item = next(
        each
        for each in sandbox["projects"][0]["data"]
        if each["split"] == "heldout" and each["frames"] > 2 and each["file"].endswith(".gif")
    )
    names: dict[str, Any] = {
        "project_uuid": attachment.project_model.project_uuid,
        "project_model_uuid": attachment.project_model.project_model_uuid,
        "training_uuid": training_uuid,
        "conf_thresh": 0.0,
    }
    if task != "classification":
        names |= {"allocation_enabled": True, "iou_thresh": 0.5}
    if task == "instance_segmentation":
        names["rdp_thresh"] = None
    predict = getattr(sdk, f"predict_{task}")
    by_uuid = predict(
        **names,
        data_uuid=UUID(item["data_uuid"]),
        data_path=None,
        frame_range_from=1,
        frame_range_to=2,
    )
    assert sorted(by_uuid) == [1, 2]
    ours = await predict_with_ours(process, task, names, UUID(item["data_uuid"]))
    assert geometry(ours) == geometry(by_uuid)
    by_path = predict(
        **names,
        data_uuid=None,
        data_path=Path(item["file"]),
        frame_range_from=None,
        frame_range_to=None,
    )
    assert sorted(by_path) == list(range(item["frames"]))


async def predict_with_ours(
    process: SandboxProcess, task: str, names: dict[str, Any], data_uuid: UUID
) -> dict[int, Any]:
    """Returns what our client predicts on the second and third frame."""
    async with our_client(process) as api:
        predict = getattr(api, f"predict_{task}")
        found: dict[int, Any] = await predict(
            **names, data_uuid=data_uuid, frame_range_from=1, frame_range_to=2
        )
    return found


def field_of(told: Any, name: str) -> Any:
    """Returns a field of what was told: the SDK has objects, our client has dicts."""
    return told.get(name) if isinstance(told, dict) else getattr(told, name, None)


def geometry(frames: dict[int, Any]) -> dict[int, list[tuple[Any, ...]]]:
    """Returns what two predictions on the same frames have in common, for either client."""
    told = ("name", "value", "confidence", "feature_id", "feature_id_child", "color", "created_by")
    found: dict[int, list[tuple[Any, ...]]] = {}
    for number, items in frames.items():
        listed = items if isinstance(items, list) else [items]
        found[number] = [
            (
                *(field_of(item, name) for name in told),
                [
                    (field_of(point, "x"), field_of(point, "y"))
                    for point in field_of(item, "polygon") or []
                ],
                field_of(field_of(item, "bounding_box"), "w"),
            )
            for item in listed
        ]
    return found


@asynccontextmanager
async def our_client(process: SandboxProcess) -> AsyncIterator[MlModelsApi]:
    """Our client, with the sandbox's key."""
    signer = RequestSigner.from_openssh((process.state / "key").read_text(encoding="ascii"))
    async with Transport(process.told["domain"], signer) as transport:
        yield MlModelsApi(transport)


@pytest.mark.asyncio
async def test_our_client_reads_what_the_sdk_reads(
    sdk: Recorder, process: SandboxProcess, model: Any, training_uuid: UUID, attachment: Any
) -> None:
    """Models, pages of lists, training data and attachments are equal, field by field."""
    names = {"model_uuid": model.model_group.model_uuid, "training_uuid": training_uuid}
    project_uuid = attachment.project_model.project_uuid
    theirs = [
        sdk.get_model(model_uuid=names["model_uuid"]),
        *sdk.list_models(order_by=ModelsListOrderBy.TITLE, order_asc=True, query=None),
        *sdk.get_training_data(**names),
        *sdk.list_model_attachments(project_uuid=project_uuid),
    ]
    async with our_client(process) as api:
        ours: list[Any] = [await api.get_model(model_uuid=names["model_uuid"])]
        ours += [each async for each in api.list_models(order_by=OrderBy.TITLE, order_asc=True)]
        ours += [each async for each in api.get_training_data(**names)]
        ours += [each async for each in api.list_model_attachments(project_uuid=project_uuid)]
        link = await api.get_weights_download_link(**names)
    assert [each.model_dump() for each in ours] == [each.model_dump() for each in theirs]
    assert len(download(link)) > 1000


@pytest.mark.asyncio
async def test_our_client_changes_what_the_sdk_changes(
    process: SandboxProcess, task: str, ontology: list[str]
) -> None:
    """Create, train, attach, change and delete, each signed and each on its own connection."""
    architecture, model_type, _ = TASKS[task]
    project = process.project()
    project_uuid = UUID(project["project_uuid"])
    process.faults(SIMULATED)
    async with our_client(process) as api:
        model = await api.create_model(
            features=["one"], model=OurArchitecture(architecture.value), title=f"Ours {task}"
        )
        model_uuid = model.model_group.model_uuid
        assert model.model_group.type == model_type.value
        training_uuid = await api.create_training_job(
            model_uuid=model_uuid,
            batch_size=1,
            epochs=1,
            features_mapping={project_uuid: {feature: ["one"] for feature in ontology}},
            labels_uuids=[UUID(process.items()[0]["label_uuid"])],
        )
        names = {"model_uuid": model_uuid, "training_uuid": training_uuid}
        status = await api.get_training_status(**names, timeout_seconds=30)
        assert status.status == "done"
        attached = await api.create_model_attachment(
            project_uuid=project_uuid,
            model_uuid=model_uuid,
            features_mapping={"one": ontology[0]},
            iteration_policy=IterationPolicy.USE_ALL,
        )
        place = {
            "project_uuid": project_uuid,
            "project_model_uuid": attached.project_model.project_model_uuid,
        }
        changed = await api.update_model_attachment(
            **place,
            features_mapping={"one": ontology[1]},
            iteration_policy=IterationPolicy.MANUAL_SELECTION,
            training_uuids=[training_uuid],
        )
        assert changed.project_model.iteration_policy == "manualSelection"
        renamed = await api.update_model(model_uuid=model_uuid, description="renamed")
        assert renamed.model_group.description == "renamed"
        await api.delete_model_attachment(**place)
        await api.delete_training_iteration(**names)
        await api.delete_model(model_uuid=model_uuid)
        with pytest.raises(RequestRefusedError):
            await api.get_model(model_uuid=model_uuid)
    process.faults()


def test_another_key_is_not_authenticated(sandbox: dict[str, Any]) -> None:
    """A valid signature of a stranger is worth nothing."""
    stranger = sdk_client(sandbox["domain"], Ed25519PrivateKey.generate())
    with pytest.raises(AuthenticationError):
        stranger.get_model(model_uuid=uuid4())


@pytest.mark.parametrize("header", ["Signature", "Signature-Input", "Content-Digest"])
def test_a_request_without_a_signature_is_refused(sandbox: dict[str, Any], header: str) -> None:
    """Each of the three headers is needed."""
    headers = {"Signature": "encord-sig=:AA==:", "Signature-Input": "x", "Content-Digest": "x"}
    del headers[header]
    answer = requests.get(f"{sandbox['domain']}/v2/public/ml-models", headers=headers, timeout=10)
    assert answer.status_code == 401


def test_what_is_deleted_is_gone(
    sdk: Recorder, attachment: Any, model: Any, training_uuid: UUID
) -> None:
    """Attachment, iteration and model go, in this order."""
    model_uuid = model.model_group.model_uuid
    project_model = attachment.project_model
    sdk.delete_model_attachment(
        project_uuid=project_model.project_uuid,
        project_model_uuid=project_model.project_model_uuid,
    )
    sdk.delete_training_iteration(model_uuid=model_uuid, training_uuid=training_uuid)
    assert sdk.get_model(model_uuid=model_uuid).model_iterations == []
    sdk.delete_model(model_uuid=model_uuid)
    with pytest.raises(ResourceNotFoundError):
        sdk.get_model(model_uuid=model_uuid)


def test_all_seventeen_methods_were_called(process: SandboxProcess, called: set[str]) -> None:
    """None is left out, and the sandbox carried out each of them."""
    assert called == ALL_METHODS
    assert len(called) == 17
    assert {name for name, count in process.truth()["calls"].items() if count} == called
