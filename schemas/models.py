"""Commands about models: what each takes, gives back and looks like."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError

from schemas.api import ModelWithIterations
from schemas.declaration import DeclaredCommand
from schemas.enums import EventState, ModelArchitecture, OrderBy
from schemas.examples import MODEL_UUID
from schemas.parameters import CommandData, ModelUuid, Name
from schemas.wording import counted


def _check_unique(names: list[str]) -> list[str]:
    if len(set(names)) != len(names):
        raise PydanticCustomError("unique", "must not name anything twice")
    return names


UniqueNames = Annotated[
    list[Name],
    Field(min_length=1, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_check_unique),
]


class ModelData(CommandData):
    """Parameters of `get_model` and `delete_model`."""

    model_uuid: ModelUuid


class _ModelSummary:
    @staticmethod
    def summary(result: dict[str, Any]) -> str:
        """Returns the model in a few words."""
        group = result["model_group"]
        return f"model {group['model_uuid']} {group['title']!r}"


class CreateModelData(CommandData):
    """Parameters of `create_model`."""

    features: UniqueNames = Field(description="The names of what the model tells apart.")
    model: ModelArchitecture = Field(description="The network.")
    title: Name = Field(description="What people call the model.")
    description: str | None = Field(default=None, description="What it is for.")


class CreateModel(_ModelSummary, DeclaredCommand):
    """Creates a model; the result is the model."""

    type: Literal["create_model"]
    data: CreateModelData
    result = ModelWithIterations
    own_states = frozenset({EventState.IN_DOUBT, EventState.RESOLVED})
    example = {
        "type": "create_model",
        "id": "model-cars-1",
        "data": {"features": ["car", "person"], "model": "fasterRcnn", "title": "Street"},
    }


class GetModelData(ModelData):
    """Parameters of `get_model`."""


class GetModel(_ModelSummary, DeclaredCommand):
    """Reads a model with its iterations."""

    type: Literal["get_model"]
    data: GetModelData
    result = ModelWithIterations
    example = {"type": "get_model", "data": {"model_uuid": MODEL_UUID}}


class ListModelsData(CommandData):
    """Parameters of `list_models`."""

    order_by: OrderBy = Field(default=OrderBy.CREATED_AT, description="What to sort by.")
    order_asc: bool = Field(default=False, description="Whether the least comes first.")
    query: str | None = Field(default=None, description="Only models whose title has this text.")


class ModelsResult(BaseModel):
    """Result of `list_models`: every page."""

    models: list[ModelWithIterations]


class ListModels(DeclaredCommand):
    """Reads all models, every page."""

    type: Literal["list_models"]
    data: ListModelsData
    result = ModelsResult
    example = {
        "type": "list_models",
        "data": {"order_by": "title", "order_asc": True, "query": "street"},
    }

    @staticmethod
    def summary(result: dict[str, Any]) -> str:
        """Returns the result in a few words."""
        return counted(len(result["models"]), "model")


class UpdateModelData(CommandData):
    """Parameters of `update_model`; what is left out stays as it is."""

    model_uuid: ModelUuid
    title: Name | None = Field(default=None, description="The new title.")
    description: str | None = Field(default=None, description="The new description.")


class UpdateModel(_ModelSummary, DeclaredCommand):
    """Changes a model's title or description."""

    type: Literal["update_model"]
    data: UpdateModelData
    result = ModelWithIterations
    example = {
        "type": "update_model",
        "data": {"model_uuid": MODEL_UUID, "title": "Street, night"},
    }


class DeleteModelData(ModelData):
    """Parameters of `delete_model`."""


class DeleteModel(DeclaredCommand):
    """Deletes a model."""

    type: Literal["delete_model"]
    data: DeleteModelData
    example = {"type": "delete_model", "data": {"model_uuid": MODEL_UUID}}


ModelCommand: TypeAlias = CreateModel | GetModel | ListModels | UpdateModel | DeleteModel
