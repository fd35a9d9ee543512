"""How commands ended, and the error that tells it of some while others go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from trainmaster_client.errors import (
    ClientError,
    CommandCancelledError,
    CommandError,
    CommandFailedError,
    CommandRejectedError,
    ResultElsewhereError,
    UnknownCommandError,
)
from trainmaster_client.events import State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainmaster_client.events import Event

UNKNOWN: Final = "unknown"
_ERRORS: Final[dict[str, type[CommandError]]] = {
    State.FAILED: CommandFailedError,
    State.CANCELLED: CommandCancelledError,
    State.REJECTED: CommandRejectedError,
    UNKNOWN: UnknownCommandError,
}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ended.

    Attributes:
        state: succeeded, failed, cancelled or rejected; or `unknown` to the ledger.
        event: that told it; None where Redis no longer has it.
    """

    command_id: str
    state: str
    event: Event | None

    @property
    def succeeded(self) -> bool:
        """Whether there is a result."""
        return self.state == State.SUCCEEDED

    def result(self) -> Any:
        """Returns the command's result; None where it has none, as a deletion.

        Raises:
            CommandError: the one of its end; `ResultElsewhereError` where it succeeded and the
                result was too large for an event, or the event is no longer kept.
        """
        if not self.succeeded:
            error = _ERRORS.get(self.state, CommandError)
            raise error(self.command_id, self.state, self.event)
        if self.event is None or self.event.dataref is not None:
            raise ResultElsewhereError(self.command_id, self.state, self.event)
        return self.event.result


class WaitTimeoutError(ClientError, TimeoutError):
    """Commands have not ended in time. They go on.

    Attributes:
        command_ids: of those that have not ended.
        seconds: that they had.
        endings: of those that have, by their ids.
    """

    def __init__(
        self, command_ids: Sequence[str], seconds: float, endings: Mapping[str, Ending]
    ) -> None:
        shown = ", ".join(command_ids[:3]) + (", …" if len(command_ids) > 3 else "")
        super().__init__(f"not ended within {seconds:g} s: {shown}")
        self.command_ids = tuple(command_ids)
        self.seconds = seconds
        self.endings = dict(endings)

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets it out of a process of a pool."""
        return type(self), (self.command_ids, self.seconds, self.endings)
