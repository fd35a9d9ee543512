"""The gateway's ASGI application."""

from __future__ import annotations

from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI
from starlette.middleware import Middleware

from worker.gateway.asgi.middleware import CountedRequests, Hardening, RawPaths
from worker.gateway.asgi.protocol import END_STREAMS
from worker.gateway.bootstrap import create_gateway, read_integrations
from worker.gateway.metrics import REQUESTS
from worker.gateway.openapi import document_commands
from worker.gateway.problems import ErrorResponses, add_handlers
from worker.gateway.routes import (
    actions,
    backfill_manifests,
    backfill_results,
    backfills,
    bulk,
    command_list,
    commands,
    dead_letters,
    deliveries,
    docs,
    events,
    health,
    holds,
    item_picture,
    me,
    message,
    metrics,
    overview,
    page,
    picture,
    result,
    sinks,
    submit,
    timelines,
    trainings,
    webhooks,
    workers,
)
from worker.gateway.submit_endpoint import PATH, SubmitEndpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

    from worker.gateway_settings import GatewaySettings

# In the order in which the document has them; of two that fit a request the first serves it.
ROUTES: Final = (
    bulk,
    command_list,
    submit,
    commands,
    timelines,
    message,
    picture,
    result,
    events,
    trainings,
    backfills,
    backfill_manifests,
    backfill_results,
    item_picture,
    dead_letters,
    overview,
    workers,
    holds,
    webhooks,
    deliveries,
    sinks,
    actions,
    me,
    health,
    metrics,
    docs,
    page,
)
TAGS: Final = {
    "commands": "Sent, followed, cancelled, resolved; many at a time by a filter.",
    "events": "What becomes of commands, as it happens.",
    "trainings": "How each goes, and what it came to.",
    "backfills": "Predictions on all items of a manifest, and their results.",
    "dead letters": "What failed or was rejected: seen, sent again, deleted.",
    "overview": "One look at how all is.",
    "workers": "The processes that run commands, as they tell of themselves.",
    "holds": "What keeps workers from claiming.",
    "lanes": "The two queues; one in which nearly everything fails is paused.",
    "webhooks": "Deliveries of other systems, which rules make commands of.",
    "deliveries": "What came in by webhooks, and what became of it.",
    "sinks": "Where events go, and what became of that.",
    "actions": "Who did what.",
    "me": "Who asks, and what they may do.",
    "health": "For whoever watches the process.",
    "metrics": "For Prometheus.",
}
DESCRIPTION: Final = (
    "Commands in, events out. What a command takes and gives back is the same on every way in; "
    "every error is a problem as RFC 9457 has it, with a code. Ids are percent-encoded in "
    "addresses; what clients take for a step, as `..`, is named by a query: "
    "`/v1/command/events?id=..`."
)


class _App(FastAPI):
    """FastAPI, with what goes ahead of it."""

    def __init__(self, responses: ErrorResponses, **options: Any) -> None:
        super().__init__(**options)
        answers = Hardening(SubmitEndpoint(super().__call__, self.state, responses))
        self._front = CountedRequests(answers, self._count, {PATH})

    def _count(self, method: str, route: str, status: str) -> None:
        self.state.gateway.tallies.add(REQUESTS, method, route, status)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._front(scope, receive, send)


def create_app(settings: GatewaySettings) -> FastAPI:
    """Returns the application; Redis is first asked when it starts.

    Raises:
        SettingError: the file of the integrations is wrong.
    """
    integrations = read_integrations(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        gateway = create_gateway(settings, integrations)
        app.state.gateway = gateway
        gateway.services.start()
        try:
            yield {END_STREAMS: gateway.events.end}
        finally:
            await gateway.services.stop()
            await gateway.close()

    responses = ErrorResponses()
    app = _App(
        responses,
        title="trainmaster",
        version=version("trainmaster"),
        description=DESCRIPTION,
        lifespan=lifespan,
        middleware=[Middleware(RawPaths)],
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # FastAPI's own would make the document in the loop
        redirect_slashes=False,
        openapi_tags=[{"name": name, "description": said} for name, said in TAGS.items()],
        generate_unique_id_function=lambda route: route.name,
    )
    add_handlers(app, responses)
    for module in ROUTES:
        app.include_router(module.router)
    document_commands(app)
    return app
