"""Commands that only read: a second call of the API does no harm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.attachments import ListAttachments
from schemas.models import GetModel, ListModels
from schemas.trainings import GetTrainingData, GetWeightsDownloadLink
from worker.encord.context import api_of
from worker.queue.outcome import Outcome, Succeeded
from worker.queue.registry import handles

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pydantic import BaseModel

    from worker.queue.run_context import RunContext


async def collect(items: AsyncIterator[BaseModel]) -> list[dict[str, Any]]:
    """Returns the items of all pages as JSON values."""
    return [item.model_dump(mode="json") async for item in items]


@handles(GetModel)
async def get_model(run: RunContext[GetModel]) -> Outcome:
    """Returns the model with its iterations."""
    model = await api_of(run).get_model(model_uuid=run.command.data.model_uuid)
    return Succeeded(model.model_dump(mode="json"))


@handles(ListModels)
async def list_models(run: RunContext[ListModels]) -> Outcome:
    """Returns the models of all pages."""
    data = run.command.data
    models = api_of(run).list_models(
        order_by=data.order_by, order_asc=data.order_asc, query=data.query
    )
    return Succeeded({"models": await collect(models)})


@handles(GetTrainingData)
async def get_training_data(run: RunContext[GetTrainingData]) -> Outcome:
    """Returns what a training learned from."""
    data = run.command.data
    items = api_of(run).get_training_data(
        model_uuid=data.model_uuid, training_uuid=data.training_uuid
    )
    return Succeeded({"training_data": await collect(items)})


@handles(GetWeightsDownloadLink)
async def get_weights_download_link(run: RunContext[GetWeightsDownloadLink]) -> Outcome:
    """Returns an expiring link to the weights."""
    data = run.command.data
    url = await api_of(run).get_weights_download_link(
        model_uuid=data.model_uuid, training_uuid=data.training_uuid
    )
    return Succeeded({"url": url})


@handles(ListAttachments)
async def list_attachments(run: RunContext[ListAttachments]) -> Outcome:
    """Returns the attachments of a project."""
    attachments = api_of(run).list_model_attachments(project_uuid=run.command.data.project_uuid)
    return Succeeded({"attachments": await collect(attachments)})
