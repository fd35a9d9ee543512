"""`/v1/workers`: the worker processes that run, as they tell of themselves."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from fastapi import APIRouter
from pydantic import BaseModel, Field

from worker.gateway.access.callers import Reads
from worker.gateway.gateway import GatewayOf
from worker.gateway.models import moment
from worker.queue.intake.demand import read_demand
from worker.queue.ledger.workers import Workers, WorkerStatus

router: Final = APIRouter(prefix="/v1/workers", tags=["workers"])


class WorkerView(BaseModel):
    """A worker process."""

    name: str = Field(description="That no other process has; its holds name it so, too.")
    host: str
    pid: int
    version: str = Field(description="Of trainmaster.")
    python: str
    started_at: datetime | None
    seen_at: datetime | None = Field(description="When it told this, by Redis' clock.")
    slots: int = Field(description="Commands that it may run at the same time.")
    slots_used: int
    loop_lag_seconds: float = Field(
        description="The most by which its event loop was late since it told before."
    )
    breaker_open: bool = Field(
        description="Whether it takes the API for down, and claims nothing meanwhile."
    )
    stopping: bool = Field(description="Whether it was told to stop, and finishes what runs.")


class WorkerList(BaseModel):
    """All worker processes, by name, and what there is for them to do."""

    items: list[WorkerView]
    demand: int = Field(
        description="Messages that no worker has accepted, and commands that are due, late or "
        "running: what an autoscaler needs. 0 where no worker is needed."
    )


@router.get("")
async def list_workers(gateway: GatewayOf, caller: Reads) -> WorkerList:
    """Lists the worker processes that run.

    Each tells of itself every five seconds. One that stops in good order is gone at once, one that
    died within fifteen seconds.
    """
    caller.check_unlimited()
    workers = await Workers(gateway.redis, gateway.keys).list()
    demand = await read_demand(gateway.redis, gateway.keys)
    return WorkerList(items=list(map(_view, workers)), demand=demand.total)


def _view(status: WorkerStatus) -> WorkerView:
    return WorkerView(
        name=status.name,
        host=status.host,
        pid=status.pid,
        version=status.version,
        python=status.python,
        started_at=moment(status.started_ms),
        seen_at=moment(status.seen_ms),
        slots=status.slots,
        slots_used=status.slots_used,
        loop_lag_seconds=status.loop_lag_seconds,
        breaker_open=status.breaker_open,
        stopping=status.stopping,
    )
