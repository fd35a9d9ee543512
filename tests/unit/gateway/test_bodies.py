"""Room for the bodies of those whom nobody knows yet: it is bounded, and given back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from starlette.requests import Request

from worker.gateway.bodies import BodyRoom, Bounds
from worker.gateway.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Message

BOUNDS = Bounds(most_bytes=1_000, idle_seconds=5.0)


def request(*parts: bytes) -> Request:
    """A request whose body comes in these parts."""

    def messages() -> Iterator[Message]:
        for number, part in enumerate(parts, 1):
            yield {"type": "http.request", "body": part, "more_body": number < len(parts)}

    coming = messages()

    async def receive() -> Message:
        return next(coming)

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


async def test_the_room_of_a_body_is_given_back_however_it_ends() -> None:
    """Or after so many deliveries each one is answered 503, until somebody restarts the gateway."""
    room = BodyRoom(10)
    for _ in range(3):
        async with room.read(request(b"four", b"five5"), BOUNDS) as body:
            assert body == b"fourfive5"
        with pytest.raises(ProblemError) as refused:
            async with room.read(request(b"sixsix", b"and more"), BOUNDS):
                pass
        assert refused.value.code == "too_many_bodies"
    async with room.read(request(b"x" * 10), BOUNDS) as whole:
        assert whole == b"x" * 10
        with pytest.raises(ProblemError) as refused:
            async with room.read(request(b"y"), BOUNDS):
                pass
        assert refused.value.status == 503
