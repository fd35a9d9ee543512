"""Rules of connections on which the server says what nobody asked for."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import TypeAdapter

from tests.lying_server import LIE, Lie, LyingServer, answer, prediction
from tests.unit.http.asking import settled
from worker.backfill.sources.web import fetch
from worker.encord.api.client import MlModelsApi
from worker.encord.api.replies import parse_reply
from worker.encord.api.signing import RequestSigner
from worker.encord.api.throttle import ThrottledTransport
from worker.encord.api.transport import Transport
from worker.errors import BadResponseError, NotSentError, RetryableError, TrainmasterError
from worker.files.downloads import Downloads
from worker.files.remote_files import read_remote
from worker.http.connection import Connection
from worker.http.timeouts import Timeouts
from worker.thread_pools import ThreadPool

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from schemas.enums import Priority

COMMANDS = 60
TRIES = 40
PATIENCE_SECONDS = 60
MODEL = answer(LIE)
HALF = len(MODEL) // 2
HEAD = MODEL.index(b"\r\n\r\n") + 4
TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

LIES: dict[str, Lie] = {
    "in the same piece": Lie(within=MODEL),
    "at once": Lie(later=((0, MODEL),)),
    "a moment later": Lie(later=((0.002, MODEL),)),
    "twice": Lie(within=MODEL, later=((0.001, MODEL),)),
    "half of it, and the rest later": Lie(within=MODEL[:HALF], later=((0.002, MODEL[HALF:]),)),
    "its first byte, and the rest later": Lie(within=MODEL[:1], later=((0.002, MODEL[1:]),)),
    "its head, and the body later": Lie(within=MODEL[:HEAD], later=((0.002, MODEL[HEAD:]),)),
    "later, in two halves": Lie(later=((0.001, MODEL[:HALF]), (0.002, MODEL[HALF:]))),
    "a hint in the same piece": Lie(within=b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "a hint later": Lie(later=((0.001, b"HTTP/1.1 103 Early Hints\r\n\r\n"),)),
    "a hint, then a reply": Lie(within=b"HTTP/1.1 100 Continue\r\n\r\n", later=((0.001, MODEL),)),
    "surplus bytes later": Lie(later=((0.001, b"}}\r\n"),)),
    "a blank line later": Lie(later=((0.001, b"\r\n"),)),
    "an idle timeout, and the end": Lie(later=((0.002, TIMEOUT),), closes=True),
    "the end alone": Lie(closes=True),
    "long after": Lie(later=((0.02, MODEL),)),
}

CLOSING_LIES = [
    Lie(within=MODEL),
    Lie(within=MODEL[:1]),
    Lie(within=MODEL[:HALF]),
    Lie(within=MODEL[:HEAD]),
    Lie(within=b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    Lie(later=((0.01, MODEL),)),
    Lie(later=((0.01, b"\r\n"),)),
]


@pytest.fixture(params=["http", "https"])
def server(request: pytest.FixtureRequest, shown: ssl.SSLContext) -> Iterator[LyingServer]:
    """A server that tells no lie yet."""
    with LyingServer(tls=shown if request.param == "https" else None) as lying:
        yield lying


def opened(server: LyingServer, **options: Any) -> Transport:
    """Returns a transport to the server."""
    signer = RequestSigner(Ed25519PrivateKey.generate())
    timeouts = Timeouts(connect=30, read=30, write=30, pool=30)
    return Transport(server.url, signer, timeouts=timeouts, **options)


def read_source(url: str) -> bytes:
    """Returns what a source behind a URL holds."""
    with fetch(url, follows=False) as file:
        return file.read()


async def persistently(call: Callable[[], Awaitable[Any]]) -> Any:
    """Returns what a call gets, as a command does: again after what may be tried again."""
    for _ in range(TRIES):
        try:
            return await call()
        except RetryableError:
            continue
    raise AssertionError("no answer after so many tries")


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("run", ["uvloop"], indirect=True)
def test_no_command_gets_what_was_sent_for_another(
    server: LyingServer, run: Callable[[Coroutine[Any, Any, Any]], Any], lie: str
) -> None:
    """Whenever the unasked reply comes, each model is the one that was asked for."""
    server.lie = LIES[lie]

    async def ask() -> list[tuple[UUID, UUID]]:
        async with opened(server) as transport:
            api = MlModelsApi(transport)
            seen = []
            for number in range(COMMANDS):
                uuid = uuid4()
                model = await persistently(partial(api.get_model, model_uuid=uuid))
                seen.append((uuid, model.model_group.model_uuid))
                await asyncio.sleep((number % 4) * 0.001)
            return seen

    seen = run(ask())
    assert len(seen) == COMMANDS
    assert [asked for asked, told in seen if told != asked] == []


@pytest.mark.parametrize("lie", CLOSING_LIES)
def test_a_connection_with_unasked_bytes_is_closed_and_never_used_again(
    server: LyingServer, run: Callable[[Coroutine[Any, Any, Any]], Any], lie: Lie
) -> None:
    """Predictions say nothing of themselves, so that only the connection can tell."""
    # Or a busy machine would read a blank line together with the reply, to which it may belong.
    server.lie = replace(lie, after_heard=True)

    async def predict() -> list[tuple[UUID, str]]:
        seen = []
        async with opened(server) as transport:
            api = MlModelsApi(transport)
            for _ in range(5):
                uuid = uuid4()
                frames = await api.predict_classification(
                    project_uuid=uuid, project_model_uuid=uuid, training_uuid=uuid, data_uuid=uuid
                )
                assert frames[0] is not None
                seen.append((uuid, frames[0]["name"]))
                if lie.later:
                    server.heard.set()
                    await asyncio.to_thread(server.told.wait, PATIENCE_SECONDS)
                    server.told.clear()
                    server.heard.clear()
                    await asyncio.sleep(0.02)
            return seen

    assert [each for each in run(predict()) if str(each[0]) != each[1]] == []
    assert [connection for connection, _ in server.asked] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("server", ["http"], indirect=True)
@pytest.mark.parametrize("way", ["downloads", "opened", "source"])
@pytest.mark.parametrize("lie", CLOSING_LIES)
def test_no_file_behind_a_url_is_what_was_sent_for_another(
    server: LyingServer, run: Callable[[Coroutine[Any, Any, Any]], Any], lie: Lie, way: str
) -> None:
    """Files say nothing of themselves either, and come over kept connections, too."""
    server.lie = lie

    async def read_all() -> list[tuple[UUID, bytes]]:
        downloads = Downloads(ThreadPool("test", 1), total_seconds=60, idle_seconds=30)
        seen = []
        for _ in range(5):
            uuid = uuid4()
            url = f"{server.url}/ml-models/{uuid}"
            if way == "downloads":
                content = await downloads.read(url, 100_000, "dataref")
            elif way == "opened":
                content = await asyncio.to_thread(read_remote, url, 100_000)
            else:
                content = await asyncio.to_thread(read_source, url)
            seen.append((uuid, content))
            if lie.later:
                await asyncio.to_thread(server.told.wait, PATIENCE_SECONDS)
                server.told.clear()
                await asyncio.sleep(0.02)
        await downloads.aclose()
        return seen

    seen = run(read_all())
    assert [uuid for uuid, content in seen if str(uuid).encode() not in content] == []
    # On a busy machine a blank line may come with the reply, and be no more than its end.
    if any(piece.strip() for _, piece in lie.later) or not lie.later:
        assert [connection for connection, _ in server.asked] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("way", ["downloads", "opened"])
@pytest.mark.parametrize("server", ["http"], indirect=True)
def test_a_connection_of_files_without_lies_is_kept(
    server: LyingServer, run: Callable[[Coroutine[Any, Any, Any]], Any], way: str
) -> None:
    async def read_all() -> None:
        downloads = Downloads(ThreadPool("test", 1), total_seconds=60, idle_seconds=30)
        for _ in range(5):
            url = f"{server.url}/ml-models/{uuid4()}"
            if way == "downloads":
                await downloads.read(url, 100_000, "dataref")
            else:
                await asyncio.to_thread(read_remote, url, 100_000)
        await downloads.aclose()

    run(read_all())
    assert {connection for connection, _ in server.asked} == {1}


class _Late(LyingServer):
    """Tells a lie behind its first answer, and each true answer late."""

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> bool:
        if self.asked:
            self.lie = Lie()
            await asyncio.sleep(0.3)
        return await super()._exchange(reader, writer, connection)


class _SlowLimits:
    """Takes permits back late, as a Redis does that is busy or away."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def enter(self, lane: Priority) -> str:  # noqa: ARG002 - the protocol's
        return "permit"

    async def leave(self, permit: str) -> None:  # noqa: ARG002 - the protocol's
        await asyncio.sleep(self._seconds)

    async def hold(self, seconds: float, reason: str) -> None:
        raise AssertionError(f"held for {seconds} s: {reason}")


