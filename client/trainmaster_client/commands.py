"""Commands as they go into a stream."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self

from trainmaster_client.errors import InvalidCommandError
from trainmaster_client.json_text import encode
from trainmaster_client.names import CommandStream
from trainmaster_client.tracing import current_trace

if TYPE_CHECKING:
    from collections.abc import Iterable

# By the contract; workers reject a larger one, and its id is not read for that.
MAX_COMMAND_BYTES: Final = 1_048_576
_REPLY_TO: Final = re.compile(r"[a-z0-9._-]{1,64}")


class CommandId(str):
    """The id of a command that was submitted; it names the command in every event.

    It is a string like any other, and also knows where the command was added: that tells a wait
    where to begin, and a rejection of this command from that of another one with the same id.

    Attributes:
        entry_id: of its entry.
        stream: where that stands.
    """

    __slots__ = ("entry_id", "stream")

    entry_id: str
    stream: CommandStream

    def __new__(
        cls, command_id: str, entry_id: str, stream: CommandStream = CommandStream.COMMON
    ) -> Self:
        """Makes the id of a command with the place where it was added."""
        made = super().__new__(cls, command_id)
        made.entry_id = entry_id
        made.stream = stream
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """Makes the place go along with a copy."""
        return type(self), (str(self), self.entry_id, self.stream)


@dataclass(frozen=True, slots=True)
class Message:
    """A command as it goes into its stream, for who has written its JSON already.

    Attributes:
        command_id: the `id` that stands in the text.
        text: the whole command, JSON in UTF-8.
        stream: that of the command's priority.
    """

    command_id: str
    text: bytes
    stream: CommandStream = CommandStream.COMMON


def check_reply_to(reply_to: str | None) -> None:
    """Returns if workers know such a stream of replies.

    Raises:
        InvalidCommandError: they would reject each command that names it, and tell that elsewhere.
    """
    if reply_to is not None and not _REPLY_TO.fullmatch(reply_to):
        raise InvalidCommandError("reply_to needs 1 to 64 lowercase letters, digits, dots, _ or -")


def messages_of(
    commands: Iterable[Mapping[str, Any] | Message], reply_to: str | None = None
) -> list[Message]:
    """Returns the messages of commands; one that is a message already stays as it is.

    Raises:
        InvalidCommandError: one can't be sent, or this is one command and not many.
    """
    if isinstance(commands, str | Mapping):
        # Its keys would be taken for types of commands.
        raise InvalidCommandError("submit_many takes a list of commands; give one to submit")
    return [
        each if isinstance(each, Message) else message_of(each, None, {}, reply_to)
        for each in commands
    ]


def message_of(
    command: str | Mapping[str, Any],
    data: Mapping[str, Any] | None,
    attributes: Mapping[str, Any],
    reply_to: str | None = None,
) -> Message:
    """Returns the message of a command; without an id it gets one.

    Where this program is within a span of OpenTelemetry, and the command names no other one, it
    says so in `traceparent`.

    Args:
        command: the whole command, or its type.
        data: the command's data, where `command` is a type.
        attributes: further ones; None is the same as absent.
        reply_to: the `replyto` of a command that says none.

    Raises:
        InvalidCommandError: it has no type, is too large, or holds what JSON has no word for.
    """
    whole: dict[str, Any] = {"type": command} if isinstance(command, str) else dict(command)
    if data is not None:
        whole["data"] = dict(data)
    whole.update((name, value) for name, value in attributes.items() if value is not None)
    whole = {name: _plain(name, value) for name, value in whole.items()}
    if not isinstance(whole.get("type"), str):
        raise InvalidCommandError("a command needs a type, like 'train'")
    if whole.get("id") is None:
        whole["id"] = str(uuid.uuid4())
    if reply_to is not None:
        whole.setdefault("replyto", reply_to)
    if whole.get("traceparent") is None:
        whole.update(current_trace())
    try:
        text = encode(whole)
    except (TypeError, ValueError) as exc:
        raise InvalidCommandError(f"the command can't be written as JSON: {exc}") from exc
    if len(text) > MAX_COMMAND_BYTES:
        raise InvalidCommandError(
            f"a command has at most {MAX_COMMAND_BYTES} bytes, this has {len(text)}; larger data "
            "may lie in a file that its dataref names"
        )
    return Message(str(whole["id"]), text, CommandStream.of(whole.get("priority")))


def _plain(name: str, value: Any) -> Any:
    """Returns an attribute as JSON has it: moments with their time zone."""
    if not isinstance(value, datetime):
        return value
    if value.tzinfo is None:
        raise InvalidCommandError(f"{name} needs a time zone, like datetime.now(UTC)")
    return value.astimezone(UTC).isoformat()
