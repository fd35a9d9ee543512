"""Error rows compared: what the SDK raises for each status and failure, and what we raise."""

from __future__ import annotations

from uuid import UUID

import pytest
from encord import exceptions as sdk

from schemas.enums import ModelArchitecture
from schemas.events import ErrorCode
from tests.integration.sdk import KEY, sdk_client
from tests.stub_api import Answer, StubApi, reply
from worker.encord.api.client import MlModelsApi
from worker.encord.api.signing import RequestSigner
from worker.encord.api.transport import Transport
from worker.errors import (
    BadResponseError,
    ConnectionLostError,
    MisconfiguredError,
    RateLimitedError,
    RequestRefusedError,
    ServerFailedError,
    TrainmasterError,
)
from worker.http.timeouts import Timeouts

pytestmark = pytest.mark.asyncio

SAYS = b'{"message": "it says why"}'
MODEL = UUID("11111111-1111-4111-8111-111111111111")

# The answer, what the SDK raises, what we raise, our code.
ROWS: list[tuple[Answer, type[Exception], type[TrainmasterError], ErrorCode]] = [
    (reply(400, SAYS), sdk.InvalidArgumentsError, RequestRefusedError, ErrorCode.INVALID_ARGUMENTS),
    # The SDK knows no 422: an unknown error, with the message.
    (reply(422, SAYS), sdk.UnknownException, RequestRefusedError, ErrorCode.INVALID_ARGUMENTS),
    (reply(401, SAYS), sdk.AuthenticationError, MisconfiguredError, ErrorCode.NOT_AUTHENTICATED),
    (reply(403, SAYS), sdk.AuthorisationError, RequestRefusedError, ErrorCode.NOT_AUTHORISED),
    (reply(404, SAYS), sdk.ResourceNotFoundError, RequestRefusedError, ErrorCode.NOT_FOUND),
    (reply(405, SAYS), sdk.MethodNotAllowedError, RequestRefusedError, ErrorCode.NOT_ALLOWED),
    (reply(409, SAYS), sdk.ResourceExistsError, RequestRefusedError, ErrorCode.ALREADY_EXISTS),
    (reply(413, SAYS), sdk.PayloadTooLargeError, RequestRefusedError, ErrorCode.PAYLOAD_TOO_LARGE),
    (
        reply(429, SAYS, retry_after="3"),
        sdk.RateLimitExceededError,
        RateLimitedError,
        ErrorCode.RATE_LIMITED,
    ),
    (reply(408, SAYS), sdk.UnknownException, ServerFailedError, ErrorCode.SERVER_ERROR),
    (reply(500, SAYS), sdk.UnknownException, ServerFailedError, ErrorCode.SERVER_ERROR),
    (reply(502, SAYS), sdk.UnknownException, ServerFailedError, ErrorCode.SERVER_ERROR),
    (reply(503, SAYS), sdk.UnknownException, ServerFailedError, ErrorCode.SERVER_ERROR),
    (reply(504, SAYS), sdk.UnknownException, ServerFailedError, ErrorCode.SERVER_ERROR),
    (reply(304), sdk.UnknownException, BadResponseError, ErrorCode.UNEXPECTED_STATUS),
    (reply(418, SAYS), sdk.UnknownException, RequestRefusedError, ErrorCode.UNEXPECTED_STATUS),
    (reply(201, b"{}"), sdk.UnknownException, BadResponseError, ErrorCode.BAD_RESPONSE),
    (reply(204), sdk.RequestException, BadResponseError, ErrorCode.BAD_RESPONSE),
    (reply(200, b"{"), sdk.RequestException, BadResponseError, ErrorCode.BAD_RESPONSE),
    (reply(200, b"{}"), sdk.EncordException, BadResponseError, ErrorCode.BAD_RESPONSE),
    (Answer(then="reset"), sdk.RequestException, ConnectionLostError, ErrorCode.CONNECTION_LOST),
    (Answer(then="close"), sdk.RequestException, ConnectionLostError, ErrorCode.CONNECTION_LOST),
    (Answer(then="hang"), sdk.RequestException, ConnectionLostError, ErrorCode.CONNECTION_LOST),
    (
        Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", "close"),
        sdk.RequestException,
        ConnectionLostError,
        ErrorCode.CONNECTION_LOST,
    ),
    (
        Answer(b"no HTTP\r\n\r\n", "close"),
        sdk.RequestException,
        BadResponseError,
        ErrorCode.BAD_RESPONSE,
    ),
]


async def ask_ours(domain: str) -> TrainmasterError:
    """Returns what our client raises for a change."""
    timeouts = Timeouts(connect=1, read=1, write=1, pool=1)
    async with Transport(domain, RequestSigner(KEY), timeouts=timeouts) as transport:
        with pytest.raises(TrainmasterError) as caught:
            await MlModelsApi(transport).create_model(
                features=["car"], model=ModelArchitecture.RESNET_18, title="t"
            )
    return caught.value


@pytest.mark.parametrize(("answer", "theirs", "ours", "code"), ROWS)
async def test_both_clients_tell_the_same_failures_apart(
    stub: StubApi,
    answer: Answer,
    theirs: type[Exception],
    ours: type[TrainmasterError],
    code: ErrorCode,
) -> None:
    """Each row: the SDK's class, our class and code; we send a change once."""
    stub.default = answer
    with pytest.raises(sdk.EncordException) as caught:
        sdk_client(stub.url).get_model(model_uuid=MODEL)
    assert type(caught.value) is theirs
    stub.recorded.clear()

    error = await ask_ours(stub.url)
    assert type(error) is ours
    assert error.code is code
    assert len(stub.recorded) == 1
    if SAYS in answer.raw:
        assert "it says why" in error.message
    if isinstance(caught.value, sdk.RateLimitExceededError):
        assert isinstance(error, RateLimitedError)
        assert error.retry_after_seconds == caught.value.retry_after == 3


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_the_sdk_follows_a_redirect_with_its_signature_and_we_do_not(
    stub: StubApi, status: int
) -> None:
    """The host is not signed: whoever a redirect names could use the headers."""
    with StubApi(default=reply(200, b"{}")) as elsewhere:
        stub.default = reply(status, location=f"{elsewhere.url}/caught")
        with pytest.raises(sdk.EncordException):
            sdk_client(stub.url).get_model(model_uuid=MODEL)
        assert "signature" in elsewhere.recorded[0].headers
        elsewhere.recorded.clear()

        error = await ask_ours(stub.url)
        assert error.code is ErrorCode.UNEXPECTED_STATUS
        assert error.status == status
        assert not elsewhere.recorded
