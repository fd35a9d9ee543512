"""`attach`: an attachment of a model to a project, created once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.attachments import Attach
from worker.encord.context import Encord, api_of
from worker.encord.creation.idempotent_create import IdempotentCreate
from worker.encord.creation.resource_spec import Created
from worker.queue.outcome import Outcome, Snooze, Succeeded
from worker.queue.registry import handles

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from schemas.api import ProjectModelWithIterations
    from worker.queue.run_context import RunContext


class AttachmentCreation:
    """How an attachment is created, and recognised among others."""

    kind = "attachment"

    def leaves(self, created: Created) -> dict[str, Any] | None:  # noqa: ARG002
        """An attachment stays as it is."""
        return None

    def identity_key(self, command: Attach) -> dict[str, Any]:
        """An attachment is told by project, model, mapping and policy."""
        return command.data.model_dump(mode="json")

    def match_key(self, command: Attach) -> dict[str, Any]:
        """The API does not list which trainings were selected, only what they come to."""
        return command.data.model_dump(mode="json", exclude={"training_uuids"})

    async def listed(self, run: RunContext[Attach]) -> Sequence[Created]:
        """Returns the project's attachments of the same model, mapping and policy."""
        data = run.command.data
        attachments = api_of(run).list_model_attachments(project_uuid=data.project_uuid)
        return [_created(found) async for found in attachments if _matches(found, run.command)]

    async def find(self, run: RunContext[Attach], uuid: UUID) -> Created | None:
        """Looks for the attachment among the project's."""
        found = api_of(run).list_model_attachments(project_uuid=run.command.data.project_uuid)
        created = [_created(each) async for each in found]
        return next((each for each in created if each.uuid == str(uuid)), None)

    async def create(self, run: RunContext[Attach]) -> Created:
        """Sends the POST."""
        data = run.command.data
        attachment = await api_of(run).create_model_attachment(
            project_uuid=data.project_uuid,
            features_mapping=data.features_mapping,
            iteration_policy=data.iteration_policy,
            model_uuid=data.model_uuid,
            training_uuids=data.training_uuids,
        )
        return _created(attachment)

    def hidden_seconds(self, command: Attach) -> float:  # noqa: ARG002 - as of every creation
        """Attachments are listed as soon as they exist."""
        return 0.0

    def doubt_seconds(self, run: RunContext[Attach]) -> float:
        """What is not listed soon was not created."""
        return Encord.of(run).doubt_seconds

    def advice(self, command: Attach) -> str:
        """Says where to look."""
        return (
            f"Check the model attachments of project {command.data.project_uuid} "
            "before you send it anew."
        )


def _matches(found: ProjectModelWithIterations, command: Attach) -> bool:
    project_model = found.project_model
    mapping = {
        name: node.feature_node_uuid for name, node in project_model.features_mapping.items()
    }
    return (
        str(project_model.model_uuid) == str(command.data.model_uuid)
        and project_model.iteration_policy == command.data.iteration_policy
        and mapping == command.data.features_mapping
    )


def _created(attachment: ProjectModelWithIterations) -> Created:
    return Created(
        str(attachment.project_model.project_model_uuid), attachment.model_dump(mode="json")
    )


_create = IdempotentCreate(AttachmentCreation())


@handles(Attach)
async def attach(run: RunContext[Attach]) -> Outcome:
    """Attaches a model to a project; the result is the attachment."""
    created = await _create(run)
    if isinstance(created, Snooze):
        return created
    return Succeeded(created.result)
