"""`GET /v1/me`: who asks, and what they may do."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from pydantic import BaseModel, Field

from worker.gateway.access.callers import Calls
from worker.gateway.access.tokens import Scope
from worker.gateway.gateway import GatewayOf

router: Final = APIRouter(prefix="/v1/me", tags=["me"])


class Me(BaseModel):
    """Who sends a request, and what they may do."""

    name: str = Field(description="Of the token; `this machine` where none is needed.")
    scopes: list[Scope]
    types: list[str] | None = Field(
        description="The command types that the token is limited to; null for all."
    )
    projects: list[str] | None = Field(
        description="UUIDs of the projects that the token is limited to; null for all."
    )
    needs_token: bool = Field(description="False while no token was made: anybody here may ask.")
    docs_url: str | None = Field(
        description="Where the docs are published, for links to them; null where that is not set."
    )


@router.get("")
async def read_me(caller: Calls, gateway: GatewayOf) -> Me:
    """Tells who asks: the name of their token, its scopes and its limits. Any valid token will do.

    A page or a program finds out what to offer.
    """
    token = caller.token
    if token is None:
        return Me(
            name=caller.name,
            scopes=list(Scope),
            types=None,
            projects=None,
            needs_token=False,
            docs_url=gateway.settings.gateway_docs_url,
        )
    return Me(
        name=caller.name,
        scopes=[each for each in Scope if each in token.scopes],
        types=sorted(token.types) or None,
        projects=sorted(token.projects) or None,
        needs_token=True,
        docs_url=gateway.settings.gateway_docs_url,
    )