def slow(transport: Transport, seconds: float) -> MlModelsApi:
    return MlModelsApi(ThrottledTransport(transport, _SlowLimits(seconds), None))


@pytest.mark.parametrize("seconds", [0, 1])
def test_whoever_waits_behind_a_wrong_answer_does_not_get_the_one_that_was_meant(
    run: Callable[[Coroutine[Any, Any, Any]], Any], seconds: float
) -> None:
    """Once one request has another's answer, its own one is on its way to the next request.

    However long it takes until somebody reads that answer.
    """
    uuids = [uuid4() for _ in range(3)]

    async def predict(api: MlModelsApi, uuid: UUID) -> str | None:
        try:
            frames = await api.predict_classification(
                project_uuid=uuid, project_model_uuid=uuid, training_uuid=uuid, data_uuid=uuid
            )
        except RetryableError:
            return None
        assert frames[0] is not None
        return frames[0]["name"]

    async def ask(server: LyingServer) -> list[str | None]:
        async with opened(server, connections=1) as transport:
            await MlModelsApi(transport).get_model(model_uuid=uuids[0])
            api = slow(transport, seconds)
            # Both are there before the lie is: the second waits for the one connection.
            return list(await asyncio.gather(predict(api, uuids[1]), predict(api, uuids[2])))

    with _Late(lie=Lie(later=((0.1, MODEL),))) as server:
        told = run(ask(server))
    assert told[0] is None, "a model is no prediction"
    assert told[1] in {None, str(uuids[2])}


