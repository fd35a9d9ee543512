"""`POST /v1/commands`, ahead of FastAPI.

FastAPI documents this address and could serve it; on the way to the same function it spends twice
what the command itself costs, on routing, dependencies and layers that this address has no use
for. A test compares what both answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.requests import Request

from worker.gateway.access.tokens import Scope as TokenScope
from worker.gateway.routes.submit import router, submit_commands

if TYPE_CHECKING:
    from starlette.datastructures import State
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from worker.gateway.gateway import Gateway
    from worker.gateway.problems import ErrorResponses

METHOD: Final = "POST"
PATH: Final = router.prefix.encode()


class SubmitEndpoint:
    """Serves the one address by itself, and passes everything else on.

    Args:
        app: serves the rest.
        state: of the app; its `gateway` is there once it has started.
        responses: to what goes wrong.
    """

    def __init__(self, app: ASGIApp, state: State, responses: ErrorResponses) -> None:
        self._app = app
        self._state = state
        self._responses = responses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or passes it on."""
        is_ours = scope["type"] == "http" and scope["raw_path"] == PATH
        if not is_ours or scope["method"] != METHOD:
            await self._app(scope, receive, send)
            return
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        gateway: Gateway = self._state.gateway
        try:
            caller = await gateway.access.caller(request, TokenScope.SUBMIT)
            await gateway.rates.take(request, caller)
            return await submit_commands(request, gateway, caller)
        except Exception as exc:  # noqa: BLE001 - each is answered, and a defect is logged
            return self._responses.response_to(exc)
