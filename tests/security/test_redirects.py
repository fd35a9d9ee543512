"""Redirects of the API: never followed, so that no credentials reach whom they name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.security.stubbed import TOKEN, Stubbed, stubbed_worker
from tests.stub_api import StubApi, reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.embedded import EmbeddedRedis

ANY = "00000000-0000-4000-8000-000000000000"
REDIRECTS = (301, 302, 303, 307, 308)
COMMANDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("get_model", {"model_uuid": ANY}),
    ("delete_model", {"model_uuid": ANY}),
    ("create_model", {"model": "resnet18", "features": ["a"], "title": "t"}),
)


@pytest.fixture(scope="module")
def stubbed(
    redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stubbed]:
    folder = tmp_path_factory.mktemp("redirects")
    settings = {"TRAINMASTER_MAX_ATTEMPTS": "2"}
    with stubbed_worker(redis_server.url, "redirects", folder, **settings) as running:
        yield running


@pytest.fixture(scope="module")
def other() -> Iterator[StubApi]:
    """The server to which the API sends us."""
    with StubApi() as running:
        yield running


@pytest.mark.parametrize("status", REDIRECTS)
@pytest.mark.parametrize("place", ["another host", "another scheme", "the same host"])
def test_no_redirect_is_followed_and_nobody_else_sees_credentials(
    stubbed: Stubbed, other: StubApi, status: int, place: str
) -> None:
    location = {
        "another host": other.url + "/v2/public/ml-models",
        "another scheme": other.url.replace("http://", "https://") + "/v2/public/ml-models",
        "the same host": stubbed.api.url + "/elsewhere",
    }[place]
    stubbed.api.default = reply(status, b'{"message": "go there"}', location=location)
    before = len(stubbed.api.recorded)
    commands = [
        {"type": kind, "id": f"{kind} {status} {place}", "data": data} for kind, data in COMMANDS
    ]
    ends = stubbed.carry_out(commands)
    for command in commands:
        end = ends[str(command["id"])]
        assert end["type"] == f"{command['type']}.failed"
        assert end["data"]["error"]["status"] == status
        # It proves nothing of what a deletion did, so that is sent again, to the same place.
        assert end["data"]["attempts"] == (2 if command["type"] == "delete_model" else 1)
    seen = stubbed.api.recorded[before:]
    assert len(seen) >= len(commands)
    assert all(request.headers["authorization"] == f"Bearer {TOKEN}" for request in seen)
    assert not [request for request in seen if "elsewhere" in request.target]
    assert other.recorded == []
