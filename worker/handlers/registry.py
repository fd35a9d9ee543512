"""Which handler carries out which command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from schemas.enums import CommandType
from worker.handlers.attachments import attach
from worker.handlers.backfilling import backfill
from worker.handlers.changing import (
    delete_model,
    delete_training_iteration,
    detach,
    update_attachment,
    update_model,
)
from worker.handlers.models import create_model
from worker.handlers.predicting import predict
from worker.handlers.reading import (
    get_model,
    get_training_data,
    get_weights_download_link,
    list_attachments,
    list_models,
)
from worker.handlers.training import train, watch_training

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.handlers.outcome import Outcome
    from worker.handlers.run import Run


class Handler(Protocol):
    """Carries out one run of a command."""

    async def __call__(self, run: Run[Any]) -> Outcome:
        """Returns the outcome, or raises an error whose class decides the fate."""
        ...


HANDLERS: Mapping[CommandType, Handler] = {
    CommandType.CREATE_MODEL: create_model,
    CommandType.GET_MODEL: get_model,
    CommandType.LIST_MODELS: list_models,
    CommandType.UPDATE_MODEL: update_model,
    CommandType.DELETE_MODEL: delete_model,
    CommandType.TRAIN: train,
    CommandType.WATCH_TRAINING: watch_training,
    CommandType.GET_TRAINING_DATA: get_training_data,
    CommandType.GET_WEIGHTS_DOWNLOAD_LINK: get_weights_download_link,
    CommandType.DELETE_TRAINING_ITERATION: delete_training_iteration,
    CommandType.ATTACH: attach,
    CommandType.LIST_ATTACHMENTS: list_attachments,
    CommandType.UPDATE_ATTACHMENT: update_attachment,
    CommandType.DETACH: detach,
    CommandType.BACKFILL: backfill,
    CommandType.PREDICT: predict,
}
