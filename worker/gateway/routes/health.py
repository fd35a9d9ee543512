"""`/healthz` and `/readyz`: whether the process lives, and whether it can do its work."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from worker.gateway.gateway import GatewayOf
from worker.gateway.problems import ProblemDetails, json_response
from worker.queue.ledger.connection import PASSING_TROUBLE

router: Final = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answers while the process's loop turns."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: {"model": ProblemDetails}})
async def readyz(gateway: GatewayOf) -> Response:
    """Answers 200 while Redis takes what is sent."""
    try:
        await gateway.redis.ping()
    except PASSING_TROUBLE as exc:
        return json_response({"status": "not_ready", "redis": type(exc).__name__}, 503)
    return json_response({"status": "ready"})
