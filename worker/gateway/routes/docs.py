"""The OpenAPI document, and `/docs`, which is it for people: made when somebody first asks."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Request, Response

from schemas.json_text import encode_json
from worker.gateway import docs_page
from worker.gateway.docs_page.page import DOCUMENT, STYLE

if TYPE_CHECKING:
    from fastapi import FastAPI

router: Final = APIRouter(include_in_schema=False)

METHODS: Final = ["GET", "HEAD"]


@dataclass(frozen=True, slots=True)
class _Kept:
    """What there is, as it is sent."""

    document: bytes
    page: bytes
    style: bytes


@router.api_route("/docs", methods=METHODS)
async def read_docs(request: Request) -> Response:
    """Returns the page."""
    # Its links are beside it, so that it also works behind a proxy's prefix.
    return _answer(request, (await _kept(request.app)).page, "text/html")


@router.api_route(f"/{STYLE}", methods=METHODS)
async def read_style(request: Request) -> Response:
    """Returns the page's style: the policy of the pages forbids to write it into them."""
    return _answer(request, (await _kept(request.app)).style, "text/css")


@router.api_route(f"/{DOCUMENT}", methods=METHODS)
async def read_document(request: Request) -> Response:
    """Returns the document."""
    return _answer(request, (await _kept(request.app)).document, "application/json")


async def _kept(app: FastAPI) -> _Kept:
    kept: _Kept | None = getattr(app.state, "docs", None)
    if kept is None:
        # It takes most of a second, in which others send commands.
        kept = app.state.docs = await asyncio.to_thread(_make, app)
    return kept


def _make(app: FastAPI) -> _Kept:
    document = app.openapi()
    return _Kept(
        encode_json(document),
        docs_page.DocsPage(document).html().encode(),
        files(docs_page).joinpath(STYLE).read_bytes(),
    )


def _answer(request: Request, body: bytes, media_type: str) -> Response:
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)
