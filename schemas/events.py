"""The events: what they say, how they fail, and the bytes that go into the streams."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from schemas.enums import EventState
from schemas.json_text import encode_json

if TYPE_CHECKING:
    from collections.abc import Mapping

EVENT_SOURCE = "/trainmaster"

# The longer ones are of the events about items of a backfill: their subjects, like `night/17`, may
# be ids of commands.
SOURCE_PATTERN = f"^{EVENT_SOURCE}(/backfills/[^/]+)?$"

# The command type that a rejected message's event names where its own can't be read.
UNREADABLE_TYPE = "command"

# A command's claim check and schema describe the command's data, never the event's.
_NOT_COPIED = frozenset({"dataref", "dataschema"})


class ErrorCode(StrEnum):
    """What went wrong, for machines; each with its fate and one line for people."""

    fate: Literal["rejected", "retry", "permanent", "misconfigured"]
    meaning: str

    def __new__(
        cls,
        value: str,
        fate: Literal["rejected", "retry", "permanent", "misconfigured"],
        meaning: str,
    ) -> Self:
        """Makes a member that is its code and knows its fate and meaning."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.fate = fate
        member.meaning = meaning
        return member

    NOT_JSON = (
        "not_json",
        "rejected",
        "The message is not JSON in UTF-8, names a key twice, holds NaN or nests too deep.",
    )
    TOO_LARGE = "too_large", "rejected", "The message is larger than 1 MiB."
    INVALID_COMMAND = (
        "invalid_command",
        "rejected",
        "The message is not a command: a field is missing, unknown or wrong.",
    )
    IDEMPOTENCY_CONFLICT = (
        "idempotency_conflict",
        "rejected",
        "The id was used before with another type or other data.",
    )
    INVALID_ARGUMENTS = (
        "invalid_arguments",
        "permanent",
        "The API finds the arguments invalid (400, 422).",
    )
    NOT_AUTHENTICATED = (
        "not_authenticated",
        "misconfigured",
        "The API does not know the credentials, or not in this region (401); the worker waits.",
    )
    NOT_AUTHORISED = (
        "not_authorised",
        "permanent",
        "The credentials do not allow this (403).",
    )
    NOT_FOUND = (
        "not_found",
        "permanent",
        "The API does not know what the command names (404).",
    )
    NOT_ALLOWED = "not_allowed", "permanent", "The API does not allow the method (405)."
    ALREADY_EXISTS = (
        "already_exists",
        "permanent",
        "What was to be created exists (409).",
    )
    PAYLOAD_TOO_LARGE = (
        "payload_too_large",
        "permanent",
        "The request is larger than the API takes (413).",
    )
    UNEXPECTED_STATUS = (
        "unexpected_status",
        "permanent",
        "An undocumented status, such as a redirect; a change may have been made all the same.",
    )
    RATE_LIMITED = (
        "rate_limited",
        "retry",
        "The API asks for fewer requests (429); every worker waits as long as it says.",
    )
    SERVER_ERROR = "server_error", "retry", "The API failed (408, 5xx)."
    NOT_CONNECTED = (
        "not_connected",
        "retry",
        "No connection to the API: nothing was sent.",
    )
    CONNECTION_LOST = (
        "connection_lost",
        "retry",
        "The connection failed after the request was sent: a timeout, a reset, a cut answer.",
    )
    BAD_RESPONSE = (
        "bad_response",
        "retry",
        "The API reported success with an answer that makes no sense or is another's.",
    )
    INVALID_INPUT = (
        "invalid_input",
        "permanent",
        "The file or reference that the command names can't be used.",
    )
    RESOURCE_EXHAUSTED = (
        "resource_exhausted",
        "retry",
        "The worker's machine is out of open files, threads, memory or room on a disk.",
    )
    DATA_UNAVAILABLE = (
        "data_unavailable",
        "retry",
        "What the command names by `dataref`, or an item by a URL, can't be read at the moment.",
    )
    INVALID_ITEM = (
        "invalid_item",
        "permanent",
        "A row of a backfill's source is no item; the message says what is wrong with it.",
    )
    DATA_LOSS = (
        "data_loss",
        "permanent",
        "Redis lost a part of the accepted command, so it can't be run; it may have been started.",
    )
    TRAINING_FAILED = (
        "training_failed",
        "permanent",
        "The API reports that the training failed; it gives no reason.",
    )
    TRAINING_TIMEOUT = (
        "training_timeout",
        "permanent",
        "The wait for the training is over; the training may go on at the API.",
    )
    DEADLINE_EXCEEDED = (
        "deadline_exceeded",
        "permanent",
        "The command's deadline passed before it was done.",
    )
    OUTCOME_UNKNOWN = (
        "outcome_unknown",
        "permanent",
        "A change may have happened and the API can't tell; nothing is sent again.",
    )
    POISON = (
        "poison",
        "permanent",
        "The command was claimed again and again without an end: it seems to kill its worker.",
    )
    INTERNAL_ERROR = (
        "internal_error",
        "permanent",
        "A defect of trainmaster; the worker's log has the details.",
    )
    INVALID_SETTING = (
        "invalid_setting",
        "misconfigured",
        "A setting of the worker is wrong or missing.",
    )


