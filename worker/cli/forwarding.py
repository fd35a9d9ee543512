"""Sends events to a URL as sinks do, for those who develop what is behind it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

import click
import httpx

from schemas.json_text import encode_json
from schemas.wording import counted
from trainmaster_client import Event
from worker.cli.formatting import narrate
from worker.cli.output import safe_text
from worker.integrations.secrets import Secret
from worker.integrations.sink_config import WebhookSink
from worker.integrations.standard_webhooks import SigningKey
from worker.redaction import redact_url
from worker.sinks.destinations import DeliveryError
from worker.sinks.webhook import Webhook

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from click import Context, Parameter
    from rich.text import Text

# As a sink's, unless its file says another.
_TIMEOUT_SECONDS: Final = 15.0
# Who restarts a server while they work on it is back by then.
_PAUSES_SECONDS: Final = (0.5, 1.0, 2.0)


class ForwardUrl(click.ParamType[str]):
    """Where events are sent: a URL, or the rest of one that begins with http://."""

    name = "url"

    def convert(self, value: str, param: Parameter | None, ctx: Context | None) -> str:
        """Returns the URL; what is none is wrong usage."""
        if value.isascii() and value.isdigit():
            value = f"localhost:{value}"
        url = value if "://" in value else f"http://{value}"
        try:
            parts = urlsplit(url)
            named = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
            # What connects reads it as httpx writes it, where [::1]80 has a port, too.
            written = urlsplit(str(httpx.URL(url)))
            connects = written.port != 0 and httpx.URL(f"http://{written.netloc}")
            known = bool(named and connects and url.isprintable() and " " not in url)
        except (ValueError, httpx.InvalidURL):
            known = False
        if not known:
            shown = redact_url(url)
            self.fail(f"{shown!r} is no URL like http://localhost:8000/hook", param, ctx)
        return url


class SecretText(click.ParamType[SigningKey]):
    """A secret of Standard Webhooks, as text."""

    name = "secret"

    def convert(
        self, value: str | SigningKey, param: Parameter | None, ctx: Context | None
    ) -> SigningKey:
        """Returns the secret; what is none is wrong usage, and is not repeated."""
        if isinstance(value, SigningKey):
            return value
        try:
            return SigningKey.parse(value.strip())
        except ValueError as exc:
            self.fail(f"the secret {exc}", param, ctx)


forward_option: Final = click.option(
    "--forward-to",
    "forward_to",
    type=ForwardUrl(),
    required=True,
    metavar="URL",
    help="Where each event is sent by POST, like localhost:8000/hook.",
)
secret_option: Final = click.option(
    "--secret",
    type=SecretText(),
    envvar="TRAINMASTER_LISTEN_SECRET",
    metavar="whsec_…",
    help="Sign with this; process lists show it, so prefer TRAINMASTER_LISTEN_SECRET.",
)


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What became of one event that was sent.

    Attributes:
        status: of the answer; None where there was none.
        said: what kept it from answering.
        attempts: how often it was sent.
    """

    status: int | None
    said: str
    seconds: float
    attempts: int

    @property
    def taken(self) -> bool:
        """Whether a sink would be content with it."""
        return self.status is not None and 200 <= self.status < 300


class Forwarder:
    """Sends events to one URL, one after the other.

    Args:
        url: where they go; it may be on this machine, unlike a sink's.
        secret: that signs them.
        pause: waits for so many seconds.
        timeout_seconds: longest wait for an answer.
    """

    def __init__(
        self,
        url: str,
        secret: SigningKey,
        pause: Callable[[float], object] = time.sleep,
        *,
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> None:
        self._pause = pause
        self._is_down = False
        # A sink's own: with its timeouts, its bounds, and its words.
        self._webhook = Webhook(
            "",
            WebhookSink.model_construct(
                url=Secret(str(httpx.URL(url)).encode(), ""),
                secrets=[Secret(secret.key, "")],
                timeout_seconds=timeout_seconds,
                concurrency=1,
                allow_private=True,
            ),
        )
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the connections."""
        with self._runner:
            self._runner.run(self._webhook.close())

    def send(self, event: Mapping[str, Any]) -> Forwarded:
        """Sends an event; where nobody answers, again after a little while.

        Only the first event that nobody answers is sent again: of a server that is down for long
        the others are told at once.
        """
        body = encode_json(event)
        pauses = () if self._is_down else _PAUSES_SECONDS
        for attempt, pause in enumerate((*pauses, None), start=1):
            begun = time.monotonic()
            status, said = self._post(Event("", event), body)
            found = Forwarded(status, said, time.monotonic() - begun, attempt)
            self._is_down = status is None
            if status is not None or pause is None:
                return found
            self._pause(pause)
        raise AssertionError

    def _post(self, event: Event, body: bytes) -> tuple[int | None, str]:
        try:
            return self._runner.run(self._webhook.send(event, body)).status, ""
        except DeliveryError as exc:
            return exc.status, "" if exc.status is not None else str(exc)


def narrate_forwarded(event: Mapping[str, Any], found: Forwarded) -> Text:
    """Returns an event as a line, with what was answered to it."""
    line = narrate(event)
    line.append("  → ")
    if found.status is None:
        line.append(safe_text(found.said), style="red")
    else:
        style = "green" if found.taken else "red" if found.status >= 500 else "yellow"
        line.append(str(found.status), style=style)
        line.append(f" ({found.seconds * 1000:.0f} ms)", style="dim")
    if found.attempts > 1:
        line.append(f", after {counted(found.attempts, 'attempt')}")
    return line


def forwarded_for_machines(event: Mapping[str, Any], found: Forwarded) -> dict[str, Any]:
    """Returns the same for `--json`."""
    return {
        "id": event["id"],
        "type": event["type"],
        "subject": event["subject"],
        "status": found.status,
        "error": found.said or None,
        "seconds": round(found.seconds, 6),
        "attempts": found.attempts,
    }
