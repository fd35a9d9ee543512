"""Runs the gateway: uvicorn with uvloop and httptools, in one process or several."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import structlog
import uvicorn
from uvicorn.supervisors import Multiprocess

from schemas.events import ErrorCode
from worker.environment import load_gateway_settings
from worker.errors import SettingError
from worker.garbage import collect_rarely
from worker.gateway.access.callers import is_loopback
from worker.gateway.access.tokens import Tokens
from worker.gateway.app import create_app
from worker.gateway.asgi.protocol import bounded_protocol
from worker.gateway.bootstrap import read_integrations
from worker.logging import configure
from worker.queue.ledger.connection import connect
from worker.queue.ledger.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fastapi import FastAPI

    from worker.gateway_settings import GatewaySettings

log = structlog.get_logger(__name__)

GRACE_SECONDS: Final = 20
# How long another thread, the read model's say, may compute while a request waits: a tenth of what
# Python lets it by itself.
SWITCH_SECONDS: Final = 0.0005
BROKEN: Final = 1
START_SECONDS: Final = 60
_LOOK_SECONDS: Final = 1.0


def application() -> FastAPI:
    """Returns the application of one of several processes: its settings are in the environment."""
    _end_with_parent()
    settings = load_gateway_settings()
    configure(settings.log_level, settings.log_format)
    return _prepared(create_app(settings))


def serve(settings: GatewaySettings, *, workers: int, log_config: dict[str, Any] | None) -> int:
    """Serves until told to stop; returns the exit code.

    Raises:
        SettingError: the address would be open to others, and there is no token.
    """
    _check_address(settings)
    _check_certificate(settings)
    # So that a wrong file ends it before anything starts.
    read_integrations(settings)
    if trouble := _port_trouble(settings):
        log.critical("gateway.refused", message=trouble)
        return BROKEN
    if workers == 1:
        app = _prepared(create_app(settings))
        server = _Server(server_config(settings, app, log_config))
        # Where it can't listen after all uvicorn says so and exits, with a code of its own.
        with suppress(SystemExit):
            server.run()
        return 0 if server.started else BROKEN
    target = "worker.gateway.server:application"
    options = _options(settings, log_config)
    config = uvicorn.Config(target, factory=True, workers=workers, **options)
    _Processes(config, [config.bind_socket()]).run()
    return 0


def _prepared(app: FastAPI) -> FastAPI:
    """Returns the app of a process that is set for many short requests."""
    collect_rarely()
    sys.setswitchinterval(SWITCH_SECONDS)
    return app


def server_config(
    settings: GatewaySettings, app: FastAPI, log_config: dict[str, Any] | None = None
) -> uvicorn.Config:
    """Returns how one process serves."""
    return uvicorn.Config(app, **_options(settings, log_config))


def _options(settings: GatewaySettings, log_config: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "host": settings.gateway_host,
        "port": settings.gateway_port,
        "http": bounded_protocol(settings.gateway_connections),
        "loop": "uvloop",
        "ws": "none",
        "lifespan": "on",
        "log_config": log_config,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "timeout_graceful_shutdown": GRACE_SECONDS,
        "ssl_certfile": settings.gateway_tls_cert_file,
        "ssl_keyfile": settings.gateway_tls_key_file,
    }


class _Server(uvicorn.Server):
    """Tells in our words where it listens, and ends with 0 when it is told to stop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stops in good order at a signal; by itself uvicorn would then end by it, as by a kill."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()

    def _log_started_message(self, listeners: Sequence[socket.SocketType]) -> None:
        _tell_ready(self.config, listeners)


class _Processes(Multiprocess):
    """Several processes that listen together; tells once all of them do."""

    def init_processes(self) -> None:
        super().init_processes()
        if all(each.wait_until_ready(START_SECONDS, self.should_exit) for each in self.processes):
            _tell_ready(self.config, self.sockets)


def _tell_ready(config: uvicorn.Config, listeners: Sequence[socket.SocketType]) -> None:
    scheme = "https" if config.is_ssl else "http"
    for listener in listeners:
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        log.info("gateway.ready", url=f"{scheme}://{shown}:{port}")


def _check_address(settings: GatewaySettings) -> None:
    if is_loopback(settings.gateway_host):
        return

    async def any_token() -> bool:
        keys = Keys(settings.namespace)
        redis = connect(settings.redis_url.get_secret_value(), keys.prefix)
        try:
            return await Tokens(redis, keys).any_exist()
        finally:
            await redis.aclose()

    if not asyncio.run(any_token()):
        raise SettingError(
            "TRAINMASTER_GATEWAY_HOST is open to other machines, and nobody needs a token yet: "
            "make one first by `trainmaster tokens create`, or listen on 127.0.0.1",
            code=ErrorCode.INVALID_SETTING,
        )


def _port_trouble(settings: GatewaySettings) -> str:
    """Returns why it can't listen, before anything starts: uvicorn names no setting.

    This may pass, as where another one still stops: so it is no wrong setting, and ends with 1. It
    binds what the event loop will, and as that does.
    """
    host, port = settings.gateway_host, settings.gateway_port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            try:
                listener = socket.socket(family, kind, protocol)
            except OSError:
                # The machine knows it by name alone, as IPv6 where the kernel has none.
                continue
            with listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind(address)
    except OSError as exc:
        return (
            f"{host} port {port} can't be listened on: {exc.strerror or exc}; name another by "
            "TRAINMASTER_GATEWAY_HOST and TRAINMASTER_GATEWAY_PORT, or --host and --port"
        )
    return ""


def _check_certificate(settings: GatewaySettings) -> None:
    """Looks at the files of TLS before anything starts.

    Raises:
        SettingError: they are none, or do not belong together.
    """
    if settings.gateway_tls_cert_file is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(
            settings.gateway_tls_cert_file, settings.gateway_tls_key_file, password=lambda: ""
        )
    except (OSError, ValueError) as exc:
        raise SettingError(
            "TRAINMASTER_GATEWAY_TLS_CERT_FILE and TRAINMASTER_GATEWAY_TLS_KEY_FILE must be a "
            "certificate and its own key in PEM, without a passphrase: "
            f"{getattr(exc, 'reason', None) or getattr(exc, 'strerror', None) or exc}",
            code=ErrorCode.INVALID_SETTING,
        ) from None


def _end_with_parent() -> None:
    """Ends this process once the one that started it is gone: it would keep the port."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
