"""`/healthz` and `/readyz`: whether the process lives, and whether it can do its work."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from worker.gateway.gateway import GatewayOf
from worker.gateway.problems import ProblemError
from worker.queue.ledger.connection import PASSING_TROUBLE

router: Final = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answers while the process's loop turns."""
    return {"status": "alive"}


@router.get("/readyz")
async def readyz(gateway: GatewayOf) -> dict[str, str]:
    """Answers 200 while Redis answers."""
    try:
        await gateway.redis.ping()
    except PASSING_TROUBLE:
        raise ProblemError(503, "not_ready", "Redis can't be reached.") from None
    return {"status": "ready"}
