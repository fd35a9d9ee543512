"""The attributes around a command's `data`: those of CloudEvents 1.0 and our extensions."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from schemas.enums import Priority

# A bound on what every event of a command repeats.
MAX_ATTRIBUTE_CHARACTERS = 4096
MAX_ID_CHARACTERS = 255
MAX_EXTENSIONS = 64

EXTENSION_NAME_PATTERN = r"^[a-z0-9]{1,20}$"
REPLY_TO_PATTERN = r"^[a-z0-9._-]{1,64}$"

# The pattern of the published JSON Schema is kept to what every dialect of regular expressions
# knows; `str.isprintable` is a little stricter about invisible Unicode characters.
_NO_CONTROL_CHARACTERS = r"^[^\x00-\x1f\x7f-\x9f]*$"

_RFC_3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-]\d{2}:\d{2})",
    re.ASCII,
)


def is_valid_id(value: object) -> bool:
    """Tells whether `value` can be a command's id."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_ID_CHARACTERS
        and value.isprintable()
        and not value.isspace()
    )


def _check_id(value: str) -> str:
    if not value.isprintable() or value.isspace():
        raise PydanticCustomError("printable", "must be printable characters, not only blanks")
    return value


def _check_text(value: str) -> str:
    # The quick way for nearly every value: printable text has no control characters.
    if value.isprintable():
        return value
    if any(ord(character) < 0x20 or 0x7F <= ord(character) <= 0x9F for character in value):
        raise PydanticCustomError("control_character", "must have no control characters")
    return value


def _parse_timestamp(value: object) -> datetime:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    if isinstance(value, str) and _RFC_3339.fullmatch(value):
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError) as exc:
            raise PydanticCustomError("timestamp", "must be a time that exists") from exc
    raise PydanticCustomError(
        "timestamp",
        "must be an RFC 3339 time with an offset, like 2026-01-31T12:00:00Z",
    )


def _check_extension(value: object) -> str | int | bool | None:
    match value:
        case None | bool():
            return value
        case str() if len(value) <= MAX_ATTRIBUTE_CHARACTERS:
            return _check_text(value)
        case str():
            raise PydanticCustomError(
                "extension",
                "must have at most {limit} characters",
                {"limit": MAX_ATTRIBUTE_CHARACTERS},
            )
        case int() if -(2**31) <= value < 2**31:
            return value
        case int():
            raise PydanticCustomError("extension", "must be an integer of 32 bits")
        case _:
            raise PydanticCustomError("extension", "must be a string, an integer, true or false")


def _absent_if_empty(value: object) -> object:
    """W3C lets libraries send an empty tracestate, and a broken traceparent says nothing either."""
    return None if value == "" else value


def _default_priority(value: object) -> object:
    return Priority.INTERACTIVE if value is None else value


CommandId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_ID_CHARACTERS),
    AfterValidator(_check_id),
    WithJsonSchema({
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_ID_CHARACTERS,
        "pattern": _NO_CONTROL_CHARACTERS,
    }),
]

Text = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_ATTRIBUTE_CHARACTERS),
    AfterValidator(_check_text),
]

ReplyTo = Annotated[
    str,
    StringConstraints(pattern=REPLY_TO_PATTERN),
]

Timestamp = Annotated[
    datetime,
    PlainValidator(_parse_timestamp),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]

ExtensionName = Annotated[str, StringConstraints(pattern=EXTENSION_NAME_PATTERN)]

ExtensionValue = Annotated[
    str | int | bool | None,
    PlainValidator(_check_extension),
    WithJsonSchema({
        "anyOf": [
            {"type": "string", "maxLength": MAX_ATTRIBUTE_CHARACTERS},
            {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
            {"type": "boolean"},
            {"type": "null"},
        ]
    }),
]


TraceContext = Annotated[
    Text | None,
    BeforeValidator(_absent_if_empty),
    WithJsonSchema({"type": "string", "maxLength": MAX_ATTRIBUTE_CHARACTERS}),
]

PriorityOrDefault = Annotated[
    Priority,
    BeforeValidator(_default_priority),
]


class Attributes(BaseModel):
    """What every command may carry besides `type` and `data`; null is the same as absent."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    __pydantic_extra__: dict[ExtensionName, ExtensionValue] = Field(init=False)

    id: CommandId | None = Field(
        default=None,
        description="The idempotency key; without it the id of the stream entry serves.",
    )
    correlationid: Text | None = Field(default=None, description="Copied to every event.")
    traceparent: TraceContext | None = Field(
        default=None, description="W3C trace context; copied to every event."
    )
    tracestate: TraceContext | None = Field(
        default=None, description="W3C trace context; copied to every event."
    )
    replyto: ReplyTo | None = Field(
        default=None,
        description="Events of this command repeat it, and go to the stream of this name too.",
    )
    priority: PriorityOrDefault = Field(
        default=Priority.INTERACTIVE,
        description="`bulk` waits where `interactive` does not.",
    )
    deadline: Timestamp | None = Field(
        default=None, description="Past it nothing more is started for the command."
    )
    notbefore: Timestamp | None = Field(
        default=None, description="The command is not started earlier."
    )
    specversion: Literal["1.0"] | None = Field(default=None, description="CloudEvents version.")
    source: Text | None = Field(default=None, description="Who sends the command.")
    time: Timestamp | None = Field(default=None, description="When the command was made.")
    subject: Text | None = Field(default=None, description="What the command is about.")
    datacontenttype: Text | None = Field(
        default=None, description="The media type of `data`; it is JSON in any case."
    )

    def context(self) -> dict[str, str | int | bool]:
        """Returns what every event of this command repeats."""
        found: dict[str, str | int | bool] = {}
        if self.correlationid is not None:
            found["correlationid"] = self.correlationid
        if self.traceparent is not None:
            found["traceparent"] = self.traceparent
        if self.tracestate is not None:
            found["tracestate"] = self.tracestate
        if self.replyto is not None:
            found["replyto"] = self.replyto
        extensions = self.__pydantic_extra__
        if extensions:
            found |= {name: value for name, value in extensions.items() if value is not None}
        return found
