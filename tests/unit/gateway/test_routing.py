"""What every route of the gateway keeps to."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from fastapi.routing import APIRoute

from worker.gateway.app import ROUTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi.dependencies.models import Dependant


def _calls(dependant: Dependant) -> Iterator[object]:
    yield dependant.call
    for each in dependant.dependencies:
        yield from _calls(each)


def _is_coroutine(call: object) -> bool:
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(type(call).__call__)


def test_no_request_is_handed_to_a_thread() -> None:
    """It costs more than all else that a command over HTTP does."""
    routes = [
        route for module in ROUTES for route in module.router.routes if isinstance(route, APIRoute)
    ]
    assert len(routes) > 10
    for route in routes:
        for call in _calls(route.dependant):
            assert _is_coroutine(call), f"{route.path}: {call}"
