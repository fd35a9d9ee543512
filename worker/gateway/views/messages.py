"""What a command was sent with: in the ledger until its end, in a dead letter after a failure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from schemas.json_text import RawJson, encode_json
from worker.gateway.message_json import read_message
from worker.gateway.problems import ProblemError
from worker.gateway.views.dead_letters import letter_of, state_of

if TYPE_CHECKING:
    from worker.gateway.access.callers import Caller
    from worker.gateway.gateway import Gateway
    from worker.queue.ledger.command_status import CommandStatus

# A picture in base64 may have megabytes, which a browser that shows them as text does not stand.
MOST_CHARACTERS: Final = 65_536


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A command as it came.

    Attributes:
        type: None where the message tells none.
        state: of the command; `rejected` where the message is none.
        kept_in: `ledger` or `dead_letter`.
    """

    text: bytes
    type: str | None
    state: str
    kept_in: str


@dataclass(frozen=True, slots=True)
class ShownMessage:
    """A message as far as it is shown.

    Attributes:
        message: None where the text is no JSON object.
        text: then what stands there.
        left_out: what is too large to be shown, by its path.
    """

    message: RawJson | None
    text: str | None
    left_out: list[str]


async def find_message(gateway: Gateway, caller: Caller, command_id: str) -> SentMessage:
    """Returns what a command was sent with.

    Raises:
        ProblemError: the id names nothing that the caller may see, or its text is not kept.
    """
    row = await gateway.reader.status(command_id)
    if row is not None:
        if not caller.sees(row.type):
            raise unknown_id()
        text = await gateway.reader.sent_text(command_id)
        if text is not None:
            return SentMessage(text, row.type, row.state, "ledger")
    letter = await letter_of(gateway, command_id, row)
    if letter is not None and caller.sees(letter.type):
        state = state_of(letter) if row is None else row.state
        return SentMessage(letter.text, letter.type, state, "dead_letter")
    raise await _not_kept(gateway, caller, command_id, row)


def unknown_id() -> ProblemError:
    """Returns the problem of an id that names nothing, or nothing that the caller may see."""
    return ProblemError(
        404,
        "unknown_id",
        "No command has this id: it was never sent, or it ended too long ago.",
    )


async def _not_kept(
    gateway: Gateway, caller: Caller, command_id: str, row: CommandStatus | None
) -> ProblemError:
    if row is None:
        unread_type = await gateway.submitter.unread_type(command_id)
        if unread_type is None or not caller.sees(unread_type):
            return unknown_id()
        told = "No worker has read the command yet; ask again once one has."
    elif row.state == "failed":
        told = "The command failed, and its dead letter was replayed or deleted."
    else:
        told = (
            f"The command has ended ({row.state}), and what it was sent with is forgotten: that is "
            "kept of what has not ended, of what failed or was rejected, and of trainings and "
            "predictions on files for TRAINMASTER_MESSAGE_RETENTION_SECONDS."
        )
    return ProblemError(404, "no_message", told)


def shown(raw: bytes) -> ShownMessage:
    """Returns a message as it is shown; it takes some milliseconds a megabyte."""
    found = read_message(raw)
    if found is None:
        text = raw[: 4 * MOST_CHARACTERS].decode("utf-8", "replace")
        is_cut = len(raw) > 4 * MOST_CHARACTERS or len(text) > MOST_CHARACTERS
        return ShownMessage(None, text[:MOST_CHARACTERS], ["text"] if is_cut else [])
    left_out = _take_out(found, "")
    if isinstance(data := found.get("data"), dict):
        left_out += _take_out(data, "data.")
    # As it came, so that numbers stay as they were written.
    return ShownMessage(RawJson(encode_json(found) if left_out else raw), None, left_out)


def _take_out(values: dict[str, Any], path: str) -> list[str]:
    """Takes long texts out of an object; returns their paths."""
    long = [
        name
        for name, value in values.items()
        if isinstance(value, str) and len(value) > MOST_CHARACTERS
    ]
    for name in long:
        del values[name]
    return [f"{path}{name}" for name in long]
