"""Log lines: one JSON object each, or text for people; Celery's own go the same way.

What other libraries attach to their lines is left out: Celery attaches whole commands.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from worker.printable import printable
from worker.redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, FilteringBoundLogger, Processor

# These say at every connection or poll what our own lines say better.
_QUIET: Final = ("aiohttp", "asyncio", "celery.worker.strategy", "celery.app.trace", "httpx")

# What a terminal takes for a colour. One right behind a URL is no part of its host.
_COLOURS: Final = re.compile(r"(\x1b\[[0-9;]*m)")


def configure(level: str, log_format: str) -> None:
    """Sends every line of this process to stderr in one format.

    Args:
        level: the least severe level that is shown.
        log_format: `json`, `text`, or `auto`: text on a terminal, else JSON.
    """
    as_text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # The default formatter of exceptions shows local variables, and with them keys and tokens.
    renderer: list[Callable[..., Any]] = (
        [
            # Before colours stand between a URL and what follows it.
            structlog.processors.format_exc_info,
            _redact_values,
            _make_printable,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
            _redact_line,
        ]
        if as_text
        else [
            structlog.processors.format_exc_info,
            _redact_values,
            structlog.processors.JSONRenderer(),
        ]
    )
    structlog.configure(
        processors=[
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        # Does nothing below its level, where stdlib's would first gather what to throw away.
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


class LimitedLog:
    """Warnings of what others can cause as often as they like: a few a minute, the rest counted.

    Args:
        log: where the lines go.
        most: lines of one kind in each period.
        period_seconds: begins with the first line after the last one has ended.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        log: FilteringBoundLogger,
        *,
        most: int = 10,
        period_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._most = most
        self._period_seconds = period_seconds
        self._clock = clock
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def warning(self, event: str, kind: str, **told: Any) -> None:
        """Writes a line, with how many before it were left out as `left_out`; or leaves it out.

        Args:
            event: the line's event.
            kind: counts by itself; one of a few, whatever others send.
            told: what else the line has.
        """
        now = self._clock()
        found = self._kinds.setdefault((event, kind), _Kind(now))
        if now - found.begun_at >= self._period_seconds:
            found.begun_at, found.lines = now, 0
        if found.lines >= self._most:
            found.left_out += 1
            return
        if found.left_out:
            told["left_out"] = found.left_out
        found.lines += 1
        found.left_out = 0
        self._log.warning(event, **told)


@dataclass(slots=True)
class _Kind:
    begun_at: float
    lines: int = 0
    left_out: int = 0


def _redact_values(_: Any, __: str, line: EventDict) -> EventDict:
    """Redacts every URL: errors of other libraries, and so their tracebacks, repeat whole ones."""
    for name, value in line.items():
        line[name] = _redacted(value)
    return line


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact_text(value) if "://" in value else value
    if isinstance(value, list | tuple):
        return [_redacted(each) for each in value]
    if isinstance(value, dict):
        return {name: _redacted(each) for name, each in value.items()}
    return value


def _make_printable(_: Any, __: str, line: EventDict) -> EventDict:
    """Takes out what would move a terminal's cursor: messages of others are told by their text."""
    for name, value in line.items():
        if isinstance(value, str):
            line[name] = printable(value, keep="\n\t")
    return line


def _redact_line(_: Any, __: str, line: str) -> str:
    """Redacts what is text only once it is rendered: values of other kinds."""
    if "://" not in line:
        return redact_text(line)
    return "".join(redact_text(part) for part in _COLOURS.split(line))
