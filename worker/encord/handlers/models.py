"""`create_model`: a model, created once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.enums import OrderBy
from schemas.models import CreateModel
from worker.encord.context import Encord, api_of
from worker.encord.creation.idempotent_create import IdempotentCreate
from worker.encord.creation.resource_spec import Created, raise_unless_absent
from worker.errors import PermanentError
from worker.queue.outcome import Outcome, Snooze, Succeeded
from worker.queue.registry import handles

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from schemas.api import ModelWithIterations
    from worker.queue.run_context import RunContext


class ModelCreation:
    """How a model is created, and recognised among others."""

    kind = "model"

    def leaves(self, created: Created) -> dict[str, Any] | None:  # noqa: ARG002
        """A model stays as it is."""
        return None

    def identity_key(self, command: CreateModel) -> dict[str, Any]:
        """A model is told by all that it is created with."""
        return command.data.model_dump(mode="json")

    def match_key(self, command: CreateModel) -> dict[str, Any]:
        """The API lists all of a model."""
        return self.identity_key(command)

    async def listed(self, run: RunContext[CreateModel]) -> Sequence[Created]:
        """Returns the models with the same title, architecture, features and description."""
        data = run.command.data
        models = api_of(run).list_models(
            order_by=OrderBy.CREATED_AT, order_asc=False, query=data.title
        )
        return [
            _created(model)
            async for model in models
            if model.model_group.title == data.title
            and model.model_group.model == data.model
            and list(model.model_group.features) == list(data.features)
            and (model.model_group.description or "") == (data.description or "")
        ]

    async def find(self, run: RunContext[CreateModel], uuid: UUID) -> Created | None:
        """Asks for the model."""
        try:
            return _created(await api_of(run).get_model(model_uuid=uuid))
        except PermanentError as error:
            raise_unless_absent(error)
            return None

    async def create(self, run: RunContext[CreateModel]) -> Created:
        """Sends the POST."""
        data = run.command.data
        model = await api_of(run).create_model(
            features=data.features,
            model=data.model,
            title=data.title,
            description=data.description,
        )
        return _created(model)

    def hidden_seconds(self, command: CreateModel) -> float:  # noqa: ARG002 - as of every creation
        """Models are listed as soon as they exist."""
        return 0.0

    def doubt_seconds(self, run: RunContext[CreateModel]) -> float:
        """What is not listed soon was not created."""
        return Encord.of(run).doubt_seconds

    def advice(self, command: CreateModel) -> str:
        """Says where to look."""
        return f"Check the models titled {command.data.title!r} in Encord before you send it anew."


def _created(model: ModelWithIterations) -> Created:
    return Created(str(model.model_group.model_uuid), model.model_dump(mode="json"))


_create = IdempotentCreate(ModelCreation())


@handles(CreateModel)
async def create_model(run: RunContext[CreateModel]) -> Outcome:
    """Creates a model; the result is the model with its iterations, none yet."""
    created = await _create(run)
    if isinstance(created, Snooze):
        return created
    return Succeeded(created.result)
