"""Builds the way to Encord's API: credentials, transport, breaker, throttle."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from schemas.events import ErrorCode
from worker.encord.api.api_clock import ApiClock
from worker.encord.api.base_url import environment_proxy
from worker.encord.api.client import MlModelsApi
from worker.encord.api.credentials_watch import Admission, CredentialsWatch
from worker.encord.api.signing import BearerToken, Credentials, RequestSigner
from worker.encord.api.throttle import ThrottledTransport
from worker.encord.api.transport import Transport
from worker.encord.context import Encord, LongPolls, PollSchedule
from worker.errors import (
    MisconfiguredError,
    PermanentError,
    RateLimitedError,
    RetryableError,
    SettingError,
)
from worker.http.client_certificate import ClientCertificate
from worker.http.timeouts import Timeouts
from worker.paths import is_file, is_there
from worker.queue.circuit_breaker import CircuitBreaker
from worker.queue.lane_slots import LaneSlots
from worker.queue.log_listener import LOGS
from worker.redaction import HIDDEN
from worker.secret_files import shown_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from worker.queue.ledger.holds import RefusalBoard
    from worker.queue.ledger.rate_limits import RedisLimits
    from worker.queue.telemetry import Listener
    from worker.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ApiAccess:
    """How a worker process reaches the API.

    Attributes:
        clock: how far the API's clock is from this machine's.
        breaker: opens in an outage of the API.
        credentials: tells whether the API takes them.
        throttled: the transport behind the fleet's limits and the breaker.
    """

    clock: ApiClock
    transport: Transport
    breaker: CircuitBreaker
    credentials: CredentialsWatch
    throttled: ThrottledTransport


def create_api_access(
    settings: Settings,
    limits: RedisLimits,
    board: RefusalBoard,
    telemetry: Listener,
    now: Callable[[], float],
) -> ApiAccess:
    """Returns how the process reaches the API.

    Raises:
        SettingError: there are no credentials, or they can't be used; so with the client's
            certificate, the authorities and the proxy.
    """
    clock = ApiClock()
    transport = create_transport(settings, clock)
    breaker = create_breaker(settings, MlModelsApi(transport), telemetry)
    credentials = create_credentials_watch(settings, transport, clock, board)
    throttled = ThrottledTransport(
        transport, limits, breaker, credentials=credentials, now=now, telemetry=telemetry
    )
    return ApiAccess(clock, transport, breaker, credentials, throttled)


def create_encord(settings: Settings, transport: ThrottledTransport) -> Encord:
    """Returns what handlers of Encord's commands share."""
    return Encord(
        transport=transport,
        polls=PollSchedule(
            settings.poll_min_seconds, settings.poll_max_seconds, settings.poll_share
        ),
        long_polls=LongPolls(settings.long_poll_concurrency, settings.long_poll_seconds),
        creations=LaneSlots(settings.creation_concurrency),
        doubt_seconds=settings.doubt_seconds,
    )


def create_transport(settings: Settings, clock: ApiClock | None = None) -> Transport:
    """Returns the transport to the API, with the settings' credentials.

    Raises:
        SettingError: there are no credentials, or they can't be used; so with the client's
            certificate, the authorities and the proxy.
    """
    return Transport(
        settings.encord_domain,
        create_credentials(settings, clock),
        timeouts=Timeouts(
            connect=settings.connect_timeout_seconds,
            read=settings.read_timeout_seconds,
            write=settings.write_timeout_seconds,
            pool=settings.pool_timeout_seconds,
        ),
        connections=settings.concurrency + settings.long_poll_concurrency,
        proxy=environment_proxy(settings.encord_domain),
        certificate=_client_certificate(settings),
        longest_wait_seconds=settings.retry_after_max_seconds,
        reply_limit_bytes=settings.reply_limit_bytes,
        clock=clock,
    )


def _client_certificate(settings: Settings) -> ClientCertificate | None:
    file = settings.client_certificate_file
    return None if file is None else ClientCertificate(file, settings.client_key_file)


def create_credentials(settings: Settings, clock: ApiClock | None = None) -> Credentials:
    """Returns what signs requests: the bearer token if there is one, else the key.

    Raises:
        SettingError: there is neither, or it can't be used.
    """
    if settings.bearer_token is not None:
        return BearerToken(settings.bearer_token.get_secret_value())
    passphrase = settings.encord_ssh_key_passphrase
    secret = passphrase.get_secret_value() if passphrase is not None else None
    now = time.time if clock is None else clock.now
    if settings.encord_ssh_key is not None:
        return RequestSigner.from_openssh(
            settings.encord_ssh_key.get_secret_value(), secret, clock=now
        )
    if settings.encord_ssh_key_file is not None:
        try:
            text = settings.encord_ssh_key_file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise SettingError(
                f"ENCORD_SSH_KEY_FILE: {_unread(settings.encord_ssh_key_file, exc)}",
                code=ErrorCode.INVALID_SETTING,
            ) from None
        return RequestSigner.from_openssh(text, secret, setting="ENCORD_SSH_KEY_FILE", clock=now)
    raise SettingError(
        "no credentials: set ENCORD_SSH_KEY_FILE, ENCORD_SSH_KEY or TRAINMASTER_BEARER_TOKEN",
        code=ErrorCode.INVALID_SETTING,
    )


def create_breaker(
    settings: Settings, api: MlModelsApi, telemetry: Listener = LOGS
) -> CircuitBreaker:
    """Returns the breaker; its probe asks for one page of models, past all limits."""

    async def probe() -> bool:
        try:
            async for _ in api.list_models(query="trainmaster-probe"):
                break
        except (RetryableError, MisconfiguredError) as error:
            log.info("api.probe_failed", error=error.code)
            return isinstance(error, RateLimitedError | MisconfiguredError)
        except PermanentError:
            return True
        return True

    return CircuitBreaker(
        probe,
        failures=settings.breaker_failures,
        minimum_seconds=settings.breaker_min_seconds,
        maximum_seconds=settings.breaker_max_seconds,
        telemetry=telemetry,
    )


def _unread(path: Path, error: OSError | UnicodeDecodeError) -> str:
    """Returns why a key's file can't be read; the error itself names what may be the key."""
    shown = shown_path(path)
    why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
    advice = "; if that is the key itself, set ENCORD_SSH_KEY" if shown == HIDDEN else ""
    return f"the file {shown} can't be read: {why}{advice}"


def create_credentials_watch(
    settings: Settings, transport: Transport, clock: ApiClock, board: RefusalBoard
) -> CredentialsWatch:
    """Returns what asks whether the API takes our credentials; the key is read anew each time."""
    api = MlModelsApi(transport)
    file = settings.encord_ssh_key_file

    async def ask() -> tuple[Admission, str]:
        try:
            # Whoever replaces the key's file need not start us again. A pipe was read at the start,
            # and whoever opens it once more waits for its writer.
            if file is None or is_file(file) or not is_there(file):
                transport.use(create_credentials(settings, clock))
        except SettingError as error:
            log.warning("api.key_unreadable", message=error.message)
        try:
            async for _ in api.list_models(query="trainmaster-probe"):
                break
        except MisconfiguredError as error:
            return Admission.REFUSED, error.message
        except (RateLimitedError, PermanentError):
            return Admission.TAKEN, ""
        except RetryableError as error:
            return Admission.UNKNOWN, error.message
        return Admission.TAKEN, ""

    return CredentialsWatch(
        ask,
        board,
        minimum_seconds=settings.breaker_min_seconds,
        maximum_seconds=settings.breaker_max_seconds,
    )
