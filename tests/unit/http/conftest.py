"""What the tests of HTTP share: the loops that workers have, and a server on each of two ways."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from tests.stub_api import StubApi
from tests.unit.http.asking import settled

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine, Iterator


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Runs a coroutine on one of the loops that workers have."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else None

    def on_loop(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(settled(coroutine))

    return on_loop


@pytest.fixture(params=["http", "https"])
def stub_of_each(request: pytest.FixtureRequest, shown: ssl.SSLContext) -> Iterator[StubApi]:
    """A server that answers 200 with `null`, over plain HTTP and over TLS."""
    with StubApi(tls=shown if request.param == "https" else None) as served:
        yield served
