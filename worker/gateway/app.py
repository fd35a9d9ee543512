"""The gateway's ASGI application, built from the settings."""

from __future__ import annotations

from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from fastapi import FastAPI
from starlette.middleware import Middleware

from trainmaster_client import AsyncClient
from worker.gateway.access import REMEMBER_SECONDS, Access, is_loopback
from worker.gateway.gateway import Gateway
from worker.gateway.limits import Backlog, RequestRates
from worker.gateway.middleware import Hardening, RawPaths
from worker.gateway.openapi import document_commands
from worker.gateway.problems import add_handlers
from worker.gateway.routes import commands, health
from worker.gateway.submission import Submitter
from worker.gateway.tokens import Tokens
from worker.queue.ledger.connection import connect
from worker.queue.ledger.keys import Keys
from worker.queue.ledger.queries import LedgerReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from worker.gateway_settings import GatewaySettings

# Requests wait for a connection rather than open thousands.
MAX_CONNECTIONS: Final = 256
DESCRIPTION: Final = (
    "Commands in, events out. What a command takes and gives back is the same on every way in; "
    "every error is a problem as RFC 9457 has it, with a code."
)


def create_app(settings: GatewaySettings) -> FastAPI:
    """Returns the application; Redis is first asked when it starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        gateway = await _open(settings)
        app.state.gateway = gateway
        try:
            yield
        finally:
            await gateway.client.close()
            await gateway.redis.aclose()

    app = FastAPI(
        title="trainmaster",
        version=version("trainmaster"),
        description=DESCRIPTION,
        lifespan=lifespan,
        middleware=[Middleware(RawPaths), Middleware(Hardening)],
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )

    add_handlers(app)
    for module in (commands, health):
        app.include_router(module.router)
    document_commands(app)
    return app


async def _open(settings: GatewaySettings) -> Gateway:
    url = settings.redis_url.get_secret_value()
    keys = Keys(settings.namespace)
    redis = connect(url, max_connections=MAX_CONNECTIONS)
    tokens = Tokens(redis, keys, remember_seconds=REMEMBER_SECONDS)
    return Gateway(
        settings=settings,
        redis=redis,
        keys=keys,
        client=AsyncClient(url, namespace=settings.namespace, patience_seconds=5),
        reader=LedgerReader(redis, keys),
        submitter=Submitter(redis, keys),
        access=Access(tokens, is_open=is_loopback(settings.gateway_host)),
        rates=RequestRates(redis, keys, settings.gateway_requests_per_second),
        backlog=Backlog(redis, keys, settings.gateway_backlog),
    )
