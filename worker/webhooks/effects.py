"""What the rules of a source make of a delivery: commands, dead letters, and what joins windows."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import structlog

from schemas.events import ErrorBody, ErrorCode, Problem
from schemas.json_text import RawJson, encode_json
from schemas.parsing import MAX_COMMAND_BYTES
from trainmaster_client import Message
from trainmaster_client.names import CommandStream
from worker.integrations.rules import Context, RuleMatch, TemplateError
from worker.integrations.templates import REACTION_DEPTH
from worker.queue.ledger.dead_letters import dead_letter_json
from worker.trace_context import TRACEPARENT, carried
from worker.webhooks.records import (
    Effects,
    RuleRecord,
    RuleResult,
    WindowItem,
    derived_id,
    shown_body,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.integrations.rules import Rule
    from worker.integrations.sources import Source
    from worker.webhooks.records import Delivery, RecordedDelivery

log = structlog.get_logger(__name__)

MAX_DEPTH: Final = 8
# A command's id adds an element's number to that of its window, and a replay something to both.
_MAX_WINDOW_NAME: Final = 200
_MAX_PROBLEM_CHARACTERS: Final = 1_000


class LoopError(Exception):
    """Reactions have followed on reactions for too long."""


@dataclass(frozen=True, slots=True)
class Received:
    """A delivery and what its rules look at.

    Attributes:
        body: decoded; None where that was impossible.
        problem: why that was impossible.
        depth: how many reactions led to this one; 0 for what others send.
        attributes: that commands get where their templates say nothing of them.
    """

    delivery: Delivery
    body: Any
    problem: str | None = None
    depth: int = 0
    attributes: Mapping[str, str] | None = None

    @property
    def context(self) -> Context:
        """What expressions are evaluated on."""
        delivery = self.delivery
        return Context(
            body=self.body,
            headers=delivery.headers,
            delivery_id=delivery.id,
            source=delivery.source,
            received_at=rfc_3339(delivery.received_at_ms),
            event_type=delivery.type or None,
        )


def rfc_3339(at_ms: int) -> str:
    """Returns milliseconds since 1970 as a time."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")


def effects_of(
    source: Source,
    received: Received,
    *,
    recorded: RecordedDelivery | None = None,
    again: str = "",
) -> Effects:
    """Returns what the rules of a source make of a delivery. No delivery makes it raise.

    Args:
        source: whose rules they are.
        received: the delivery.
        recorded: what became of it before: what was made then is not made again.
        again: makes the ids other ones, so that all of it is made again.
    """
    if received.problem is not None:
        return _unreadable(received, received.problem)
    made = _Made(source, received, recorded, again)
    for rule in source.rules:
        made.apply(rule)
    return made.effects()


def _unreadable(received: Received, problem: str) -> Effects:
    record = RuleRecord("", RuleResult.UNREADABLE, problem=problem)
    letter = dead_letter(
        received.delivery.name,
        "command",
        ErrorBody(code=ErrorCode.NOT_JSON, message=problem),
        delivery_text(received.delivery),
        received.delivery.received_at_ms,
    )
    return Effects(outcomes=[record], dead_letters=[letter])


