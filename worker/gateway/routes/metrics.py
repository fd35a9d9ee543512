"""`/metrics`: what Prometheus scrapes."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import APIRouter, Request, Response

from worker.gateway.access.callers import Reads
from worker.gateway.gateway import GatewayOf
from worker.monitoring.exposition import encoder_for
from worker.monitoring.ledger_sample import SAMPLE_SECONDS

router: Final = APIRouter(tags=["metrics"])


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def read_metrics(request: Request, gateway: GatewayOf, caller: Reads) -> Response:
    """Tells Prometheus how commands, sinks, webhooks and backfills do.

    Every process of every gateway of a namespace tells the same, so scrape one of them.
    """
    caller.check_unlimited()
    encode, content_type = encoder_for(request.headers.get("accept", ""))
    async with asyncio.timeout(SAMPLE_SECONDS):
        await gateway.tallies.flush()
        registry = await gateway.sampler.sample()
    body = encode(registry)
    return Response(body, headers={"content-type": content_type})
