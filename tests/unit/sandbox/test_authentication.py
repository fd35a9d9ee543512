"""Who may call the sandbox; the SDK's own signer is the judge of what a good signature is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from encord.http.v2.request_signer import sign_request

from sandbox.authentication import Authenticator
from sandbox.errors import NotAuthenticatedError

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = Ed25519PrivateKey.generate()
KEY_ID = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
TARGET = "/v2/public/ml-models?query=a%20b%2B&orderAsc=True"
BODY = b'{"title": "t"}'


@pytest.fixture
def authenticator() -> Authenticator:
    return Authenticator(KEY.public_key(), "the-token", age_seconds=300)


def _signed(method: str = "POST", body: bytes = BODY) -> dict[str, str]:
    request = requests.Request(method, f"http://127.0.0.1{TARGET}", data=body or None).prepare()
    signed = sign_request(request, KEY_ID, KEY)
    return {name.lower(): str(value) for name, value in signed.headers.items()}


def test_what_the_sdk_signs_passes(authenticator: Authenticator) -> None:
    authenticator.check("POST", TARGET, _signed(), BODY)
    authenticator.check("GET", TARGET, _signed("GET", b""), b"")


def test_the_token_passes(authenticator: Authenticator) -> None:
    authenticator.check("POST", TARGET, {"authorization": "Bearer the-token"}, BODY)


@pytest.mark.parametrize("header", ["Bearer other", "Bearer", "Basic the-token", ""])
def test_another_token_does_not(authenticator: Authenticator, header: str) -> None:
    with pytest.raises(NotAuthenticatedError, match="bearer token is not known"):
        authenticator.check("GET", TARGET, {"authorization": header}, b"")


def test_another_body_method_or_target_does_not_pass(authenticator: Authenticator) -> None:
    headers = _signed()
    with pytest.raises(NotAuthenticatedError, match="Content-Digest"):
        authenticator.check("POST", TARGET, headers, BODY + b" ")
    with pytest.raises(NotAuthenticatedError, match="does not fit"):
        authenticator.check("PATCH", TARGET, headers, BODY)
    with pytest.raises(NotAuthenticatedError, match="does not fit"):
        authenticator.check("POST", TARGET.replace("True", "False"), headers, BODY)


def _older(headers: dict[str, str]) -> None:
    _created(headers, int(time.time()) - 301)


def _newer(headers: dict[str, str]) -> None:
    """As the clock of a machine that is ten minutes fast makes it."""
    _created(headers, int(time.time()) + 600)


def _created(headers: dict[str, str], created: int) -> None:
    text = headers["signature-input"]
    before, _, after = text.partition("created=")
    headers["signature-input"] = f"{before}created={created};{after.partition(';')[2]}"


def _other_key(headers: dict[str, str]) -> None:
    headers["signature-input"] = headers["signature-input"].replace(KEY_ID, "0" * 64)


def _fewer_parts(headers: dict[str, str]) -> None:
    headers["signature-input"] = headers["signature-input"].replace(' "content-digest"', "")


def _other_algorithm(headers: dict[str, str]) -> None:
    headers["signature-input"] = headers["signature-input"].replace("ed25519", "hmac-sha256")


def _broken_signature(headers: dict[str, str]) -> None:
    headers["signature"] = headers["signature"].replace(":", "", 1)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (_older, "too far from now"),
        (_newer, "too far from now"),
        (_other_key, "key is not known"),
        (_fewer_parts, "neither"),
        (_other_algorithm, "neither"),
        (_broken_signature, "neither"),
        (dict.clear, "neither"),
    ],
)
def test_a_changed_signature_does_not_pass(
    authenticator: Authenticator, change: Callable[[dict[str, str]], None], part: str
) -> None:
    headers = _signed()
    change(headers)
    with pytest.raises(NotAuthenticatedError, match=part):
        authenticator.check("POST", TARGET, headers, BODY)