class _Made:
    """Gathers what rules make of one delivery."""

    def __init__(
        self, source: Source, received: Received, recorded: RecordedDelivery | None, again: str
    ) -> None:
        self._source = source
        self._received = received
        self._context = received.context
        self._again = again
        self._before = {} if recorded is None else {each.rule: each for each in recorded.outcomes}
        self._records: list[RuleRecord] = []
        self._commands: list[Message] = []
        self._letters: list[bytes] = []
        self._items: list[WindowItem] = []

    def effects(self) -> Effects:
        known = {each.rule for each in self._records}
        gone = [each for name, each in self._before.items() if name not in known]
        return Effects([*self._records, *gone], self._commands, self._letters, self._items)

    def apply(self, rule: Rule) -> None:
        delivery = self._received.delivery
        try:
            record = self._record_of(rule)
        except TemplateError as exc:
            log.warning(
                "rule.invalid",
                source=delivery.source,
                rule=rule.name,
                id=delivery.id,
                field=exc.field,
            )
            record = self._dead(rule, RuleResult.INVALID, exc.field, exc.reason)
        except LoopError:
            told = f"is reaction {self._received.depth} in a row; at most {MAX_DEPTH} may follow"
            log.warning(
                "reaction.refused",
                source=delivery.source,
                rule=rule.name,
                event_id=delivery.id,
                reason="loop",
            )
            record = self._dead(rule, RuleResult.LOOP, REACTION_DEPTH, told)
        except MemoryError:
            # It passes, and says nothing of this delivery.
            raise
        except Exception as exc:
            log.exception("rule.failed", source=delivery.source, rule=rule.name, id=delivery.id)
            told = f"can't be judged: {type(exc).__name__}"
            record = self._dead(rule, RuleResult.INVALID, "", told, ErrorCode.INTERNAL_ERROR)
        if record is not None:
            self._records.append(record)

    def _record_of(self, rule: Rule) -> RuleRecord | None:
        delivery = self._received.delivery
        if rule.on is not None and not rule.on.match(delivery.type):
            # A rule on something else is no news.
            return self._before.get(rule.name)
        before = self._before.get(rule.name, RuleRecord(rule.name, RuleResult.NO_MATCH))
        match = rule.match(self._context)
        if match is not RuleMatch.MATCH:
            if before.command_ids or before.window:
                return before
            not_allowed = match is RuleMatch.NOT_ALLOWED
            return RuleRecord(
                rule.name, RuleResult.NOT_ALLOWED if not_allowed else RuleResult.NO_MATCH
            )
        if self._received.depth > MAX_DEPTH:
            raise LoopError
        key = rule.coalesce_key(self._context)
        if rule.coalesce is not None and key is not None:
            return self._join(rule, key, rule.coalesce.window_seconds, before)
        return self._submit(rule, before)

    def _join(self, rule: Rule, key: str, seconds: float, before: RuleRecord) -> RuleRecord:
        if before.window and not self._again:
            return before
        delivery = self._received.delivery
        name = derived_id(delivery.source, rule.name, key, most=_MAX_WINDOW_NAME)
        head = {
            "source": delivery.source,
            "rule": rule.name,
            "key": key,
            "due_at": delivery.received_at_ms + int(seconds * 1000),
        }
        self._items.append(
            WindowItem(
                window=name,
                new_id=f"{name}/{secrets.token_hex(16)}",
                milliseconds=int(seconds * 1000),
                head=encode_json(head),
                text=_window_item(self._received),
            )
        )
        return RuleRecord(rule.name, RuleResult.COALESCED, before.command_ids, name)

    def _submit(self, rule: Rule, before: RuleRecord) -> RuleRecord:
        context = self._context
        key = rule.key_of(context)
        parts = [context.source, rule.name, context.delivery_id if key is None else key]
        if self._again:
            parts.append(f"again-{self._again}")
        commands = rule.commands(context)
        messages = messages_of(rule, commands, parts, self._received)
        new = [each for each in messages if each.command_id not in before.command_ids]
        self._commands += new
        ids = (*before.command_ids, *(each.command_id for each in new))
        result = RuleResult.SUBMITTED if ids else RuleResult.NO_MATCH
        return RuleRecord(rule.name, result, ids, before.window)

    def _dead(
        self,
        rule: Rule,
        result: RuleResult,
        field: str,
        reason: str,
        code: ErrorCode = ErrorCode.INVALID_COMMAND,
    ) -> RuleRecord:
        delivery = self._received.delivery
        before = self._before.get(rule.name, RuleRecord(rule.name, result))
        problem = f"{field} {reason}".strip()[:_MAX_PROBLEM_CHARACTERS]
        self._letters.append(
            dead_letter(
                derived_id(delivery.source, rule.name, delivery.id),
                rule.command.type,
                rule_error(self._source.name, rule.name, delivery.name, field, reason, code),
                delivery_text(delivery, rule.name),
                delivery.received_at_ms,
            )
        )
        return RuleRecord(rule.name, result, before.command_ids, before.window, problem)


def messages_of(
    rule: Rule, commands: Sequence[dict[str, Any]], parts: Sequence[str], received: Received
) -> list[Message]:
    """Returns the commands of a rule as they go into their streams.

    Args:
        rule: that made them.
        commands: without ids.
        parts: what their ids are made of; of a rule with `for_each` a number follows.
        received: the delivery, or the last one of a window.

    Raises:
        TemplateError: one is too large.
    """
    messages = []
    for number, command in enumerate(commands):
        command_id = derived_id(*parts, *([] if rule.for_each is None else [str(number)]))
        whole: dict[str, Any] = {"id": command_id, **command}
        for name, value in (received.attributes or {}).items():
            whole.setdefault(name, value)
        if TRACEPARENT not in whole:
            whole |= carried(received.delivery.headers)
        if received.depth:
            whole[REACTION_DEPTH] = received.depth
        text = encode_json(whole)
        if len(text) > MAX_COMMAND_BYTES:
            raise TemplateError(rule.name, "command", f"is larger than {MAX_COMMAND_BYTES} bytes")
        messages.append(Message(command_id, text, CommandStream.of(whole.get("priority"))))
    return messages


def rule_error(
    source: str,
    rule: str,
    where: str,
    field: str,
    reason: str,
    code: ErrorCode = ErrorCode.INVALID_COMMAND,
) -> ErrorBody:
    """Returns the error of a rule that made no command, for its dead letter."""
    return ErrorBody(
        code=code,
        message=(
            f"rule {rule} of source {source} made no command of {where}: {field} {reason}".rstrip()[
                :_MAX_PROBLEM_CHARACTERS
            ]
        ),
        problems=[Problem(path=field, message=reason[:_MAX_PROBLEM_CHARACTERS])],
    )


def dead_letter(
    command_id: str, command_type: str, error: ErrorBody, text: bytes, at_ms: int
) -> bytes:
    """Returns the dead letter of what became no command."""
    return dead_letter_json(
        command_id=command_id,
        command_type=command_type,
        error=error.model_dump(mode="json", exclude_none=True),
        text=text,
        at_ms=at_ms,
        attempts=0,
        history=[],
    )


def delivery_text(delivery: Delivery, rule: str = "") -> bytes:
    """Returns a delivery as the text of a dead letter: JSON that is never a command by itself."""
    return encode_json({
        "delivery": {
            "source": delivery.source,
            "id": delivery.id,
            "received_at": rfc_3339(delivery.received_at_ms),
        },
        "rule": rule,
        "headers": dict(delivery.headers),
        "body": shown_body(delivery.body),
    })


def _window_item(received: Received) -> bytes:
    delivery = received.delivery
    return encode_json({
        "id": delivery.id,
        "type": delivery.type,
        "received_at": delivery.received_at_ms,
        "headers": dict(delivery.headers),
        "body": RawJson(encode_json(received.body)),
        "depth": received.depth,
        "attributes": received.attributes,
    })
