"""`/healthz` and `/readyz`: whether the process lives, and whether it can do its work."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from redis.exceptions import NoPermissionError

from worker.gateway.gateway import GatewayOf
from worker.gateway.problems import ProblemDetails, ProblemError
from worker.queue.ledger.connection import PASSING_TROUBLE
from worker.queue.ledger.refusals import refusal_of

router: Final = APIRouter(tags=["health"])

_TRIED_MS: Final = 5_000


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answers while the process's loop turns."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: {"model": ProblemDetails}})
async def readyz(gateway: GatewayOf) -> dict[str, str]:
    """Answers 200 while Redis takes writes, and lists can be answered or will be."""
    try:
        # It changes nothing, for there is no such key; a server that takes no writes refuses it.
        await gateway.redis.set(gateway.keys.trial, b"", xx=True, px=_TRIED_MS)
    except NoPermissionError:
        # Redis answers; what this user may do is asked by `doctor`.
        pass
    except PASSING_TROUBLE as exc:
        refusal = refusal_of(exc)
        told = "can't be reached" if refusal is None else f"takes no writes: {refusal}"
        raise ProblemError(503, "not_ready", f"Redis {told}.") from None
    if (trouble := gateway.read_model.trouble) is not None:
        raise ProblemError(503, "not_ready", f"{trouble} Commands are taken all the same.")
    return {"status": "ready"}
