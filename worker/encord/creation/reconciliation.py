"""What became of a call whose answer nobody has: the API is asked, and a person may tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

import structlog

from schemas.commands import Command
from schemas.enums import EventState
from schemas.events import ErrorCode
from worker.encord.creation.orphans import Orphans
from worker.encord.creation.ownership import Ownership
from worker.encord.creation.resource_spec import Created
from worker.errors import FencedError, OutcomeUnknownError, TrainmasterError
from worker.queue.ledger.models import Phase, RowState
from worker.queue.outcome import Snooze

if TYPE_CHECKING:
    from worker.encord.creation.resource_spec import ResourceSpec
    from worker.queue.run_context import RunContext

log = structlog.get_logger(__name__)

C = TypeVar("C", bound=Command)

FIRST_DOUBT_SECONDS = 1.0
LONGEST_DOUBT_INTERVAL_SECONDS = 300.0
# How soon the API is asked again for what a person said that it has.
RESOLVED_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Reconciliation(Generic[C]):
    """One look of a command in doubt at the API.

    Attributes:
        creation: what it may have created.
        run: of the command.
    """

    creation: ResourceSpec[C]
    run: RunContext[C]

    @property
    def _ownership(self) -> Ownership[C]:
        return Ownership(self.creation, self.run)

    async def ask(self) -> Created | Snooze:
        """Returns what is found, or when to look again; no trouble in asking ends the doubt.

        Raises:
            OutcomeUnknownError: the doubt has lasted long enough.
            FencedError: the lease is lost.
        """
        run = self.run
        try:
            found = await self._adopt()
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
        lock = self._ownership.lock
        if rest <= 0:
            await run.checkpoint(doubt, drop_lock=lock)
            raise OutcomeUnknownError(
                f"the {self.creation.kind} may or may not have been created "
                f"({doubt['error']['message']}); nothing was sent again. "
                f"{self.creation.advice(run.command)}",
                code=ErrorCode.OUTCOME_UNKNOWN,
            )
        interval = min(LONGEST_DOUBT_INTERVAL_SECONDS, max(FIRST_DOUBT_SECONDS, elapsed * 0.1))
        return Snooze(min(interval, rest), RowState.IN_DOUBT, progress=doubt, drop_lock=lock)

    async def adopt_named(self) -> Created | Snooze:
        """Adopts what a person who looked said was created.

        It has to be there and no other command's, else the doubt goes on.
        """
        run = self.run
        resolution = run.progress["resolution"]
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
            if await self._ownership.own(found, at=run.now()):
                await self._ownership.leave()
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
            event=(EventState.IN_DOUBT, {"error": told, "check": self._ownership.advice}),
        )

    async def adopt_orphan(self) -> Created | None:
        """Returns what an earlier run left word of, owned by this command from now on."""
        orphans, lease = Orphans.of(self.run), self.run.lease
        told = await orphans.find(lease)
        if told is None:
            return None
        created = Created(*told)
        # A run that ended in the middle of an adoption may have left the creation's lock taken.
        if not await self._ownership.own(created, at=self.run.now()):
            # An identical command has adopted it: what that one created may be this one's.
            await orphans.forget(lease)
            return None
        await self._ownership.leave()
        return created

    async def _adopt(self) -> Created | None:
        """Returns what the lost POST created, owned by this command from now on."""
        run, ownership = self.run, self._ownership
        doubt = run.progress
        if (created := await self.adopt_orphan()) is not None:
            return created
        baseline = set(doubt["baseline"])
        # Where something is created meanwhile, pages of a list may tell of another thing twice.
        listed = {each.uuid: each for each in await self.creation.listed(run)}
        candidates = [each for uuid, each in listed.items() if uuid not in baseline]
        candidates = await self._without_theirs(doubt, candidates)
        if not candidates or await ownership.is_locked(doubt):
            return None
        now = run.now()
        since = min(now, doubt["asked_at"] if "asked_at" in doubt else doubt["at"])
        others = await ownership.others(since, now)
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
            if await ownership.own(candidate, at=run.now(), unless=word):
                await ownership.leave()
                log.info("creation.adopted", kind=self.creation.kind, uuid=candidate.uuid)
                return candidate
        return None

    async def _without_theirs(
        self, doubt: dict[str, Any], candidates: list[Created]
    ) -> list[Created]:
        """Returns the candidates that no other command owns, and remembers the others as known.

        Their locks may lapse before this doubt ends, which lasts as long as its timeout.
        """
        if not candidates:
            return []
        theirs = await self._ownership.owned_by_others(candidates)
        doubt["baseline"] = [
            *doubt["baseline"],
            *(each.uuid for each in candidates if each.uuid in theirs),
        ]
        return [each for each in candidates if each.uuid not in theirs]
