"""A FastAPI service that hands work to trainmaster; run it with `uvicorn fastapi_app:app`."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request

from trainmaster_client import AsyncClient, CommandError, WaitTimeoutError


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncClient(os.environ["TRAINMASTER_REDIS_URL"]) as client:
        app.state.trainmaster = client
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/trainings", status_code=202)
async def train(request: Request, training: dict[str, Any]) -> dict[str, str]:
    """Takes a training and answers at once; its id tells how it stands."""
    client: AsyncClient = request.app.state.trainmaster
    return {"id": await client.submit("train", training)}


@app.get("/commands/{command_id}")
async def status(request: Request, command_id: str) -> dict[str, str]:
    """Tells how a command stands."""
    client: AsyncClient = request.app.state.trainmaster
    found = await client.status(command_id)
    if found is None:
        raise HTTPException(404, "not known (yet)")
    return {"state": found.state}


@app.get("/models")
async def models(request: Request) -> Any:
    """Waits for the result, for what takes no longer than a request may."""
    client: AsyncClient = request.app.state.trainmaster
    try:
        return await client.run("list_models", {}, timeout=20)
    except CommandError as error:
        raise HTTPException(502, f"{error.code}: {error.details.get('message')}") from error
    except WaitTimeoutError as error:
        raise HTTPException(504, "not ready yet") from error
