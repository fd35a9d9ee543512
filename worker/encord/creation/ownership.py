"""By what a command owns what it creates, and by which identical ones are kept apart."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import orjson

from schemas.commands import Command
from schemas.enums import EventState
from worker.encord.creation.ambiguous import AmbiguousCreations, Creator
from worker.queue.ledger.ledger import LOCK_SECONDS
from worker.queue.ledger.models import Phase, RowState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.encord.creation.ambiguous import Others
    from worker.encord.creation.resource_spec import Created, ResourceSpec
    from worker.queue.ledger.models import Progress
    from worker.queue.run_context import RunContext

C = TypeVar("C", bound=Command)


@dataclass(frozen=True, slots=True)
class Ownership(Generic[C]):
    """The locks of one command that creates something, and its place among those that do likewise.

    Attributes:
        creation: what it creates.
        run: of the command.
    """

    creation: ResourceSpec[C]
    run: RunContext[C]

    @property
    def lock(self) -> str:
        """Key of the lock that keeps identical commands from sending or adopting meanwhile."""
        identity = self._identity_key()
        return self.run.lock_key(f"creating-{self.creation.kind}:{identity}")

    @property
    def kept_seconds(self) -> int:
        """For how long it is known whose something is: longer than the API may hide it."""
        return LOCK_SECONDS + int(self.creation.hidden_seconds(self.run.command))

    @property
    def advice(self) -> str:
        """Where a person should look, and how to say what was found."""
        named = shlex.quote(self.run.lease.command_id)
        return (
            f"{self.creation.advice(self.run.command)} While it is in doubt you can settle it: "
            f"trainmaster resolve {named} --created UUID, or --not-created."
        )

    def owner_key(self, created: Created) -> str:
        """Returns the key that tells whose something is."""
        return self.run.lock_key(f"{self.creation.kind}:{created.uuid}")

    async def own(self, created: Created, *, at: float, unless: str = "") -> bool:
        """Makes the command the owner of what exists; False if another one owns it.

        Args:
            created: what exists.
            at: when it was learned; a repeated checkpoint tells the same, by which it is known.
            unless: a key; while it exists nothing is owned either.

        Raises:
            FencedError: the lease is lost.
        """
        run = self.run
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
            take_lock=self.owner_key(created),
            drop_lock=self.lock,
            lock_seconds=self.kept_seconds,
            unless=unless,
        )
        return holder is None

    async def is_locked(self, doubt: Progress) -> bool:
        """Takes the creation's lock; returns whether another command has it.

        Raises:
            FencedError: the lease is lost.
        """
        holder = await self.run.checkpoint(doubt, take_lock=self.lock, lock_lapses=True)
        return holder is not None

    async def owned_by_others(self, found: Sequence[Created]) -> set[str]:
        """Returns the uuids of what other commands own."""
        holders = await AmbiguousCreations.of(self.run).holders(list(map(self.owner_key, found)))
        free = {None, self.run.lease.command_id}
        return {
            each.uuid for each, holder in zip(found, holders, strict=True) if holder not in free
        }

    async def enter(self) -> None:
        """Tells, before the intent, that the command may create one."""
        ambiguous = AmbiguousCreations.of(self.run)
        await ambiguous.enter(self._match_key(), self._creator(), self.run.now())

    async def leave(self) -> None:
        """Tells that the command owns its own, or created none."""
        await AmbiguousCreations.of(self.run).leave(self._match_key(), self._creator())

    async def others(self, since: float, now: float) -> Others:
        """Returns who else may have created what looks the same meanwhile."""
        ambiguous = AmbiguousCreations.of(self.run)
        return await ambiguous.others(self._match_key(), self._creator(), since, now)

    def _creator(self) -> Creator:
        hidden_seconds = self.creation.hidden_seconds(self.run.command)
        return Creator.of(self.run.lease, self._identity_key(), hidden_seconds)

    def _identity_key(self) -> str:
        return _digest(self.creation.identity_key(self.run.command))

    def _match_key(self) -> str:
        return f"{self.creation.kind}:{_digest(self.creation.match_key(self.run.command))}"


def _digest(values: dict[str, Any]) -> str:
    text = orjson.dumps(values, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:32]
