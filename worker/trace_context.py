"""W3C's trace context as it comes and goes in headers and attributes; needs no OpenTelemetry.

Source: https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
# An extension of the commands of a backfill's items: the span that the backfill hangs on.
TRACE_LINK: Final = "tracelink"

# Of later versions more may follow; version ff and ids of zeros alone are none.
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]*)?"
)
_MOST_CHARACTERS: Final = 512


def is_traceparent(value: object) -> bool:
    """Tells whether a value names a span that others may hang on."""
    return (
        isinstance(value, str)
        and len(value) <= _MOST_CHARACTERS
        and _TRACEPARENT.fullmatch(value) is not None
    )


def carried(named: Mapping[str, Any]) -> dict[str, str]:
    """Returns the trace context among headers or attributes, names in lower case; else nothing.

    A `tracestate` belongs to its `traceparent` and goes nowhere without it.
    """
    traceparent = named.get(TRACEPARENT)
    if not is_traceparent(traceparent):
        return {}
    tracestate = named.get(TRACESTATE)
    found = {TRACEPARENT: str(traceparent)}
    # One that is longer need not be passed on, and a part of it would be another one.
    if isinstance(tracestate, str) and 0 < len(tracestate) <= _MOST_CHARACTERS:
        is_plain = tracestate.isascii() and tracestate.isprintable()
        found |= {TRACESTATE: tracestate} if is_plain else {}
    return found
