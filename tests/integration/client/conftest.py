"""What the tests of the client share."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.client.both import KINDS
from tests.integration.client.told import Told, telling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(params=KINDS)
def open_client(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Opens clients of either kind; they are closed at the end."""
    with ExitStack() as opened:
        yield lambda url, **options: opened.enter_context(KINDS[request.param](url, **options))


@pytest.fixture
def client(open_client: Callable[..., Any], redis_url: str, namespace: str) -> Any:
    """A client on a namespace that no worker serves."""
    return open_client(redis_url, namespace=namespace)


@pytest.fixture
def told(redis_url: str, namespace: str) -> Iterator[Told]:
    """Writes events of the namespace."""
    yield from telling(redis_url, namespace)
