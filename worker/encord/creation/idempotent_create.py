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
import hashlib
import shlex
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

import orjson
import structlog

from schemas.commands import Command
from schemas.enums import EventState
from schemas.events import ErrorCode
from worker.encord.context import Encord
from worker.encord.creation.ambiguous import AmbiguousCreations, Creator
from worker.encord.creation.orphans import OrphanedCreation, Orphans
from worker.encord.creation.resource_spec import Created, ResourceSpec
from worker.errors import (
    FencedError,
    MisconfiguredError,
    NotSentError,
    OutcomeUnknownError,
    PermanentError,
    RateLimitedError,
    TrainmasterError,
    UnknownOutcomeError,
)
from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS
from worker.queue.ledger.ledger import LOCK_SECONDS
from worker.queue.ledger.models import Phase, RowState
from worker.queue.ledger.redis_retry import keep_trying
from worker.queue.outcome import Snooze

if TYPE_CHECKING:
    from worker.queue.run_context import RunContext

log = structlog.get_logger(__name__)

C = TypeVar("C", bound=Command)

# How soon a command asks again whether an identical one has finished its call.
LOCKED_SECONDS = 1.0
FIRST_DOUBT_SECONDS = 1.0
# How soon the API is asked again for what a person said that it has.
RESOLVED_SECONDS = 5.0
LONGEST_DOUBT_INTERVAL_SECONDS = 300.0


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
                return await self._doubt(run, run.progress, error=None)
            case Phase.IN_DOUBT:
                return await self._reconcile(run)
            case Phase.RESOLVED:
                return await self._adopt_named(run)
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
        lock = self._lock_name(run)
        asked_at = run.now()
        baseline = [found.uuid for found in await self.creation.listed(run)]
        # Asking may have taken long: nothing is started past the deadline.
        run.check_deadline()
        await AmbiguousCreations.of(run).enter(self._match_key(run), self._creator(run), run.now())
        intent = {"at": run.now(), "asked_at": asked_at, "baseline": baseline}
        try:
            # A stop lets this finish: cut off after the checkpoint, the outcome would stay unknown.
            with run.change():
                holder = await self._intend(run, intent, lock)
                if holder is not None:
                    log.info("creation.locked", kind=self.creation.kind, holder=holder)
                    await self._leave(run)
                    return Snooze(LOCKED_SECONDS, run.lease.state)
                created = await self.creation.create(run)
                await self._own_surely(run, created, lock)
                await self._leave(run)
        except UnknownOutcomeError as error:
            return await self._doubt(run, intent, error=error)
        except (NotSentError, RateLimitedError, PermanentError, MisconfiguredError):
            await self._withdraw(run, intent, lock)
            raise
        except asyncio.CancelledError:
            if run.unsent:
                await self._withdraw(run, intent, lock)
            raise
        return created

    async def _intend(self, run: RunContext[C], intent: dict[str, Any], lock: str) -> str | None:
        """Records the intent; returns who holds the lock, if another command does.

        One whose reply was lost may stand in the row, and whoever reads it there later has to doubt
        for days what was never sent. This run knows better, so it takes it back.
        """
        try:
            return await run.checkpoint(
                intent, phase=Phase.INTENDED, take_lock=lock, lock_lapses=True
            )
        except RETRYABLE_REDIS_ERRORS:
            await self._withdraw_surely(run, lock)
            raise

    async def _doubt(
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
        return Snooze(
            FIRST_DOUBT_SECONDS,
            RowState.IN_DOUBT,
            progress={**intent, "error": body, "check": self._advice(run)},
            phase=Phase.IN_DOUBT,
            event=(EventState.IN_DOUBT, {"error": body, "check": self._advice(run)}),
            drop_lock=self._lock_name(run),
        )

    async def _reconcile(self, run: RunContext[C]) -> Created | Snooze:
        """Asks the API what became of the POST; no trouble in asking ends the doubt."""
        if await Orphans.of(run).is_unsent(run.lease, run.progress):
            log.info("creation.withdrawn", kind=self.creation.kind, by="the worker that began it")
            return await self._begin_anew(run)
        try:
            found = await self._adopt(run)
        except FencedError:
            raise
        except TrainmasterError as error:
            log.warning("creation.reconcile_failed", kind=self.creation.kind, error=error.code)
            found = None
        if found is not None:
            return found
        doubt = run.progress
        elapsed = run.elapsed()
        if elapsed >= self.creation.doubt_seconds(run):
            elapsed = await run.elapsed_surely()
        rest = self.creation.doubt_seconds(run) - elapsed
        if run.command.deadline is not None:
            rest = min(rest, run.command.deadline.timestamp() - run.now())
        if rest <= 0:
            await run.checkpoint(doubt, drop_lock=self._lock_name(run))
            raise OutcomeUnknownError(
                f"the {self.creation.kind} may or may not have been created "
                f"({doubt['error']['message']}); nothing was sent again. "
                f"{self.creation.advice(run.command)}",
                code=ErrorCode.OUTCOME_UNKNOWN,
            )
        interval = min(LONGEST_DOUBT_INTERVAL_SECONDS, max(FIRST_DOUBT_SECONDS, elapsed * 0.1))
        return Snooze(
            min(interval, rest), RowState.IN_DOUBT, progress=doubt, drop_lock=self._lock_name(run)
        )

    async def _send_again(self, run: RunContext[C]) -> Created | Snooze:
        """Sends the call once more, for a person who looked said that it created nothing.

        Unless the run that sent it left word meanwhile of what it created: that one knows.
        """
        by = run.progress["resolution"]["by"]
        if (created := await self._adopt_orphan(run)) is not None:
            log.warning("creation.resolution_refused", kind=self.creation.kind, by=by)
            return created
        log.info("creation.withdrawn", kind=self.creation.kind, by=by)
        return await self._begin_anew(run)

    async def _begin_anew(self, run: RunContext[C]) -> Created | Snooze:
        """Goes on as if nothing had been sent yet."""
        lock = self._lock_name(run)
        await run.checkpoint({}, phase=Phase.IDLE, state=RowState.RUNNING, drop_lock=lock)
        await self._leave(run)
        await Orphans.of(run).forget_unsent(run.lease)
        return await self._send(run)

    async def _adopt_named(self, run: RunContext[C]) -> Created | Snooze:
        """Adopts what a person who looked said was created.

        It has to be there and no other command's, else the doubt goes on.
        """
        resolution = run.progress["resolution"]
        lock = self._lock_name(run)
        uuid, by = resolution["created"], resolution["by"]
        try:
            found = await self.creation.find(run, UUID(uuid))
        except FencedError:
            raise
        except TrainmasterError as error:
            log.warning("creation.reconcile_failed", kind=self.creation.kind, error=error.code)
            return Snooze(RESOLVED_SECONDS, RowState.IN_DOUBT, progress=run.progress)
        wrong = f"{by} said that {self.creation.kind} {uuid} was created, and there is none"
        if found is not None:
            if await self._own(run, found, at=run.now(), drop_lock=lock):
                await self._leave(run)
                log.info("creation.adopted", kind=self.creation.kind, uuid=uuid, by=by)
                return found
            wrong = (
                f"{by} said that {self.creation.kind} {uuid} was created; it is another command's"
            )
        told = {"code": ErrorCode.NOT_FOUND, "message": wrong}
        log.warning("creation.resolution_refused", kind=self.creation.kind, uuid=uuid, by=by)
        return Snooze(
            FIRST_DOUBT_SECONDS,
            RowState.IN_DOUBT,
            phase=Phase.IN_DOUBT,
            event=(EventState.IN_DOUBT, {"error": told, "check": self._advice(run)}),
        )

    async def _adopt(self, run: RunContext[C]) -> Created | None:
        """Returns what the lost POST created, owned by this command from now on."""
        doubt = run.progress
        if (created := await self._adopt_orphan(run)) is not None:
            return created
        baseline = set(doubt["baseline"])
        # Where something is created meanwhile, pages of a list may tell of another thing twice.
        listed = {each.uuid: each for each in await self.creation.listed(run)}
        candidates = [each for uuid, each in listed.items() if uuid not in baseline]
        candidates = await self._without_theirs(run, doubt, candidates)
        lock = self._lock_name(run)
        if not candidates or await self._taken(run, doubt, lock):
            return None
        now = run.now()
        since = min(now, doubt["asked_at"] if "asked_at" in doubt else doubt["at"])
        others = await AmbiguousCreations.of(run).others(
            self._match_key(run), self._creator(run), since, now
        )
        if others.conflicts:
            # What is listed may be theirs. The lock is dropped with the wait that follows.
            log.warning("creation.ambiguous", kind=self.creation.kind, conflicts=others.conflicts)
            return None
        if len(candidates) > others.twins:
            # One is of someone else, who does not work through us; nothing tells which.
            log.warning("creation.ambiguous", kind=self.creation.kind, candidates=len(candidates))
            return None
        # First what identical commands in doubt can't take, or their own might be left for nobody.
        candidates.sort(key=lambda each: -others.known_to_twins[each.uuid])
        word = Orphans.of(run).key(run.lease)
        for candidate in candidates:
            # Word that an earlier run leaves just now goes first.
            if await self._own(run, candidate, at=run.now(), drop_lock=lock, unless=word):
                await self._leave(run)
                log.info("creation.adopted", kind=self.creation.kind, uuid=candidate.uuid)
                return candidate
        return None

    async def _adopt_orphan(self, run: RunContext[C]) -> Created | None:
        """Returns what an earlier run left word of, owned by this command from now on."""
        told = await Orphans.of(run).find(run.lease)
        if told is None:
            return None
        created = Created(*told)
        # A run that ended in the middle of an adoption may have left the creation's lock taken.
        if not await self._own(run, created, at=run.now(), drop_lock=self._lock_name(run)):
            # An identical command has adopted it: what that one created may be this one's.
            await Orphans.of(run).forget(run.lease)
            return None
        await self._leave(run)
        return created

    async def _without_theirs(
        self, run: RunContext[C], doubt: dict[str, Any], candidates: list[Created]
    ) -> list[Created]:
        """Returns the candidates that no other command owns, and remembers the others as known.

        Their locks may lapse before this doubt ends, which lasts as long as its timeout.
        """
        if not candidates:
            return []
        locks = [self._owner(run, each) for each in candidates]
        holders = await AmbiguousCreations.of(run).holders(locks)
        free = {None, run.lease.command_id}
        theirs = [
            each.uuid
            for each, holder in zip(candidates, holders, strict=True)
            if holder not in free
        ]
        doubt["baseline"] = [*doubt["baseline"], *theirs]
        return [each for each in candidates if each.uuid not in theirs]

    async def _own_surely(self, run: RunContext[C], created: Created, lock: str) -> None:
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

        own = partial(self._own, run, created, at=run.now(), drop_lock=lock)
        outage = run.dependencies.ledger.outage
        try:
            is_own = await keep_trying(own, outage, "checkpoint", on_trouble=tell)
        except FencedError:
            leave_word = partial(self._leave_word, run, created, lock)
            await keep_trying(leave_word, outage, "checkpoint", on_trouble=tell)
            raise
        if not is_own:
            raise UnknownOutcomeError(
                f"{self.creation.kind} {created.uuid}, which it created, is another command's",
                code=ErrorCode.OUTCOME_UNKNOWN,
            )

    async def _leave_word(self, run: RunContext[C], created: Created, lock: str) -> None:
        owned = OrphanedCreation(
            created.uuid, created.result, self._owner(run, created), self._owned_seconds(run)
        )
        if not await Orphans.of(run).leave(run.lease, owned, drop_lock=lock):
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
        await self._leave(run)

    async def _withdraw_surely(self, run: RunContext[C], lock: str) -> None:
        """Withdraws the intent after a refusal: left there, it would look like a doubt."""
        with run.change():
            withdraw = partial(run.checkpoint, {}, phase=Phase.IDLE, drop_lock=lock)
            await keep_trying(withdraw, run.dependencies.ledger.outage, "checkpoint")

    async def _withdraw(self, run: RunContext[C], intent: dict[str, Any], lock: str) -> None:
        """Withdraws the intent of a call that was not sent, or refused: nothing was created.

        Raises:
            FencedError: the command has ended, or another worker has it, which doubts what became
                of the call: it is left word.
        """
        outage = run.dependencies.ledger.outage
        try:
            await self._withdraw_surely(run, lock)
        except FencedError:
            has_ended = partial(run.dependencies.ledger.has_ended, run.lease)
            with run.change():
                if not await keep_trying(has_ended, outage, "checkpoint"):
                    leave_word = partial(
                        Orphans.of(run).leave_unsent,
                        run.lease,
                        intent["asked_at"],
                        self._owned_seconds(run),
                    )
                    await keep_trying(leave_word, outage, "checkpoint")
                    raise
            await self._leave(run)
            raise
        await self._leave(run)

    async def _own(
        self, run: RunContext[C], created: Created, *, at: float, drop_lock: str, unless: str = ""
    ) -> bool:
        """Makes the command the owner of what exists; False if another one owns it.

        Args:
            run: of the command.
            created: what exists.
            at: when it was learned; a repeated checkpoint tells the same, by which it is known.
            drop_lock: key of the creation's lock, if it is held.
            unless: a key; while it exists nothing is owned either.
        """
        event = None
        is_told = EventState.STARTED in run.command.own_states
        if is_told:
            event = (EventState.STARTED, {f"{self.creation.kind}_uuid": created.uuid})
        holder = await run.checkpoint(
            {"uuid": created.uuid, "result": created.result, "at": at},
            phase=Phase.APPLIED,
            leaves=self.creation.leaves(created),
            state=RowState.POLLING if is_told else None,
            event=event,
            take_lock=self._owner(run, created),
            drop_lock=drop_lock,
            lock_seconds=self._owned_seconds(run),
            unless=unless,
        )
        return holder is None

    async def _taken(self, run: RunContext[C], doubt: dict[str, Any], lock: str) -> bool:
        """Takes the creation's lock; returns whether another command has it."""
        return await run.checkpoint(doubt, take_lock=lock, lock_lapses=True) is not None

    def _owned_seconds(self, run: RunContext[C]) -> int:
        return LOCK_SECONDS + int(self.creation.hidden_seconds(run.command))

    def _owner(self, run: RunContext[C], created: Created) -> str:
        return run.lock_key(f"{self.creation.kind}:{created.uuid}")

    def _lock_name(self, run: RunContext[C]) -> str:
        return run.lock_key(f"creating-{self.creation.kind}:{self._identity_key(run)}")

    async def _leave(self, run: RunContext[C]) -> None:
        await AmbiguousCreations.of(run).leave(self._match_key(run), self._creator(run))

    def _creator(self, run: RunContext[C]) -> Creator:
        return Creator.of(
            run.lease, self._identity_key(run), self.creation.hidden_seconds(run.command)
        )

    def _identity_key(self, run: RunContext[C]) -> str:
        return _digest(self.creation.identity_key(run.command))

    def _match_key(self, run: RunContext[C]) -> str:
        return f"{self.creation.kind}:{_digest(self.creation.match_key(run.command))}"

    def _advice(self, run: RunContext[C]) -> str:
        """Returns where a person should look, and how to say what was found."""
        named = shlex.quote(run.lease.command_id)
        return (
            f"{self.creation.advice(run.command)} While it is in doubt you can settle it: "
            f"trainmaster resolve {named} --created UUID, or --not-created."
        )


def _digest(values: dict[str, Any]) -> str:
    text = orjson.dumps(values, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:32]
