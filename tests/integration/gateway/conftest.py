"""A gateway on the test's own namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.gateway_process import GatewayServer, serving_gateway

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path


class ServeGateway(Protocol):
    """Serves a further gateway of the same namespace."""

    def __call__(self, **settings: Any) -> AbstractContextManager[GatewayServer]:
        """Takes settings of `GatewaySettings`."""


@pytest.fixture
def serve_gateway(redis_url: str, namespace: str, tmp_path: Path) -> ServeGateway:
    """Serves gateways with settings of their own."""

    def serve(**settings: Any) -> AbstractContextManager[GatewayServer]:
        told = {
            "redis_url": redis_url,
            "namespace": namespace,
            "gateway_folder": tmp_path / "gateway",
            **settings,
        }
        return serving_gateway(**told)

    return serve


@pytest.fixture
def gateway(request: pytest.FixtureRequest, serve_gateway: ServeGateway) -> Iterator[GatewayServer]:
    """A gateway; an indirect parameter tells its settings, as a dict."""
    with serve_gateway(**getattr(request, "param", {})) as served:
        yield served
