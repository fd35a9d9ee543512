"""`train` and `watch_training`: a training, started once, and the wait for its end."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog

from schemas.enums import TrainingState
from schemas.events import ErrorCode
from schemas.trainings import Train, WatchTraining
from schemas.wording import counted
from worker.encord.context import Encord, api_of
from worker.encord.creation.idempotent_create import IdempotentCreate
from worker.encord.creation.resource_spec import Created, raise_unless_absent, training_goes_on
from worker.errors import (
    BadResponseError,
    DeadlineExceededError,
    MisconfiguredError,
    PermanentError,
    RetryableError,
    TrainingFailedError,
    TrainingTimeoutError,
)
from worker.queue.ledger.models import RowState
from worker.queue.outcome import Outcome, Snooze, Succeeded
from worker.queue.registry import handles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.queue.run_context import RunContext

log = structlog.get_logger(__name__)

POLL_JITTER = 0.2
# A long poll that ended without news is asked again almost at once: it cost one request.
NEXT_LONG_POLL_SECONDS = 0.05
# One that was answered sooner was not held open: whoever stands before the API may know no such
# wait, and would be asked without a pause for as long as the training goes on.
HELD_SECONDS = 0.5
# The last poll comes so long before the deadline: past it there are none.
LAST_POLL_SECONDS = 1.0
# So that people see of which model a training was, and with what it began.
KEPT_BYTES = 262_144


class TrainingCreation:
    """How a training is created, and recognised among others."""

    kind = "training"

    def leaves(self, created: Created) -> dict[str, Any] | None:
        """A training goes on; the API can't stop one."""
        return training_goes_on(created.uuid)

    def identity_key(self, command: Train) -> dict[str, Any]:
        """A training is told by all that it is created with."""
        return command.data.model_dump(mode="json", exclude={"timeout_seconds", "wait"})

    def match_key(self, command: Train) -> dict[str, Any]:
        """The API lists neither a training's mapping nor what it started from."""
        data = command.data
        return {
            "model": str(data.model_uuid),
            "batch_size": data.batch_size,
            "epochs": data.epochs,
            "labels": sorted({str(label) for label in data.labels_uuids}),
        }

    async def listed(self, run: RunContext[Train]) -> Sequence[Created]:
        """Returns the model's trainings of the same size, epochs and labels.

        Whether the API lists a training that still runs is not known, so one that is missing
        here may yet exist.
        """
        data = run.command.data
        model = await api_of(run).get_model(model_uuid=data.model_uuid)
        labels = {str(label) for label in data.labels_uuids}
        alike = [
            iteration
            for iteration in model.model_iterations
            if iteration.batch_size == data.batch_size and iteration.epochs == data.epochs
        ]
        if "baseline" not in run.progress:
            # Before the POST there is nothing to tell apart: all that is alike is old.
            return [Created(str(iteration.training_uuid)) for iteration in alike]
        known = set(run.progress["baseline"])
        found = []
        for iteration in alike:
            uuid = str(iteration.training_uuid)
            if uuid in known:
                continue
            items = api_of(run).get_training_data(
                model_uuid=data.model_uuid, training_uuid=iteration.training_uuid
            )
            if {str(item.label_uuid) async for item in items} == labels:
                found.append(Created(uuid))
        return found

    async def find(self, run: RunContext[Train], uuid: UUID) -> Created | None:
        """Asks for the training's status, for one that runs may be in no list."""
        try:
            await api_of(run).get_training_status(
                model_uuid=run.command.data.model_uuid, training_uuid=uuid, timeout_seconds=0
            )
        except PermanentError as error:
            raise_unless_absent(error)
            return None
        return Created(str(uuid))

    async def create(self, run: RunContext[Train]) -> Created:
        """Sends the POST."""
        data = run.command.data
        training_uuid = await api_of(run).create_training_job(
            model_uuid=data.model_uuid,
            batch_size=data.batch_size,
            epochs=data.epochs,
            features_mapping=data.features_mapping,
            labels_uuids=data.labels_uuids,
            pretrained_training_uuid=data.pretrained_training_uuid,
            pretrained_weights_type=data.pretrained_weights_type,
        )
        return Created(str(training_uuid))

    def hidden_seconds(self, command: Train) -> float:
        """A running training may stay hidden until it ends."""
        return float(command.data.timeout_seconds)

    def doubt_seconds(self, run: RunContext[Train]) -> float:
        """It lasts as long as the training may stay hidden."""
        return self.hidden_seconds(run.command)

    def advice(self, command: Train) -> str:
        """Says where to look."""
        data = command.data
        return (
            f"Check the trainings of model {data.model_uuid} with batch size {data.batch_size} "
            f"and {counted(data.epochs, 'epoch')} in Encord before you send it anew."
        )


