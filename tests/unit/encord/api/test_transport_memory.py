"""Rule: a failed exchange is freed at once, for a worker looks for garbage rarely."""

from __future__ import annotations

import gc
import socket
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import worker
from tests.stub_api import Answer, StubApi
from worker.encord.api.signing import RequestSigner
from worker.encord.api.transport import Transport
from worker.errors import TrainmasterError
from worker.garbage import collect_rarely
from worker.http.timeouts import Timeouts

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

WORKER = Path(worker.__file__ or "").parent
EXCHANGES = 20
OF_OTHERS = 10
TRUNCATED = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n[1,"
REFUSED = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}"


@pytest.fixture
def _collector() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_debug(0)
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    gc.enable()


def of_ours(found: list[object]) -> list[object]:
    """Returns the objects of ours; the stub's transports leave garbage, too, more over TLS."""
    return [
        each
        for each in found
        if type(each).__module__.startswith(("worker.", "httptools."))
        or (isinstance(each, FrameType) and Path(each.f_code.co_filename).is_relative_to(WORKER))
    ]


async def fail_often(domain: str, *, fresh: bool) -> list[object]:
    """Returns the objects that only a collection could free after exchanges that failed."""
    async with Transport(
        domain, RequestSigner(Ed25519PrivateKey.generate()), timeouts=Timeouts(read=5)
    ) as transport:

        async def fail() -> None:
            with pytest.raises(TrainmasterError):
                await transport.send("POST", "/x", body=b"{}", fresh=fresh)

        await fail()  # what is made once, and kept
        gc.collect()
        gc.disable()
        for _ in range(EXCHANGES):
            await fail()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found, gc.garbage[:] = list(gc.garbage), []
        return found


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(
    "answer",
    [Answer(then="reset"), Answer(TRUNCATED, "close"), Answer(REFUSED, "close")],
    ids=["reset", "truncated", "refused"],
)
@pytest.mark.usefixtures("_collector")
async def test_an_exchange_that_failed_leaves_no_garbage(
    answer: Answer, scheme: str, shown: ssl.SSLContext, *, fresh: bool
) -> None:
    with StubApi(tls=shown if scheme == "https" else None) as stub:
        stub.default = answer
        assert of_ours(await fail_often(stub.url, fresh=fresh)) == []


@pytest.mark.usefixtures("_collector")
async def test_a_connection_that_failed_leaves_no_garbage() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        domain = f"http://127.0.0.1:{unused.getsockname()[1]}"
        # What other threads of the process leave meanwhile counts too.
        assert len(await fail_often(domain, fresh=False)) < OF_OTHERS * EXCHANGES


@pytest.mark.usefixtures("_collector")
def test_a_worker_never_looks_again_at_what_its_start_has_made() -> None:
    before = gc.get_threshold()[0]
    collect_rarely()
    assert gc.get_freeze_count() > 10_000
    assert gc.get_threshold()[0] > 10 * before
