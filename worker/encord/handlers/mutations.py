"""Commands whose change may be sent again: updates, and deletions that know they were sent."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from schemas.attachments import Detach, UpdateAttachment
from schemas.events import ErrorCode
from schemas.models import DeleteModel, UpdateModel
from schemas.trainings import DeleteTrainingIteration
from worker.encord.context import api_of
from worker.errors import MisconfiguredError, NotSentError, RateLimitedError, RequestRefusedError
from worker.queue.ledger.redis_retry import keep_trying
from worker.queue.outcome import Outcome, Succeeded
from worker.queue.registry import handles

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from worker.queue.ledger.models import Progress
    from worker.queue.run_context import RunContext

log = structlog.get_logger(__name__)


@handles(UpdateModel)
async def update_model(run: RunContext[UpdateModel]) -> Outcome:
    """Sets a model's title or description; the same again changes nothing."""
    data = run.command.data
    with run.change():
        model = await api_of(run).update_model(
            model_uuid=data.model_uuid, title=data.title, description=data.description
        )
    return Succeeded(model.model_dump(mode="json"))


@handles(UpdateAttachment)
async def update_attachment(run: RunContext[UpdateAttachment]) -> Outcome:
    """Sets an attachment's mapping and policy; the same again changes nothing."""
    data = run.command.data
    with run.change():
        attachment = await api_of(run).update_model_attachment(
            project_uuid=data.project_uuid,
            project_model_uuid=data.project_model_uuid,
            features_mapping=data.features_mapping,
            iteration_policy=data.iteration_policy,
            training_uuids=data.training_uuids,
        )
    return Succeeded(attachment.model_dump(mode="json"))


@handles(DeleteModel)
async def delete_model(run: RunContext[DeleteModel]) -> Outcome:
    """Deletes a model."""
    model_uuid = run.command.data.model_uuid
    return await _delete(run, partial(api_of(run).delete_model, model_uuid=model_uuid))


@handles(DeleteTrainingIteration)
async def delete_training_iteration(run: RunContext[DeleteTrainingIteration]) -> Outcome:
    """Deletes one training of a model."""
    data = run.command.data
    return await _delete(
        run,
        partial(
            api_of(run).delete_training_iteration,
            model_uuid=data.model_uuid,
            training_uuid=data.training_uuid,
        ),
    )


@handles(Detach)
async def detach(run: RunContext[Detach]) -> Outcome:
    """Takes a model off a project."""
    data = run.command.data
    return await _delete(
        run,
        partial(
            api_of(run).delete_model_attachment,
            project_uuid=data.project_uuid,
            project_model_uuid=data.project_model_uuid,
        ),
    )


async def _delete(run: RunContext[Any], call: Callable[[], Awaitable[None]]) -> Outcome:
    """Sends a deletion; "not found" is success once an earlier one may have done it.

    That it was sent is recorded first: without that a worker that died between the call and its
    answer would have the next one report a failure of what it did itself. Either checkpoint is made
    however long Redis takes: one whose reply was lost would tell the next run of a call that this
    one never made, or hide one that it did.
    """
    sent_before = bool(run.progress.get("sent"))
    try:
        with run.change():
            if not sent_before:
                await _checkpoint_surely(run, {"sent": True})
            await call()
    except (NotSentError, RateLimitedError, MisconfiguredError, asyncio.CancelledError) as error:
        # Nothing was deleted: a later "not found" would be the truth, not our own doing.
        is_cut_off = isinstance(error, asyncio.CancelledError) and not run.unsent
        if not sent_before and not is_cut_off:
            with run.change():
                await _checkpoint_surely(run, {})
        raise
    except RequestRefusedError as refusal:
        if not (sent_before and refusal.code is ErrorCode.NOT_FOUND):
            raise
    return Succeeded(None)


async def _checkpoint_surely(run: RunContext[Any], progress: Progress) -> None:
    outage = run.dependencies.ledger.outage
    await keep_trying(partial(run.checkpoint, progress), outage, "checkpoint")
