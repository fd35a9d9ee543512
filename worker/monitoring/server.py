"""Answers probes and Prometheus, in a thread of its own: it can tell that the loop stands still.

    GET /livez     whether the process lives
    GET /readyz    whether it can do its work
    GET /metrics   for Prometheus

A file can say the same to probes that have no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Final, cast

import structlog
from aiohttp import web

from schemas.events import ErrorCode
from schemas.json_text import encode_json
from worker.errors import SettingError
from worker.monitoring.exposition import encoder_for
from worker.monitoring.health_file import TOUCH_SECONDS, HealthFile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from prometheus_client import CollectorRegistry

    from worker.monitoring.health import Liveness, Readiness

log = structlog.get_logger(__name__)

_START_SECONDS: Final = 10.0
# Several orchestrators and Prometheus have room; their connections are short.
_MOST_CONNECTIONS: Final = 32
_CONNECTION_SECONDS: Final = 15.0
_STOP_SECONDS: Final = 2.0


class MonitoringServer:
    """Answers until it is stopped.

    Args:
        liveness: of the process.
        readiness: of the process.
        registry: what `/metrics` shows.
        address: host and port that it listens on; None where nobody asks by HTTP.
        file: is touched while all is well; None without one.
    """

    def __init__(
        self,
        liveness: Liveness,
        readiness: Readiness,
        registry: CollectorRegistry,
        *,
        address: tuple[str, int] | None = None,
        file: Path | None = None,
    ) -> None:
        self._liveness = liveness
        self._readiness = readiness
        self._registry = registry
        self._address = address
        self._file = None if file is None else HealthFile(file)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._serve, name="monitoring", daemon=True)
        self.port = 0

    def start(self) -> None:
        """Returns once it listens.

        Raises:
            SettingError: it can't.
        """
        self._thread.start()
        self._started.wait(_START_SECONDS)
        if self._error is not None:
            host, port = self._address or ("", 0)
            reason = self._error.strerror or type(self._error).__name__
            raise SettingError(
                f"TRAINMASTER_HTTP: {host}:{port} can't be listened on: {reason}",
                code=ErrorCode.INVALID_SETTING,
            )

    def stop(self) -> None:
        """Answers no more, and deletes the file."""
        if self._thread.is_alive():
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_STOP_SECONDS)

    def _serve(self) -> None:
        try:
            self._loop.run_until_complete(self._run())
        except OSError as exc:
            self._error = exc
        finally:
            self._started.set()
            self._loop.close()

    async def _run(self) -> None:
        runner = web.AppRunner(
            self._application(),
            handle_signals=False,
            access_log=None,
            logger=_logger_of_connections(),
        )
        await runner.setup()
        listening: asyncio.Server | None = None
        tasks = [asyncio.create_task(self._touch_file())]
        try:
            if self._address is not None:
                host, port = self._address
                server = cast("web.Server", runner.server)
                listening = await self._loop.create_server(
                    lambda: _accepted(server), host, port, backlog=_MOST_CONNECTIONS
                )
                self.port = listening.sockets[0].getsockname()[1]
                tasks.append(asyncio.create_task(_close_old(server)))
                log.info("monitoring.listening", host=host, port=self.port)
            self._started.set()
            await self._stop.wait()
        finally:
            if listening is not None:
                listening.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await runner.cleanup()

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=1024, middlewares=[_tell_defects])
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        return app

    async def _livez(self, _: web.Request) -> web.Response:
        return _verdict("alive", "stands still", self._liveness.problems())

    async def _readyz(self, _: web.Request) -> web.Response:
        problems = {**self._readiness.problems(), **self._liveness.problems()}
        return _verdict("ready", "not ready", problems)

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = encoder_for(request.headers.get("Accept", ""))
        # It waits for the ledger's values; probes must not wait for them too.
        body = await asyncio.to_thread(_encoded, encode, self._registry)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _touch_file(self) -> None:
        file = self._file
        if file is None:
            return
        try:
            while True:
                is_well = not self._readiness.problems() and not self._liveness.problems()
                file.show(is_well=is_well)
                await asyncio.sleep(TOUCH_SECONDS)
        finally:
            file.remove()


@cache
def _logger_of_connections() -> logging.Logger:
    """Returns what connections log to; aiohttp tells of each request that is none, from anyone."""
    logger = logging.getLogger("aiohttp.server.monitoring")
    logger.setLevel(logging.CRITICAL)
    return logger


@web.middleware
async def _tell_defects(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException:
        raise
    except Exception:
        log.exception("monitoring.request_failed", path=request.path)
        raise


class _Refusal(asyncio.Protocol):
    """What is one connection too many: it ends before it has asked."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _accepted(server: web.Server) -> asyncio.BaseProtocol:
    """Returns what serves a connection; a stranger's must not take the files that runs need."""
    is_full = len(server.connections) >= _MOST_CONNECTIONS
    return _Refusal() if is_full else server()


async def _close_old(server: web.Server) -> None:
    """Closes each connection after a while, whether it has asked or not; clients open new ones."""
    since: dict[web.RequestHandler, float] = {}
    while True:
        now = time.monotonic()
        since = {each: since.get(each, now) for each in server.connections}
        for each, begun in since.items():
            if now - begun >= _CONNECTION_SECONDS:
                each.force_close()
        await asyncio.sleep(1.0)


def _encoded(encode: Callable[[CollectorRegistry], bytes], registry: CollectorRegistry) -> bytes:
    return encode(registry)


def _verdict(well: str, ill: str, problems: dict[str, str]) -> web.Response:
    if not problems:
        return web.json_response(body=encode_json({"status": well}))
    return web.json_response(body=encode_json({"status": ill, "problems": problems}), status=503)
