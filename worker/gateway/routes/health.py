"""`/healthz` and `/readyz`: whether the process lives, and whether it can do its work."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from worker.gateway.gateway import GatewayOf
from worker.gateway.problems import ProblemDetails, ProblemError
from worker.gateway.readiness import trouble_of

router: Final = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answers while the process's loop turns."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: {"model": ProblemDetails}})
async def readyz(gateway: GatewayOf) -> dict[str, str]:
    """Answers 200 while Redis takes writes, and lists can be answered or will be."""
    trouble = await trouble_of(gateway.redis, gateway.keys, gateway.read_model)
    if trouble:
        raise ProblemError(503, "not_ready", trouble)
    return {"status": "ready"}
