"""The span that a program is in, for the commands that it sends; needs no OpenTelemetry."""

from __future__ import annotations

import sys
from typing import Any, Final

# So much W3C wants passed on at least. Libraries allow far more, for which a worker would reject
# the command, and a part of it would be another one.
_MOST_STATE_CHARACTERS: Final = 512


def current_trace() -> dict[str, str]:
    """Returns W3C's `traceparent` and `tracestate` of the span that is current; nothing without.

    A program that has never imported OpenTelemetry has no span, so none is imported for it.
    """
    api: Any = sys.modules.get("opentelemetry.trace")
    if api is None:
        return {}
    try:
        span = api.get_current_span().get_span_context()
        if not span.is_valid:
            return {}
        ids = f"{span.trace_id:032x}-{span.span_id:016x}"
        found = {"traceparent": f"00-{ids}-{span.trace_flags:02x}"}
        if 0 < len(state := span.trace_state.to_header()) <= _MOST_STATE_CHARACTERS:
            found["tracestate"] = state
    except AttributeError:
        # While another thread is importing it, it has only some of its names.
        return {}
    return found
