"""Requests to the API as spans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from worker.tracing.attributes import ERROR_TYPE, TURN_SECONDS, Attributes

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.queue.telemetry import RequestEnd

_PORTS: Final = {"http": 80, "https": 443}
_FIRST_FAILURE: Final = 400
# Less is no wait, only the way to a limit that is not reached.
_SHOWN_TURN_SECONDS: Final = 0.001


class ApiSpans:
    """Names and attributes of requests.

    Args:
        base: URL that the paths of requests stand below, without a secret.
        template_of: returns a path without what differs from one resource to the next.
    """

    def __init__(self, base: str, template_of: Callable[[str], str]) -> None:
        parts = urlsplit(base)
        self._base = base.rstrip("/")
        self._path = parts.path.rstrip("/")
        self._template_of = template_of
        self._server: Attributes = {
            "server.address": parts.hostname or "",
            "server.port": parts.port or _PORTS.get(parts.scheme, 443),
        }

    def describe(self, end: RequestEnd) -> tuple[str, Attributes]:
        """Returns the name and the attributes of a request; its query is left out."""
        template = self._path + self._template_of(end.path)
        attributes: Attributes = {
            "http.request.method": end.method,
            "url.full": self._base + end.path,
            "url.template": template,
            **self._server,
        }
        if end.status:
            attributes["http.response.status_code"] = end.status
        if end.status >= _FIRST_FAILURE:
            attributes[ERROR_TYPE] = str(end.status)
        elif end.code:
            attributes[ERROR_TYPE] = end.code
        if end.waited_seconds >= _SHOWN_TURN_SECONDS:
            attributes[TURN_SECONDS] = round(end.waited_seconds, 6)
        return f"{end.method} {template}", attributes
