"""Everything that a client raises, in one tree.

::

    ClientError
    ├── AddressError            the URL names no Redis; a ValueError too
    ├── InvalidCommandError     a command that can't be sent; a ValueError too
    ├── RedisTroubleError       a call could not be carried out
    │   ├── RedisRefusedError       Redis does not let the client: rights, password, certificate
    │   └── RedisUnavailableError   Redis did not answer for as long as the client tries
    ├── ConsumerLostError       why an event is parked whose handler ended the process
    ├── WaitTimeoutError        a command has not ended in time; a TimeoutError too (in endings)
    └── CommandError            a command ended without a result
        ├── CommandFailedError
        ├── CommandCancelledError
        ├── CommandRejectedError
        ├── ResultElsewhereError    it succeeded, and its result is in no event
        └── UnknownCommandError     the ledger does not know it, or knows it no more
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainmaster_client.events import Event


class ClientError(Exception):
    """Whatever a client raises."""


class AddressError(ClientError, ValueError):
    """A URL names no Redis; the message shows nothing of the URL but what is wrong.

    Attributes:
        problem: what is wrong, to follow what names the URL.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        """Returns a whole sentence."""
        return f"the URL of Redis {self.problem}"


class InvalidCommandError(ClientError, ValueError):
    """A command that can't be written as JSON, or whose attributes contradict each other."""


class RedisTroubleError(ClientError):
    """A call could not be carried out; its cause is what redis-py said.

    Attributes:
        command_ids: of commands that may not have been added. To submit them again with the same
            ids is safe.
    """

    def __init__(self, message: str, command_ids: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.command_ids = tuple(command_ids)


class RedisRefusedError(RedisTroubleError):
    """Redis would not do it later either: a right, a password, a certificate, a wrong key."""


class RedisUnavailableError(RedisTroubleError):
    """Redis did not answer for as long as the client tries."""


class ConsumerLostError(ClientError):
    """A handler has ended its process again and again; stands with the event that is parked."""


class CommandError(ClientError):
    """A command ended without a result.

    Attributes:
        command_id: the command's id.
        state: in which it ended, as in `Ending`.
        event: that told the end; None where Redis no longer has it.
        code: of the event's error, like `not_found`; empty without one.
        details: the event's whole error.
    """

    def __init__(self, command_id: str, state: str, event: Event | None) -> None:
        error = {} if event is None else event.error
        self.command_id = command_id
        self.state = state
        self.event = event
        self.code = str(error.get("code", ""))
        self.details: dict[str, Any] = dict(error)
        said = f": {self.code}: {error.get('message', '')}" if error else ""
        super().__init__(f"{command_id} {state}{said}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets it out of a process of a pool."""
        return type(self), (self.command_id, self.state, self.event)


class CommandFailedError(CommandError):
    """The command failed."""


class CommandCancelledError(CommandError):
    """Someone cancelled the command."""


class CommandRejectedError(CommandError):
    """The command was never accepted; `details["problems"]` names each field that is wrong."""


class ResultElsewhereError(CommandError):
    """The command succeeded, and its result was too large for an event, or the event is gone.

    Attributes:
        dataref: the URL of the result; None where the event is no longer kept.
    """

    def __init__(self, command_id: str, state: str, event: Event | None) -> None:
        super().__init__(command_id, state, event)
        self.dataref = None if event is None else event.dataref
        where = "its event is no longer kept" if event is None else f"at {self.dataref}"
        self.args = (f"{command_id} {state}; the result is not here: {where}",)


class UnknownCommandError(CommandError):
    """The ledger knows no such command; ids are forgotten some days after the end."""
