"""The operations on attachments of models to projects."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

from sandbox.errors import BadRequestError, NotFoundError
from sandbox.models import require_model
from sandbox.records import Attachment, TrainingState, now_us
from sandbox.serialization import Reply, no_content, ok, page, place
from sandbox.serialization import attachment as attachment_body
from sandbox.validation import (
    check_attachment,
    check_feature,
    check_project,
    parse_body,
    parse_uuid,
)
from schemas import api
from schemas.enums import IterationPolicy

if TYPE_CHECKING:
    from sandbox.catalogue import Catalogue
    from sandbox.endpoint import Call
    from sandbox.records import Iteration, Model
    from sandbox.store import Store


class AttachmentOperations:
    """Attachments: create, list, update, delete."""

    def __init__(self, store: Store, catalogue: Catalogue, page_size: int) -> None:
        self._store = store
        self._catalogue = catalogue
        self._page_size = page_size

    async def create(self, call: Call) -> Reply:
        """create_model_attachment; a model may be attached to a project more than once."""
        project_uuid = self._project(call)
        body = parse_body(api.CreateAttachmentRequest, call.body)
        model = require_model(self._store, str(body.model_uuid))
        check_attachment(body, project_uuid, model, self._catalogue)
        attachment = Attachment(
            uuid=str(uuid4()),
            project_uuid=project_uuid,
            model_uuid=model.uuid,
            created_at_us=now_us(),
            iteration_policy=body.iteration_policy,
            features_mapping=body.features_mapping,
            training_uuids=self._selected(body, model),
        )
        self._store.add_attachment(attachment)
        return ok(self._body(attachment), created=attachment.uuid)

    async def list_all(self, call: Call) -> Reply:
        """list_model_attachments."""
        found = self._store.attachments(
            self._project(call),
            after=place(call.query.get("pageToken")),
            limit=self._page_size + 1,
        )
        return page([(where, self._body(kept)) for where, kept in found], self._page_size)

    async def update(self, call: Call) -> Reply:
        """update_model_attachment."""
        body = parse_body(api.UpdateAttachmentRequest, call.body)
        kept = find_attachment(self._store, self._catalogue, call)
        model = require_model(self._store, kept.model_uuid)
        check_attachment(body, kept.project_uuid, model, self._catalogue)
        changed = replace(
            kept,
            iteration_policy=body.iteration_policy,
            features_mapping=body.features_mapping,
            training_uuids=self._selected(body, model),
        )
        self._store.change_attachment(changed)
        return ok(self._body(changed))

    async def delete(self, call: Call) -> Reply:
        """delete_model_attachment."""
        self._store.delete_attachment(find_attachment(self._store, self._catalogue, call).uuid)
        return no_content()

    def _project(self, call: Call) -> str:
        project_uuid = parse_uuid("projectUuid", call.path["project"])
        check_project(project_uuid, self._catalogue)
        return project_uuid

    def _selected(
        self, body: api.CreateAttachmentRequest | api.UpdateAttachmentRequest, model: Model
    ) -> tuple[str, ...] | None:
        if body.training_uuids is None:
            return None
        selected = tuple(str(uuid) for uuid in body.training_uuids)
        done = {one.uuid for one in self._store.iterations(model.uuid, [TrainingState.DONE])}
        for uuid in selected:
            if uuid not in done:
                message = f"trainingUuids: the model has no finished training {uuid}"
                raise BadRequestError(message)
        return selected

    def _body(self, kept: Attachment) -> api.ProjectModelWithIterations:
        model = require_model(self._store, kept.model_uuid)
        features = {
            name: check_feature(kept.project_uuid, feature_hash, model, self._catalogue)
            for name, feature_hash in kept.features_mapping.items()
        }
        return attachment_body(kept, model, features, self._offered(kept))

    def _offered(self, kept: Attachment) -> list[Iteration]:
        done = self._store.iterations(kept.model_uuid, [TrainingState.DONE])
        match IterationPolicy(kept.iteration_policy):
            case IterationPolicy.USE_ALL:
                return done
            case IterationPolicy.USE_LATEST:
                return done[-1:]
            case IterationPolicy.MANUAL_SELECTION:
                return [one for one in done if one.uuid in (kept.training_uuids or ())]


def find_attachment(store: Store, catalogue: Catalogue, call: Call) -> Attachment:
    """Returns the attachment that the path names.

    Raises:
        NotFoundError: there is no such project, or no such attachment in it.
    """
    project_uuid = parse_uuid("projectUuid", call.path["project"])
    check_project(project_uuid, catalogue)
    uuid = parse_uuid("projectModelUuid", call.path["attachment"])
    kept = store.attachment(project_uuid, uuid)
    if kept is None:
        message = f"the project has no attachment {uuid}"
        raise NotFoundError(message)
    return kept