class _Refusing(LyingServer):
    """Tells a failure that nobody asked for, and then each answer only with the next request's."""

    late: bytes = b""

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> bool:
        await reader.readuntil(b"\r\n\r\n")
        self.asked.append((connection, ""))
        number = len(self.asked)
        body = json.dumps(number).encode()
        told = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        if connection > 1 or number == 1:
            writer.write(told)
        elif number == 2:
            writer.write(self.lie.within)
            self.late = told
        else:
            writer.write(self.late)
            self.late = told
        return True


@pytest.mark.parametrize("status", [b"404 Not Found", b"408 Request Timeout", b"429 Slow Down"])
def test_no_answer_is_another_s_after_a_failure_that_was_another_s(
    run: Callable[[Coroutine[Any, Any, Any]], Any], status: bytes
) -> None:
    """A failure names no request: the true answer may be on its way."""
    failure = b"HTTP/1.1 %s\r\ncontent-length: 0\r\n\r\n" % status

    async def ask(server: LyingServer) -> list[int | None]:
        told: list[int | None] = []
        async with opened(server, connections=1) as transport:
            for _ in range(4):
                try:
                    response = await transport.send("GET", "/x")
                except TrainmasterError:
                    told.append(None)
                else:
                    told.append(json.loads(response.body))
                    response.accept()
        return told

    with _Refusing(lie=Lie(within=failure)) as server:
        assert run(ask(server)) == [1, None, 3, 4]


def test_an_answer_that_can_t_be_judged_keeps_no_connection(
    server: LyingServer, run: Callable[[Coroutine[Any, Any, Any]], Any]
) -> None:
    """Whatever goes wrong, and though somebody keeps the error."""

    def check(_: Any) -> None:
        raise MemoryError

    async def ask() -> None:
        async with opened(server, connections=1) as transport:
            response = await transport.send("GET", f"/ml-models/{uuid4()}")
            with pytest.raises(MemoryError):
                parse_reply(TypeAdapter(dict[str, Any]).validate_json, response, check)
            await MlModelsApi(transport).get_model(model_uuid=uuid4())
            assert response.status == 200, "it is still held"

    run(asyncio.wait_for(ask(), PATIENCE_SECONDS))


