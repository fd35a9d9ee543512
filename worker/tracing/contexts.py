"""The context that all spans of a command hang on: its producer's span, or one made for it."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from worker.queue.ledger.keys import CommandStream
from worker.trace_context import TRACE_LINK, TRACEPARENT, carried
from worker.tracing.attributes import messaging

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from worker.queue.ledger.keys import Keys
    from worker.queue.telemetry import SentCommand
    from worker.tracing.sdk import Tracing

CREATE: Final = "create"
# Commands that wait for something are looked at again and again; those of a process are this many.
_REMEMBERED: Final = 16_384
_TRACE_BYTES: Final = 16
_SPAN_BYTES: Final = 8
_MS: Final = 1_000_000
_PROPAGATOR: Final = TraceContextTextMapPropagator()


def remote_context(attributes: Mapping[str, Any]) -> Context | None:
    """Returns the context of the span that a command or an event names; None without."""
    found = carried(attributes)
    if not found:
        return None
    context = _PROPAGATOR.extract(found, Context())
    return context if get_current_span(context).get_span_context().is_valid else None


def derived_ids(namespace: str, origin: str, command_id: str) -> tuple[int, int]:
    """Returns the ids of the trace and of the first span of a command that brings none."""
    text = "\0".join((namespace, origin, command_id)).encode("utf-8", "surrogatepass")
    digest = blake2b(text, digest_size=_TRACE_BYTES + _SPAN_BYTES).digest()
    ids = (int.from_bytes(digest[:_TRACE_BYTES]), int.from_bytes(digest[_TRACE_BYTES:]))
    return ids[0] or 1, ids[1] or 1


def destination_of(keys: Keys, sent: SentCommand) -> str:
    """Returns where a command was sent to; an item of a backfill is sent to no stream."""
    if sent.group:
        return keys.due_bulk
    is_bulk = sent.origin.startswith(CommandStream.BULK)
    return keys.bulk_commands if is_bulk else keys.commands


def link_to(namespace: str, sent: SentCommand) -> Link:
    """Returns a link to what a command's spans hang on, whether or not that is there yet."""
    context = remote_context(sent.context)
    if context is not None:
        return Link(get_current_span(context).get_span_context())
    return derived_link(namespace, sent.origin, sent.command_id)


def derived_link(namespace: str, origin: str, command_id: str) -> Link:
    """Returns a link to the span that is made for a command whose producer names none."""
    ids = derived_ids(namespace, origin, command_id)
    return Link(SpanContext(*ids, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)))


class CreationContexts:
    """The contexts of a process' commands.

    Args:
        tracing: takes the spans that are made.
        namespace: tells commands of several ones apart.
        keys: of the namespace.
    """

    def __init__(self, tracing: Tracing, namespace: str, keys: Keys) -> None:
        self._tracing = tracing
        self._namespace = namespace
        self._keys = keys
        # None stands for what is not sampled.
        self._made: OrderedDict[int, Context | None] = OrderedDict()

    def of(self, sent: SentCommand, accepted_at: float) -> Context | None:
        """Returns what the spans of a command hang on; None where it has none, for none is wanted.

        Args:
            sent: the command.
            accepted_at: seconds since the epoch.
        """
        remote = remote_context(sent.context)
        if remote is not None:
            return remote
        ids = derived_ids(self._namespace, sent.origin, sent.command_id)
        if ids[0] in self._made:
            self._made.move_to_end(ids[0])
            return self._made[ids[0]]
        made = self._make(sent, ids, accepted_at)
        self._made[ids[0]] = made
        if len(self._made) > _REMEMBERED:
            self._made.popitem(last=False)
        return made

    def forget(self, trace_id: int) -> None:
        """Forgets a command that has ended."""
        self._made.pop(trace_id, None)

    def _make(self, sent: SentCommand, ids: tuple[int, int], accepted_at: float) -> Context | None:
        """Returns the context of the first span of a command, which is handed out with that."""
        destination = destination_of(self._keys, sent)
        at = _sent_at_ns(sent, accepted_at)
        self._tracing.ids.say(*ids)
        span = self._tracing.tracer.start_span(
            f"{CREATE} {destination}",
            Context(),
            SpanKind.PRODUCER,
            messaging(CREATE, destination, sent),
            self._links(sent),
            at,
        )
        if not span.is_recording():
            return None
        span.end(at)
        return set_span_in_context(NonRecordingSpan(span.get_span_context()), Context())

    def _links(self, sent: SentCommand) -> list[Link]:
        """Returns a link from an item to its backfill: millions of them are no single trace."""
        if not sent.group:
            return []
        named = remote_context({TRACEPARENT: sent.context.get(TRACE_LINK)})
        if named is not None:
            return [Link(get_current_span(named).get_span_context())]
        origin = sent.origin.rpartition("-")[0]
        # One that the console leads is no command, and has no span.
        is_command = _entry_ms(origin) is not None
        return [derived_link(self._namespace, origin, sent.group)] if is_command else []


def _sent_at_ns(sent: SentCommand, accepted_at: float) -> int:
    """Returns when a command came into its stream; of an item, when it was made."""
    accepted_ms = int(accepted_at * 1000)
    entry_ms = None if sent.group else _entry_ms(sent.origin)
    return (accepted_ms if entry_ms is None else min(entry_ms, accepted_ms)) * _MS


def _entry_ms(origin: str) -> int | None:
    """Returns the time that the id of a stream's entry begins with, by Redis' clock."""
    milliseconds = origin.removeprefix(CommandStream.BULK).partition("-")[0]
    is_time = milliseconds.isascii() and milliseconds.isdigit()
    return int(milliseconds) if is_time else None
