"""Which events a sink wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from worker.integrations.expressions import ExpressionError, is_true

if TYPE_CHECKING:
    from trainmaster_client import Event
    from worker.integrations.sink_config import SinkConfig

log = structlog.get_logger(__name__)


class Route:
    """The conditions of a sink."""

    def __init__(self, config: SinkConfig) -> None:
        self._name = config.name
        self._types = config.types
        # Not a set: an event that others wrote may have anything here, and a list has no hash.
        self._reply_to = tuple(config.reply_to or ())
        self._when = config.when
        self._told = False

    def wants(self, event: Event) -> bool:
        """Tells whether an event goes to the sink; one on which `when` fails does not."""
        if self._types is not None and not self._types.match(event.type):
            return False
        if self._reply_to and event.attributes.get("replyto") not in self._reply_to:
            return False
        if self._when is None:
            return True
        try:
            return is_true(self._when.evaluate(event.attributes))
        except ExpressionError as exc:
            if not self._told:
                # Events of one kind all fail alike.
                log.warning(
                    "sink.condition_failed",
                    sink=self._name,
                    event_type=event.type,
                    error=str(exc),
                    advice="`when` can't be evaluated on such events, so they are not sent",
                )
            self._told = True
            return False
