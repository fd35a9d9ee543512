"""Problems: what every error of the app ends in, and what the log has of it."""

from __future__ import annotations

import httpx
import structlog
from fastapi import FastAPI

from worker.gateway.problems import ErrorResponses, add_handlers


async def test_requests_while_redis_is_away_do_not_fill_the_log() -> None:
    app = FastAPI()
    add_handlers(app, ErrorResponses())

    @app.get("/")
    async def fail() -> None:
        raise ConnectionError("Redis is away")

    transport = httpx.ASGITransport(app)
    with structlog.testing.capture_logs() as lines:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answers = [await client.get("/") for _ in range(100)]

    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["code"] for answer in answers} == {"redis_unavailable"}
    assert 0 < len(lines) < 50
