"""One browser and one gateway for the tests of a module."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from tests.gateway_process import serving_gateway
from tests.integration.gateway.page.browser import Backstage, at_desk, running_browser

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.page.browser import Desk
    from worker.embedded import EmbeddedRedis


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for all tests of a module."""
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def page_namespace() -> str:
    """The namespace of a module's gateway; a module may tell another."""
    return f"page-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def page_gateway(
    redis_server: EmbeddedRedis, page_namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayServer]:
    """A gateway for all tests of a module."""
    folder = tmp_path_factory.mktemp("page")
    with serving_gateway(
        redis_url=redis_server.url, namespace=page_namespace, gateway_folder=folder / "gateway"
    ) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def backstage(redis_server: EmbeddedRedis, page_namespace: str) -> Backstage:
    """What is done behind the page of a module's gateway."""
    return Backstage(redis_server.url, page_namespace)


@pytest.fixture
def desk(browser: Browser, page_gateway: GatewayServer) -> Iterator[Desk]:
    """A person at the page, who needs no token as long as there is none."""
    with at_desk(browser, page_gateway) as opened:
        yield opened
