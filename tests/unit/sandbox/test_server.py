"""Faults and truth are for callers on the sandbox's own machine, whatever it listens on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from sandbox.catalogue import Catalogue
from sandbox.faults import Faults
from sandbox.server import _build
from sandbox.settings import SandboxSettings
from sandbox.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.applications import Starlette


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Starlette]:
    """The whole application, over a state folder of its own, from its start to its stop."""
    state = StateFolder(tmp_path)
    state.open()
    built, _ = _build(SandboxSettings(tmp_path, host="0.0.0.0"), state, Faults(), Catalogue([]))  # noqa: S104
    async with built.router.lifespan_context(built):
        yield built


@pytest.mark.parametrize(
    ("caller", "status"),
    [
        ("127.0.0.1", 200),
        ("127.8.0.1", 200),
        ("::1", 200),
        ("::ffff:127.0.0.1", 200),
        ("192.0.2.9", 403),
        ("2001:db8::1", 403),
        ("::ffff:192.0.2.9", 403),
    ],
)
@pytest.mark.parametrize("path", ["/sandbox/faults", "/sandbox/truth"])
async def test_only_callers_on_loopback_steer_it(
    app: Starlette, caller: str, status: int, path: str
) -> None:
    transport = httpx.ASGITransport(app, client=(caller, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://sandbox") as client:
        reply = await client.get(path)
        assert reply.status_code == status
        if path == "/sandbox/faults":
            assert (await client.put(path, json=[])).status_code == status


async def test_the_api_itself_asks_for_a_signature_from_everywhere(app: Starlette) -> None:
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://sandbox") as client:
        assert (await client.get("/v2/public/ml-models")).status_code == 401
