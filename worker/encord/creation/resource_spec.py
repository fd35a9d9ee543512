"""What can be created at the API, and how it is told from other things of its kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from schemas.commands import Command
from schemas.events import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from worker.errors import PermanentError
    from worker.queue.run_context import RunContext

C = TypeVar("C", bound=Command)


@dataclass(frozen=True, slots=True)
class Created:
    """What a creation made: its uuid at the API, and the result if it came with it."""

    uuid: str
    result: dict[str, Any] | None = None


class ResourceSpec(Protocol[C]):
    """One kind of thing that can be created."""

    kind: str
    """The noun in locks and messages: model, training, attachment."""

    def leaves(self, created: Created) -> dict[str, Any] | None:
        """Returns what goes on though the command is cancelled, as the event is to tell it."""
        ...

    def identity_key(self, command: C) -> dict[str, Any]:
        """Returns what two identical creations have in common; JSON values."""
        ...

    def match_key(self, command: C) -> dict[str, Any]:
        """Returns by what `listed` tells what the command creates; JSON values."""
        ...

    async def listed(self, run: RunContext[C]) -> Sequence[Created]:
        """Returns what exists at the API and looks like what the command creates."""
        ...

    async def find(self, run: RunContext[C], uuid: UUID) -> Created | None:
        """Returns what has this uuid at the API, None where nothing has."""
        ...

    async def create(self, run: RunContext[C]) -> Created:
        """Sends the POST, once."""
        ...

    def hidden_seconds(self, command: C) -> float:
        """Returns for how long the API may hide what exists."""
        ...

    def doubt_seconds(self, run: RunContext[C]) -> float:
        """Returns for how long the API may still reveal what became of a lost POST."""
        ...

    def advice(self, command: C) -> str:
        """Returns what a person should check when the outcome stays unknown."""
        ...


def raise_unless_absent(error: PermanentError) -> None:
    """Does nothing where the API said that there is no such thing.

    Raises:
        PermanentError: it said something else.
    """
    if error.code is not ErrorCode.NOT_FOUND:
        raise error


def training_goes_on(training_uuid: str) -> dict[str, Any]:
    """Returns what the event of a cancelled command tells of its training."""
    return {"training_uuid": training_uuid, "note": "the training goes on at the API"}
