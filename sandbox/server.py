"""Builds the sandbox from its settings and serves it until a signal."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
import warnings
from typing import TYPE_CHECKING

import click
import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sandbox.app import Control, Operations, build_app
from sandbox.attachments import AttachmentOperations
from sandbox.authentication import Authenticator
from sandbox.call_log import CallLog
from sandbox.catalogue import open_catalogue
from sandbox.endpoint import TRANSPORT_EXTENSION, RequestPipeline
from sandbox.errors import InvalidRequestError, StateError
from sandbox.faults import Faults
from sandbox.inference import Inference
from sandbox.models import ModelOperations, TrainingOperations
from sandbox.predictions import PredictionOperations
from sandbox.signed_urls import WeightsUrls
from sandbox.state import StateFolder, write_whole
from sandbox.store import Store
from sandbox.training_process import TrainingProcess
from sandbox.trainings import Trainings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.applications import Starlette

    from sandbox.catalogue import Catalogue
    from sandbox.settings import SandboxSettings

_KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep connections, so that the server is not the one that closes them."""
_GRACE_SECONDS = 1
"""How long a stop waits for requests that are at work."""
_BACKLOG = 2048


def serve(settings: SandboxSettings) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        StateError: the state folder, an imported folder or a fault file can't be used.
    """
    # Pillow's, about odd EXIF in a picture that it reads all the same.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    state = StateFolder(settings.state)
    state.open()
    faults = _read_faults(settings)
    catalogue = open_catalogue(state, settings.seed, settings.import_folder)
    listener = _listen(settings)
    domain = _domain(settings.host, listener)
    app, trainings = _build(settings, state, faults, catalogue)
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        backlog=_BACKLOG,
    )
    # uvicorn raises the signal again after its clean stop; a stop that was asked for ends with 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    _Server(config, trainings, state, domain, catalogue).run(sockets=[listener])


def _build(
    settings: SandboxSettings, state: StateFolder, faults: Faults, catalogue: Catalogue
) -> tuple[Starlette, Trainings]:
    store = Store(state.database)
    inference = Inference(state, threads=os.cpu_count() or 1)
    process = TrainingProcess(state, catalogue)
    trainings = Trainings(store, process, settings.parallel_trainings)
    links = WeightsUrls(state.link_key(), settings.link_seconds)
    pipeline = RequestPipeline(
        faults=faults,
        call_log=CallLog(store),
        authenticator=Authenticator(
            state.public_key(), state.token(), settings.signature_age_seconds
        ),
        body_limit_bytes=settings.body_limit_bytes,
    )
    operations = Operations(
        models=ModelOperations(store, trainings, settings.page_size),
        trainings=TrainingOperations(store, trainings, catalogue, links, settings.page_size),
        attachments=AttachmentOperations(store, catalogue, settings.page_size),
        predictions=PredictionOperations(store, catalogue, inference),
    )
    app = build_app(pipeline, operations, Control(pipeline, links, state))

    @contextlib.asynccontextmanager
    async def life(_app: Starlette) -> AsyncIterator[None]:
        trainings.start()
        yield
        await trainings.stop()
        inference.close()
        store.close()

    app.router.lifespan_context = life
    return app, trainings


class _Protocol(HttpToolsProtocol):
    """Puts the connection's transport in reach of the faults."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT_EXTENSION: {"transport": self.transport}}


class _Server(uvicorn.Server):
    """Tells clients where it is once it answers, and lets those who wait go when it stops."""

    def __init__(
        self,
        config: uvicorn.Config,
        trainings: Trainings,
        state: StateFolder,
        domain: str,
        catalogue: Catalogue,
    ) -> None:
        super().__init__(config)
        self._trainings = trainings
        self._state = state
        self._domain = domain
        self._catalogue = catalogue

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        told = {
            "domain": self._domain,
            "key_file": str(self._state.key_file),
            "projects": self._catalogue.described(),
        }
        write_whole(self._state.sandbox_json, orjson.dumps(told, option=orjson.OPT_INDENT_2))
        click.echo(f"sandbox: {self._domain}\nstate:   {self._state.root}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._state.sandbox_json.unlink(missing_ok=True)
        self._trainings.release()
        await super().shutdown(sockets)


def _read_faults(settings: SandboxSettings) -> Faults:
    faults = Faults()
    if settings.faults_file is None:
        return faults
    try:
        faults.replace(settings.faults_file.read_bytes())
    except (OSError, InvalidRequestError) as exc:
        message = f"can't use the fault rules in {settings.faults_file}: {exc}"
        raise StateError(message) from exc
    return faults


def _listen(settings: SandboxSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With the protocol named asyncio sees TCP and sends at once; without it an answer's body waits
    # 40 ms for the acknowledgement of its head.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as exc:
        message = f"can't listen on {settings.host} port {settings.port}: {exc.strerror}"
        raise StateError(message) from exc
    if not ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
        message = "warning: not only this machine reaches the sandbox; it is made for tests"
        click.echo(message, err=True)
    return listener


def _domain(host: str, listener: socket.socket) -> str:
    """Returns where a client on this machine finds the listener."""
    # Nobody can connect to "all addresses".
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"
