"""Commands about attachments of models to projects: what each takes, gives back and looks like."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from schemas.api import ProjectModelWithIterations
from schemas.declaration import DeclaredCommand
from schemas.enums import EventState, IterationPolicy
from schemas.examples import MODEL_UUID, PROJECT_MODEL_UUID, PROJECT_UUID, TRAINING_UUID
from schemas.parameters import CommandData, ModelUuid, Name, ProjectModelUuid, ProjectUuid
from schemas.wording import counted

AttachmentFeatures = Annotated[
    dict[Name, Name],
    Field(min_length=1, description="feature of the model -> featureHash of the ontology"),
]


class IterationSelection(CommandData):
    """Which features and iterations an attachment offers."""

    # The published schema says what `_check_manual_selection` checks.
    model_config = ConfigDict(
        json_schema_extra={
            "if": {
                "properties": {"iteration_policy": {"const": "manualSelection"}},
                "required": ["iteration_policy"],
            },
            "then": {
                "properties": {"training_uuids": {"type": "array", "minItems": 1}},
                "required": ["training_uuids"],
            },
        }
    )

    features_mapping: AttachmentFeatures
    iteration_policy: IterationPolicy = Field(
        description="Which iterations of the model the project may use."
    )
    training_uuids: list[UUID] | None = Field(
        default=None,
        validate_default=True,
        description="Required, and not empty, with the policy `manualSelection`.",
    )

    @field_validator("training_uuids")
    @classmethod
    def _check_manual_selection(
        cls, value: list[UUID] | None, info: ValidationInfo
    ) -> list[UUID] | None:
        if not value and info.data.get("iteration_policy") is IterationPolicy.MANUAL_SELECTION:
            raise PydanticCustomError(
                "manual_selection",
                "must name at least one training where iteration_policy is manualSelection",
            )
        return value


class _AttachmentSummary:
    @staticmethod
    def summary(result: dict[str, Any]) -> str:
        """Returns the attachment in a few words."""
        return f"attachment {result['project_model']['project_model_uuid']}"


class AttachData(IterationSelection):
    """Parameters of `attach`."""

    project_uuid: ProjectUuid
    model_uuid: ModelUuid


class Attach(_AttachmentSummary, DeclaredCommand):
    """Attaches a model to a project."""

    type: Literal["attach"]
    data: AttachData
    result = ProjectModelWithIterations
    own_states = frozenset({EventState.IN_DOUBT, EventState.RESOLVED})
    example = {
        "type": "attach",
        "id": "attach-street-1",
        "data": {
            "project_uuid": PROJECT_UUID,
            "model_uuid": MODEL_UUID,
            "features_mapping": {"car": "aBcD1234", "person": "eFgH5678"},
            "iteration_policy": "useLatest",
        },
    }


class ListAttachmentsData(CommandData):
    """Parameters of `list_attachments`."""

    project_uuid: ProjectUuid


class AttachmentsResult(BaseModel):
    """Result of `list_attachments`: every page."""

    attachments: list[ProjectModelWithIterations]


class ListAttachments(DeclaredCommand):
    """Reads all models that are attached to a project, every page."""

    type: Literal["list_attachments"]
    data: ListAttachmentsData
    result = AttachmentsResult
    example = {"type": "list_attachments", "data": {"project_uuid": PROJECT_UUID}}

    @staticmethod
    def summary(result: dict[str, Any]) -> str:
        """Returns the result in a few words."""
        return counted(len(result["attachments"]), "attachment")


class UpdateAttachmentData(IterationSelection):
    """Parameters of `update_attachment`."""

    project_uuid: ProjectUuid
    project_model_uuid: ProjectModelUuid


class UpdateAttachment(_AttachmentSummary, DeclaredCommand):
    """Changes an attachment's features and iterations."""

    type: Literal["update_attachment"]
    data: UpdateAttachmentData
    result = ProjectModelWithIterations
    example = {
        "type": "update_attachment",
        "data": {
            "project_uuid": PROJECT_UUID,
            "project_model_uuid": PROJECT_MODEL_UUID,
            "features_mapping": {"car": "aBcD1234"},
            "iteration_policy": "manualSelection",
            "training_uuids": [TRAINING_UUID],
        },
    }


class DetachData(CommandData):
    """Parameters of `detach`."""

    project_uuid: ProjectUuid
    project_model_uuid: ProjectModelUuid


class Detach(DeclaredCommand):
    """Removes a model from a project."""

    type: Literal["detach"]
    data: DetachData
    example = {
        "type": "detach",
        "data": {"project_uuid": PROJECT_UUID, "project_model_uuid": PROJECT_MODEL_UUID},
    }


AttachmentCommand: TypeAlias = Attach | ListAttachments | UpdateAttachment | Detach