def test_an_answer_that_is_dropped_in_another_thread_is_refused_on_the_loop_s(
    server: LyingServer,
    run: Callable[[Coroutine[Any, Any, Any]], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A collection of garbage may take place in any thread, and connections belong to one."""
    refused_in: list[str] = []
    close = Connection.close

    def told(connection: Connection) -> None:
        refused_in.append(threading.current_thread().name)
        close(connection)

    monkeypatch.setattr(Connection, "close", told)

    async def ask() -> None:
        async with opened(server, connections=1) as transport:
            held = [await transport.send("GET", f"/ml-models/{uuid4()}")]
            waiting = asyncio.create_task(MlModelsApi(transport).get_model(model_uuid=uuid4()))
            threading.Thread(target=held.clear).start()
            await waiting

    run(asyncio.wait_for(ask(), PATIENCE_SECONDS))
    assert set(refused_in) == {threading.current_thread().name}


def test_who_is_cancelled_with_an_answer_in_hand_keeps_no_connection(
    server: LyingServer, run: Callable[[Coroutine[Any, Any, Any]], Any]
) -> None:
    """Nobody will say that it was the right one, and there is but one connection."""

    async def ask() -> None:
        async with opened(server, connections=1) as transport:
            for _ in range(3):
                late = slow(transport, PATIENCE_SECONDS)
                asking = asyncio.create_task(late.get_model(model_uuid=uuid4()))
                answers = len(server.asked)
                while len(server.asked) == answers:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.2)
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
            asked = uuid4()
            model = await MlModelsApi(transport).get_model(model_uuid=asked)
            assert model.model_group.model_uuid == asked

    run(asyncio.wait_for(ask(), PATIENCE_SECONDS))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_lies_unread_in_the_socket_is_never_the_answer(
    server: LyingServer, run: Callable[[Coroutine[Any, Any, Any]], Any], method: str
) -> None:
    """The reply came while the loop was busy: it is read before the next request is written."""
    server.lie = Lie(later=((0.02, prediction(LIE)),))
    body = None if method == "GET" else b"{}"

    async def ask() -> list[bytes]:
        async with opened(server) as transport:
            (await transport.send("GET", f"/ml-models/{uuid4()}")).accept()
            server.told.clear()
            assert server.told.wait(PATIENCE_SECONDS)  # The loop stands still meanwhile.
            time.sleep(0.01)  # noqa: ASYNC251 - or it would read what is to lie unread
            server.lie = Lie()
            response = await transport.send(method, f"/{uuid4()}/predict", body=body)
            return [response.body]

    assert LIE.encode() not in run(ask())[0]
    assert [connection for connection, _ in server.asked] == [1, 2]


def busy_loop(kind: str, server: LyingServer) -> asyncio.AbstractEventLoop:
    """Returns a loop that is busy, once a connection stands, until the server has spoken."""
    base: Any = uvloop.Loop if kind == "uvloop" else asyncio.SelectorEventLoop

    class BusyLoop(base):  # type: ignore[misc]
        async def create_connection(self, *arguments: Any, **options: Any) -> Any:
            connection = await super().create_connection(*arguments, **options)
            if server.lie.greeting:
                wait = server.told.wait
                if server.tls is None:
                    assert wait(PATIENCE_SECONDS)
                else:  # Before the loop's next turn the handshake has no end.
                    assert await asyncio.to_thread(wait, PATIENCE_SECONDS)
                server.told.clear()
            return connection

    return BusyLoop()


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
@pytest.mark.parametrize("fresh", [False, True])
def test_a_server_that_speaks_first_is_not_asked(
    server: LyingServer, kind: str, *, fresh: bool
) -> None:
    """What stands on a new connection answers nothing, so that even a change may go out later."""
    server.lie = Lie(greeting=MODEL)

    async def ask() -> None:
        async with opened(server) as transport:
            with pytest.raises(NotSentError, match="nobody asked for"):
                await transport.send("POST", f"/ml-models/{uuid4()}", body=b"{}", fresh=fresh)
            assert not server.asked
            server.lie = Lie()
            path = f"/ml-models/{uuid4()}"
            (await transport.send("POST", path, body=b"{}", fresh=fresh)).accept()

    with asyncio.Runner(loop_factory=lambda: busy_loop(kind, server)) as runner:
        runner.run(settled(ask()))
    assert len(server.asked) == 1


@pytest.mark.parametrize("hint", [b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
def test_a_connection_without_lies_is_kept(
    server: LyingServer, run: Callable[[Coroutine[Any, Any, Any]], Any], hint: bytes
) -> None:
    """What refuses unasked bytes ends no connection: neither TLS' own records nor hints are any."""
    server.lie = Lie(before=hint)

    async def ask() -> None:
        async with opened(server) as transport:
            for _ in range(20):
                uuid = uuid4()
                response = await transport.send("GET", f"/ml-models/{uuid}")
                assert str(uuid).encode() in response.body
                response.accept()
                response = await transport.send("POST", f"/{uuid}/predict", body=b"{}")
                assert str(uuid).encode() in response.body
                response.accept()

    run(ask())
    assert {connection for connection, _ in server.asked} == {1}


def test_an_answer_about_another_thing_is_no_answer(
    server: LyingServer, run: Callable[[Coroutine[Any, Any, Any]], Any]
) -> None:
    """The last net, where the lie comes after the request and before its answer."""
    server.lie = Lie(before=MODEL)

    async def ask() -> None:
        async with opened(server) as transport:
            api = MlModelsApi(transport)
            with pytest.raises(BadResponseError, match=f"another request: modelUuid is {LIE}"):
                await api.get_model(model_uuid=uuid4())

    run(ask())
