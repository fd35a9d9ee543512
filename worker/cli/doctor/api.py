"""What `doctor` checks of the API: the key, and one signed read."""

from __future__ import annotations

import stat
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from worker.bootstrap.encord import create_credentials, create_transport
from worker.cli.doctor.checks import Finding, Level, judge_clock
from worker.clock import NOTABLE_SECONDS
from worker.encord.api.api_clock import ApiClock
from worker.encord.api.signing import BearerToken, RequestSigner
from worker.errors import MisconfiguredError, RateLimitedError, SettingError, TrainmasterError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from worker.encord.api.transport import Transport
    from worker.http.response import Response
    from worker.settings import Settings

# The first page of the models, as the client asks for it.
_READ = ("GET", "/ml-models")
_WHO = "the API's clock"
_KEY_ADVICE = (
    "ENCORD_SSH_KEY_FILE must name a private Ed25519 key in OpenSSH format, like those that "
    "ssh-keygen -t ed25519 makes"
)
_BEARER_ADVICE = (
    "set it to the token alone, without Bearer before it and without quotes; or unset it, and "
    "ENCORD_SSH_KEY_FILE is used"
)
_QUERY = (("orderBy", "createdAt"), ("orderAsc", "False"))


def check_credentials(settings: Settings) -> Iterator[Finding]:
    """Yields what is found about the key or the token; shows neither."""
    try:
        credentials = create_credentials(settings)
    except SettingError as exc:
        advice = _BEARER_ADVICE if settings.bearer_token is not None else _KEY_ADVICE
        yield Finding("api.credentials", Level.FAIL, exc.message, advice)
        return
    match credentials:
        case BearerToken():
            yield Finding("api.credentials", Level.OK, "a bearer token; no key is checked")
        case RequestSigner(key_id=key_id):
            yield Finding("api.credentials", Level.OK, f"Ed25519 key with the public half {key_id}")
            yield from _check_permissions(settings)


async def check_api(settings: Settings) -> list[Finding]:
    """Returns whether the API answers a signed read, and whether its clock agrees."""
    check = "api.read"
    clock = ApiClock()
    try:
        transport = create_transport(settings, clock)
    except SettingError as exc:
        return [Finding(check, Level.FAIL, exc.message, "fix the setting")]
    async with transport:
        begun = time.time()
        try:
            response = await _read(transport, clock)
        except TrainmasterError as exc:
            told = [Finding(check, _level(exc), exc.message, _advise(exc))]
            if clock.ahead_seconds:
                told.append(judge_clock("api.clock", clock.ahead_seconds, 1.0, _WHO))
            return told
        ended = time.time()
    took = f"{transport.domain} answers a signed read in {(ended - begun) * 1000:.0f} ms"
    return [
        Finding(check, Level.OK, took),
        *_check_clock(response.headers, begun, ended),
    ]


async def _read(transport: Transport, clock: ApiClock) -> Response:
    """Reads as workers do: with the API's time, where it refuses a signature with ours."""
    try:
        return await transport.send(*_READ, query=_QUERY)
    except MisconfiguredError:
        if abs(clock.ahead_seconds) <= NOTABLE_SECONDS:
            raise
    return await transport.send(*_READ, query=_QUERY)


def _check_permissions(settings: Settings) -> Iterator[Finding]:
    file = settings.encord_ssh_key_file
    if settings.encord_ssh_key is not None or file is None:
        return
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & stat.S_IROTH:
        yield Finding(
            "api.key_file",
            Level.WARN,
            f"everyone on this machine can read {file} (mode {mode:04o})",
            f"chmod 600 {file}",
        )
    else:
        yield Finding("api.key_file", Level.OK, f"{file}, mode {mode:04o}")


def _level(error: TrainmasterError) -> Level:
    return Level.WARN if isinstance(error, RateLimitedError) else Level.FAIL


def _advise(error: TrainmasterError) -> str:
    match error:
        case MisconfiguredError():
            return (
                "is the public key registered with Encord, does ENCORD_DOMAIN name the region of "
                "the account, and is this machine's clock right?"
            )
        case RateLimitedError():
            return "wait, and send fewer requests: TRAINMASTER_REQUESTS_PER_SECOND"
        case _ if error.status is None:
            return "is ENCORD_DOMAIN right, and do proxy and firewall let us through?"
        case _ if error.status >= 500:
            return "the API is in trouble; workers try again by themselves"
        case _ if error.status == HTTPStatus.NOT_FOUND:
            return "does ENCORD_DOMAIN name the API alone, like https://api.encord.com?"
        case _:
            return "may this account use models?"


def _check_clock(headers: Mapping[str, str], begun: float, ended: float) -> Iterator[Finding]:
    try:
        theirs = parsedate_to_datetime(headers["Date"]).timestamp()
    except (KeyError, ValueError):
        yield Finding("api.clock", Level.WARN, "the API does not report its time")
        return
    # The header is cut to the second: on average it is half a second old.
    ahead = theirs + 0.5 - (begun + ended) / 2
    yield judge_clock("api.clock", ahead, (ended - begun) / 2 + 0.5, _WHO)
