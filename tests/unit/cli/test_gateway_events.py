"""Events of a gateway: over each loss of the connection none is missed and none comes twice."""

from __future__ import annotations

import re
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from click import ClickException

from tests.web_server import serving
from worker.cli import gateway_events, listen
from worker.cli.context import LedgerContext
from worker.cli.gateway_events import GatewayEvents

FIRST = b'id: 5-0\nevent: train.accepted\ndata: {"id": "one"}\n\n'
# What a stream says of itself has no id.
SIGNS = b': heartbeat\n\nevent: trainmaster.dropped\ndata: {"reason": "too slow"}\n\n'
SECOND = b'id: 6-0\nevent: train.accepted\ndata: {"id": "two"}\n\n'


class _Gateway(BaseHTTPRequestHandler):
    """Breaks the connection off after what it has for it; notes where each one begins."""

    def __init__(self, bodies: list[bytes], begun: list[str | None], *told: Any) -> None:
        self._bodies, self._begun = bodies, begun
        super().__init__(*told)

    def do_GET(self) -> None:
        self._begun.append(self.headers.get("last-event-id"))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.write(self._bodies.pop(0))

    def log_message(self, *_: Any) -> None:
        """Keeps still."""


def test_it_goes_on_behind_its_last_event_whatever_came_after_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gateway_events, "_AGAIN_SECONDS", 0.01)
    begun: list[str | None] = []
    said: list[str] = []
    found: list[str] = []
    with serving(partial(_Gateway, [FIRST + SIGNS, SECOND], begun)) as url:
        for event in GatewayEvents(url, "", ["train.*"], "4-0", said.append):
            found += [] if event is None else [event["id"]]
            if len(found) == 2:
                break
    assert found == ["one", "two"]
    assert begun == ["4-0", "5-0"]
    assert "too slow" in said[0]


def test_who_listens_to_a_gateway_says_once_that_it_is_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With that it shows the secret, and not again after each loss of the connection."""
    monkeypatch.setattr(gateway_events, "_AGAIN_SECONDS", 0.01)
    found: list[str | None] = []
    with serving(partial(_Gateway, [FIRST + SIGNS, SECOND], [])) as url:
        for event in listen._events(LedgerContext(None, None), url, "", ["train.*"], None):
            found.append(None if event is None else event["id"])
            if found[-1] == "two":
                break
    assert found == [None, "one", "two"]


class _Refusing(BaseHTTPRequestHandler):
    def __init__(self, body: bytes, *told: Any) -> None:
        self._body = body
        super().__init__(*told)

    def do_GET(self) -> None:
        self.send_response(403)
        self.end_headers()
        self.wfile.write(self._body)

    def log_message(self, *_: Any) -> None:
        """Keeps still."""


@pytest.mark.parametrize(
    ("body", "said"),
    [(b'{"detail": "a\\u001b[2Jb"}', "a�[2Jb; the"), (b'{"detail": 5}', "5; the"), (b"[]", "the")],
)
def test_a_refusal_is_told_as_text_whatever_answers(body: bytes, said: str) -> None:
    with (
        serving(partial(_Refusing, body)) as url,
        pytest.raises(ClickException, match=re.escape(f"gateway: 403; {said} token needs")),
    ):
        next(iter(GatewayEvents(url, "", [], None, print)))