class EventPart(BaseModel):
    """A part of an event; readers take what they know and let the rest be."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Problem(EventPart):
    """One thing that is wrong with a message, and where."""

    path: str = Field(description="Where, like `data.batch_size`; empty for the whole message.")
    message: str


class ErrorBody(EventPart):
    """The `error` of an event."""

    code: ErrorCode
    message: str
    status: int | None = Field(default=None, description="The API's HTTP status, if it answered.")
    problems: list[Problem] | None = None


class AcceptedData(EventPart):
    """`data` of `accepted`: the command is valid and recorded."""


class StartedData(EventPart):
    """`data` of `started`: the training exists at the API."""

    training_uuid: str


class ProgressedData(EventPart):
    """`data` of `progressed`: how far a backfill has come; told every 5 seconds at most."""

    state: str = Field(description="`running`, `paused` or `cancelling`.")
    reason: str | None = Field(default=None, description="Why it is paused.")
    read: int = Field(ge=0, description="Items read from the source.")
    succeeded: int = Field(ge=0)
    failed: int = Field(ge=0)
    open: int = Field(ge=0, description="Items that wait or run.")


class RetryingData(EventPart):
    """`data` of `retrying`: an attempt failed and another will follow."""

    error: ErrorBody
    attempt: int = Field(
        ge=1,
        description="Which attempt failed; one that costs none, for the API is in trouble or asks "
        "for fewer requests, leaves its number to the next.",
    )
    retry_at: datetime


class InDoubtData(EventPart):
    """`data` of `in_doubt`: a change may have happened; nothing is sent again, the API is asked."""

    error: ErrorBody
    check: str = Field(description="Where people can look for themselves.")


class ResolvedData(EventPart):
    """`data` of `resolved`: a person said what became of a call whose answer was lost."""

    created: str | None = Field(
        description="The uuid of what it created; null where it created nothing."
    )
    by: str = Field(description="Who said so.")


class SucceededData(EventPart):
    """`data` of `succeeded`: the command is done."""

    result: JsonValue = Field(description="Null where `dataref` says where the result lies.")
    attempts: int = Field(ge=1)
    duration_seconds: float = Field(ge=0, description="From accepted to succeeded.")


class FailedData(EventPart):
    """`data` of `failed`: the command is given up."""

    error: ErrorBody
    attempts: int = Field(ge=0)


class CancelledData(EventPart):
    """`data` of `cancelled`: nothing more is done for the command."""

    training_uuid: str | None = Field(
        default=None, description="The training that goes on at the API; it can't be stopped."
    )
    note: str | None = None


class RejectedData(EventPart):
    """`data` of `rejected`: the message was never accepted."""

    error: ErrorBody
    raw: str = Field(description="The message as it came, cut at 4 KiB.")


EVENT_DATA: dict[EventState, type[EventPart]] = {
    EventState.ACCEPTED: AcceptedData,
    EventState.STARTED: StartedData,
    EventState.PROGRESSED: ProgressedData,
    EventState.RETRYING: RetryingData,
    EventState.IN_DOUBT: InDoubtData,
    EventState.RESOLVED: ResolvedData,
    EventState.SUCCEEDED: SucceededData,
    EventState.FAILED: FailedData,
    EventState.CANCELLED: CancelledData,
    EventState.REJECTED: RejectedData,
}
"""What the `data` of each event holds, in the order of the documents."""


class Event(BaseModel):
    """An event as its readers see it: a CloudEvent 1.0 in JSON; extensions are attributes too."""

    model_config = ConfigDict(extra="allow", frozen=True)

    specversion: Literal["1.0"]
    id: str
    source: str
    type: str = Field(description="`<command type>.<state>`")
    subject: str = Field(description="The id of the command, or of a backfill's item.")
    time: datetime
    datacontenttype: Literal["application/json"]
    data: dict[str, JsonValue]
    dataref: str | None = Field(
        default=None,
        description="Where the result lies if it is too large for an event.",
    )


def item_source(backfill_id: str) -> str:
    """Returns the source of the events about a backfill's items."""
    return f"{EVENT_SOURCE}/backfills/{quote(backfill_id, safe='')}"


def is_about_command(event: Mapping[str, object]) -> bool:
    """Tells whether an event's subject is the id of a command, not that of a backfill's item."""
    return event.get("source", EVENT_SOURCE) == EVENT_SOURCE


def event_json(  # noqa: PLR0913 - the attributes of an event, keyword-only
    *,
    event_id: str,
    command_type: str,
    state: EventState,
    subject: str,
    time_ms: int,
    data: Mapping[str, object],
    context: Mapping[str, str | int | bool],
    source: str = EVENT_SOURCE,
    dataref: str | None = None,
) -> bytes:
    """Returns an event's bytes; the same arguments always give the same bytes.

    Args:
        event_id: Stable for the same event.
        command_type: Of the command; `UNREADABLE_TYPE` where a rejected message's can't be read.
        state: What happened.
        subject: The command's id.
        time_ms: Milliseconds since 1970.
        data: JSON values by name; UUIDs and datetimes are written as strings.
        context: What `Attributes.context` returned; never overrides an attribute of the event.
        source: `EVENT_SOURCE`, or of a backfill's item what `item_source` returned.
        dataref: URL of the result where it is not in the event.
    """
    event: dict[str, object] = {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": f"{command_type}.{state}",
        "subject": subject,
        "time": f"{_second(time_ms // 1000)}.{time_ms % 1000:03d}Z",
        "datacontenttype": "application/json",
    }
    for name, value in context.items():
        if name not in _NOT_COPIED:
            event.setdefault(name, value)
    if dataref is not None:
        event["dataref"] = dataref
    event["data"] = data
    return encode_json(event)


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
