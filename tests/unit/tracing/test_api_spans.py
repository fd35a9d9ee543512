"""What the span of a request to the API says."""

from __future__ import annotations

from typing import Any

import pytest

from worker.encord.api.operations import template_of
from worker.queue.telemetry import RequestEnd
from worker.tracing.api_spans import ApiSpans

BASE = "https://api.example.com/v2/public"
MODEL = f"/ml-models/{'1' * 36}"


def described(base: str = BASE, **told: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"status": 200, "seconds": 0.2, "waited_seconds": 0.0, **told}
    name, attributes = ApiSpans(base, template_of).describe(RequestEnd("GET", MODEL, **values))
    return {"name": name, **attributes}


def test_a_request_is_called_by_what_does_not_differ_from_one_resource_to_the_next() -> None:
    """One name for each model would be a group of its own in every backend."""
    found = described(f"{BASE}/")
    assert found["name"] == "GET /v2/public/ml-models/{uuid}"
    assert found["url.template"] == "/v2/public/ml-models/{uuid}"
    assert found["url.full"] == f"{BASE}{MODEL}"
    assert found["http.request.method"] == "GET"


@pytest.mark.parametrize(
    ("base", "server", "port"),
    [
        ("https://api.example.com/v2", "api.example.com", 443),
        ("http://api.example.com/v2", "api.example.com", 80),
        ("http://127.0.0.1:8001", "127.0.0.1", 8001),
        ("https://[::1]:8443/v2", "::1", 8443),
    ],
)
def test_a_request_names_its_server_and_port(base: str, server: str, port: int) -> None:
    found = described(base)
    assert (found["server.address"], found["server.port"]) == (server, port)


@pytest.mark.parametrize(
    ("told", "status", "error"),
    [
        ({"status": 200}, 200, None),
        ({"status": 399}, 399, None),
        ({"status": 400, "code": "invalid_request"}, 400, "400"),
        ({"status": 503}, 503, "503"),
        # No answer; and one that can't be used.
        ({"status": 0, "code": "timeout"}, None, "timeout"),
        ({"status": 200, "code": "invalid_response"}, 200, "invalid_response"),
    ],
)
def test_a_request_that_failed_says_by_what(
    told: dict[str, Any], status: int | None, error: str | None
) -> None:
    found = described(**told)
    assert found.get("http.response.status_code") == status
    assert found.get("error.type") == error


def test_a_wait_for_ones_turn_is_told_where_it_is_one() -> None:
    assert described(waited_seconds=0.001)["trainmaster.turn_seconds"] == 0.001
    assert described(waited_seconds=1.23456789)["trainmaster.turn_seconds"] == 1.234568
    assert "trainmaster.turn_seconds" not in described(waited_seconds=0.0009)
