"""Creating something exactly once at an API that takes no idempotency key.

A POST may be carried out though no answer comes back, so it is never sent again blindly::

    intended ── POST answered ──────────────► created
       │  └──── POST refused ───────────────► the error's fate; the intent is withdrawn
       └─────── answer lost, worker died ───► in doubt ── found at the API ──► created
                                                 ├─────── a person knows ───► created, or intended
                                                 └─────── not in time ──────► outcome_unknown

1. What already exists and looks the same is listed: the baseline.
2. The intent, with the baseline, is recorded in the row. From here on nothing is sent again unless
   the API's answer proves that it did nothing.
3. The POST goes out on a connection of its own, so that a stale one can't blur its outcome.
4. What was created is recorded, and owned through a lock: no other command can adopt it.

A command in doubt asks the API for what looks the same, is not in the baseline and is not owned,
and adopts it. While one command is between its intent and its answer it holds a lock that keeps
identical ones from sending or adopting: else one could adopt what the other just created. While
another command may have created something that only looks the same, or more exists than identical
commands may have created, nothing is adopted.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import structlog

from schemas.commands import Command
from schemas.enums import EventState
from schemas.events import ErrorCode
from worker.encord.context import Encord
from worker.encord.creation.orphans import OrphanedCreation, Orphans
from worker.encord.creation.ownership import Ownership
from worker.encord.creation.reconciliation import FIRST_DOUBT_SECONDS, Reconciliation
from worker.encord.creation.resource_spec import Created, ResourceSpec
from worker.errors import (
    FencedError,
    MisconfiguredError,
    NotSentError,
    PermanentError,
    RateLimitedError,
    UnknownOutcomeError,
)
from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS
from worker.queue.ledger.models import Phase, RowState
from worker.queue.ledger.redis_retry import keep_trying
from worker.queue.outcome import Snooze

if TYPE_CHECKING:
    from worker.queue.run_context import RunContext

log = structlog.get_logger(__name__)

C = TypeVar("C", bound=Command)

# How soon a command asks again whether an identical one has finished its call.
LOCKED_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class IdempotentCreate(Generic[C]):
    """Runs a creation through its protocol; resumes wherever an earlier run stopped."""

    creation: ResourceSpec[C]

    async def __call__(self, run: RunContext[C]) -> Created | Snooze:
        """Returns what was created or adopted, or when to look again.

        Raises:
            OutcomeUnknownError: the doubt has lasted long enough.
            TrainmasterError: the API refused, or could not be asked.
        """
        match run.phase:
            case Phase.APPLIED:
                return Created(run.progress["uuid"], run.progress.get("result"))
            case Phase.INTENDED:
                return self._doubt(run, run.progress, error=None)
            case Phase.IN_DOUBT:
                return await self._reconcile(run)
            case Phase.RESOLVED:
                return await self._reconciliation(run).adopt_named()
            case Phase.WITHDRAWN:
                return await self._send_again(run)
            case Phase.IDLE:
                return await self._send(run)

    async def _send(self, run: RunContext[C]) -> Created | Snooze:
        async with AsyncExitStack() as slot:
            async with run.until_deadline():
                await slot.enter_async_context(Encord.of(run).creations.slot(run.lease.lane))
            return await self._send_now(run)

    async def _send_now(self, run: RunContext[C]) -> Created | Snooze:
        asked_at = run.now()
        baseline = [found.uuid for found in await self.creation.listed(run)]
        # Asking may have taken long: nothing is started past the deadline.
        run.check_deadline()
        await self._ownership(run).enter()
        intent = {"at": run.now(), "asked_at": asked_at, "baseline": baseline}
        try:
            # A stop lets this finish: cut off after the checkpoint, the outcome would stay unknown.
            with run.change():
                holder = await self._intend(run, intent)
                if holder is not None:
                    log.info("creation.locked", kind=self.creation.kind, holder=holder)
                    await self._ownership(run).leave()
                    return Snooze(LOCKED_SECONDS, run.lease.state)
                created = await self.creation.create(run)
                await self._own_surely(run, created)
                await self._ownership(run).leave()
        except UnknownOutcomeError as error:
            return self._doubt(run, intent, error=error)
        except (NotSentError, RateLimitedError, PermanentError, MisconfiguredError):
            await self._withdraw(run, intent)
            raise
        except asyncio.CancelledError:
            if run.unsent:
                await self._withdraw(run, intent)
            raise
        return created

    async def _intend(self, run: RunContext[C], intent: dict[str, Any]) -> str | None:
        """Records the intent; returns who holds the lock, if another command does.

        One whose reply was lost may stand in the row, and whoever reads it there later has to doubt
        for days what was never sent. This run knows better: it takes it back, or leaves word.
        """
        lock = self._ownership(run).lock
        try:
            return await run.checkpoint(
                intent, phase=Phase.INTENDED, take_lock=lock, lock_lapses=True
            )
        except RETRYABLE_REDIS_ERRORS:
            await self._withdraw(run, intent)
            raise

    def _doubt(
        self, run: RunContext[C], intent: dict[str, Any], *, error: UnknownOutcomeError | None
    ) -> Snooze:
        if error is None:
            body = {
                "code": ErrorCode.OUTCOME_UNKNOWN,
                "message": "the worker ended before it knew the answer of the API",
            }
        else:
            body = error.body().model_dump(mode="json", exclude_none=True)
        log.warning("creation.doubted", kind=self.creation.kind, error=body["code"])
        ownership = self._ownership(run)
        return Snooze(
            FIRST_DOUBT_SECONDS,
            RowState.IN_DOUBT,
            progress={**intent, "error": body, "check": ownership.advice},
            phase=Phase.IN_DOUBT,
            event=(EventState.IN_DOUBT, {"error": body, "check": ownership.advice}),
            drop_lock=ownership.lock,
        )

    async def _reconcile(self, run: RunContext[C]) -> Created | Snooze:
        """Finds out what became of the POST: from who sent it, else from the API."""
        if await Orphans.of(run).is_unsent(run.lease, run.progress):
            log.info("creation.withdrawn", kind=self.creation.kind, by="the worker that began it")
            return await self._begin_anew(run)
        return await self._reconciliation(run).ask()

    async def _send_again(self, run: RunContext[C]) -> Created | Snooze:
        """Sends the call once more, for a person who looked said that it created nothing.

        Unless the run that sent it left word meanwhile of what it created: that one knows.
        """
        by = run.progress["resolution"]["by"]
        if (created := await self._reconciliation(run).adopt_orphan()) is not None:
            log.warning("creation.resolution_refused", kind=self.creation.kind, by=by)
            return created
        log.info("creation.withdrawn", kind=self.creation.kind, by=by)
        return await self._begin_anew(run)

    async def _begin_anew(self, run: RunContext[C]) -> Created | Snooze:
        """Goes on as if nothing had been sent yet."""
        ownership = self._ownership(run)
        await run.checkpoint({}, phase=Phase.IDLE, state=RowState.RUNNING, drop_lock=ownership.lock)
        await ownership.leave()
        await Orphans.of(run).forget_unsent(run.lease)
        return await self._send(run)

    async def _own_surely(self, run: RunContext[C], created: Created) -> None:
        """Records what was created, however long Redis takes: nobody else may know of it.

        Raises:
            FencedError: the lease is lost; word is left for whoever holds the command now.
            UnknownOutcomeError: another command owns it, so that this one has to look for its own.
        """
        told = False

        async def tell(_: Exception) -> bool:
            nonlocal told
            if not told:
                # If this process ends before Redis is back, nothing else names what exists.
                log.warning("creation.checkpoint_delayed", uuid=created.uuid)
            told = True
            return False

        own = partial(self._ownership(run).own, created, at=run.now())
        outage = run.dependencies.ledger.outage
        try:
            is_own = await keep_trying(own, outage, "checkpoint", on_trouble=tell)
        except FencedError:
            leave_word = partial(self._leave_word, run, created)
            await keep_trying(leave_word, outage, "checkpoint", on_trouble=tell)
            raise
        if not is_own:
            raise UnknownOutcomeError(
                f"{self.creation.kind} {created.uuid}, which it created, is another command's",
                code=ErrorCode.OUTCOME_UNKNOWN,
            )

    async def _leave_word(self, run: RunContext[C], created: Created) -> None:
        ownership = self._ownership(run)
        owned = OrphanedCreation(
            created.uuid, created.result, ownership.owner_key(created), ownership.kept_seconds
        )
        if not await Orphans.of(run).leave(run.lease, owned, drop_lock=ownership.lock):
            # If no identical command is in doubt, nothing else names what exists.
            log.warning("creation.left_free", kind=self.creation.kind, uuid=created.uuid)
        elif await run.dependencies.ledger.has_ended(run.lease):
            # As by being cancelled: nobody waits for it, and its event could not name it.
            log.warning(
                "creation.unwanted",
                kind=self.creation.kind,
                uuid=created.uuid,
                advice="its command ended while it was created; delete it if nobody wants it",
            )
        # The command has its own: nobody has to reckon with it any more.
        await ownership.leave()

    async def _withdraw_surely(self, run: RunContext[C]) -> None:
        """Withdraws the intent after a refusal: left there, it would look like a doubt."""
        lock = self._ownership(run).lock
        with run.change():
            withdraw = partial(run.checkpoint, {}, phase=Phase.IDLE, drop_lock=lock)
            await keep_trying(withdraw, run.dependencies.ledger.outage, "checkpoint")

    async def _withdraw(self, run: RunContext[C], intent: dict[str, Any]) -> None:
        """Withdraws the intent of a call that was not sent, or refused: nothing was created.

        Raises:
            FencedError: the command has ended, or another worker has it, which doubts what became
                of the call: it is left word.
        """
        outage, ownership = run.dependencies.ledger.outage, self._ownership(run)
        try:
            await self._withdraw_surely(run)
        except FencedError:
            has_ended = partial(run.dependencies.ledger.has_ended, run.lease)
            with run.change():
                if not await keep_trying(has_ended, outage, "checkpoint"):
                    leave_word = partial(
                        Orphans.of(run).leave_unsent,
                        run.lease,
                        intent["asked_at"],
                        ownership.kept_seconds,
                    )
                    await keep_trying(leave_word, outage, "checkpoint")
                    raise
            await ownership.leave()
            raise
        await ownership.leave()

    def _ownership(self, run: RunContext[C]) -> Ownership[C]:
        return Ownership(self.creation, run)

    def _reconciliation(self, run: RunContext[C]) -> Reconciliation[C]:
        return Reconciliation(self.creation, run)