_create = IdempotentCreate(TrainingCreation())


@handles(Train)
async def train(run: RunContext[Train]) -> Outcome:
    """Starts a training once and waits for its end, however often the worker changes."""
    created = await _create(run)
    if isinstance(created, Snooze):
        return created
    data = run.command.data
    if not data.wait:
        return Succeeded({"training_uuid": created.uuid, "iteration": None}, KEPT_BYTES)
    return await _poll(run, data.model_uuid, UUID(created.uuid), data.timeout_seconds)


@handles(WatchTraining)
async def watch_training(run: RunContext[WatchTraining]) -> Outcome:
    """Waits for the end of a training that someone else started."""
    data = run.command.data
    run.progress.setdefault("at", run.now())
    return await _poll(run, data.model_uuid, data.training_uuid, data.timeout_seconds)


async def _poll(
    run: RunContext[Any], model_uuid: UUID, training_uuid: UUID, timeout_seconds: float
) -> Outcome:
    """Asks once for the training's end. Nothing but its end, or time, ends the wait."""
    run.check_deadline()
    failures = 0
    asked_at = time.monotonic()
    with Encord.of(run).long_polls.slot(_rest_seconds(run, timeout_seconds)) as open_seconds:
        try:
            status = await api_of(run).get_training_status(
                model_uuid=model_uuid, training_uuid=training_uuid, timeout_seconds=open_seconds
            )
        except DeadlineExceededError as exc:
            raise run.lateness() from exc
        except (RetryableError, MisconfiguredError) as error:
            # A key that is being changed is no reason to give up a training that runs.
            failures = int(run.progress.get("failures", 0)) + 1
            log.warning("training.poll_failed", error=error.code, failures=failures)
            return await _wait(run, timeout_seconds, failures=failures, failure=error)
    match status.status:
        case TrainingState.DONE:
            if status.result is None:
                raise BadResponseError(
                    "the API says that training is done and gives no iteration",
                    code=ErrorCode.BAD_RESPONSE,
                )
            iteration = status.result.model_dump(mode="json")
            result = {"training_uuid": str(training_uuid), "iteration": iteration}
            return Succeeded(result, KEPT_BYTES)
        case TrainingState.ERROR:
            raise TrainingFailedError(
                f"training {training_uuid} ended in an error; the API gives no reason",
                code=ErrorCode.TRAINING_FAILED,
            )
        case _:
            was_held = open_seconds > 0 and time.monotonic() - asked_at >= HELD_SECONDS
            return await _wait(run, timeout_seconds, long_polled=was_held)


def _rest_seconds(run: RunContext[Any], timeout_seconds: float) -> float:
    """Returns for how long the training may still be waited for; 0 or less if no longer."""
    rest = timeout_seconds - run.elapsed()
    if run.command.deadline is not None:
        rest = min(rest, run.command.deadline.timestamp() - run.now())
    return float(rest)


async def _wait(
    run: RunContext[Any],
    timeout_seconds: float,
    *,
    failures: int = 0,
    failure: RetryableError | MisconfiguredError | None = None,
    long_polled: bool = False,
) -> Snooze:
    elapsed = run.elapsed()
    if elapsed > timeout_seconds:
        elapsed = await run.elapsed_surely()
    if elapsed > timeout_seconds:
        raise TrainingTimeoutError(
            f"training did not end within {timeout_seconds} s; it may go on at the API",
            code=ErrorCode.TRAINING_TIMEOUT,
        )
    run.check_deadline()
    polls = Encord.of(run).polls
    if long_polled:
        delay = NEXT_LONG_POLL_SECONDS
    else:
        spread = random.uniform(1 - POLL_JITTER, 1 + POLL_JITTER)
        delay = polls.interval_seconds(elapsed) * spread
    if failure is not None:
        delay = min(polls.maximum_seconds, delay * 2 ** min(failures - 1, 5))
        if isinstance(failure, RetryableError):
            delay = max(delay, failure.retry_after_seconds or 0.0)
    delay = min(delay, timeout_seconds - elapsed + 0.1)
    deadline = run.command.deadline
    if deadline is not None:
        rest = deadline.timestamp() - run.now()
        delay = min(delay, rest - LAST_POLL_SECONDS if rest > LAST_POLL_SECONDS else rest)
    # The code tells a release of holds which polls the API had told to come back later.
    code = "" if failure is None else failure.code
    progress = {**run.progress, "failures": failures}
    return Snooze(max(delay, 0.0), RowState.POLLING, progress, failure=code)
