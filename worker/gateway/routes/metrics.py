"""`/metrics`: what Prometheus scrapes."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from worker.gateway.access import Reads
from worker.gateway.gateway import GatewayOf

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
    await gateway.tallies.flush()
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    body = encode(await gateway.sampler.sample())
    return Response(body, headers={"content-type": content_type})
