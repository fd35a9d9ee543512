"""`/` and `/page/…`: the page's files. They hold no data, so they need no token."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response

from worker.gateway.page import INDEX, Asset, load_assets
from worker.gateway.problems import ProblemError

router: Final = APIRouter(include_in_schema=False)

METHODS: Final = ["GET", "HEAD"]
# It runs only its own files, asks only its own gateway, and nobody shows it in a frame. What is
# drawn of pictures comes with a token, so that it reaches them as a blob.
POLICY: Final = "; ".join((
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data: blob:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
))
_HEADERS: Final = {
    # A browser asks each time whether what it has is still what there is.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


@router.api_route("/", methods=METHODS)
async def read_page(request: Request) -> Response:
    """Returns the page."""
    # What it loads and asks lies beside it, so that it also works behind a proxy's prefix.
    return _answer(request, load_assets()[INDEX])


@router.api_route("/page/{name:path}", methods=METHODS)
async def read_asset(request: Request, name: str) -> Response:
    """Returns a file of the page."""
    asset = load_assets().get(name)
    if asset is None:
        raise ProblemError(404, "not_found", "The page has no such file.")
    return _answer(request, asset)


def _answer(request: Request, asset: Asset) -> Response:
    headers = {**_HEADERS, "ETag": asset.tag}
    if request.headers.get("if-none-match") == asset.tag:
        return Response(status_code=304, headers=headers)
    return Response(asset.body, media_type=asset.media_type, headers=headers)
