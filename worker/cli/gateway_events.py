"""Events of a gateway, read from its stream of server-sent events."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click
import httpx

from schemas.json_text import decode_json
from worker.cli.output import safe_text
from worker.redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# A gateway gives a sign of life every 15 seconds.
_SILENT_SECONDS: Final = 45.0
_AGAIN_SECONDS: Final = 1.0
# What no patience helps against.
_REFUSED: Final = frozenset({400, 401, 403, 404, 405, 422})
_EVENT_STREAM: Final = "text/event-stream"
_OWN: Final = "trainmaster."


class GatewayEvents:
    """Follows the events of a gateway, over every loss of the connection.

    Args:
        url: of the gateway.
        token: the secret of a token with the scope read; empty without one.
        types: patterns.
        after: the last event that is known; None for what comes from now on.
        tell: is told what is wrong, each time it begins to be.
    """

    def __init__(
        self,
        url: str,
        token: str,
        types: Sequence[str],
        after: str | None,
        tell: Callable[[str], object],
    ) -> None:
        self._url = f"{url.rstrip('/')}/v1/events"
        self._token = token
        self._types = list(types)
        self._after = after
        self._tell = tell

    def __iter__(self) -> Iterator[dict[str, Any] | None]:
        """Yields events; None each time the gateway has taken us in.

        Raises:
            click.ClickException: the gateway does not let us in, or is none.
        """
        told = False
        timeout = httpx.Timeout(10.0, read=_SILENT_SECONDS)
        with httpx.Client(timeout=timeout, follow_redirects=False) as http:
            while True:
                try:
                    for found in self._connection(http):
                        told = False
                        yield found
                    said = "it closed the connection"
                except httpx.HTTPStatusError as exc:
                    said = f"it answered {exc.response.status_code}"
                except httpx.HTTPError as exc:
                    said = redact_text(" ".join(str(exc).split()) or type(exc).__name__)
                if not told:
                    self._tell(f"gateway: {said}; waiting for it")
                told = True
                time.sleep(_AGAIN_SECONDS)

    def _connection(self, http: httpx.Client) -> Iterator[dict[str, Any] | None]:
        headers = {"accept": _EVENT_STREAM, "cache-control": "no-store"}
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        if self._after is not None:
            headers["last-event-id"] = self._after
        query = {"type": self._types}
        with http.stream("GET", self._url, params=query, headers=headers) as answer:
            kind = answer.headers.get("content-type", "").partition(";")[0]
            if answer.status_code in _REFUSED or (
                answer.is_success and kind != "text/event-stream"
            ):
                raise click.ClickException(safe_text(_refusal(answer)))
            answer.raise_for_status()
            yield None
            yield from self._events(_lines(answer))

    def _events(self, lines: Iterator[str]) -> Iterator[dict[str, Any]]:
        fields: dict[str, str] = {}
        for line in lines:
            if line:
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
                continue
            if fields.get("event", "").startswith(_OWN):
                self._tell(f"gateway: {fields.get('data', '')}")
            elif "data" in fields:
                yield decode_json(fields["data"].encode())
            self._after = fields.get("id", self._after)
            fields = {}


def _lines(answer: httpx.Response) -> Iterator[str]:
    """Yields lines as this format has them; httpx ends some at characters that JSON may hold."""
    rest = b""
    for part in answer.iter_bytes():
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield line.rstrip(b"\r").decode()


def _refusal(answer: httpx.Response) -> str:
    answer.read()
    try:
        said = decode_json(answer.content)
    except ValueError:
        said = {}
    detail = said.get("detail") or said.get("title") if isinstance(said, dict) else ""
    if answer.is_success or answer.is_redirect or answer.status_code in {404, 405}:
        return "there is no gateway of trainmaster at this URL; give it without /v1"
    advice = {
        401: "set TRAINMASTER_TOKEN to the secret of a token with the scope read",
        403: "the token needs the scope read",
    }.get(answer.status_code, "")
    return "; ".join(
        each for each in (f"gateway: {answer.status_code}", str(detail or ""), advice) if each
    )
