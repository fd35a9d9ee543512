"""What came by webhooks, and what became of it, as it is recorded.

The hash of a delivery::

    source, id, type        where it came from, what the sender names it, and what it is about
    received_at             ms since the epoch, by the gateway's clock
    headers, body           as they came, headers that prove who sent it left out
    outcome                 JSON: what each rule that looked at it made of it
    windows                 ids of the windows that it joined, one a line
    window:<window id>      JSON: how that window ended
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

import orjson

from schemas.attributes import MAX_ID_CHARACTERS, is_valid_id
from schemas.json_text import RawJson, encode_json, most_values
from worker.webhooks.schemes import MAX_BODY_VALUES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainmaster_client import Message


class RuleResult(StrEnum):
    """What a rule made of a delivery."""

    SUBMITTED = "submitted"
    COALESCED = "coalesced"
    NO_MATCH = "no_match"
    NOT_ALLOWED = "not_allowed"
    INVALID = "invalid"
    UNREADABLE = "unreadable"
    LOOP = "loop"


@dataclass(frozen=True, slots=True)
class RuleRecord:
    """What one rule made of a delivery.

    Attributes:
        command_ids: of the commands that it made at once.
        window: name of the window that the delivery joined; its commands come later.
        problem: what is wrong, or why there is no command.
    """

    rule: str
    result: RuleResult
    command_ids: tuple[str, ...] = ()
    window: str = ""
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """Returns the outcome as it is stored."""
        return {
            "rule": self.rule,
            "outcome": self.result,
            "command_ids": self.command_ids,
            "window": self.window,
            "problem": self.problem,
        }

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """Returns the outcome that was stored."""
        return cls(
            stored["rule"],
            RuleResult(stored["outcome"]),
            tuple(stored["command_ids"]),
            stored["window"],
            stored["problem"],
        )


def summary(outcomes: Sequence[RuleRecord]) -> str:
    """Returns the results of all rules in a few words."""
    results = dict.fromkeys(each.result for each in outcomes)
    if len(results) > 1:
        results.pop(RuleResult.NO_MATCH, None)
    return ", ".join(results) or RuleResult.NO_MATCH


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a source sent, verified.

    Attributes:
        id: the sender's name for it, the same when it is sent again.
        received_at_ms: ms since the epoch.
        headers: with names in lower case, none that proves who sent it.
    """

    source: str
    id: str
    type: str
    received_at_ms: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """What names it among those of all sources."""
        return delivery_name(self.source, self.id)


def delivery_name(source: str, delivery_id: str) -> str:
    """Returns what names a delivery among those of all sources."""
    return f"{source}/{delivery_id}"


def derived_id(*parts: str, most: int = MAX_ID_CHARACTERS) -> str:
    """Returns an id that is the same for the same parts, and readable where they allow it."""
    text = "/".join(parts)
    if len(text) <= most and is_valid_id(text):
        return text
    digest = hashlib.sha256(orjson.dumps(_encodable(parts))).hexdigest()[:32]
    head = "".join(each for each in text[: most - 33] if each.isprintable())
    return f"{head}~{digest}"


def _encodable(parts: Sequence[str]) -> list[str]:
    return [part.encode("utf-8", "backslashreplace").decode() for part in parts]


@dataclass(frozen=True, slots=True)
class WindowItem:
    """What joins a window.

    Attributes:
        window: the window's name.
        new_id: that of the window, where it opens one.
        milliseconds: that a new window stays open.
        head: what a new window says of itself.
        text: what joins.
    """

    window: str
    new_id: str
    milliseconds: int
    head: bytes
    text: bytes


@dataclass(frozen=True, slots=True)
class Effects:
    """All that the rules of a source make of a delivery."""

    outcomes: Sequence[RuleRecord] = ()
    commands: Sequence[Message] = ()
    dead_letters: Sequence[bytes] = ()
    window_items: Sequence[WindowItem] = ()

    def counts(self) -> dict[str, int]:
        """Returns how many of each kind there are."""
        return {
            "commands": len(self.commands),
            "windows": len(self.window_items),
            "dead_letters": len(self.dead_letters),
        }


@dataclass(frozen=True, slots=True)
class WindowEnd:
    """How a window ended: by commands, or by a dead letter that says why there are none."""

    result: RuleResult
    command_ids: tuple[str, ...] = ()
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """Returns the end as it is stored."""
        return {
            "outcome": self.result,
            "command_ids": self.command_ids,
            "problem": self.problem,
        }


@dataclass(frozen=True, slots=True)
class RecordedDelivery:
    """A delivery with what became of it.

    Attributes:
        outcome_text: the outcome as it is stored.
        window_ids: of the windows that it joined.
        window_ends: by the window's id, of those that have ended.
    """

    delivery: Delivery
    outcomes: Sequence[RuleRecord]
    outcome_text: bytes
    window_ids: Sequence[str]
    window_ends: Mapping[str, WindowEnd]

    @property
    def command_ids(self) -> list[str]:
        """Ids of the commands that were made of it, those of windows with them."""
        made = [command_id for each in self.outcomes for command_id in each.command_ids]
        later = [
            command_id for each in self.window_ends.values() for command_id in each.command_ids
        ]
        return list(dict.fromkeys([*made, *later]))


def fields_of(delivery: Delivery) -> tuple[str | bytes | int, ...]:
    """Returns what a delivery's hash has of it, a name before each value."""
    return (
        *("source", delivery.source),
        *("id", delivery.id),
        *("type", delivery.type),
        *("received_at", delivery.received_at_ms),
        *("headers", encode_json(dict(delivery.headers))),
        *("body", delivery.body),
    )


def read_records(stored: bytes) -> list[RuleRecord]:
    """Returns the outcomes in what a delivery has of them."""
    return [RuleRecord.read(each) for each in orjson.loads(stored)]


def read_delivery(stored: Mapping[bytes, bytes]) -> RecordedDelivery | None:
    """Returns the delivery in a hash; None where there is none, or others wrote it."""
    try:
        delivery = Delivery(
            source=stored[b"source"].decode(),
            id=stored[b"id"].decode(),
            type=stored[b"type"].decode(),
            received_at_ms=int(stored[b"received_at"]),
            headers=orjson.loads(stored[b"headers"]),
            body=stored[b"body"],
        )
        outcome_text = stored[b"outcome"]
        return RecordedDelivery(
            delivery=delivery,
            outcomes=read_records(outcome_text),
            outcome_text=outcome_text,
            window_ids=stored[b"windows"].decode().splitlines(),
            window_ends={
                name.decode().removeprefix("window:"): _read_end(value)
                for name, value in stored.items()
                if name.startswith(b"window:")
            },
        )
    except (KeyError, TypeError, ValueError):
        return None


def _read_end(stored: bytes) -> WindowEnd:
    end = orjson.loads(stored)
    return WindowEnd(RuleResult(end["outcome"]), tuple(end["command_ids"]), end["problem"])


def shown_body(body: bytes) -> RawJson | str:
    """Returns a body as part of a JSON text: JSON where it is that, else text."""
    if most_values(body) > MAX_BODY_VALUES:
        return body.decode("utf-8", "replace")
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace")
    return RawJson(body)
